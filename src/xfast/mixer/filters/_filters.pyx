# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False, autotestdict=False, auto_pickle=False
"""Masks and ranks over columns of ids: hash sets, never linear scans; the GIL is free while they run."""

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t
from libcpp.vector cimport vector

import numpy as np

from xfast.mixer._rows cimport first_place, mix64, table_size


cdef class IdSet:
    """A read-only set of 64-bit ids: open addressing behind one bit per hash, which answers most misses."""

    # 16 bits per id stay in the first-level cache, and "not there" becomes a branch that the processor can foresee;
    # probing the half-full table for every id was twice as slow.
    cdef vector[uint64_t] hints
    cdef vector[uint64_t] slots
    cdef uint64_t bits
    cdef uint64_t hint_bits
    cdef bint has_zero
    cdef Py_ssize_t size

    def __init__(self, ids):
        cdef const uint64_t[::1] view = np.ascontiguousarray(ids, np.uint64)
        cdef Py_ssize_t count = view.shape[0], row
        cdef uint64_t capacity
        with nogil:
            capacity = table_size(count)
            self.slots.resize(capacity)
            self.bits = capacity - 1
            self.hints.resize((capacity * 8 + 63) // 64)
            self.hint_bits = self.hints.size() * 64 - 1
            for row in range(count):
                self.insert(view[row])

    cdef void insert(self, uint64_t key) noexcept nogil:
        cdef uint64_t hashed, place
        if key == 0:
            self.size += 0 if self.has_zero else 1
            self.has_zero = True
            return
        hashed = mix64(key)
        place = hashed & self.bits
        while self.slots[place] != 0:
            if self.slots[place] == key:
                return
            place = (place + 1) & self.bits
        self.slots[place] = key
        place = (hashed >> 32) & self.hint_bits
        self.hints[place >> 6] |= (<uint64_t>1) << (place & 63)
        self.size += 1

    cdef inline bint holds(self, uint64_t key) noexcept nogil:
        cdef uint64_t hashed, place
        if key == 0:
            return self.has_zero
        hashed = mix64(key)
        place = (hashed >> 32) & self.hint_bits
        if not (self.hints[place >> 6] >> (place & 63)) & 1:
            return False
        place = hashed & self.bits
        while self.slots[place] != 0:
            if self.slots[place] == key:
                return True
            place = (place + 1) & self.bits
        return False

    def __len__(self):
        return self.size

    def __contains__(self, key):
        return self.holds(<uint64_t>(int(key) & 0xFFFFFFFFFFFFFFFF))

    def contains(self, const uint64_t[:] ids):
        """Mask [N] of the ids that are members."""
        mask = np.empty(ids.shape[0], np.bool_)
        cdef uint8_t[::1] out = mask.view(np.uint8)
        cdef Py_ssize_t row
        with nogil:
            for row in range(ids.shape[0]):
                out[row] = self.holds(ids[row])
        return mask

    def mark(self, const uint64_t[:] ids, valid, out):
        """Set ``out[row]`` where the row's id is valid and a member; ``valid`` None: every id is."""
        cdef uint8_t[:] marks = out.view(np.uint8)
        cdef const uint8_t[:] counts
        cdef Py_ssize_t row
        if valid is None:
            with nogil:
                for row in range(ids.shape[0]):
                    if self.holds(ids[row]):
                        marks[row] = 1
            return
        counts = valid.view(np.uint8)
        with nogil:
            for row in range(ids.shape[0]):
                if counts[row] and self.holds(ids[row]):
                    marks[row] = 1

    def any_of_row(self, const uint64_t[:] values, const int64_t[:] offsets):
        """Mask [N]: some value of the row's list is a member."""
        cdef Py_ssize_t rows = offsets.shape[0] - 1, row, at
        mask = np.zeros(rows, np.bool_)
        cdef uint8_t[::1] out = mask.view(np.uint8)
        with nogil:
            for row in range(rows):
                for at in range(offsets[row], offsets[row + 1]):
                    if self.holds(values[at]):
                        out[row] = 1
                        break
        return mask

    def all_of_row(self, const uint64_t[:] values, const int64_t[:] offsets):
        """Mask [N]: every value of the row's list is a member (true for an empty list)."""
        cdef Py_ssize_t rows = offsets.shape[0] - 1, row, at
        mask = np.ones(rows, np.bool_)
        cdef uint8_t[::1] out = mask.view(np.uint8)
        with nogil:
            for row in range(rows):
                for at in range(offsets[row], offsets[row + 1]):
                    if not self.holds(values[at]):
                        out[row] = 0
                        break
        return mask


def first_of_each(const uint64_t[:] ids):
    """Mask [N] of the rows whose id did not occur before."""
    cdef Py_ssize_t count = ids.shape[0], row
    mask = np.empty(count, np.bool_)
    cdef uint8_t[::1] out = mask.view(np.uint8)
    cdef vector[int64_t] table
    cdef uint64_t capacity
    with nogil:
        capacity = table_size(count)
        table.resize(capacity)
        for row in range(count):
            out[row] = first_place(table, capacity - 1, ids, row) == row
    return mask


def smallest_or_own(const uint64_t[:] values, const int64_t[:] offsets, const uint64_t[:] own):
    """Per row the smallest value of its list, its own id when the list is empty."""
    cdef Py_ssize_t rows = own.shape[0], row, at
    keys = np.empty(rows, np.uint64)
    cdef uint64_t[::1] out = keys
    with nogil:
        for row in range(rows):
            if offsets[row] == offsets[row + 1]:
                out[row] = own[row]
                continue
            out[row] = values[offsets[row]]
            for at in range(offsets[row] + 1, offsets[row + 1]):
                if values[at] < out[row]:
                    out[row] = values[at]
    return keys


def best_of_each(const uint64_t[:] keys, const double[:] scores):
    """Keep per key the row with the highest score, in the slot of the key's first row.

    Returns
    -------
    kept, removed
        Row indices: kept in slot order, removed in the order in which they lost. Of equal scores the earlier stays.
    """
    cdef Py_ssize_t count = keys.shape[0], row, slot
    cdef vector[int64_t] table, holder, order, lost
    cdef uint64_t capacity
    with nogil:
        capacity = table_size(count)
        table.resize(capacity)
        holder.resize(count)
        for row in range(count):
            slot = first_place(table, capacity - 1, keys, row)
            if slot == row:
                holder[slot] = row
                order.push_back(slot)
            elif scores[row] > scores[holder[slot]]:
                lost.push_back(holder[slot])
                holder[slot] = row
            else:
                lost.push_back(row)
    kept = np.empty(order.size(), np.int64)
    removed = np.empty(lost.size(), np.int64)
    cdef int64_t[::1] kept_view = kept, removed_view = removed
    for row in range(<Py_ssize_t>order.size()):
        kept_view[row] = holder[order[row]]
    for row in range(<Py_ssize_t>lost.size()):
        removed_view[row] = lost[row]
    return kept, removed


def group_ranks(const uint64_t[:] ids, const double[:] scores):
    """Per row its place, from 0, among the rows of the same id by score, highest first; ties keep row order."""
    cdef Py_ssize_t count = ids.shape[0], row, slot, groups = 0, at, end, hole
    ranks = np.empty(count, np.int32)
    cdef int32_t[::1] out = ranks
    cdef vector[int64_t] table, group, start, members
    cdef uint64_t capacity
    cdef int64_t moving
    with nogil:
        capacity = table_size(count)
        table.resize(capacity)
        group.resize(count)
        members.resize(count)
        for row in range(count):
            slot = first_place(table, capacity - 1, ids, row)
            if slot == row:
                group[row] = groups
                groups += 1
            else:
                group[row] = group[slot]
        # Counting sort by group keeps row order inside a group.
        start.resize(groups + 1)
        for row in range(count):
            start[group[row] + 1] += 1
        for slot in range(groups):
            start[slot + 1] += start[slot]
        for row in range(count):
            members[start[group[row]]] = row
            start[group[row]] += 1
        at = 0
        for slot in range(groups):
            end = start[slot]
            for row in range(at + 1, end):
                # Comparing with > moves nothing past an equal score or a NaN.
                moving = members[row]
                hole = row
                while hole > at and scores[moving] > scores[members[hole - 1]]:
                    members[hole] = members[hole - 1]
                    hole -= 1
                members[hole] = moving
            for row in range(at, end):
                out[members[row]] = <int32_t>(row - at)
            at = end
    return ranks


cdef inline double set_or_zero(double value) noexcept nogil:
    return value if value == value else 0.0


def weighted_sum(const double[:, ::1] heads, const double[::1] weights, Py_ssize_t first, const uint8_t[::1] first_counts,
                 Py_ssize_t second, const uint8_t[::1] second_counts):
    """Per row the sum of weight times value in the order of heads, and whether any value is set.

    NaN is an unset head and adds nothing; heads ``first`` and ``second`` weigh 0 in rows where their mask is not set.
    """
    cdef Py_ssize_t rows = heads.shape[0], width = heads.shape[1], row = 0, at
    totals, known = np.zeros(rows, np.float64), np.zeros(rows, np.bool_)
    cdef double[::1] out = totals
    cdef uint8_t[::1] has = known.view(np.uint8)
    cdef const uint8_t *gate
    cdef uint8_t[::1] always = np.ones(rows, np.uint8)
    cdef double a, b, c, d, weight
    cdef uint8_t ha, hb, hc, hd
    with nogil:
        # Four rows at a time: one row alone waits for its own additions.
        while row + 4 <= rows:
            a = b = c = d = 0.0
            ha = hb = hc = hd = 0
            for at in range(width):
                gate = &first_counts[row] if at == first else &second_counts[row] if at == second else &always[row]
                weight = weights[at]
                a += (weight if gate[0] else 0.0) * set_or_zero(heads[row, at])
                b += (weight if gate[1] else 0.0) * set_or_zero(heads[row + 1, at])
                c += (weight if gate[2] else 0.0) * set_or_zero(heads[row + 2, at])
                d += (weight if gate[3] else 0.0) * set_or_zero(heads[row + 3, at])
                ha |= heads[row, at] == heads[row, at]
                hb |= heads[row + 1, at] == heads[row + 1, at]
                hc |= heads[row + 2, at] == heads[row + 2, at]
                hd |= heads[row + 3, at] == heads[row + 3, at]
            out[row], out[row + 1], out[row + 2], out[row + 3] = a, b, c, d
            has[row], has[row + 1], has[row + 2], has[row + 3] = ha, hb, hc, hd
            row += 4
        while row < rows:
            for at in range(width):
                gate = &first_counts[row] if at == first else &second_counts[row] if at == second else &always[row]
                out[row] += (weights[at] if gate[0] else 0.0) * set_or_zero(heads[row, at])
                has[row] |= heads[row, at] == heads[row, at]
            row += 1
    return totals, known
