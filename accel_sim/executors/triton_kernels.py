"""Triton kernels of the conditional FFN: gate, up-and-multiply, down (SVDP Alg. 3), with a reduction behind down.

One program works on one neuron of gate and up: it tests the neuron's scores first and leaves without touching a weight
where no token wants it. The gate's output overwrites the scores. Down stores W_down transposed, and adds fixed chunks
of neurons to partial sums that the reduction adds in order: no atomics, so the same bits every time. Weights are
fp32, fp16 or bf16, sums fp32.

With TRITON_INTERPRET=1 in the environment before triton is first imported, they run on the CPU.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _dot(weight, x, neuron, token, real, features, BLOCK_T: tl.constexpr, BLOCK_K: tl.constexpr):
    """fp32 [BLOCK_T]: row `neuron` of weight [D, d] · x [T, d]."""
    total = tl.zeros([BLOCK_T, BLOCK_K], tl.float32)
    for start in range(0, features, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        inside = k < features
        row = tl.load(weight + neuron.to(tl.int64) * features + k, mask=inside, other=0.0).to(tl.float32)
        both = real[:, None] & inside[None, :]
        values = tl.load(x + token[:, None] * features + k[None, :], mask=both, other=0.0).to(tl.float32)
        total += row[None, :] * values
    return tl.sum(total, axis=1)


@triton.jit
def gate_kernel(
    weight, bias, x, scores, h, threshold, tokens, neurons, features, BLOCK_T: tl.constexpr, BLOCK_K: tl.constexpr
):  # fmt: skip
    """h fp32 [T, D]: the activated gate where scores [T, D] are above 0, else 0; h may be scores."""
    neuron = tl.program_id(0)
    token = tl.arange(0, BLOCK_T)
    real = token < tokens
    place = token * neurons + neuron
    wanted = tl.load(scores + place, mask=real, other=0.0) > 0
    result = tl.zeros([BLOCK_T], tl.float32)
    if tl.sum(wanted.to(tl.int32), axis=0) > 0:
        value = _dot(weight, x, neuron, token, real, features, BLOCK_T, BLOCK_K) + tl.load(bias + neuron)
        result = tl.where(wanted & (value > threshold), value, 0.0)
    tl.store(h + place, result, mask=real)


@triton.jit
def up_kernel(
    weight, bias, x, flags, h, tokens, neurons, features,
    RECTIFIED: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """Multiply h fp32 [T, D] by up where flags [T, D] are above 0: h itself (sequential) or the scores (parallel)."""
    neuron = tl.program_id(0)
    token = tl.arange(0, BLOCK_T)
    real = token < tokens
    place = token * neurons + neuron
    wanted = tl.load(flags + place, mask=real, other=0.0) > 0
    if tl.sum(wanted.to(tl.int32), axis=0) > 0:
        value = _dot(weight, x, neuron, token, real, features, BLOCK_T, BLOCK_K) + tl.load(bias + neuron)
        if RECTIFIED:
            value = tl.maximum(value, 0.0)
        gate = tl.load(h + place, mask=real, other=0.0)
        # where the gate is 0 so is the product, whatever up is
        tl.store(h + place, tl.where(gate > 0, gate * value, 0.0), mask=real)


@triton.jit
def down_kernel(
    weight, h, partial, tokens, neurons, features,
    CHUNK: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """partial fp32 [C, T, d]: Σ h · weight [D, d] over each chunk of CHUNK neurons, ascending."""
    chunk = tl.program_id(0)
    k = tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)
    inside = k < features
    token = tl.arange(0, BLOCK_T)
    real = token < tokens
    total = tl.zeros([BLOCK_T, BLOCK_K], tl.float32)
    first = chunk * CHUNK
    for each in range(0, tl.minimum(CHUNK, neurons - first)):
        neuron = first + each
        values = tl.load(h + token * neurons + neuron, mask=real, other=0.0)
        if tl.sum((values != 0).to(tl.int32), axis=0) > 0:
            row = tl.load(weight + neuron.to(tl.int64) * features + k, mask=inside, other=0.0).to(tl.float32)
            total += values[:, None] * row[None, :]
    place = (chunk * tokens + token[:, None]) * features + k[None, :]
    tl.store(partial + place, total, mask=real[:, None] & inside[None, :])


@triton.jit
def reduce_kernel(partial, bias, y, chunks, tokens, features, BLOCK_K: tl.constexpr):
    """y [T, d]: the chunks of partial fp32 [C, T, d], added in order, + bias."""
    token = tl.program_id(0)
    k = tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)
    inside = k < features
    total = tl.zeros([BLOCK_K], tl.float32)
    for chunk in range(chunks):
        total += tl.load(partial + (chunk * tokens + token) * features + k, mask=inside, other=0.0)
    total += tl.load(bias + k, mask=inside, other=0.0)
    tl.store(y + token * features + k, total, mask=inside)


INTERPRETED = not any(isinstance(each, triton.JITFunction) for each in (gate_kernel, tl.sum))
"""Whether these kernels run on the CPU; triton's own functions decide when triton is imported, ours here."""
