"""Smoothing scales: range moved between activations and weights, feature by feature, the product unchanged.

X̂ = X·diag(s)⁻¹ and Ŵ = W·diag(s), so X̂·Ŵᵀ = X·Wᵀ. SmoothQuant (arXiv 2211.10438, eq. 4) shrinks the activations'
outliers for INT8; Outstanding-sparse (arXiv 2508.02128) inverts the scales, which widens the activations' range so that
selection sees more of a difference.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from accel_sim.errors import AccelSimError
from accel_sim.sparsify.recipe import Smoothing

SMALLEST = 1e-5
"""What SmoothQuant's release clamps maxima and scales to from below."""


def smoothing_scales(largest: Tensor, weights: Sequence[Tensor], smoothing: Smoothing) -> Tensor:
    """s [K] float32, positive: activations are divided by it, the weights' features multiplied with it.

    `largest` [K] is max|X_j| over the calibration's tokens; `weights` are all the projections [F_i, K] that read this
    input, since an input has one s. s_j = max|X_j|^alpha / max|W_j|^(1 − alpha), both maxima and the result no smaller
    than 1e-5; 1/s_j when `smoothing.inverted`. A feature that the calibration never saw, or that every weight ignores,
    says nothing about its range and keeps s_j = 1.

    Raises AccelSimError for shapes that do not fit and for values that are not finite.
    """
    if not weights or any(weight.dim() != 2 or weight.shape[1:] != largest.shape for weight in weights):
        shapes = ", ".join(str(list(weight.shape)) for weight in weights) or "none"
        raise AccelSimError(f"smoothing: weights {shapes} and {list(largest.shape)} maxima; expected [F, K] and [K]")
    activation = largest.double().abs()
    weight = torch.stack([each.detach().double().abs().amax(0) for each in weights]).amax(0)
    if not bool(torch.isfinite(activation + weight).all()):
        raise AccelSimError("smoothing: maxima of activations or weights that are not finite")
    scales = activation.clamp(min=SMALLEST) ** smoothing.alpha / weight.clamp(min=SMALLEST) ** (1 - smoothing.alpha)
    scales = scales.clamp(min=SMALLEST)
    if smoothing.inverted:
        scales = 1 / scales
    return torch.where((activation > 0) & (weight > 0), scales, 1.0).float()
