"""Window times as compiled loops, large sites shared among threads: the numbers of `accel_sim.occupancy.reference`.

The cost is in counting non-zeros. A token row is copied as one byte of 0 or 1 an element, groups padded to whole
64-bit words. Adding a group's words adds eight bytes at a time, and a multiplication by 0x0101…01 adds those eight into
the highest byte (a group has at most 64 elements, so no byte overflows). Groups of up to 4 share a word: a
multiplication by as many 01 as a group has bytes leaves each group's sum in its own highest byte.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accel_sim.functional.kernels import frozen, over_rows

Times = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
"""Cycles, busy, nonzeros: int64 [panels, windows] each."""

WORD = 8
"""Bytes of a 64-bit word."""
ALL_BYTES = np.uint64(0x0101010101010101)
HIGHEST_BYTE = np.uint64(56)
SHARED_FROM = 2**21
"""Elements from which threads are used. A thread counts several of them a nanosecond, and starting threads takes
100 µs, much longer on a busy machine."""


def elastic(
    codes: NDArray[np.int8],
    m: int,
    kept: NDArray[np.int64],
    group_cycles: NDArray[np.int64],
    rows: int,
    slices: int,
    sync_window: int,
) -> Times:
    """Times of codes int8 [T, K] in groups of m; a group of z non-zeros keeps kept[z] and takes group_cycles[z]."""
    codes, kept, group_cycles = frozen(codes), frozen(kept.astype(np.int32)), frozen(group_cycles.astype(np.int32))
    groups = -(-codes.shape[1] // m)
    window, slices = min(sync_window, groups), min(slices, groups)  # what is larger than the row is as large as it
    times = _no_times(codes, rows, -(-groups // window))
    _over_panels(
        lambda tokens, panels: elastic_panels(
            codes[tokens], m, kept, group_cycles, rows, slices, window, *times[:, panels]
        ),
        codes,
        rows,
    )
    return tuple(times)


def unstructured(
    codes: NDArray[np.int8], m: int, kept: NDArray[np.int64], rows: int, lanes: int, sync_window: int
) -> Times:
    """Times of codes int8 [T, K] in groups of m; a group of z non-zeros keeps kept[z], wherever they are."""
    codes, kept = frozen(codes), frozen(kept.astype(np.int32))
    groups = -(-codes.shape[1] // m)
    window = min(sync_window, groups)
    times = _no_times(codes, rows, -(-groups // window))
    _over_panels(
        lambda tokens, panels: unstructured_panels(codes[tokens], m, kept, rows, lanes, window, *times[:, panels]),
        codes,
        rows,
    )
    return tuple(times)


def banked(kept: NDArray[np.int8], rows: int, lanes: int, window_features: int, banks: int) -> Times:
    """Times of what is kept of the codes int8 [T, K] (0 elsewhere), in windows of so many features and banks."""
    kept = frozen(kept)
    window, banks = min(window_features, kept.shape[1]), min(banks, kept.shape[1])
    times = _no_times(kept, rows, -(-kept.shape[1] // window))
    _over_panels(
        lambda tokens, panels: banked_panels(kept[tokens], rows, lanes, window, banks, *times[:, panels]), kept, rows
    )
    return tuple(times)


def _no_times(codes: NDArray[np.int8], rows: int, windows: int) -> NDArray[np.int64]:
    return np.zeros((3, -(-codes.shape[0] // rows), windows), dtype=np.int64)


def _over_panels(work: Callable[[slice, slice], None], codes: NDArray[np.int8], rows: int) -> None:
    """Call `work` with tokens and the panels they make, for parts that threads share out where it pays."""
    panels = -(-codes.shape[0] // rows)
    if codes.size < SHARED_FROM:
        work(slice(0, codes.shape[0]), slice(0, panels))
    else:
        over_rows(lambda part: work(slice(part.start * rows, part.stop * rows), part), panels)


@njit(cache=True, nogil=True)
def _stride(m):
    """Bytes from one group to the next: whole words, or a power of two of groups in a word."""
    if m > 4:
        return (m + WORD - 1) // WORD * WORD
    return m if m != 3 else 4


@njit(cache=True, nogil=True)
def _count_nonzeros(row, m, flags, nonzeros):
    """nonzeros[g] of each group of a token row; `flags` uint8 has room for all groups and is whole words."""
    features, groups, stride = row.shape[0], nonzeros.shape[0], _stride(m)
    words = flags.view(np.uint64)
    if stride == m:
        for k in range(features):
            flags[k] = row[k] != 0
        flags[features:] = 0
    else:
        flags[:] = 0
        for g in range(groups):
            for j in range(min(m, features - g * m)):
                flags[g * stride + j] = row[g * m + j] != 0
    if stride < WORD:
        bytes_of_group = ALL_BYTES >> np.uint64(8 * (WORD - stride))
        for i in range(words.shape[0]):
            words[i] *= bytes_of_group
        for g in range(groups):
            nonzeros[g] = flags[g * stride + stride - 1]
        return
    words_per_group = stride // WORD
    for g in range(groups):
        total = words[g * words_per_group]
        for word in range(1, words_per_group):
            total += words[g * words_per_group + word]
        nonzeros[g] = (total * ALL_BYTES) >> HIGHEST_BYTE


@njit(cache=True, nogil=True)
def elastic_panels(codes, m, kept, group_cycles, rows, slices, sync_window, cycles, busy, nonzeros):
    """Add to cycles, busy and nonzeros int64 [panels, windows], 0 on entry, what codes int8 [T, K] make of them."""
    tokens, features = codes.shape
    groups = (features + m - 1) // m
    flags = np.empty((groups * _stride(m) + WORD - 1) // WORD * WORD, np.uint8)
    z = np.empty(groups, np.uint8)
    slice_cycles = np.zeros(slices, np.int32)
    for t in range(tokens):
        panel = t // rows
        _count_nonzeros(codes[t], m, flags, z)
        for window in range(cycles.shape[1]):
            first = window * sync_window
            last = min(first + sync_window, groups)
            slice_cycles[:] = 0
            total = 0
            for dealt in range(first, last, slices):
                for s in range(min(slices, last - dealt)):
                    slice_cycles[s] += group_cycles[z[dealt + s]]
                    total += kept[z[dealt + s]]
            nonzeros[panel, window] += total
            slowest = work = 0
            for s in range(slices):
                slowest = max(slowest, slice_cycles[s])
                work += slice_cycles[s]
            cycles[panel, window] = max(cycles[panel, window], slowest)
            busy[panel, window] += work


@njit(cache=True, nogil=True)
def unstructured_panels(codes, m, kept, rows, lanes, sync_window, cycles, busy, nonzeros):
    """As `elastic_panels`, a row taking its non-zeros of a window in any order."""
    tokens, features = codes.shape
    groups = (features + m - 1) // m
    flags = np.empty((groups * _stride(m) + WORD - 1) // WORD * WORD, np.uint8)
    z = np.empty(groups, np.uint8)
    for t in range(tokens):
        panel = t // rows
        _count_nonzeros(codes[t], m, flags, z)
        for window in range(cycles.shape[1]):
            total = 0
            for g in range(window * sync_window, min((window + 1) * sync_window, groups)):
                total += kept[z[g]]
            row_cycles = max(1, (total + lanes - 1) // lanes)
            cycles[panel, window] = max(cycles[panel, window], row_cycles)
            busy[panel, window] += row_cycles
            nonzeros[panel, window] += total


@njit(cache=True, nogil=True)
def banked_panels(kept, rows, lanes, window_features, banks, cycles, busy, nonzeros):
    """As `unstructured_panels` for what was kept, where a row also waits for the fullest of its window's banks."""
    tokens, features = kept.shape
    in_bank = np.zeros(banks, np.int32)
    for t in range(tokens):
        panel = t // rows
        for window in range(cycles.shape[1]):
            first = window * window_features
            last = min(first + window_features, features)
            in_bank[:] = 0
            for start in range(first, last, banks):
                for bank in range(min(banks, last - start)):
                    in_bank[bank] += kept[t, start + bank] != 0
            total = fullest = 0
            for bank in range(banks):
                total += in_bank[bank]
                fullest = max(fullest, in_bank[bank])
            row_cycles = max(1, (total + lanes - 1) // lanes, fullest)
            cycles[panel, window] = max(cycles[panel, window], row_cycles)
            busy[panel, window] += row_cycles
            nonzeros[panel, window] += total
