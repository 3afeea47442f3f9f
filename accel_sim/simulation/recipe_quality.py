"""What a recipe's selection and mitigations leave of a product, as far as INT8 codes and weights tell.

Factors that follow from the weights, norms of the activations, shifts by the token's own codes and the variance scale
are worked out here; what is fitted to floats in calibration is not known to a trace.
"""

from __future__ import annotations

from typing import get_args

import numpy as np

from accel_sim.functional import hardware_factors, output_loss
from accel_sim.functional.mitigations import treated_outputs
from accel_sim.pattern import Pattern
from accel_sim.sparsify import Treatment
from accel_sim.sparsify.criteria import WeightCriterion, clact_factors, weight_factors
from accel_sim.workload import Weights


def unknown(treatment: Treatment) -> str | None:
    """What of a pruned projection's treatment a trace cannot tell; None where it can tell everything."""
    told = {
        f"criterion {treatment.criterion}": treatment.criterion in ("magnitude", "clact", *get_args(WeightCriterion)),
        f"shift {treatment.shift}": treatment.shift in ("none", "median", "mean"),
        f"output {treatment.output}": treatment.output == "none",
        "smoothing": treatment.smoothing is None,
        f"rotation {treatment.rotation}": treatment.rotation == "none",
        "low rank": treatment.low_rank is None,
    }
    return next((what for what, known in told.items() if not known), None)


def is_plain(treatment: Treatment) -> bool:
    """Whether selection by magnitude is all that happens."""
    return unknown(treatment) is None and treatment.criterion == "magnitude" and not _mitigates(treatment)


def loss(codes: np.ndarray, scales: np.ndarray, weights: Weights, pattern: Pattern, treatment: Treatment) -> float:
    """‖Y − Y′‖²/‖Y‖² of a product of codes int8 [T, K] with scales float32 [T], Y without and Y′ with the treatment.

    The treatment must be one of which nothing is `unknown`.
    """
    factors = _factors(codes, scales, weights, treatment)
    if not _mitigates(treatment):
        error, norm = output_loss(codes, scales, weights.codes, weights.scales, pattern, factors=factors)
        return error / norm if norm else 0.0
    everything = Pattern(f"{pattern.m}:{pattern.m}")
    dense, treated = (
        treated_outputs(codes, scales, weights.codes, weights.scales, kept, backend="numba", **how).astype(np.float64)
        for kept, how in (
            (everything, {}),
            (pattern, {"factors": factors, "shift": treatment.shift, "variance": treatment.variance}),
        )
    )
    norm = np.square(dense).sum()
    return float(np.square(dense - treated).sum() / norm) if norm else 0.0


def _mitigates(treatment: Treatment) -> bool:
    return treatment.shift != "none" or treatment.variance


def _factors(codes: np.ndarray, scales: np.ndarray, weights: Weights, treatment: Treatment) -> np.ndarray | None:
    """uint8 [K], as the selector holds them."""
    if treatment.criterion == "magnitude":
        return None
    if treatment.criterion == "clact":
        return hardware_factors(clact_factors(codes.astype(np.float32) * scales[:, None]))
    floats = weights.codes.T.astype(np.float32) * weights.scales[:, None]
    return hardware_factors(weight_factors(treatment.criterion, floats, treatment.outliers))
