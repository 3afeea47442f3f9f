"""Triton kernels of the conditional FFN: gate with up-and-multiply, down, and a reduction behind down.

SVDP's Alg. 3 has a kernel for gate, one for up-and-multiply and one for down, and a thread block a neuron. Here gate
and up share one: no neuron's up waits for another neuron's gate, so a program that has computed its gate goes on. And
neurons are dealt to programs by rank: each program counts the needed neurons of a segment, and takes every n-th. So few
programs start, all of them have work while the segment has, and each keeps a whole row of a weight in flight, which is
what hides the latency of the memory at one token. Nothing is compacted in memory, and the host learns no count.

W_down is stored transposed. Each segment's sum goes to a row of partial sums, which the reduction adds in a fixed
order: no atomics, so the same bits every time. Weights are fp32, fp16 or bf16, sums fp32.

With TRITON_INTERPRET=1 in the environment before triton is first imported, they run on the CPU.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _weights(row, k, features):
    """fp32 [BLOCK_K]: a piece of one row of a weight, which nobody reads again in this step."""
    return tl.load(row + k, mask=k < features, other=0.0, eviction_policy="evict_first").to(tl.float32)


@triton.jit
def _dot(weight, x, neuron, token, real, features, BLOCK_T: tl.constexpr, BLOCK_K: tl.constexpr):
    """fp32 [BLOCK_T]: row `neuron` of weight [D, d] · x [T, d].

    A block is summed at once, so that no registers hold its products while the next is loaded.
    """
    row = weight + neuron.to(tl.int64) * features
    result = tl.zeros([BLOCK_T], tl.float32)
    for start in range(0, features, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        if BLOCK_T == 1:  # in one dimension, so that the row and x need no exchange between threads before they meet
            values = tl.load(x + k, mask=k < features, other=0.0).to(tl.float32)
            result += tl.sum(_weights(row, k, features) * values, axis=0)
        else:
            both = real[:, None] & (k < features)[None, :]
            values = tl.load(x + token[:, None] * features + k[None, :], mask=both, other=0.0).to(tl.float32)
            result += tl.sum(_weights(row, k, features)[None, :] * values, axis=1)
    return result


@triton.jit
def _two_dots(one, other, x, neuron, token, real, features, BLOCK_T: tl.constexpr, BLOCK_K: tl.constexpr):
    """`_dot` with two weights in one loop, so that both rows are in flight; the same sums in the same order."""
    row, row_2 = one + neuron.to(tl.int64) * features, other + neuron.to(tl.int64) * features
    result = tl.zeros([BLOCK_T], tl.float32)
    result_2 = tl.zeros([BLOCK_T], tl.float32)
    for start in range(0, features, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        weights, weights_2 = _weights(row, k, features), _weights(row_2, k, features)
        if BLOCK_T == 1:
            values = tl.load(x + k, mask=k < features, other=0.0).to(tl.float32)
            result += tl.sum(weights * values, axis=0)
            result_2 += tl.sum(weights_2 * values, axis=0)
        else:
            both = real[:, None] & (k < features)[None, :]
            values = tl.load(x + token[:, None] * features + k[None, :], mask=both, other=0.0).to(tl.float32)
            result += tl.sum(weights[None, :] * values, axis=1)
            result_2 += tl.sum(weights_2[None, :] * values, axis=1)
    return result, result_2


@triton.jit
def gate_up_kernel(
    gate, gate_bias, up, up_bias, x, scores, h, threshold, tokens, neurons, features,
    MASKED: tl.constexpr, PARALLEL: tl.constexpr, RECTIFIED: tl.constexpr,
    SEGMENT: tl.constexpr, PROGRAMS: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """h fp32 [T, D]: active gate · up where scores [T, D] are above 0, else 0; program (s, p) of (segments, PROGRAMS).

    Without MASKED every neuron is wanted, and scores are not read. PARALLEL: up does not wait for gate.
    """
    first = tl.program_id(1)
    n = tl.program_id(0) * SEGMENT + tl.arange(0, SEGMENT)
    exists = n < neurons
    asked = exists.to(tl.int32)
    if MASKED:
        asked = tl.zeros([SEGMENT], tl.int32)
        for each in range(tokens):
            asked |= (tl.load(scores + each * neurons + n, mask=exists, other=0) > 0).to(tl.int32)
    if first == 0:
        for each in range(tokens):
            tl.store(h + each * neurons + n, tl.zeros([SEGMENT], tl.float32), mask=exists & (asked == 0))
    rank = tl.cumsum(asked, axis=0) * asked  # from 1, and 0 where no token asks
    token = tl.arange(0, BLOCK_T)
    real = token < tokens
    for turn in range(first, tl.sum(asked, axis=0), PROGRAMS):
        neuron = tl.sum(tl.where(rank == turn + 1, n, 0), axis=0)
        place = token * neurons + neuron
        wanted = real
        if MASKED and BLOCK_T > 1:  # a single token wants what somebody wants
            wanted = tl.load(scores + place, mask=real, other=0) > 0
        # asked for before the rows: behind them they would cost another wait for the memory
        bias, up_too = tl.load(gate_bias + neuron), tl.load(up_bias + neuron)
        product = tl.zeros([BLOCK_T], tl.float32)
        if PARALLEL:
            gated, value = _two_dots(gate, up, x, neuron, token, real, features, BLOCK_T, BLOCK_K)
            gated += bias
            value += up_too
            if RECTIFIED:
                value = tl.maximum(value, 0.0)
            # where the gate is 0 so is the product, whatever up is
            product = tl.where(wanted & (gated > threshold), gated * value, 0.0)
        else:
            gated = _dot(gate, x, neuron, token, real, features, BLOCK_T, BLOCK_K) + bias
            kept = wanted & (gated > threshold)
            if tl.sum(kept.to(tl.int32), axis=0) > 0:
                value = _dot(up, x, neuron, token, real, features, BLOCK_T, BLOCK_K) + up_too
                if RECTIFIED:
                    value = tl.maximum(value, 0.0)
                product = tl.where(kept, gated * value, 0.0)
        tl.store(h + place, product, mask=real)


@triton.jit
def down_kernel(
    weight, h, partial, tokens, neurons, features,
    SEGMENT: tl.constexpr, ROWS: tl.constexpr, BLOCK_T: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """partial fp32 [S, T, d]: Σ h · weight [D, d] over each segment; program (p, s) of (pieces of BLOCK_K, segments).

    ROWS rows whose neuron is not 0 are in flight together.
    """
    segment = tl.program_id(1)
    k = tl.program_id(0) * BLOCK_K + tl.arange(0, BLOCK_K)
    inside = k < features
    n = segment * SEGMENT + tl.arange(0, SEGMENT)
    active = tl.zeros([SEGMENT], tl.int32)
    for each in range(tokens):
        active |= (tl.load(h + each * neurons + n, mask=n < neurons, other=0.0) != 0).to(tl.int32)
    rank = tl.cumsum(active, axis=0) * active
    count = tl.sum(active, axis=0)
    token = tl.arange(0, BLOCK_T)
    real = token < tokens
    slot = tl.arange(0, ROWS)
    total = tl.zeros([BLOCK_T, BLOCK_K], tl.float32)
    for start in range(0, count, ROWS):
        turn = start + slot
        there = turn < count
        row = tl.sum(tl.where(rank[None, :] == turn[:, None] + 1, n[None, :], 0), axis=1)
        tile = tl.load(
            weight + row.to(tl.int64)[:, None] * features + k[None, :],
            mask=there[:, None] & inside[None, :],
            other=0.0,
            eviction_policy="evict_first",
        ).to(tl.float32)
        if BLOCK_T == 1:
            values = tl.load(h + row, mask=there, other=0.0)
            total += tl.sum(values[:, None] * tile, axis=0)[None, :]
        else:
            both = real[:, None] & there[None, :]
            values = tl.load(h + token[:, None] * neurons + row[None, :], mask=both, other=0.0)
            total += tl.sum(values[:, :, None] * tile[None, :, :], axis=1)
    place = (segment * tokens + token[:, None]) * features + k[None, :]
    tl.store(partial + place, total, mask=real[:, None] & inside[None, :])


@triton.jit
def reduce_kernel(partial, bias, y, segments, tokens, features, ROWS: tl.constexpr, BLOCK_K: tl.constexpr):
    """y [T, d]: partial fp32 [S, T, d] over its segments, in a fixed order, + bias; program (t, p)."""
    token = tl.program_id(0)
    k = tl.program_id(1) * BLOCK_K + tl.arange(0, BLOCK_K)
    inside = k < features
    slot = tl.arange(0, ROWS)
    added = tl.load(bias + k, mask=inside, other=0.0)
    total = tl.zeros([ROWS, BLOCK_K], tl.float32)
    for start in range(0, segments, ROWS):
        segment = start + slot
        both = (segment < segments)[:, None] & inside[None, :]
        total += tl.load(partial + (segment[:, None] * tokens + token) * features + k[None, :], mask=both, other=0.0)
    tl.store(y + token * features + k, tl.sum(total, axis=0) + added, mask=inside)


INTERPRETED = not any(isinstance(each, triton.JITFunction) for each in (gate_up_kernel, tl.sum))
"""Whether these kernels run on the CPU; triton's own functions decide when triton is imported, ours here."""
