"""Thresholds of scores: one for all neurons, or each its own by greedy calibration (SVDP, arXiv 2603.14110, Alg. 2).

A neuron is predicted active where its score is above its threshold τ, so b = −τ. Needs no torch.

Two points of the printed algorithm are read for what they must mean. Advancing is to min(k + η, T), not max. And the
prefix that costs nothing ends before the first sample that costs something: printed, τ would be that sample's own
score, which 1[s ≤ τ] counts as inactive, at its cost, whether the target asks for it or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

from accel_sim.errors import AccelSimError
from accel_sim.sparsify.contextual.greedy_kernels import descend, find_cuts


@dataclass(frozen=True, eq=False)
class Thresholds:
    """Where each neuron's scores part, and what that does on the samples that it was found on."""

    values: NDArray[np.float32]
    """τ [D]."""
    predicted_sparsity: float
    """Share of samples [T, D] at or below their neuron's threshold."""
    lost: float
    """Of the importance of all samples, the share predicted inactive."""
    turned_off: int
    """Neurons that matter for some sample, and are predicted inactive for all of them."""


def greedy_thresholds(
    scores: NDArray[np.float32],
    importance: NDArray[np.float32],
    target: float,
    bins: int | None = None,
    initial_cap: float = 1.0,
    turned_off: float = 1.0,
    spare: bool = True,
) -> Thresholds:
    """Algorithm 2: thresholds of least lost importance that predict a share `target` of the samples inactive.

    `scores` and `importance` are float32 [T, D]. Each neuron's samples are put in the order of their scores; it starts
    inactive for those that cost nothing, and the neuron whose next step costs least (of equal ones the lowest) takes
    it until the target is met. A step is T/bins samples, with `bins` None or above T one sample; samples of equal score
    share a step, since no threshold parts them. This is optimal where every neuron's marginal costs ascend (Theorem
    A.15; `monotonicity.py` tells how nearly they do) and steps are single samples.

    `initial_cap` limits the share of samples that cost nothing that a neuron starts with. `turned_off` limits the share
    of neurons that become inactive for all samples though they matter for some: with `spare` the others then keep their
    last step, otherwise calibration ends with the first one too many and the target is not met. The paper's code has
    bins 256, 0.95, 0.01 and no sparing; its text has none of this. What costs nothing may make the sparsity higher than
    the target, and what is spared may keep it lower. A neuron inactive for no sample gets the next lower number to its
    least score.

    Raises AccelSimError for shapes that differ, no samples, values that are not finite, negative importance, and a
    target outside [0, 1].
    """
    _check(scores, target)
    if importance.shape != scores.shape:
        raise AccelSimError(f"thresholds: importance {list(importance.shape)} of scores {list(scores.shape)}")
    if not bool(np.isfinite(importance).all()) or bool((importance < 0).any()):
        raise AccelSimError("thresholds: importance that is negative or not finite")
    if (bins is not None and bins < 1) or not 0 <= initial_cap <= 1 or not 0 <= turned_off <= 1:
        raise AccelSimError(
            f"thresholds: bins {bins}, initial_cap {initial_cap}, turned_off {turned_off}; "
            "expected from 1 on, a share, and a share"
        )
    tokens, neurons = scores.shape
    cuts = find_cuts(scores, importance, min(bins or tokens, tokens))
    limits = needed_samples(target, scores.size), int(initial_cap * tokens), int(turned_off * neurons)
    chosen = np.arange(neurons), descend(cuts, *limits, spare)
    counts, costs, total = cuts.counts[chosen], cuts.costs[chosen], cuts.costs[np.arange(neurons), cuts.lengths - 1]
    return Thresholds(
        values=cuts.values[chosen],
        predicted_sparsity=float(counts.sum(dtype=np.int64) / scores.size),
        lost=float(costs.sum() / total.sum()) if total.any() else 0.0,
        turned_off=int(np.count_nonzero((counts == tokens) & (total > 0))),
    )


def const_threshold(scores: NDArray[np.float32], target: float) -> np.float32:
    """The least τ at or below which a share `target` of all scores [T, D] lies: the paper's `const` ablation.

    Raises AccelSimError for no scores, scores that are not finite, and a target outside [0, 1].
    """
    _check(scores, target)
    needed = needed_samples(target, scores.size)
    flat = scores.astype(np.float32, copy=False).ravel()
    if not needed:
        return np.nextafter(flat.min(), np.float32(-np.inf))
    return np.partition(flat, needed - 1)[needed - 1]


def needed_samples(target: float, samples: int) -> int:
    """The least count of `samples` whose share is at least `target`, whatever rounding does to their product."""
    count = ceil(target * samples)
    if count and (count - 1) / samples >= target:
        return count - 1
    return count if count / samples >= target else count + 1


def _check(scores: NDArray[np.float32], target: float) -> None:
    if scores.ndim != 2 or not scores.size:
        raise AccelSimError(f"thresholds: scores {list(scores.shape)}; expected [T, D] with at least one sample")
    if not bool(np.isfinite(scores).all()):
        raise AccelSimError("thresholds: scores that are not finite")
    if not 0 <= target <= 1:
        raise AccelSimError(f"thresholds: target {target}; expected a share from 0 to 1")
