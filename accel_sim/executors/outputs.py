"""Down: a piece of the outputs, as the sum of the kept neurons' rows in ascending order."""

from __future__ import annotations

import numpy as np
from numba import njit

from accel_sim.executors.dots import widen

_STEP = 4
"""Neurons that are added in one pass over the outputs, which are loaded and stored once for all of them."""
_LINE_FLOATS = 16


@njit(cache=True, nogil=True)
def output_width(features, parts):
    """Outputs of one piece, in whole cache lines of float32; the last pieces may have fewer, or none."""
    each = -(-features // parts)
    return -(-each // _LINE_FLOATS) * _LINE_FLOATS


@njit(cache=True, nogil=True)
def float_outputs(weight, bias, h, rows, first, width, y):
    """y float32 [T, first : first + width] = Σ h[j] · weight[j] over the neurons j of `rows`, ascending, + bias.

    h is float32 [D, T], `weight` [D, d].
    """
    tokens, features = y.shape
    first, last = min(first, features), min(first + width, features)
    whole = rows.size - rows.size % _STEP
    for t in range(tokens):
        y[t, first:last] = 0
    for c in range(0, whole, _STEP):
        j0, j1, j2, j3 = rows[c], rows[c + 1], rows[c + 2], rows[c + 3]
        w0, w1 = weight[j0, first:last], weight[j1, first:last]
        w2, w3 = weight[j2, first:last], weight[j3, first:last]
        for t in range(tokens):
            h0, h1, h2, h3 = h[j0, t], h[j1, t], h[j2, t], h[j3, t]
            sums = y[t, first:last]
            for f in range(last - first):
                s = sums[f] + h0 * widen(w0[f])
                s = s + h1 * widen(w1[f])
                s = s + h2 * widen(w2[f])
                sums[f] = s + h3 * widen(w3[f])
    for c in range(whole, rows.size):
        row = weight[rows[c], first:last]
        for t in range(tokens):
            value = h[rows[c], t]
            sums = y[t, first:last]
            for f in range(last - first):
                sums[f] += value * widen(row[f])
    for t in range(tokens):
        for f in range(first, last):
            y[t, f] += bias[f]


@njit(cache=True, nogil=True)
def integer_outputs(weight, scale, bias, codes, code_scale, rows, chosen, first, width, y):
    """As `float_outputs`, of codes int8 [T, n] of neurons `rows` [n], `chosen` of which are not 0; sums are INT32."""
    tokens, features = y.shape
    first, last = min(first, features), min(first + width, features)
    whole = chosen.size - chosen.size % _STEP
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
