"""How long an array takes for the non-zeros of a token panel, window by window.

The rows of an array work on `rows` consecutive tokens, a panel, and wait for each other after every `sync_window`
groups, a window. What a row needs for a window depends on its non-zeros there:

`elastic`
    The lanes of a processing element form slices (S2TA's time-unrolled blocks, HPCA 2022). The groups of a window are
    dealt to the slices round-robin, and a slice spends max(1, ceil(z / elastic_lanes)) cycles on a group of z kept
    non-zeros. The deal starts again at slice 0 in every window: a slice is then wired to every slices-th group of the
    window's buffer, whatever the window. (With `sync_window` a multiple of `slices` there is no other way to deal.)
`unstructured`
    A row takes its non-zeros of the window in any order, `lanes` a cycle.

Selection by magnitude prefers non-zeros, so a group keeps min(N, its non-zeros) of them, and N = M keeps all.
A window takes what its slowest row (and slice) needs. `accel_sim.occupancy.reference` says the same in NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel_sim.functional import select
from accel_sim.occupancy.checks import codes_and_pattern, positive
from accel_sim.occupancy.masks import REAL_MASKS, Masks
from accel_sim.pattern import Pattern


@dataclass(frozen=True)
class WindowTimes:
    """What every window of every token panel takes: int64 [panels, windows] each.

    ceil(T / rows) panels, the last one with fewer tokens where `rows` does not divide T; ceil(G / sync_window) windows
    of the G = ceil(K / M) groups, the last one shorter where `sync_window` does not divide G.
    """

    cycles: NDArray[np.int64]
    """What the slowest row, or slice of a row, needs."""
    busy: NDArray[np.int64]
    """Work summed over the panel's tokens: the cycles of every slice (`elastic`) or row (`unstructured`). The rest of
    rows·slices·cycles, or rows·cycles, is waiting; of a last panel with fewer tokens, also rows without a token."""
    nonzeros: NDArray[np.int64]
    """Kept elements that are not zero: products that change a sum."""


def elastic_windows(
    codes: ArrayLike,
    pattern: Pattern | str,
    *,
    rows: int,
    slices: int,
    elastic_lanes: int,
    sync_window: int,
    masks: Masks = REAL_MASKS,
) -> WindowTimes:
    """Window times of codes int8 [T, K] on rows of `slices` slices of `elastic_lanes` lanes.

    A slice without a group in a short window works 0 cycles there. Raises AccelSimError for codes that are not int8 in
    −127 … 127, a pattern of two levels, and counts below 1.
    """
    from accel_sim.occupancy import kernels  # Numba takes a third of a second to import

    codes, pattern = codes_and_pattern(codes, pattern)
    positive(rows=rows, slices=slices, elastic_lanes=elastic_lanes, sync_window=sync_window)
    codes = masks.codes(codes)
    z = np.minimum(np.arange(pattern.m + 1), pattern.n)
    group_cycles = np.maximum(1, -(-z // elastic_lanes))
    return WindowTimes(*kernels.elastic(codes, pattern.m, z, group_cycles, rows, slices, sync_window))


def unstructured_windows(
    codes: ArrayLike,
    pattern: Pattern | str,
    *,
    rows: int,
    lanes: int,
    sync_window: int,
    banks: int | None,
    masks: Masks = REAL_MASKS,
) -> WindowTimes:
    """Window times of codes int8 [T, K] on rows of `lanes` lanes: max(1, ceil(non-zeros / lanes)) a row.

    With `banks`, position p of a window lies in bank p mod banks, each bank gives a row one weight a cycle, and a row
    needs as long as its fullest bank if that is longer. Which positions are kept then matters, so they come from the
    real selection (`accel_sim.functional.select`): one more zero may let in a value of a fuller bank and cost a cycle.

    Raises AccelSimError for codes that are not int8 in −127 … 127, a pattern of two levels, and counts below 1.
    """
    from accel_sim.occupancy import kernels

    codes, pattern = codes_and_pattern(codes, pattern)
    positive(rows=rows, lanes=lanes, sync_window=sync_window)
    codes = masks.codes(codes)
    if banks is None:
        z = np.minimum(np.arange(pattern.m + 1), pattern.n)
        return WindowTimes(*kernels.unstructured(codes, pattern.m, z, rows, lanes, sync_window))
    positive(banks=banks)
    kept = codes if pattern.keeps_all else codes * select(codes, pattern, backend="numba")
    return WindowTimes(*kernels.banked(kept, rows, lanes, sync_window * pattern.m, banks))
