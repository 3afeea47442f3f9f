"""Compiled compression and decompression: token rows to slots and packed metadata, and back.

A token row is a list of groups, each with the feature it starts at and the bit its metadata starts at. With two levels
the groups in that list are the inner groups that are kept; which those are is one more list of groups, whose
"features" are inner groups. So each step below is a plain loop over the groups of one row, at either level.

A level is passed as the tuple (N, M, encoding, bits of one field, binomials, C(M, N), bit offset of each group).
"""

from __future__ import annotations

import numpy as np
from numba import njit

BITMAP, INDEX, ENUMERATIVE = 0, 1, 2


@njit(cache=True, nogil=True)
def compress_rows(x, mask, outer, inner, values, metadata):
    """values int8 [T, G·N] and metadata uint8 [T, B] (zeros on entry) of x int8 [T, K] under mask bool [T, K].

    `outer` lists no groups where there is one level only.
    """
    outer_n, outer_m, encoding, outer_bits, outer_binomials, _, outer_offsets = outer
    n, m, _, bits, binomials, _, offsets = inner
    outer_starts, chosen = _starts(outer_offsets.size, outer_m), np.zeros((outer_offsets.size, outer_n), np.int64)
    starts, positions = _starts(offsets.size, m), np.zeros((offsets.size, n), np.int64)
    for t in range(x.shape[0]):
        if outer_offsets.size:
            _choose(_any_kept(mask[t], m), outer_starts, outer_m, chosen)
            _put_positions(metadata[t], outer_offsets, chosen, encoding, outer_bits, outer_binomials)
            _starts_of_chosen(chosen, outer_m, m, starts)
        _choose(mask[t], starts, m, positions)
        _put_positions(metadata[t], offsets, positions, encoding, bits, binomials)
        _gather(x[t], mask[t], starts, positions, values[t])


@njit(cache=True, nogil=True)
def decompress_rows(values, metadata, outer, inner, dense, valid):
    """dense int8 [T, K] (zeros on entry) of values int8 [T, G·N] and metadata uint8 [T, B].

    valid bool [T, groups of the inner level] is False where the metadata of that group, or of its outer group, is no
    code word; nothing is written there.
    """
    outer_n, outer_m, encoding, outer_bits, outer_binomials, outer_words, outer_offsets = outer
    n, m, _, bits, binomials, words, offsets = inner
    chosen, chosen_valid = np.zeros((outer_offsets.size, outer_n), np.int64), np.ones(outer_offsets.size, np.bool_)
    starts, positions = _starts(offsets.size, m), np.zeros((offsets.size, n), np.int64)
    for t in range(values.shape[0]):
        _get_positions(metadata[t], offsets, m, encoding, bits, binomials, words, positions, valid[t])
        if outer_offsets.size:
            _get_positions(
                metadata[t],
                outer_offsets,
                outer_m,
                encoding,
                outer_bits,
                outer_binomials,
                outer_words,
                chosen,
                chosen_valid,
            )
            _starts_of_chosen(chosen, outer_m, m, starts)
            for group in range(offsets.size):
                valid[t, group] &= chosen_valid[group // outer_n]
        _scatter(values[t], starts, positions, valid[t], dense[t])


@njit(cache=True, nogil=True)
def _starts(groups, m):
    """First feature int64 [G] of groups that follow one another."""
    return np.arange(groups) * m


@njit(cache=True, nogil=True)
def _starts_of_chosen(chosen, outer_m, m, starts):
    """starts int64 [G·N1]: first feature of the inner groups `chosen` [G, N1] of each outer group."""
    groups, n = chosen.shape
    for group in range(groups):
        for slot in range(n):
            starts[group * n + slot] = (group * outer_m + chosen[group, slot]) * m


@njit(cache=True, nogil=True)
def _any_kept(kept, m):
    """bool [ceil(K/M)]: does kept bool [K] hold anything in this group of M?"""
    found = np.zeros(-(-kept.size // m), np.bool_)
    for k in range(kept.size):
        found[k // m] |= kept[k]
    return found


@njit(cache=True, nogil=True)
def _choose(kept, starts, m, positions):
    """positions int64 [G, N], ascending: what kept bool [K] says of the group of M from each of `starts` [G] on.

    Where it keeps fewer than N, the lowest padding fills up, and then the lowest that is not kept.
    """
    groups, n = positions.shape
    for group in range(groups):
        start = starts[group]
        real = max(0, min(m, kept.size - start))
        missing = n
        for j in range(real):
            missing -= kept[start + j]
        padding = min(missing, m - real)
        missing -= padding
        slot = 0
        for j in range(real + padding):
            if j < real and not kept[start + j]:
                if missing == 0:
                    continue
                missing -= 1
            positions[group, slot] = j
            slot += 1


@njit(cache=True, nogil=True)
def _gather(x, kept, starts, positions, values):
    """values int8 [G·N]: x int8 [K] at the positions of each group, 0 where nothing is kept."""
    groups, n = positions.shape
    for group in range(groups):
        for slot in range(n):
            k = starts[group] + positions[group, slot]
            values[group * n + slot] = x[k] if k < x.size and kept[k] else 0


@njit(cache=True, nogil=True)
def _scatter(values, starts, positions, valid, dense):
    """Undo `_gather` for the valid groups; what lies in the padding has no place in dense int8 [K]."""
    groups, n = positions.shape
    for group in range(groups):
        if valid[group]:
            for slot in range(n):
                k = starts[group] + positions[group, slot]
                if k < dense.size:
                    dense[k] = values[group * n + slot]


@njit(cache=True, nogil=True)
def _put_positions(row, offsets, positions, encoding, field_bits, binomials):
    """OR the metadata of positions int64 [G, N] into the bytes of `row`, each group's from its bit offset on."""
    groups, n = positions.shape
    for group in range(groups):
        offset = offsets[group]
        field = np.uint64(0)
        for slot in range(n):
            if encoding == BITMAP:
                field |= np.uint64(1) << np.uint64(positions[group, slot])
            elif encoding == INDEX:
                _put(row, offset + slot * field_bits, np.uint64(positions[group, slot]), field_bits)
            else:
                field += binomials[slot, positions[group, slot]]
        if encoding != INDEX:
            _put(row, offset, field, field_bits)


@njit(cache=True, nogil=True)
def _get_positions(row, offsets, m, encoding, field_bits, binomials, code_words, positions, valid):
    """Read what `_put_positions` wrote; valid bool [G] says whether it is a code word: ranks lie below `code_words`."""
    groups, n = positions.shape
    for group in range(groups):
        offset = offsets[group]
        ok = True
        if encoding == INDEX:
            for slot in range(n):
                positions[group, slot] = np.int64(_get(row, offset + slot * field_bits, field_bits))
                ok = ok and positions[group, slot] < m
                ok = ok and (slot == 0 or positions[group, slot] > positions[group, slot - 1])
        else:
            field = _get(row, offset, field_bits)
            if encoding == BITMAP:
                slot = 0
                for j in range(m):
                    if (field >> np.uint64(j)) & np.uint64(1):
                        if slot < n:
                            positions[group, slot] = j
                        slot += 1
                ok = slot == n
            else:
                ok = field < code_words
                j = m - 1
                for slot in range(n - 1, -1, -1):
                    while j > 0 and binomials[slot, j] > field:
                        j -= 1
                    positions[group, slot] = j
                    field -= binomials[slot, j]
        valid[group] = ok


@njit(cache=True, nogil=True)
def _put(row, offset, field, bits):
    """OR `bits` bits of `field` into the bytes of `row` from bit `offset` on, least-significant bit first."""
    while bits > 0:
        start = offset & 7
        taken = min(8 - start, bits)
        part = field & np.uint64((1 << taken) - 1)
        row[offset >> 3] |= np.uint8(part << np.uint64(start))
        field >>= np.uint64(taken)
        offset += taken
        bits -= taken


@njit(cache=True, nogil=True)
def _get(row, offset, bits):
    """The field that `_put` wrote."""
    field = np.uint64(0)
    done = 0
    while done < bits:
        start = offset & 7
        taken = min(8 - start, bits - done)
        part = (np.uint64(row[offset >> 3]) >> np.uint64(start)) & np.uint64((1 << taken) - 1)
        field |= part << np.uint64(done)
        offset += taken
        done += taken
    return field
