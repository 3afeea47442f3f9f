"""Static sparsity of the weights, which is what activation sparsity is compared with.

Groups and shares run along the features of each output: magnitude, Wanda (arXiv 2306.11695), and SparseGPT
(arXiv 2301.00774), which corrects what is left for what it removes. Ties go to the lower feature.
"""

from __future__ import annotations

from math import ceil

import torch
from torch import Tensor

from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern
from accel_sim.sparsify.kept import Unstructured
from accel_sim.sparsify.recipe import WeightPruning
from accel_sim.sparsify.torch_selection import keep_tensor

DAMPENING = 0.01
"""SparseGPT: of the Hessian's mean diagonal, added to its diagonal."""
BLOCK = 128
"""SparseGPT: features after which the update of all later ones is caught up."""


def prune_weight(weight: Tensor, pruning: WeightPruning, x: Tensor | None) -> Tensor:
    """The pruned weight [F, K], of the weight's dtype and on its device.

    `x` [T, K] are the calibration's activations, which `magnitude` does without. An unstructured share is of each
    output's features, but of each block of 128 features over all outputs with `sparsegpt`, as published.

    Raises AccelSimError when Wanda or SparseGPT get no activations, for shapes that do not fit, and for values that are
    not finite.
    """
    weight = weight.detach()
    if weight.dim() != 2 or not bool(torch.isfinite(weight).all()):
        raise AccelSimError(f"{pruning.criterion}: weight {list(weight.shape)}; expected finite values [F, K]")
    if pruning.criterion == "magnitude":
        return _keep_highest(weight, weight.abs(), pruning)
    if x is None or not len(x):
        raise AccelSimError(f"{pruning.criterion}: needs activations of calibration text; magnitude does without")
    if x.dim() != 2 or x.shape[1] != weight.shape[1]:
        raise AccelSimError(f"{pruning.criterion}: activations {list(x.shape)} for a weight {list(weight.shape)}")
    norms = x.double().norm(dim=0)
    if not bool(torch.isfinite(norms).all()):
        raise AccelSimError(f"{pruning.criterion}: activations that are not finite")
    if pruning.criterion == "wanda":
        return _keep_highest(weight, weight.abs() * norms, pruning)
    factor = _inverse_factor(x)
    return _sparse_gpt(weight.float(), pruning.pattern, factor, norms > 0).to(weight.dtype)


def _keep_highest(weight: Tensor, scores: Tensor, pruning: WeightPruning) -> Tensor:
    return torch.where(keep_tensor(scores.float(), pruning.pattern), weight, 0)


def _inverse_factor(x: Tensor) -> Tensor:
    """U [K, K] float32, upper triangular, of the dampened Hessian's inverse: H⁻¹ = Uᵀ·U, H = XᵀX.

    Row j of U, divided by U_jj, is row j of H⁻¹ after features 0 … j−1 were taken out of the problem; U_jj² is its
    diagonal. So one factorisation serves all steps (section 3.3).
    """
    hessian = x.double().mT @ x.double()
    diagonal = hessian.diagonal()
    # A feature that is always zero would make H singular; nothing correlates with it, so any curvature will do.
    diagonal[diagonal == 0] = 1
    diagonal.add_(DAMPENING * diagonal.mean())
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(hessian))
    return torch.linalg.cholesky(inverse, upper=True).float()


def _sparse_gpt(weight: Tensor, kept: Pattern | Unstructured, factor: Tensor, seen: Tensor) -> Tensor:
    """Algorithm 1: feature by feature, prune what the mask says, and move the error onto the features that come later.

    The mask is chosen from the weights as they are by then, for the next M features or the next block of 128: those
    stay whose removal would cost most, w²/[H⁻¹]_jj (eq. 3). `seen` bool [K]: features that are ever non-zero; others
    go first (the release zeroes them all, which a mask need not).
    """
    outputs, features = weight.shape
    weight = weight.clone()
    diagonal = factor.diagonal()
    saliency = seen / diagonal
    block = BLOCK if isinstance(kept, Unstructured) else kept.m * ceil(BLOCK / kept.m)
    for first in range(0, features, block):
        last = min(first + block, features)
        step = block if isinstance(kept, Unstructured) else kept.m
        errors = torch.empty(outputs, last - first, dtype=weight.dtype, device=weight.device)
        for feature in range(first, last):
            if (feature - first) % step == 0:
                group = slice(feature, min(feature + step, last))
                keep = _keep_group((weight[:, group] * saliency[group]).abs(), kept, group)
                start = feature
            column = weight[:, feature]
            pruned = torch.where(keep[:, feature - start], column, 0)
            error = (column - pruned) / diagonal[feature]
            errors[:, feature - first] = error
            weight[:, feature] = pruned
            weight[:, feature + 1 : last] -= torch.outer(error, factor[feature, feature + 1 : last])
        weight[:, last:] -= errors @ factor[first:last, last:]
    return weight


def _keep_group(saliency: Tensor, kept: Pattern | Unstructured, features: slice) -> Tensor:
    """Which weights of these features stay, bool [F, n], by saliency [F, n]."""
    if isinstance(kept, Pattern):
        return keep_tensor(saliency, kept)
    # Rounding the running total keeps the share of the whole weight exact.
    before, after = (round((1 - kept.pruned) * len(saliency) * feature) for feature in (features.start, features.stop))
    order = saliency.mT.flatten().argsort(descending=True, stable=True)  # feature by feature, so ties to the lower one
    keep = torch.zeros_like(order, dtype=torch.bool)
    keep[order[: after - before]] = True
    return keep.view(saliency.mT.shape).mT
