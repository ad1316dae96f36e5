"""Hash tables from ids to rows of a column: 1 + a row per slot, 0 where there is room."""

from libc.stdint cimport int64_t, uint64_t
from libcpp.vector cimport vector

cdef extern from "common/id_table.h" namespace "xfast" nogil:
    uint64_t mix64(uint64_t key)
    uint64_t table_size(size_t count)


cdef inline uint64_t slot_of(uint64_t wanted, const uint64_t[:] ids, const vector[int64_t]& table,
                             uint64_t bits) noexcept nogil:
    """The slot of the row whose id is ``wanted``, or the one to put it in."""
    cdef uint64_t at = mix64(wanted) & bits
    while table[at] != 0 and ids[table[at] - 1] != wanted:
        at = (at + 1) & bits
    return at


cdef inline Py_ssize_t first_place(vector[int64_t]& table, uint64_t bits, const uint64_t[:] ids,
                                   Py_ssize_t row) noexcept nogil:
    """The row that first showed the id of ``row``, which is put in if there is none."""
    cdef uint64_t at = slot_of(ids[row], ids, table, bits)
    if table[at] == 0:
        table[at] = row + 1
    return table[at] - 1
