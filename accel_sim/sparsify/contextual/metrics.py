"""How well a predictor predicts, and what its mistakes do to the layer's output."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from accel_sim.errors import AccelSimError
from accel_sim.sparsify.contextual.ffn import GatedFfn
from accel_sim.sparsify.contextual.predictor import Predictor


@dataclass(frozen=True)
class PredictorQuality:
    """Of one layer's predictor on some tokens; shares are of all (token, neuron) pairs unless they say otherwise."""

    roc_auc: float | None
    """Of the scores without bias; None where all pairs are active, or none."""
    recall: float | None
    """Of the active pairs, those predicted; None where none is active."""
    precision: float | None
    """Of the predicted pairs, those active; None where none is predicted."""
    gate_sparsity: float
    """Pairs that are not active."""
    predicted_sparsity: float
    """Pairs predicted inactive: s of eq. 5."""
    realised_sparsity: float
    """Pairs that are not both predicted and active, and so reach neither up nor down: s′ of eq. 5."""
    output_error: float
    """‖ŷ − y‖₂ / ‖y‖₂ of the FFN's outputs over all tokens."""


def measure(predictor: Predictor, ffn: GatedFfn, x: Tensor) -> PredictorQuality:
    """The quality of `predictor` for the layer on x [T, d], tokens that it was not fitted on.

    Raises AccelSimError for no tokens and scores that are not finite.
    """
    if x.dim() != 2 or not len(x):
        raise AccelSimError(f"predictor quality: activations {list(x.shape)}; expected [T, d] with at least one token")
    predicted, realised = predictor.predict(x), ffn.realised(x)
    return PredictorQuality(
        roc_auc=roc_auc(predictor.scores(x).cpu().numpy(), realised.cpu().numpy()),
        recall=recall(predicted, realised),
        precision=precision(predicted, realised),
        gate_sparsity=sparsity(realised),
        predicted_sparsity=sparsity(predicted),
        realised_sparsity=sparsity(predicted & realised),
        output_error=output_error(ffn, x, predicted),
    )


def roc_auc(scores: NDArray[np.floating], realised: NDArray[np.bool_]) -> float | None:
    """Area under the receiver operating characteristic over all pairs of a layer: the share of (active, inactive)
    pairs that the scores put in order, equal scores counted half.

    Exact: counted in integers. `scores` and `realised` are of one shape. None where a class is empty. Raises
    AccelSimError for shapes that differ and scores that are not finite.
    """
    if scores.shape != realised.shape:
        raise AccelSimError(f"ROC-AUC: scores {list(scores.shape)} of activity {list(realised.shape)}")
    if not bool(np.isfinite(scores).all()):
        raise AccelSimError("ROC-AUC: scores that are not finite")
    active, inactive = np.sort(scores[realised]), np.sort(scores[~realised])
    if not active.size or not inactive.size:
        return None
    below = np.searchsorted(inactive, active, side="left").sum(dtype=np.int64)
    not_above = np.searchsorted(inactive, active, side="right").sum(dtype=np.int64)
    return (int(below) + int(not_above)) / (2 * active.size * inactive.size)


def recall(predicted: Tensor, realised: Tensor) -> float | None:
    """Of the realised pairs, the share predicted; None where there is none."""
    return _share(predicted & realised, realised)


def precision(predicted: Tensor, realised: Tensor) -> float | None:
    """Of the predicted pairs, the share realised; None where there is none."""
    return _share(predicted & realised, predicted)


def sparsity(mask: Tensor) -> float:
    """Share of False in a bool mask."""
    return 1 - int(torch.count_nonzero(mask)) / mask.numel()


def output_error(ffn: GatedFfn, x: Tensor, mask: Tensor) -> float:
    """‖ŷ − y‖₂ / ‖y‖₂ over the FFN's outputs of x [T, d], ŷ with the neurons of bool mask [T, D] alone.

    0 where the outputs are the same, infinite where only the dense ones are zero.
    """
    dense = ffn.dense(x).double()
    difference, norm = float((ffn.masked(x, mask).double() - dense).norm()), float(dense.norm())
    if difference == 0:
        return 0.0
    return difference / norm if norm else float("inf")


def _share(part: Tensor, whole: Tensor) -> float | None:
    count = int(torch.count_nonzero(whole))
    return int(torch.count_nonzero(part)) / count if count else None
