"""The reference: window times as they are defined, in plain NumPy, one panel and one window after the other.

The compiled kernels must return exactly these numbers. Arguments are those of `accel_sim.occupancy`, already checked.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from accel_sim.functional import select
from accel_sim.occupancy.windows import WindowTimes
from accel_sim.pattern import Pattern


def elastic_windows(
    codes: NDArray[np.int8], pattern: Pattern, *, rows: int, slices: int, elastic_lanes: int, sync_window: int
) -> WindowTimes:
    """See `accel_sim.occupancy.elastic_windows`."""
    kept = kept_nonzeros(codes, pattern)
    times = _no_times(codes, pattern, rows, sync_window)
    for place, tokens, groups in _windows(codes, pattern, rows, sync_window):
        z = _per_group(kept[tokens], pattern)[:, groups]
        group_cycles = np.maximum(1, np.ceil(z / elastic_lanes))
        slice_cycles = np.array([group_cycles[:, s::slices].sum(axis=1) for s in range(slices)])
        times.cycles[place] = slice_cycles.max()
        times.busy[place] = slice_cycles.sum()
        times.nonzeros[place] = z.sum()
    return times


def unstructured_windows(
    codes: NDArray[np.int8], pattern: Pattern, *, rows: int, lanes: int, sync_window: int, banks: int | None
) -> WindowTimes:
    """See `accel_sim.occupancy.unstructured_windows`."""
    kept = kept_nonzeros(codes, pattern)
    times = _no_times(codes, pattern, rows, sync_window)
    for place, tokens, groups in _windows(codes, pattern, rows, sync_window):
        window = kept[tokens, groups.start * pattern.m : groups.stop * pattern.m]
        row_cycles = np.maximum(1, np.ceil(window.sum(axis=1) / lanes))
        for bank in range(banks or 0):
            row_cycles = np.maximum(row_cycles, window[:, bank::banks].sum(axis=1))
        times.cycles[place] = row_cycles.max()
        times.busy[place] = row_cycles.sum()
        times.nonzeros[place] = window.sum()
    return times


def kept_nonzeros(codes: NDArray[np.int8], pattern: Pattern) -> NDArray[np.bool_]:
    """bool [T, K]: what selection by magnitude keeps and is not zero."""
    return select(codes, pattern) & (codes != 0)


def _per_group(kept: NDArray[np.bool_], pattern: Pattern) -> NDArray[np.int64]:
    """How many are kept in each group of each token: int64 [T, G]."""
    return np.add.reduceat(kept, np.arange(0, kept.shape[1], pattern.m), axis=1, dtype=np.int64)


def _no_times(codes: NDArray[np.int8], pattern: Pattern, rows: int, sync_window: int) -> WindowTimes:
    panels = -(-codes.shape[0] // rows)
    windows = -(-pattern.groups(codes.shape[1]) // sync_window)
    return WindowTimes(*(np.zeros((panels, windows), dtype=np.int64) for _ in range(3)))


def _windows(
    codes: NDArray[np.int8], pattern: Pattern, rows: int, sync_window: int
) -> Iterator[tuple[tuple[int, int], slice, slice]]:
    """((panel, window), the tokens of the panel, the groups of the window), one after the other."""
    tokens, groups = codes.shape[0], pattern.groups(codes.shape[1])
    for panel, token in enumerate(range(0, tokens, rows)):
        for window, group in enumerate(range(0, groups, sync_window)):
            yield (panel, window), slice(token, token + rows), slice(group, min(group + sync_window, groups))
