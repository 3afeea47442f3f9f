"""Compiled loops of the conditional FFN, for a token or a small batch: in floats, one parallel region a layer.

No thread can change a result, however many there are and whichever pieces each claims: gate and up are split by neuron,
and one thread sums a whole dot product; down is split by output, and every thread adds the same neurons in the same
ascending order. No fast-math: each product and each sum is rounded by itself, in the order of
`reference.float_in_order`.

Of a batch, a row is fetched for the first token that needs it and comes from the cache for the others. What a token
gets does not depend on the batch it is in.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange

from accel_sim.executors.claims import claim, finish, wait_for_all
from accel_sim.executors.dots import dot, neuron
from accel_sim.executors.outputs import float_outputs, integer_outputs, output_width
from accel_sim.executors.prefetch import fetch_first, fetch_later
from accel_sim.executors.reference import LANES

_HIDDEN, _NEURONS, _OUTPUTS, PHASES = 0, 1, 2, 3
"""What threads do one after the other: the predictor's first product; scores, gate and up; down."""
GATE, UP, DOWN, MATRICES = 0, 1, 2, 3


@njit(parallel=True, cache=True)
def float_ffn(
    gated, down, down_bias, x, predictor, predicted, mask, scores, rule, parts, progress, rows, fetched, h, y
):
    """y float32 [T, d] of x float32 [T, d].

    `gated`, `rule`, `rows`, `fetched` and `h`: see `_gate_and_up`; `down` [D, d] and its bias [d]. `mask` bool [T, D]
    is given, or `predicted`: then it is written here, where scores float32 [T, D], also written, are above 0.
    `predictor` is down [r, d], up transposed [r, D], and bias [D]. `progress`: zeros, see `claims.new_progress`.
    """
    gate, gate_scale, gate_bias, up, up_scale, up_bias = gated
    thin_down, thin_up, thin_bias = predictor
    threshold, sequential, rectified = rule
    pieces, neurons = fetched.shape[0], mask.shape[1]
    rank = thin_down.shape[0]
    hidden, ranks = np.empty((rank, x.shape[0]), np.float32), np.arange(rank)
    for _ in prange(parts):
        lanes = np.empty(LANES, np.float32)
        if predicted:
            _predict_hidden(thin_down, x, pieces, progress, lanes, hidden)
        piece = claim(progress, _NEURONS)
        while piece < pieces:
            first, last = neurons * piece // pieces, neurons * (piece + 1) // pieces
            if predicted:
                float_outputs(thin_up, thin_bias, hidden, ranks, first, last - first, scores)
                mask[:, first:last] = scores[:, first:last] > 0
            _gate_and_up(
                (gate, gate_scale, gate_bias, up, up_scale, up_bias),
                (x, thin_bias),
                mask,
                (threshold, sequential, rectified),
                (first, last),
                lanes,
                rows,
                fetched[piece],
                h,
            )
            finish(progress, _NEURONS)
            piece = claim(progress, _NEURONS)
        wait_for_all(progress, _NEURONS, pieces)
        kept = kept_rows(rows, fetched)
        width = output_width(y.shape[1], parts)
        piece = claim(progress, _OUTPUTS)
        while piece < parts:
            float_outputs(down, down_bias, h, kept, piece * width, width, y)
            piece = claim(progress, _OUTPUTS)


@njit(parallel=True, cache=True)
def integer_gate_and_up(gated, codes, scale, mask, rule, parts, progress, rows, fetched, h):
    """The first half of an FFN in INT8: x is codes int8 [T, d] with their scales float32 [T]. See `_gate_and_up`."""
    gate, gate_scale, gate_bias, up, up_scale, up_bias = gated
    threshold, sequential, rectified = rule
    pieces, neurons = fetched.shape[0], mask.shape[1]
    for _ in prange(parts):
        lanes = np.empty(LANES, np.float32)
        piece = claim(progress, _NEURONS)
        while piece < pieces:
            first, last = neurons * piece // pieces, neurons * (piece + 1) // pieces
            _gate_and_up(
                (gate, gate_scale, gate_bias, up, up_scale, up_bias),
                (codes, scale),
                mask,
                (threshold, sequential, rectified),
                (first, last),
                lanes,
                rows,
                fetched[piece],
                h,
            )
            piece = claim(progress, _NEURONS)


@njit(parallel=True, cache=True)
def integer_down(down, down_scale, down_bias, codes, code_scale, rows, chosen, parts, progress, y):
    """The second half, y float32 [T, d], of codes int8 [T, n] of the products: see `integer_outputs`."""
    for _ in prange(parts):
        width = output_width(y.shape[1], parts)
        piece = claim(progress, _OUTPUTS)
        while piece < parts:
            first = piece * width
            integer_outputs(down, down_scale, down_bias, codes, code_scale, rows, chosen, first, width, y)
            piece = claim(progress, _OUTPUTS)


@njit(parallel=True, cache=True)
def predicted_scores(predictor, x, pieces, parts, progress, scores):
    """scores float32 [T, D] of x float32 [T, d]; `predictor` as in `float_ffn`."""
    thin_down, thin_up, thin_bias = predictor
    rank = thin_down.shape[0]
    hidden, ranks = np.empty((rank, x.shape[0]), np.float32), np.arange(rank)
    neurons = scores.shape[1]
    for _ in prange(parts):
        lanes = np.empty(LANES, np.float32)
        _predict_hidden(thin_down, x, pieces, progress, lanes, hidden)
        piece = claim(progress, _NEURONS)
        while piece < pieces:
            first, last = neurons * piece // pieces, neurons * (piece + 1) // pieces
            float_outputs(thin_up, thin_bias, hidden, ranks, first, last - first, scores)
            piece = claim(progress, _NEURONS)


@njit(cache=True, nogil=True)
def kept_rows(rows, fetched):
    """Ascending neurons int64 [n] whose product is not 0 for some token, out of what `_gate_and_up` left."""
    pieces, neurons = fetched.shape[0], rows.size
    kept = np.empty(fetched[:, DOWN].sum(), np.int64)
    count = 0
    for piece in range(pieces):
        first = neurons * piece // pieces
        for i in range(fetched[piece, DOWN]):
            kept[count] = rows[first + i]
            count += 1
    return kept


@njit(cache=True, nogil=True)
def _predict_hidden(down, x, pieces, progress, lanes, hidden):
    """hidden float32 [r, T] = down x; returns when all of it is there."""
    rank = down.shape[0]
    piece = claim(progress, _HIDDEN)
    while piece < pieces:
        for i in range(rank * piece // pieces, rank * (piece + 1) // pieces):
            for t in range(x.shape[0]):
                hidden[i, t] = dot(down, i, x, t, lanes)
        finish(progress, _HIDDEN)
        piece = claim(progress, _HIDDEN)
    wait_for_all(progress, _HIDDEN, pieces)


@njit(cache=True, nogil=True)
def _gate_and_up(gated, inputs, mask, rule, span, lanes, rows, fetched, h):
    """h float32 [D, T] = a(gate)·up of neurons first to last, where the mask bool [T, D] asks for it, else 0.

    `gated`: gate [D, d] with its scales (INT8) and bias, both [D], and up so; `inputs`: x [T, d] and its scales (INT8)
    [T]; `rule`: threshold, whether up waits for the gate, whether up has a ReLU. `rows` int64 [D], from `first` on: the
    neurons whose product is not 0 for some token, ascending. `fetched` int64 [3]: rows read of gate and up, to read of
    down. Only what `rows` names of h is written for certain.
    """
    gate, gate_scale, gate_bias, up, up_scale, up_bias = gated
    x, x_scale = inputs
    threshold, sequential, rectified = rule
    first, last = span
    zero, tokens = np.float32(0), x.shape[0]

    end = _wanted(mask, first, last, rows)
    fetched[GATE] = end - first
    fetch_first(gate, rows, first, end)
    for i in range(first, end):
        j = rows[i]
        fetch_later(gate, rows, i, end)
        for t in range(tokens):
            h[j, t] = 0
            if mask[t, j]:
                value = neuron(gate, gate_scale, gate_bias, j, x, x_scale, t, lanes)
                if value > threshold:
                    h[j, t] = value

    if sequential:
        end = _not_zero(h, first, end, rows)
    fetched[UP] = end - first
    fetch_first(up, rows, first, end)
    for i in range(first, end):
        j = rows[i]
        fetch_later(up, rows, i, end)
        for t in range(tokens):
            if (h[j, t] != 0) if sequential else mask[t, j]:
                value = neuron(up, up_scale, up_bias, j, x, x_scale, t, lanes)
                if h[j, t] != 0:  # 0 times an infinity is none
                    h[j, t] *= max(value, zero) if rectified else value

    fetched[DOWN] = _not_zero(h, first, end, rows) - first


@njit(cache=True, nogil=True)
def _wanted(mask, first, last, rows):
    """Write the neurons of first to last that some token wants into `rows`, from `first` on; where they end."""
    end = first
    for j in range(first, last):
        some = False
        for t in range(mask.shape[0]):
            some |= mask[t, j]
        rows[end] = j  # without a branch on the mask, which no branch predictor can guess
        end += some
    return end


@njit(cache=True, nogil=True)
def _not_zero(h, first, last, rows):
    """Leave of rows[first:last] those whose h is not 0 for some token; where they end."""
    end = first
    for i in range(first, last):
        j = rows[i]
        some = False
        for t in range(h.shape[1]):
            some |= h[j, t] != 0
        rows[end] = j
        end += some
    return end
