"""The executor on a CPU: compiled loops over the rows that are needed, in float32, from bfloat16, or in INT8."""

from __future__ import annotations

import threading
from typing import Any

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel_sim.errors import AccelSimError
from accel_sim.executors import kernels
from accel_sim.executors.ffn import GatedFFN
from accel_sim.executors.masks import FetchedRows, Outcome, Pipeline, check_activations, check_mask
from accel_sim.executors.predictor import LowRank, low_rank_of
from accel_sim.executors.quantized import QuantizedFFN
from accel_sim.quantize import quantize_tokens

_ONE_AT_A_TIME = threading.Lock()
"""Numba's simplest threading layer ends the process when two threads enter compiled parallel code at once."""


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
            work = _integer if isinstance(self.ffn, QuantizedFFN) else _floating
            return work(self.ffn, x, mask, pipeline == "sequential", numba.get_num_threads())

    def run_predicted(self, x: ArrayLike, predictor: Any, pipeline: Pipeline = "sequential") -> Outcome:
        """Predict, compare with 0 and run, in one call. `predictor` is a `LowRank` or has its three attributes."""
        return self.run(x, self.scores(x, predictor), pipeline)

    def scores(self, x: ArrayLike, predictor: Any) -> NDArray[np.float32]:
        """The predictor's scores float32 [T, D]: U (V x) + b, summed as gate is.

        Raises AccelSimError for a predictor without `down`, `up` and `bias`, or of another FFN's shape.
        """
        thin = self._fitting(predictor)
        x = check_activations(x, thin.features)
        scores = np.empty((x.shape[0], thin.neurons), np.float32)
        with _ONE_AT_A_TIME:
            kernels.low_rank_scores(thin.down, thin.up, thin.bias, x, numba.get_num_threads(), scores)
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


def _floating(ffn: GatedFFN, x: NDArray[np.float32], mask: NDArray[np.bool_], sequential: bool, parts: int) -> Outcome:
    rows = kernels.any_token(mask)
    h = np.empty((rows.size, x.shape[0]), np.float32)
    y = np.empty_like(x)
    kernels.gate_rows(ffn.gate, ffn.gate_bias, x, mask, rows, np.float32(ffn.threshold), parts, h)
    up = kernels.not_zero(h) if sequential else np.arange(rows.size)
    rectified = ffn.activation == "drelu"
    kernels.up_rows(ffn.up, ffn.up_bias, x, mask, rows, up, sequential, rectified, parts, h)
    down = kernels.not_zero(h)
    kernels.down_rows(ffn.down, ffn.down_bias, h, rows, down, parts, y)
    return Outcome(y, FetchedRows(rows.size, up.size, down.size))


def _integer(
    ffn: QuantizedFFN, x: NDArray[np.float32], mask: NDArray[np.bool_], sequential: bool, parts: int
) -> Outcome:
    codes, scale = quantize_tokens(x, "x")
    rows = kernels.any_token(mask)
    h = np.empty((rows.size, x.shape[0]), np.float32)
    y = np.empty_like(x)
    shared = (codes, scale, mask, rows)
    kernels.integer_gate_rows(ffn.gate, ffn.gate_scale, ffn.gate_bias, *shared, np.float32(ffn.threshold), parts, h)
    up = kernels.not_zero(h) if sequential else np.arange(rows.size)
    rectified = ffn.activation == "drelu"
    kernels.integer_up_rows(ffn.up, ffn.up_scale, ffn.up_bias, *shared, up, sequential, rectified, parts, h)
    # What was dropped is 0 and changes neither a scale nor a code, so the kept ones are quantised by themselves.
    products, product_scale = quantize_tokens(np.ascontiguousarray(h.T), "a(gate)·up")
    down = kernels.not_zero(np.ascontiguousarray(products.T))
    kernels.integer_down_rows(ffn.down, ffn.down_scale, ffn.down_bias, products, product_scale, rows, down, parts, y)
    return Outcome(y, FetchedRows(rows.size, up.size, down.size))
