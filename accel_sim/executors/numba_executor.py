"""The executor on a CPU: compiled loops over the rows that are needed, in float32, from bfloat16, or in INT8."""

from __future__ import annotations

import threading
from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel_sim.errors import AccelSimError
from accel_sim.executors import kernels
from accel_sim.executors.claims import new_progress
from accel_sim.executors.ffn import GatedFFN
from accel_sim.executors.masks import (
    FetchedRows,
    Outcome,
    Pipeline,
    check_activations,
    check_mask,
    check_pipeline,
    check_scores,
)
from accel_sim.executors.predictor import LowRank, low_rank_of
from accel_sim.executors.quantized import QuantizedFFN
from accel_sim.quantize import quantize_tokens

_ONE_AT_A_TIME = threading.Lock()
"""Numba's simplest threading layer ends the process when two threads enter compiled parallel code at once."""
_PIECES_EACH = 8
"""Pieces of the neurons for each thread: so many that one that wakes late can do fewer, so few that they are long."""
_NO_SCALE = np.empty(0, np.float32)
_NO_SCORES = np.empty((0, 0), np.float32)
_NO_PREDICTOR = (_NO_SCORES, _NO_SCORES, _NO_SCALE)


class NumbaExecutor:
    """Runs one FFN; its weights are shared with the caller, not copied.

    Outputs are float32 [T, d], the same bits with any number of threads and in any batch. In float32 they are those of
    `reference.float_in_order`, in INT8 those of `reference.int8`.
    """

    def __init__(self, ffn: GatedFFN | QuantizedFFN) -> None:
        self.ffn = ffn

    def run(self, x: ArrayLike, mask: ArrayLike | None = None, pipeline: Pipeline = "sequential") -> Outcome:
        """Outputs for x float [T, d] under `mask` [T, D]: bool, scores, or None (see `masks.check_mask`).

        Sequential: gate where the mask is set, up where the computed gate stays. Parallel: both where the mask is set.
        Down, in both, where the product is not zero (INT8: where its code is not).
        """
        x = check_activations(x, self.ffn.features)
        mask = check_mask(mask, x.shape[0], self.ffn.neurons, pipeline)
        with _ONE_AT_A_TIME:
            if isinstance(self.ffn, QuantizedFFN):
                return _integer(self.ffn, x, mask, pipeline == "sequential")
            return _floating(self.ffn, x, mask, None, pipeline == "sequential")

    def run_predicted(self, x: ArrayLike, predictor: Any, pipeline: Pipeline = "sequential") -> Outcome:
        """Predict, compare with 0 and run, in one call. `predictor` is a `LowRank` or has its three attributes.

        In floats this is one compiled call. Raises AccelSimError as `run` and `scores` do.
        """
        if isinstance(self.ffn, QuantizedFFN):
            return self.run(x, self.scores(x, predictor), pipeline)
        check_pipeline(pipeline)
        thin = self._fitting(predictor)
        x = check_activations(x, thin.features)
        with _ONE_AT_A_TIME:
            return _floating(self.ffn, x, None, thin, pipeline == "sequential")

    def scores(self, x: ArrayLike, predictor: Any) -> NDArray[np.float32]:
        """The predictor's scores float32 [T, D]: U (V x) + b. V x is summed as gate is, U rank after rank as down is.

        Raises AccelSimError for a predictor without `down`, `up` and `bias`, or of another FFN's shape.
        """
        thin = self._fitting(predictor)
        x = check_activations(x, thin.features)
        scores = np.empty((x.shape[0], thin.neurons), np.float32)
        with _ONE_AT_A_TIME:
            parts = numba.get_num_threads()
            progress = new_progress(kernels.PHASES)
            kernels.predicted_scores(_arrays(thin), x, _pieces(parts), parts, progress, scores)
        return scores

    def _fitting(self, predictor: Any) -> LowRank:
        thin = low_rank_of(predictor)
        if thin is None:
            raise AccelSimError(f"predictor {type(predictor).__name__}: expected arrays down, up and bias")
        if (thin.neurons, thin.features) != (self.ffn.neurons, self.ffn.features):
            raise AccelSimError(
                f"predictor: made for {thin.features} features and {thin.neurons} neurons, the FFN has"
                f" {self.ffn.features} and {self.ffn.neurons}"
            )
        return thin


def _floating(
    ffn: GatedFFN, x: NDArray[np.float32], mask: NDArray[np.bool_] | None, thin: LowRank | None, sequential: bool
) -> Outcome:
    """One of `mask` and `thin` is given."""
    parts, tokens = numba.get_num_threads(), x.shape[0]
    rows, fetched, h = _results(ffn.neurons, tokens, parts)
    scores = _NO_SCORES
    if mask is not None:
        mask = mask if mask.flags.writeable else mask.copy()  # compiled code that may write one takes no other
    else:
        mask, scores = np.empty((tokens, ffn.neurons), np.bool_), np.empty((tokens, ffn.neurons), np.float32)
    y = np.empty_like(x)
    kernels.float_ffn(
        (ffn.gate, _NO_SCALE, ffn.gate_bias, ffn.up, _NO_SCALE, ffn.up_bias),
        ffn.down,
        ffn.down_bias,
        x,
        _NO_PREDICTOR if thin is None else _arrays(thin),
        thin is not None,
        mask,
        scores,
        _rule(ffn, sequential),
        parts,
        new_progress(kernels.PHASES),
        rows,
        fetched,
        h,
        y,
    )
    check_scores(scores)
    return Outcome(y, FetchedRows(*fetched.sum(axis=0).tolist()))


def _integer(ffn: QuantizedFFN, x: NDArray[np.float32], mask: NDArray[np.bool_], sequential: bool) -> Outcome:
    parts, progress = numba.get_num_threads(), new_progress(kernels.PHASES)
    codes, scale = quantize_tokens(x, "x")
    rows, fetched, h = _results(ffn.neurons, x.shape[0], parts)
    gated = (ffn.gate, ffn.gate_scale, ffn.gate_bias, ffn.up, ffn.up_scale, ffn.up_bias)
    kernels.integer_gate_and_up(gated, codes, scale, mask, _rule(ffn, sequential), parts, progress, rows, fetched, h)
    # What was dropped is 0 and changes neither a scale nor a code, so the kept ones are quantised by themselves.
    kept = kernels.kept_rows(rows, fetched)
    products, product_scale = quantize_tokens(np.ascontiguousarray(h[kept].T), "a(gate)·up")
    chosen = np.flatnonzero(products.any(axis=0))
    y = np.empty_like(x)
    kernels.integer_down(
        ffn.down, ffn.down_scale, ffn.down_bias, products, product_scale, kept, chosen, parts, progress, y
    )
    gate, up, _ = fetched.sum(axis=0).tolist()
    return Outcome(y, FetchedRows(gate, up, chosen.size))


def _pieces(parts: int) -> int:
    return parts * _PIECES_EACH


def _results(neurons: int, tokens: int, parts: int) -> tuple[NDArray, NDArray, NDArray]:
    """Where `kernels._gate_and_up` writes: rows, fetched and h."""
    pieces = _pieces(parts)
    return (
        np.empty(neurons, np.int64),
        np.empty((pieces, kernels.MATRICES), np.int64),
        np.empty((neurons, tokens), np.float32),
    )


def _rule(ffn: GatedFFN | QuantizedFFN, sequential: bool) -> tuple[np.float32, bool, bool]:
    return np.float32(ffn.threshold), sequential, ffn.activation == "drelu"


def _arrays(thin: LowRank) -> tuple[NDArray, NDArray, NDArray]:
    return thin.down, thin.up.T, thin.bias
