"""Triton kernels of the way out of the accumulators: to INT8 codes, or to floats.

Launch `dequantize_kernel` with `enable_fp_fusion=False`: every step is rounded by itself, and a fused multiply-add
would round product and bias at once.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def requantize_kernel(
    acc, token_mantissa, token_exponent, output_mantissa, output_exponent, codes, tokens, outputs,
    LARGEST_SHIFT: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_F: tl.constexpr,
):  # fmt: skip
    """codes int8 [T, F] of acc int32 [T, F]: constants int64, as `fixed_point.multipliers` makes them; one rounding."""
    token = tl.program_id(0).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)[:, None]
    output = tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)[None, :]
    real_token, real_output = token < tokens, output < outputs
    mantissas = tl.load(token_mantissa + token, mask=real_token, other=0) * tl.load(
        output_mantissa + output, mask=real_output, other=0
    )
    exponents = tl.load(token_exponent + token, mask=real_token, other=0) + tl.load(
        output_exponent + output, mask=real_output, other=0
    )
    shift = tl.minimum(tl.maximum(31 - exponents, 1), LARGEST_SHIFT)
    place = token * outputs + output
    real = real_token & real_output
    product = tl.load(acc + place, mask=real, other=0).to(tl.int64) * ((mantissas + (1 << 30)) >> 31)
    half = tl.full(shift.shape, 1, tl.int64) << (shift - 1)
    magnitude = tl.minimum((tl.abs(product) + half) >> shift, 127)
    tl.store(codes + place, tl.where(product < 0, -magnitude, magnitude).to(tl.int8), mask=real)


@triton.jit
def dequantize_kernel(
    acc, scale_x, scale_w, bias, floats, tokens, outputs,
    BIASED: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_F: tl.constexpr,
):  # fmt: skip
    """floats float32 [T, F]: float32(acc int32) · (s_x·s_w), then + bias float32 [F]."""
    token = tl.program_id(0).to(tl.int64) * BLOCK_T + tl.arange(0, BLOCK_T)[:, None]
    output = tl.program_id(1) * BLOCK_F + tl.arange(0, BLOCK_F)[None, :]
    real_token, real_output = token < tokens, output < outputs
    scale = tl.load(scale_x + token, mask=real_token, other=0.0) * tl.load(
        scale_w + output, mask=real_output, other=0.0
    )
    place = token * outputs + output
    real = real_token & real_output
    value = tl.load(acc + place, mask=real, other=0).to(tl.float32) * scale
    if BIASED:
        value = value + tl.load(bias + output, mask=real_output, other=0.0)
    tl.store(floats + place, value, mask=real)
