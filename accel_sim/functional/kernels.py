"""Compiled loops over token rows. Rows are independent and all sums are integers, so threads cannot change a result.

Kernels release the GIL and write into arrays they are given; `over_rows` shares the rows among threads. They are
compiled on first use and cached on disk, once for each kernel: `frozen` gives every input the same read-only type.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from itertools import pairwise
from typing import TypeVar

import numpy as np
from numba import config, njit
from numpy.typing import NDArray

T = TypeVar("T")

GROUP_BLOCK = 128
"""Groups that are selected side by side, one SIMD lane each: the block of uint16 scores stays in the L1 cache."""
OUTPUT_BLOCK = 512
"""Outputs accumulated before the next ones: a block of weights [K, 512] stays in the L2 cache for the usual K."""
SLOT_STEP = 4
"""Slots multiplied in one pass over a row of accumulators, which is loaded and stored once for all of them."""


def frozen(array: NDArray) -> NDArray:
    """A read-only C-contiguous view (a copy only if it must be)."""
    view = np.ascontiguousarray(array).view()
    view.flags.writeable = False
    return view


def over_rows(work: Callable[[slice], T], rows: int, least: int = 1) -> list[T]:
    """What `work` returns for slices that share out `rows` among the threads that Numba may use, in ascending order.

    A thread gets at least `least` rows (the last one of few rows excepted), so that small work is not spread thin.
    """
    workers = max(1, min(config.NUMBA_NUM_THREADS, rows // least))
    bounds = [rows * i // workers for i in range(workers + 1)]
    own, *others = (slice(a, b) for a, b in pairwise(bounds))
    if not others:
        return [work(own)]
    elsewhere = [_pool(len(others)).submit(work, part) for part in others]
    try:
        here = work(own)
    finally:
        wait(elsewhere)  # nobody may still be writing into the caller's arrays when it goes on
    return [here, *(part.result() for part in elsewhere)]


@cache
def _pool(workers: int) -> ThreadPoolExecutor:
    """Threads that stay, because starting them takes as long as counting a megabyte."""
    return ThreadPoolExecutor(workers, thread_name_prefix="accel-sim-rows")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its parent's threads


@njit(cache=True, nogil=True)
def _keep_block(x, factors, first, count, n, m, score, threshold, candidate, number, keep):
    """Selection in groups first … first+count−1 of one token: keep[j, b] for position j of the b-th group.

    The N-th largest score of each group is built bit by bit (the largest value that at least N scores reach); what
    lies above it is kept, and of what equals it the lowest positions, as many as are missing.
    """
    features = x.shape[0]
    largest = np.uint16(0)
    for b in range(count):
        base = (first + b) * m
        real = min(m, features - base)
        for j in range(real):
            s = np.uint16(abs(np.int32(x[base + j])) * np.int32(factors[base + j]))
            score[j, b] = s
            largest = max(largest, s)
        for j in range(real, m):
            score[j, b] = 0  # ties go to the lower position, so padding never wins against a real element
    bits = 0
    while (largest >> bits) > 0:
        bits += 1
    threshold[:] = 0
    for bit in range(bits - 1, -1, -1):
        for b in range(GROUP_BLOCK):
            candidate[b] = threshold[b] | np.uint16(1 << bit)
            number[b] = 0
        for j in range(m):
            for b in range(GROUP_BLOCK):
                number[b] += np.uint16(score[j, b] >= candidate[b])
        for b in range(GROUP_BLOCK):
            if number[b] >= n:
                threshold[b] = candidate[b]
    for b in range(GROUP_BLOCK):
        number[b] = n
    for j in range(m):
        for b in range(GROUP_BLOCK):
            number[b] -= np.uint16(score[j, b] > threshold[b])
    for j in range(m):
        for b in range(GROUP_BLOCK):
            tie = np.uint16((score[j, b] == threshold[b]) & (number[b] > 0))
            number[b] -= tie
            keep[j, b] = np.uint8(score[j, b] > threshold[b]) | np.uint8(tie)


@njit(cache=True, nogil=True)
def select_rows(x, factors, n, m, mask):
    """mask bool [T, K] of x int8 [T, K] with factors uint8 [K]."""
    tokens, features = x.shape
    groups = (features + m - 1) // m
    score = np.zeros((m, GROUP_BLOCK), np.uint16)
    threshold = np.zeros(GROUP_BLOCK, np.uint16)
    candidate = np.zeros(GROUP_BLOCK, np.uint16)
    number = np.zeros(GROUP_BLOCK, np.uint16)
    keep = np.zeros((m, GROUP_BLOCK), np.uint8)
    for t in range(tokens):
        for first in range(0, groups, GROUP_BLOCK):
            count = min(GROUP_BLOCK, groups - first)
            _keep_block(x[t], factors, first, count, n, m, score, threshold, candidate, number, keep)
            for b in range(count):
                base = (first + b) * m
                for j in range(min(m, features - base)):
                    mask[t, base + j] = keep[j, b] != 0


@njit(cache=True, nogil=True)
def keep_strongest_rows(x, factors, n, m, inner_m, mask):
    """Of every `m` neighbouring groups of `inner_m` features, clear in mask bool [T, K] all but the `n` strongest.

    Strongest is the largest sum of the scores that the mask keeps, ties to the lower group. Padding has no group here.
    """
    tokens, features = x.shape
    groups = -(-features // inner_m)
    strength = np.zeros(groups, np.int64)
    for t in range(tokens):
        strength[:] = 0
        for group in range(groups):
            for k in range(group * inner_m, min((group + 1) * inner_m, features)):
                strength[group] += mask[t, k] * abs(np.int64(x[t, k])) * np.int64(factors[k])
        for group in range(groups):
            first = group - group % m
            stronger = 0
            for other in range(first, min(first + m, groups)):
                tie = (strength[other] == strength[group]) & (other < group)
                stronger += (strength[other] > strength[group]) | tie
            if stronger >= n:
                mask[t, group * inner_m : (group + 1) * inner_m] = False


@njit(cache=True, nogil=True)
def multiply_rows(x, mask, w, slots, acc):
    """Add to acc int32 [T, F] what x int8 [T, K] keeps under mask bool [T, K], times w int8 [K, F].

    The kept values of a token are gathered first, at most `slots` of them, with the weight row each one picks.
    """
    tokens, features = x.shape
    outputs = w.shape[1]
    room = -(-slots // SLOT_STEP) * SLOT_STEP
    values = np.zeros((tokens, room + 1), np.int8)  # one more than is read: what is not kept is written and overwritten
    rows = np.zeros((tokens, room + 1), np.int32)  # a slot without a value holds 0, so any weight row will do
    for t in range(tokens):
        slot = 0
        for k in range(features):  # without a branch on the mask, which no branch predictor can guess
            values[t, slot] = x[t, k]
            rows[t, slot] = k
            slot += mask[t, k]
        values[t, slot] = 0
    for first in range(0, outputs, OUTPUT_BLOCK):
        last = min(first + OUTPUT_BLOCK, outputs)
        for t in range(tokens):
            sums = acc[t, first:last]
            for s in range(0, room, SLOT_STEP):
                v0, v1 = np.int32(values[t, s]), np.int32(values[t, s + 1])
                v2, v3 = np.int32(values[t, s + 2]), np.int32(values[t, s + 3])
                w0, w1 = w[rows[t, s], first:last], w[rows[t, s + 1], first:last]
                w2, w3 = w[rows[t, s + 2], first:last], w[rows[t, s + 3], first:last]
                for f in range(last - first):
                    sums[f] += v0 * np.int32(w0[f]) + v1 * np.int32(w1[f]) + v2 * np.int32(w2[f]) + v3 * np.int32(w3[f])


@njit(cache=True, nogil=True)
def requantize_rows(acc, token_mantissa, token_exponent, output_mantissa, output_exponent, codes):
    """codes int8 [T, F] of acc int32 [T, F], with the constants of `fixed_point.Multipliers`."""
    for t in range(acc.shape[0]):
        for f in range(acc.shape[1]):
            mantissa = (token_mantissa[t] * output_mantissa[f] + (1 << 30)) >> 31
            shift = min(max(31 - token_exponent[t] - output_exponent[f], 1), 63)
            product = np.int64(acc[t, f]) * mantissa
            magnitude = min((abs(product) + (np.int64(1) << (shift - 1))) >> shift, 127)
            codes[t, f] = magnitude if product >= 0 else -magnitude


@njit(cache=True, nogil=True)
def dequantize_rows(acc, scale_x, scale_w, bias, floats):
    """floats float32 [T, F]; `bias` is float32 [F], or empty. Without fast-math LLVM fuses no multiply with an add."""
    for t in range(acc.shape[0]):
        for f in range(acc.shape[1]):
            value = np.float32(acc[t, f]) * (scale_x[t] * scale_w[f])
            floats[t, f] = value + bias[f] if bias.size else value


@njit(cache=True, nogil=True)
def weighted_squares_rows(acc, scale, sums):
    """sums float64 [T]: Σ_f (acc·scale)² of acc int32 [T, F] with scale float64 [F], added in ascending order of f."""
    for t in range(acc.shape[0]):
        total = 0.0
        for f in range(acc.shape[1]):
            value = acc[t, f] * scale[f]
            total += value * value
        sums[t] = total
