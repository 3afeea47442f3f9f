"""Compiled loops of the conditional FFN, for a token or a small batch.

No thread can change a result, however many there are: gate and up are split by neuron, and one thread sums a whole dot
product; down is split by output, and every thread adds the same neurons in the same ascending order. No fast-math: each
product and each sum is rounded by itself, in the order of `reference.float_in_order`. Memory is the limit, so that
order costs nothing.

Of a batch, a row is fetched for the first token and comes from the cache for the others; it is multiplied with all of
them, and what a token does not want is dropped. What a token gets does not depend on the batch it is in.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange, types
from numba.extending import overload

from accel_sim.executors.prefetch import fetch_start
from accel_sim.executors.reference import LANES

_STEP = 4
"""Neurons that are worked on side by side: rows apart from each other arrive faster together than one by one, and down
loads and stores its outputs once for all of them."""
_TURN = 8 * LANES
"""Products of one row before the next row's turn."""


def _widen(stored):
    """A stored weight as float32."""


@overload(_widen, inline="always")
def _widen_of(stored):
    if stored == types.uint16:  # bfloat16: the upper half of a float32
        return lambda stored: np.uint32(np.uint32(stored) << np.uint32(16)).view(np.float32)
    return lambda stored: stored


@njit(cache=True, nogil=True)
def _add_products(row, x, lanes):
    """Add to lanes float32 [64] the products of row [k] and x float32 [k]."""
    whole = row.size - row.size % LANES
    for k in range(0, whole, LANES):
        for lane in range(LANES):
            lanes[lane] += _widen(row[k + lane]) * x[k + lane]
    for lane in range(row.size - whole):
        lanes[lane] += _widen(row[whole + lane]) * x[whole + lane]


@njit(cache=True, nogil=True)
def _dots(weight, rows, x, lanes, sums):
    """sums float32 [n] of rows [n ≤ 4] of weight [D, d], each · x float32 [d], in `lanes` float32 [4, 64]."""
    lanes[:] = 0
    for first in range(0, x.size, _TURN):
        last = min(first + _TURN, x.size)
        for i in range(rows.size):
            _add_products(weight[rows[i], first:last], x[first:last], lanes[i])
    for i in range(rows.size):
        sums[i] = _folded(lanes[i])


@njit(cache=True, nogil=True)
def _folded(lanes):
    """The sum of lanes float32 [64], by halves."""
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
def _integer_dots(weight, rows, x, sums):
    """sums int32 [n] of rows [n ≤ 4] of weight int8 [D, d], each · x int8 [d], exact."""
    sums[:] = 0
    for first in range(0, x.size, _TURN):
        last = min(first + _TURN, x.size)
        for i in range(rows.size):
            sums[i] += _integer_dot(weight[rows[i], first:last], x[first:last])


@njit(cache=True, nogil=True)
def _gather(rows, first, last, together):
    """The rows first…last−1, at most four, into `together` int64 [4]; returns those."""
    for i in range(first, last):
        together[i - first] = rows[i]
    return together[: last - first]


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
        lanes, sums = np.empty((_STEP, LANES), np.float32), np.empty(_STEP, np.float32)
        together = np.empty(_STEP, np.int64)
        end = n * (part + 1) // parts
        for first in range(n * part // parts, end, _STEP):
            own = _gather(rows, first, min(first + _STEP, end), together)
            _fetch_next(weight, rows, first, end)
            for t in range(x.shape[0]):
                _dots(weight, own, x[t], lanes, sums)
                for i in range(own.size):
                    value = sums[i] + bias[own[i]]
                    h[first + i, t] = value if mask[t, own[i]] and value > threshold else np.float32(0)


@njit(parallel=True, cache=True)
def up_rows(weight, bias, x, rows, places, rectified, parts, h):
    """Multiply h float32 [n, T] in `places` by up of neurons `rows`, both [n'], where it is not 0.

    `rectified` puts a ReLU on up.
    """
    n = rows.size
    for part in prange(parts):
        lanes, sums = np.empty((_STEP, LANES), np.float32), np.empty(_STEP, np.float32)
        together = np.empty(_STEP, np.int64)
        end = n * (part + 1) // parts
        for first in range(n * part // parts, end, _STEP):
            own = _gather(rows, first, min(first + _STEP, end), together)
            _fetch_next(weight, rows, first, end)
            for t in range(x.shape[0]):
                _dots(weight, own, x[t], lanes, sums)
                for i in range(own.size):
                    value = sums[i] + bias[own[i]]
                    _multiply(h, places[first + i], t, max(value, np.float32(0)) if rectified else value)


@njit(cache=True, nogil=True)
def _multiply(h, place, t, value):
    """What is 0 stays so, whatever up is."""
    if h[place, t] != 0:
        h[place, t] *= value


@njit(cache=True, nogil=True)
def _fetch_next(weight, rows, first, end):
    """Ask for the start of the rows behind the four from `first` on."""
    for i in range(first + _STEP, min(first + 2 * _STEP, end)):
        fetch_start(weight[rows[i]])


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


@njit(cache=True)
def low_rank_scores(down, up, bias, x, parts, scores):
    """scores float32 [T, D] = up (down x) + bias."""
    tokens, rank = x.shape[0], down.shape[0]
    hidden = np.empty((tokens, rank), np.float32)
    _all_dots(down, x, parts, hidden)
    _all_dots(up, hidden, parts, scores)
    for t in range(tokens):
        for j in range(bias.size):
            scores[t, j] += bias[j]


@njit(parallel=True, cache=True)
def _all_dots(weight, x, parts, out):
    """out float32 [T, n] = x [T, d] · weight [n, d] transposed."""
    n = weight.shape[0]
    for part in prange(parts):
        lanes, sums = np.empty((_STEP, LANES), np.float32), np.empty(_STEP, np.float32)
        end = n * (part + 1) // parts
        for first in range(n * part // parts, end, _STEP):
            own = np.arange(first, min(first + _STEP, end))
            for t in range(x.shape[0]):
                _dots(weight, own, x[t], lanes, sums)
                for i in range(own.size):
                    out[t, first + i] = sums[i]


@njit(parallel=True, cache=True)
def integer_gate_rows(weight, scale, bias, x, x_scale, mask, rows, threshold, parts, h):
    """As `gate_rows`, of codes int8 with their scales float32."""
    n = rows.size
    for part in prange(parts):
        sums, together = np.empty(_STEP, np.int32), np.empty(_STEP, np.int64)
        end = n * (part + 1) // parts
        for first in range(n * part // parts, end, _STEP):
            own = _gather(rows, first, min(first + _STEP, end), together)
            _fetch_next(weight, rows, first, end)
            for t in range(x.shape[0]):
                _integer_dots(weight, own, x[t], sums)
                for i in range(own.size):
                    j = own[i]
                    value = np.float32(sums[i]) * (x_scale[t] * scale[j]) + bias[j]
                    h[first + i, t] = value if mask[t, j] and value > threshold else np.float32(0)


@njit(parallel=True, cache=True)
def integer_up_rows(weight, scale, bias, x, x_scale, rows, places, rectified, parts, h):
    """As `up_rows`, of codes int8 with their scales float32."""
    n = rows.size
    for part in prange(parts):
        sums, together = np.empty(_STEP, np.int32), np.empty(_STEP, np.int64)
        end = n * (part + 1) // parts
        for first in range(n * part // parts, end, _STEP):
            own = _gather(rows, first, min(first + _STEP, end), together)
            _fetch_next(weight, rows, first, end)
            for t in range(x.shape[0]):
                _integer_dots(weight, own, x[t], sums)
                for i in range(own.size):
                    j = own[i]
                    value = np.float32(sums[i]) * (x_scale[t] * scale[j]) + bias[j]
                    _multiply(h, places[first + i], t, max(value, np.float32(0)) if rectified else value)


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
