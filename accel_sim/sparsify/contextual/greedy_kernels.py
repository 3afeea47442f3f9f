"""Algorithm 2 of SVDP compiled: the thresholds of `greedy_reference.py`, bit for bit.

Each neuron's samples are sorted and cut into steps (neurons shared among threads), then one heap of all neurons' next
steps is worked off. A neuron's cuts lie side by side in arrays of [D, bins + 1], the first of them at 0 samples; where
equal scores join steps, it has fewer than bins + 1, and `lengths` says how many.
"""

from __future__ import annotations

from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accel_sim.functional.kernels import over_rows


@dataclass(frozen=True, eq=False)
class Cuts:
    """The thresholds that each neuron may have: samples at or below, what they cost, and the threshold."""

    counts: NDArray[np.int32]
    costs: NDArray[np.float64]
    values: NDArray[np.float32]
    lengths: NDArray[np.int32]
    """[D]; all others [D, bins + 1]."""


def find_cuts(scores: NDArray[np.float32], importance: NDArray[np.float32], bins: int) -> Cuts:
    """Of scores and importance float32 [T, D], in `bins` steps from 1 to T."""
    by_neuron = [np.ascontiguousarray(array.T, np.float32) for array in (scores, importance)]
    neurons = len(by_neuron[0])
    shape = (neurons, bins + 1)
    found = Cuts(np.empty(shape, np.int32), np.empty(shape), np.empty(shape, np.float32), np.empty(neurons, np.int32))
    arrays = (*by_neuron, found.counts, found.costs, found.values, found.lengths)
    over_rows(lambda rows: _find_cuts(*(array[rows] for array in arrays)), neurons)
    return found


def descend(cuts: Cuts, needed: int, first_at_most: int, off_at_most: int, spare: bool) -> NDArray[np.int64]:
    """Index of each neuron's chosen cut [D]. The limits are those of `reference_thresholds`."""
    return _descend(cuts.counts, cuts.costs, cuts.lengths, needed, first_at_most, off_at_most, spare)


@njit(cache=True, nogil=True)
def _find_cuts(scores, importance, counts, costs, values, lengths):
    tokens, bins = scores.shape[1], counts.shape[1] - 1
    for i in range(scores.shape[0]):
        order = np.argsort(scores[i], kind="mergesort")  # stable, so that costs add up in one order everywhere
        counts[i, 0], costs[i, 0] = 0, 0.0
        values[i, 0] = np.nextafter(scores[i, order[0]], np.float32(-np.inf))
        length, count, cost = 1, 0, 0.0
        for step in range(1, bins + 1):
            if step * tokens // bins <= count:
                continue
            score = scores[i, order[step * tokens // bins - 1]]
            while count < tokens and scores[i, order[count]] <= score:
                cost += np.float64(importance[i, order[count]])
                count += 1
            counts[i, length], costs[i, length], values[i, length] = count, cost, score
            length += 1
        lengths[i] = length


@njit(cache=True, nogil=True)
def _descend(counts, costs, lengths, needed, first_at_most, off_at_most, spare):
    neurons = counts.shape[0]
    at = np.zeros(neurons, np.int64)
    heap = [(0.0, 0) for _ in range(0)]
    inactive = off = 0
    for i in range(neurons):
        last = lengths[i] - 1
        while at[i] < last and costs[i, at[i] + 1] == 0 and counts[i, at[i] + 1] <= first_at_most:
            at[i] += 1
        inactive += counts[i, at[i]]
        if at[i] < last:
            heap.append((costs[i, at[i] + 1] - costs[i, at[i]], i))
    heapify(heap)
    while inactive < needed and len(heap) and off <= off_at_most:
        i = heap[0][1]
        turns_off = at[i] + 2 == lengths[i] and costs[i, at[i] + 1] > 0
        if turns_off and spare and off == off_at_most:
            heappop(heap)
            continue
        inactive += counts[i, at[i] + 1] - counts[i, at[i]]
        at[i] += 1
        if at[i] + 1 < lengths[i]:
            heapreplace(heap, (costs[i, at[i] + 1] - costs[i, at[i]], i))
        else:
            heappop(heap)
            off += turns_off
    return at
