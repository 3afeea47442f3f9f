"""Per-token INT8 quantisation as a Triton kernel, and its pieces for kernels that quantise on the way."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

_LONGEST_BLOCK = 4096
"""Features of a token that a program holds at once."""


def quantize(x: Tensor) -> tuple[Tensor, Tensor]:
    """Codes int8 [T, K] and scales float32 [T] of floats [T, K]; see `accel_sim.quantize.tensors`."""
    x = x.contiguous()
    tokens, features = x.shape
    codes = torch.empty(x.shape, dtype=torch.int8, device=x.device)
    scales = torch.empty(tokens, dtype=torch.float32, device=x.device)
    block = min(_LONGEST_BLOCK, max(128, triton.next_power_of_2(features)))
    with torch.cuda.device_of(x):  # Triton launches on the current device; of a model on several, that is one of them
        # Contraction would not change a code, but nothing here is to depend on an argument about that.
        quantize_kernel[(tokens,)](x, codes, scales, features, BLOCK_K=block, enable_fp_fusion=False)
    return codes, scales


@triton.jit
def quantize_kernel(x, codes, scales, features, BLOCK_K: tl.constexpr):
    """One token a program: its maximum first, then, from cache, its codes."""
    token = tl.program_id(0).to(tl.int64) + tl.arange(0, 1)[:, None]
    everywhere = token >= 0
    scale = token_scale(x, token, everywhere, features, 1, BLOCK_K)
    tl.store(scales + token, scale)
    reciprocal = 1.0 / scale.to(tl.float64)
    for first in range(0, features, BLOCK_K):
        feature = first + tl.arange(0, BLOCK_K)[None, :]
        place = token * features + feature
        value = tl.load(x + place, mask=feature < features, other=0.0).to(tl.float32)
        finite = (value.to(tl.int32, bitcast=True) & 0x7FFFFFFF) < 0x7F800000
        code = tl.where(finite, code_of(value, reciprocal), -128)
        tl.store(codes + place, code.to(tl.int8), mask=feature < features)


@triton.jit
def token_scale(x, token, real, features, BLOCK_T: tl.constexpr, BLOCK_K: tl.constexpr):
    """max|x|/127 of each token, 1 where that is 0: float32 [BLOCK_T, 1]. A NaN or an infinity leaves one here."""
    largest = tl.zeros([BLOCK_T, BLOCK_K], tl.int32)
    for first in range(0, features, BLOCK_K):
        feature = first + tl.arange(0, BLOCK_K)[None, :]
        value = tl.load(x + token * features + feature, mask=real & (feature < features), other=0.0)
        # without its sign a float orders as its bits do, NaN above infinity above everything else
        magnitude = value.to(tl.float32).to(tl.int32, bitcast=True) & 0x7FFFFFFF
        largest = tl.maximum(largest, magnitude)
    row = tl.max(largest, axis=1, keep_dims=True).to(tl.float32, bitcast=True)
    scale = tl.div_rn(row, tl.full([BLOCK_T, 1], 127.0, tl.float32))
    return tl.where(scale == 0, 1.0, scale)


@triton.jit
def code_of(value, reciprocal):
    """clip(round_half_even(value / scale), −127, 127), the quotient rounded to float32 first.

    `reciprocal` is 1 / scale in float64. A quotient of two float32 is no closer than 2^-49 of itself to the middle
    between two float32, and the product in float64 is within 2^-52 of the quotient: both round to the same float32. So
    this is the float32 division, to the bit, in fewer instructions and without its branch.
    """
    quotient = (value.to(tl.float64) * reciprocal).to(tl.float32)
    # at 1.5 · 2^23 a float32 has no fraction left, so the addition rounds half to even; quotients are far below 2^22
    code = (quotient + 12582912.0).to(tl.int32, bitcast=True) - 0x4B400000
    return tl.minimum(tl.maximum(code, -127), 127)
