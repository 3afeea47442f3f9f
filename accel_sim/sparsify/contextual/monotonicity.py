"""How nearly marginal costs ascend, on which the greedy calibration's optimality rests (SVDP, Theorem A.15)."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from accel_sim.sparsify.contextual.greedy_kernels import Cuts, find_cuts

BINS = 256
"""At most; the pairs of single samples would be too many, and each too noisy to tell anything."""


def monotonicity(scores: NDArray[np.float32], importance: NDArray[np.float32]) -> float | None:
    """Mean over neurons of Kendall's τ_b between a step's place in the order of scores and its cost a sample.

    `scores` and `importance` are float32 [T, D]; the steps are those of :func:`greedy_thresholds` with 256 bins, or
    T where that is less. 1: every neuron's marginal costs ascend, and greedy calibration loses the least that can be
    lost. Left out are neurons whose steps all cost the same, or that have one step alone; None where those are all.
    """
    cuts = find_cuts(scores, importance, min(BINS, len(scores)))
    values = [tau for tau in _taus(cuts) if np.isfinite(tau)]
    return float(np.mean(values)) if values else None


def _taus(cuts: Cuts) -> NDArray[np.float64]:
    """τ_b [D], NaN where it is not defined."""
    return np.array(
        [
            kendall_tau_b(np.diff(costs[:length]) / np.diff(counts[:length]))
            for counts, costs, length in zip(cuts.counts, cuts.costs, cuts.lengths, strict=True)
        ]
    )


@njit(cache=True, nogil=True)
def kendall_tau_b(values: NDArray[np.float64]) -> float:
    """Kendall's τ_b of a sequence [n] against its own order: 1 ascending, −1 descending; NaN if all are equal.

    τ_b = (concordant − discordant) / √(pairs·(pairs − tied)), since places have no ties.
    """
    pairs = values.size * (values.size - 1) // 2
    balance = tied = 0
    for i in range(values.size):
        for j in range(i + 1, values.size):
            if values[j] > values[i]:
                balance += 1
            elif values[j] < values[i]:
                balance -= 1
            else:
                tied += 1
    if tied == pairs:
        return np.nan
    return balance / np.sqrt(float(pairs) * float(pairs - tied))
