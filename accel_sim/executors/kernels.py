"""Compiled loops of the conditional FFN, for a token or a small batch.

No thread can change a result, however many there are: gate and up are split by neuron, and one thread sums a whole dot
product; down is split by output, and every thread adds the same neurons in the same ascending order. No fast-math: each
product and each sum is rounded by itself, in the order of `reference.float_in_order`. Memory is the limit, so that
order costs nothing.

Of a batch, a row is fetched for the first token that needs it and comes from the cache for the others. What a token
gets does not depend on the batch it is in.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange, types
from numba.extending import overload

from accel_sim.executors.prefetch import fetch_start
from accel_sim.executors.reference import LANES

_STEP = 4
"""Neurons that down adds in one pass over its outputs, which are loaded and stored once for all of them."""


def _widen(stored):
    """A stored weight as float32."""


@overload(_widen, inline="always")
def _widen_of(stored):
    if stored == types.uint16:  # bfloat16: the upper half of a float32
        return lambda stored: np.uint32(np.uint32(stored) << np.uint32(16)).view(np.float32)
    return lambda stored: stored


@njit(cache=True, nogil=True)
def _dot(row, x, lanes):
    """row [d] · x float32 [d], in `lanes` float32 [64]."""
    whole = row.size - row.size % LANES
    lanes[:] = 0
    for k in range(0, whole, LANES):
        for lane in range(LANES):
            lanes[lane] += _widen(row[k + lane]) * x[k + lane]
    for lane in range(row.size - whole):
        lanes[lane] += _widen(row[whole + lane]) * x[whole + lane]
    width = LANES // 2
    while width > 0:
        for lane in range(width):
            lanes[lane] += lanes[lane + width]
        width //= 2
    return lanes[0]


@njit(cache=True, nogil=True)
def _integer_dot(row, x):
    """row int8 [d] · x int8 [d], exact."""
    total = np.int32(0)
    for k in range(row.size):
        total = np.int32(total + np.int32(np.int32(row[k]) * np.int32(x[k])))
    return total


@njit(cache=True, nogil=True)
def any_token(wanted):
    """Ascending indices int64 of the neurons that some token of the mask bool [T, D] wants."""
    tokens, neurons = wanted.shape
    rows = np.empty(neurons, np.int64)
    count = 0
    for j in range(neurons):
        some = False
        for t in range(tokens):
            some |= wanted[t, j]
        rows[count] = j  # without a branch on the mask, which no branch predictor can guess
        count += some
    return rows[:count]


@njit(cache=True, nogil=True)
def not_zero(h):
    """Ascending indices int64 of the rows of h [n, T] that are not zero for some token."""
    found = np.empty(h.shape[0], np.int64)
    count = 0
    for i in range(h.shape[0]):
        some = False
        for t in range(h.shape[1]):
            some |= h[i, t] != 0
        found[count] = i
        count += some
    return found[:count]


@njit(parallel=True, cache=True)
def gate_rows(weight, bias, x, mask, rows, threshold, parts, h):
    """h float32 [n, T]: the activated gate of neurons `rows` [n] where mask bool [T, D] asks for it, else 0."""
    n = rows.size
    for part in prange(parts):
        lanes = np.empty(LANES, np.float32)
        for i in range(n * part // parts, n * (part + 1) // parts):
            j = rows[i]
            fetch_start(weight[rows[min(i + 1, n - 1)]])
            for t in range(x.shape[0]):
                h[i, t] = 0
                if mask[t, j]:
                    value = _dot(weight[j], x[t], lanes) + bias[j]
                    if value > threshold:
                        h[i, t] = value


@njit(parallel=True, cache=True)
def up_rows(weight, bias, x, mask, rows, chosen, sequential, rectified, parts, h):
    """Multiply h float32 [n, T] by up, in the places `chosen` of `rows`: where h is not 0, or else where the mask is.

    `rectified` puts a ReLU on up.
    """
    n = chosen.size
    for part in prange(parts):
        lanes = np.empty(LANES, np.float32)
        for c in range(n * part // parts, n * (part + 1) // parts):
            i = chosen[c]
            j = rows[i]
            fetch_start(weight[rows[chosen[min(c + 1, n - 1)]]])
            for t in range(x.shape[0]):
                if (h[i, t] != 0) if sequential else mask[t, j]:
                    value = _dot(weight[j], x[t], lanes) + bias[j]
                    h[i, t] *= max(value, np.float32(0)) if rectified else value


@njit(parallel=True, cache=True)
def down_rows(weight, bias, h, rows, chosen, parts, y):
    """y float32 [T, d] = Σ h[i] · weight[rows[i]] over `chosen`, ascending, + bias."""
    tokens, features = y.shape
    width = _piece(features, parts)
    whole = chosen.size - chosen.size % _STEP
    for part in prange(parts):
        first, last = min(part * width, features), min((part + 1) * width, features)
        for t in range(tokens):
            y[t, first:last] = 0
        for c in range(0, whole, _STEP):
            i0, i1, i2, i3 = chosen[c], chosen[c + 1], chosen[c + 2], chosen[c + 3]
            w0, w1 = weight[rows[i0], first:last], weight[rows[i1], first:last]
            w2, w3 = weight[rows[i2], first:last], weight[rows[i3], first:last]
            for t in range(tokens):
                h0, h1, h2, h3 = h[i0, t], h[i1, t], h[i2, t], h[i3, t]
                sums = y[t, first:last]
                for f in range(last - first):
                    s = sums[f] + h0 * _widen(w0[f])
                    s = s + h1 * _widen(w1[f])
                    s = s + h2 * _widen(w2[f])
                    sums[f] = s + h3 * _widen(w3[f])
        for c in range(whole, chosen.size):
            row = weight[rows[chosen[c]], first:last]
            for t in range(tokens):
                value = h[chosen[c], t]
                sums = y[t, first:last]
                for f in range(last - first):
                    sums[f] += value * _widen(row[f])
        for t in range(tokens):
            for f in range(first, last):
                y[t, f] += bias[f]


@njit(parallel=True, cache=True)
def low_rank_scores(down, up, bias, x, parts, scores):
    """scores float32 [T, D] = up (down x) + bias."""
    tokens, rank = x.shape[0], down.shape[0]
    hidden = np.empty((tokens, rank), np.float32)
    for part in prange(parts):
        lanes = np.empty(LANES, np.float32)
        for i in range(rank * part // parts, rank * (part + 1) // parts):
            for t in range(tokens):
                hidden[t, i] = _dot(down[i], x[t], lanes)
    neurons = up.shape[0]
    for part in prange(parts):
        lanes = np.empty(LANES, np.float32)
        for j in range(neurons * part // parts, neurons * (part + 1) // parts):
            for t in range(tokens):
                scores[t, j] = _dot(up[j], hidden[t], lanes) + bias[j]


@njit(parallel=True, cache=True)
def integer_gate_rows(weight, scale, bias, x, x_scale, mask, rows, threshold, parts, h):
    """As `gate_rows`, of codes int8 with their scales float32."""
    n = rows.size
    for part in prange(parts):
        for i in range(n * part // parts, n * (part + 1) // parts):
            j = rows[i]
            fetch_start(weight[rows[min(i + 1, n - 1)]])
            for t in range(x.shape[0]):
                h[i, t] = 0
                if mask[t, j]:
                    total = np.float32(_integer_dot(weight[j], x[t]))
                    value = total * (x_scale[t] * scale[j]) + bias[j]
                    if value > threshold:
                        h[i, t] = value


@njit(parallel=True, cache=True)
def integer_up_rows(weight, scale, bias, x, x_scale, mask, rows, chosen, sequential, rectified, parts, h):
    """As `up_rows`, of codes int8 with their scales float32."""
    n = chosen.size
    for part in prange(parts):
        for c in range(n * part // parts, n * (part + 1) // parts):
            i = chosen[c]
            j = rows[i]
            fetch_start(weight[rows[chosen[min(c + 1, n - 1)]]])
            for t in range(x.shape[0]):
                if (h[i, t] != 0) if sequential else mask[t, j]:
                    total = np.float32(_integer_dot(weight[j], x[t]))
                    value = total * (x_scale[t] * scale[j]) + bias[j]
                    h[i, t] *= max(value, np.float32(0)) if rectified else value


@njit(parallel=True, cache=True)
def integer_down_rows(weight, scale, bias, codes, code_scale, rows, chosen, parts, y):
    """As `down_rows`, of codes int8 [T, n] and their scales float32 [T]: INT32 sums, then scaled."""
    tokens, features = y.shape
    width = _piece(features, parts)
    whole = chosen.size - chosen.size % _STEP
    for part in prange(parts):
        first, last = min(part * width, features), min((part + 1) * width, features)
        totals = np.zeros((tokens, last - first), np.int32)
        for c in range(0, whole, _STEP):
            i0, i1, i2, i3 = chosen[c], chosen[c + 1], chosen[c + 2], chosen[c + 3]
            w0, w1 = weight[rows[i0], first:last], weight[rows[i1], first:last]
            w2, w3 = weight[rows[i2], first:last], weight[rows[i3], first:last]
            for t in range(tokens):
                h0, h1 = np.int32(codes[t, i0]), np.int32(codes[t, i1])
                h2, h3 = np.int32(codes[t, i2]), np.int32(codes[t, i3])
                sums = totals[t]
                for f in range(last - first):
                    sums[f] += h0 * np.int32(w0[f]) + h1 * np.int32(w1[f]) + h2 * np.int32(w2[f]) + h3 * np.int32(w3[f])
        for c in range(whole, chosen.size):
            row = weight[rows[chosen[c]], first:last]
            for t in range(tokens):
                value = np.int32(codes[t, chosen[c]])
                sums = totals[t]
                for f in range(last - first):
                    sums[f] += value * np.int32(row[f])
        for t in range(tokens):
            for f in range(first, last):
                y[t, f] = np.float32(totals[t, f - first]) * (code_scale[t] * scale[f]) + bias[f]


@njit(cache=True, nogil=True)
def _piece(features, parts):
    """Outputs of one thread, in whole cache lines of float32."""
    each = -(-features // parts)
    return -(-each // 16) * 16
