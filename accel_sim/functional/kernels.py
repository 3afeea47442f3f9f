"""Compiled loops over token rows. Rows are independent and all sums are integers, so threads cannot change a result.

Kernels release the GIL and write into arrays they are given; `over_rows` shares the rows among threads. They are
compiled on first use and cached on disk, once for each kernel: `frozen` gives every input the same read-only type.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
from numba import config, njit
from numpy.typing import NDArray

BITMAP, INDEX, ENUMERATIVE = 0, 1, 2
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


def over_rows(work: Callable[[slice], None], rows: int) -> None:
    """Call `work` for slices that share out `rows` among the threads that Numba may use."""
    workers = max(1, min(config.NUMBA_NUM_THREADS, rows))
    bounds = [rows * i // workers for i in range(workers + 1)]
    slices = [slice(a, b) for a, b in pairwise(bounds)]
    if workers == 1:
        work(slices[0])
        return
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, slices))


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
def prune_statistics_rows(x, factors, n, m, dropped_squares, squares, kept_nonzeros, zeros):
    """For each token of x int8 [T, K], as int64 [T]: Σq² of what selection drops, Σq², kept non-zeros, zeros."""
    tokens, features = x.shape
    groups = (features + m - 1) // m
    score = np.zeros((m, GROUP_BLOCK), np.uint16)
    threshold = np.zeros(GROUP_BLOCK, np.uint16)
    candidate = np.zeros(GROUP_BLOCK, np.uint16)
    number = np.zeros(GROUP_BLOCK, np.uint16)
    keep = np.zeros((m, GROUP_BLOCK), np.uint8)
    for t in range(tokens):
        lost = total = nonzeros = kept = 0
        for first in range(0, groups, GROUP_BLOCK):
            count = min(GROUP_BLOCK, groups - first)
            _keep_block(x[t], factors, first, count, n, m, score, threshold, candidate, number, keep)
            for b in range(count):
                base = (first + b) * m
                for j in range(min(m, features - base)):
                    q = np.int32(x[t, base + j])
                    square = q * q
                    total += square
                    lost += square * (1 - keep[j, b])
                    nonzeros += q != 0
                    kept += (q != 0) & (keep[j, b] != 0)
        dropped_squares[t] = lost
        squares[t] = total
        kept_nonzeros[t] = kept
        zeros[t] = features - nonzeros


@njit(cache=True, nogil=True)
def _put(row, offset, field, bits):
    """OR `bits` bits of `field` into the bytes of `row` from bit `offset` on, least-significant bit first."""
    while bits > 0:
        start = offset & 7
        taken = min(8 - start, bits)
        part = field & np.uint64((1 << taken) - 1)
        row[offset >> 3] |= np.uint8(part << np.uint64(start))
        field >>= np.uint64(taken)
        offset += taken
        bits -= taken


@njit(cache=True, nogil=True)
def _get(row, offset, bits):
    """The field that `_put` wrote."""
    field = np.uint64(0)
    done = 0
    while done < bits:
        start = offset & 7
        taken = min(8 - start, bits - done)
        part = (np.uint64(row[offset >> 3]) >> np.uint64(start)) & np.uint64((1 << taken) - 1)
        field |= part << np.uint64(done)
        offset += taken
        done += taken
    return field


@njit(cache=True, nogil=True)
def compress_rows(x, mask, n, m, encoding, field_bits, binomials, values, metadata):
    """values int8 [T, G, N] and metadata uint8 [T, B] (zeros on entry) of x int8 [T, K] under mask bool [T, K]."""
    tokens, features = x.shape
    for t in range(tokens):
        offset = 0
        for g in range(values.shape[1]):
            base = g * m
            real = min(m, features - base)
            missing = n
            for j in range(real):
                missing -= mask[t, base + j]
            padding = min(missing, m - real)
            missing -= padding
            slot = 0
            field = np.uint64(0)
            for j in range(real + padding):
                kept = j < real and mask[t, base + j]
                if not kept and j < real:
                    if missing == 0:
                        continue
                    missing -= 1
                values[t, g, slot] = x[t, base + j] if kept else 0
                if encoding == BITMAP:
                    field |= np.uint64(1) << np.uint64(j)
                elif encoding == INDEX:
                    _put(metadata[t], offset, np.uint64(j), field_bits)
                    offset += field_bits
                else:
                    field += binomials[slot, j]
                slot += 1
            if encoding != INDEX:
                _put(metadata[t], offset, field, field_bits)
                offset += field_bits


@njit(cache=True, nogil=True)
def decompress_rows(values, metadata, n, m, encoding, field_bits, binomials, code_words, dense, valid):
    """dense int8 [T, K] (zeros on entry), and valid bool [T, G]: False where the metadata is no code word.

    `code_words` is C(M, N): ranks lie below it.
    """
    tokens, groups, _ = values.shape
    positions = np.zeros(n, np.int64)
    for t in range(tokens):
        offset = 0
        for g in range(groups):
            ok = True
            if encoding == INDEX:
                for slot in range(n):
                    positions[slot] = np.int64(_get(metadata[t], offset, field_bits))
                    offset += field_bits
                    ok = ok and positions[slot] < m and (slot == 0 or positions[slot] > positions[slot - 1])
            else:
                field = _get(metadata[t], offset, field_bits)
                offset += field_bits
                if encoding == BITMAP:
                    slot = 0
                    for j in range(m):
                        if (field >> np.uint64(j)) & np.uint64(1):
                            if slot < n:
                                positions[slot] = j
                            slot += 1
                    ok = slot == n
                else:
                    ok = field < code_words
                    j = m - 1
                    for slot in range(n - 1, -1, -1):
                        while j > 0 and binomials[slot, j] > field:
                            j -= 1
                        positions[slot] = j
                        field -= binomials[slot, j]
            valid[t, g] = ok
            if ok:
                for slot in range(n):
                    feature = g * m + positions[slot]
                    if feature < dense.shape[1]:
                        dense[t, feature] = values[t, g, slot]


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
