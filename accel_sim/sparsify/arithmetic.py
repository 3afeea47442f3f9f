"""INT8 codes held in float32 tensors: quantised and multiplied to the same bits as `accel_sim.quantize` and
`accel_sim.functional`, at the speed of a floating-point product."""

from __future__ import annotations

import torch
from torch import Tensor

from accel_sim.quantize.int8 import LARGEST_CODE
from accel_sim.quantize.tensors import token_scales

EXACT_FEATURES = 1024
"""Sums of so many products of codes are exact in float32, in whatever order: 1024·127² < 2²⁴."""


def quantize(x: Tensor, scale: float | None = None) -> tuple[Tensor, Tensor]:
    """float32 [n, K] → codes, integers in float32 [n, K], and scales float32 [n, 1].

    Scales are max|x|/127 of each row, 1 for a row of zeros; or `scale` for all rows, where larger values saturate.
    """
    scales = token_scales(x) if scale is None else torch.full_like(x[:, :1], scale)
    return (x / scales).round_().clamp_(-LARGEST_CODE, LARGEST_CODE), scales


def exact_product(codes: Tensor, weights: Tensor) -> Tensor:
    """Sums float64 [n, F] of codes [n, K] times codes [F, K], each the exact integer."""
    features = codes.shape[1]
    parts = (slice(first, first + EXACT_FEATURES) for first in range(0, features, EXACT_FEATURES))
    return sum(torch.nn.functional.linear(codes[:, part], weights[:, part]).double() for part in parts)


def dequantize(sums: Tensor, scales: Tensor, weight_scales: Tensor) -> Tensor:
    """float32(sum)·float32(s_x·s_w) [n, F] of sums [n, F], scales [n, 1] and weight scales [F]."""
    return sums.float() * (scales * weight_scales)


def hardware_factors(factors: Tensor) -> Tensor:
    """Factors ≥ 0 [..., K] as the selector holds them, clip(round_half_even(255·g / max g), 1, 255), in float32."""
    g = factors.double()
    largest = g.amax(dim=-1, keepdim=True)
    scaled = 255 * g / torch.where(largest > 0, largest, 1.0)
    return scaled.round_().clamp_(1, 255).float()
