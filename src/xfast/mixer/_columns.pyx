# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, autotestdict=False, auto_pickle=False
"""Joins and gathers over columns where NumPy would sort, or walk the memory several times."""

from libc.stdint cimport int64_t, uint8_t, uint64_t
from libcpp.vector cimport vector

import numpy as np

cdef extern from "common/id_table.h" namespace "xfast" nogil:
    uint64_t mix64(uint64_t key)
    uint64_t table_size(size_t count)

ctypedef fused real:
    float
    double


def present(cells):
    """Mask [N] of the cells of an object column that are not None."""
    # As a list: a memoryview of objects refuses read-only arrays.
    cdef list items = cells.tolist()
    cdef Py_ssize_t count = len(items), row
    mask = np.empty(count, np.bool_)
    cdef uint8_t[::1] out = mask.view(np.uint8)
    for row in range(count):
        out[row] = items[row] is not None
    return mask


def distinct(const uint64_t[:] ids):
    """The different ids in the order in which they come, and for each row the index of its id among them."""
    cdef Py_ssize_t count = ids.shape[0], row, groups = 0
    inverse = np.empty(count, np.int64)
    cdef int64_t[::1] place = inverse
    cdef vector[int64_t] table
    cdef vector[uint64_t] found
    cdef uint64_t at, bits
    with nogil:
        bits = table_size(count) - 1
        table.resize(bits + 1)
        for row in range(count):
            at = mix64(ids[row]) & bits
            while table[at] != 0 and found[table[at] - 1] != ids[row]:
                at = (at + 1) & bits
            if table[at] == 0:
                found.push_back(ids[row])
                groups += 1
                table[at] = groups
            place[row] = table[at] - 1
    unique = np.empty(groups, np.uint64)
    cdef uint64_t[::1] out = unique
    for row in range(groups):
        out[row] = found[row]
    return unique, inverse


def last_rows(const uint64_t[:] ids, const uint64_t[:] wanted):
    """For each wanted id the last row that has it, -1 where none does."""
    cdef Py_ssize_t count = ids.shape[0], row
    rows = np.empty(wanted.shape[0], np.int64)
    cdef int64_t[::1] out = rows
    cdef vector[int64_t] table
    cdef uint64_t at, bits
    with nogil:
        bits = table_size(count) - 1
        table.resize(bits + 1)
        for row in range(count):
            at = mix64(ids[row]) & bits
            while table[at] != 0 and ids[table[at] - 1] != ids[row]:
                at = (at + 1) & bits
            table[at] = row + 1
        for row in range(wanted.shape[0]):
            at = mix64(wanted[row]) & bits
            while table[at] != 0 and ids[table[at] - 1] != wanted[row]:
                at = (at + 1) & bits
            out[row] = table[at] - 1
    return rows


def gather(const real[:, ::1] matrix, const int64_t[::1] rows, const int64_t[::1] columns, double[:, ::1] out,
           const int64_t[::1] places):
    """``out[i, places[j]] = matrix[rows[i], columns[j]]``; a row of -1 leaves ``out[i]`` as it is."""
    cdef Py_ssize_t row, at, count = columns.shape[0]
    cdef const real* source
    cdef double* target
    if count == 0 or matrix.shape[0] == 0:
        return
    with nogil:
        for row in range(rows.shape[0]):
            if rows[row] < 0:
                continue
            source = &matrix[rows[row], 0]
            target = &out[row, 0]
            for at in range(count):
                target[places[at]] = source[columns[at]]
