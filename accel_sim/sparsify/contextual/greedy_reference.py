"""Algorithm 2 of SVDP (arXiv 2603.14110) as it is read, with Python's own heap: what the compiled one must equal."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

import numpy as np
from numpy.typing import NDArray


def reference_thresholds(
    scores: NDArray[np.float32],
    importance: NDArray[np.float32],
    needed: int,
    bins: int,
    first_at_most: int,
    off_at_most: int,
    spare: bool,
) -> NDArray[np.float32]:
    """τ float32 [D] for scores and importance float32 [T, D].

    At least `needed` samples are to be inactive; a neuron's thresholds pass its samples in `bins` steps; it starts with
    at most `first_at_most` samples. Of the neurons that matter at most `off_at_most` are inactive for all tokens: with
    `spare` the others keep their last step, otherwise the search ends with the first one too many.
    """
    tokens, neurons = scores.shape
    cuts = [_cuts(scores[:, i], importance[:, i], bins) for i in range(neurons)]
    matters = importance.any(axis=0)
    at = [_start(each, first_at_most) for each in cuts]

    def next_step(i: int) -> tuple[float, int]:
        return cuts[i][at[i] + 1][1] - cuts[i][at[i]][1], i

    heap = [next_step(i) for i in range(neurons) if at[i] + 1 < len(cuts[i])]
    heapify(heap)
    inactive = sum(cuts[i][at[i]][0] for i in range(neurons))
    off = sum(bool(matters[i]) and cuts[i][at[i]][0] == tokens for i in range(neurons))
    while inactive < needed and heap and off <= off_at_most:
        _, i = heappop(heap)
        turns_off = matters[i] and at[i] + 2 == len(cuts[i])
        if turns_off and spare and off == off_at_most:
            continue
        inactive += cuts[i][at[i] + 1][0] - cuts[i][at[i]][0]
        at[i] += 1
        if at[i] + 1 < len(cuts[i]):
            heappush(heap, next_step(i))
        off += bool(turns_off)
    return np.array([cuts[i][at[i]][2] for i in range(neurons)], np.float32)


def _cuts(scores: NDArray, importance: NDArray, bins: int) -> list[tuple[int, float, np.float32]]:
    """(samples inactive, their cost, τ) of every threshold that a neuron may have, from none inactive to all."""
    order = np.argsort(scores, kind="stable")
    ordered, costs = scores[order], np.cumsum(importance[order], dtype=np.float64)
    cuts = [(0, 0.0, np.nextafter(ordered[0], np.float32(-np.inf)))]
    for step in range(1, bins + 1):
        score = ordered[step * len(scores) // bins - 1]
        count = int(np.searchsorted(ordered, score, side="right"))  # samples of equal score go together
        if count > cuts[-1][0]:
            cuts.append((count, float(costs[count - 1]), score))
    return cuts


def _start(cuts: list[tuple[int, float, np.float32]], first_at_most: int) -> int:
    """The last cut that costs nothing."""
    return max(j for j, (count, cost, _) in enumerate(cuts) if cost == 0 and (count <= first_at_most or not j))
