"""Stored predictors as the sparse tensor unit runs them: INT8 codes, INT32 sums, one comparison a neuron."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from accel_sim.errors import AccelSimError
from accel_sim.functional import dequantize, sparse_matmul
from accel_sim.quantize import quantize_tokens, quantize_weight
from accel_sim.sparsify.contextual.predictor import LowRankPredictor
from accel_sim.sparsify.contextual.storage import StoredPredictors, read_predictors

_ALL = "1:1"
"""The pattern that prunes nothing."""


@dataclass(frozen=True, eq=False)
class Int8Predictor:
    """A low-rank predictor of d features, D neurons and rank r, in the functional mode's arithmetic.

    The input is there in INT8 codes; B and A are quantised per output; what lies between them is quantised per token,
    like every activation.
    """

    down: tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]
    """B: codes [d, r], scales [r]."""
    up: tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]
    """A: codes [r, D], scales [D]."""
    bias: npt.NDArray[np.float32]
    """b [D]."""

    @classmethod
    def of(cls, predictor: LowRankPredictor) -> Int8Predictor:
        down, up, bias = (each.cpu().numpy() for each in (predictor.down, predictor.up, predictor.bias))
        return cls(quantize_weight(down), quantize_weight(up), bias)

    def predict(self, codes: npt.NDArray[np.int8], scales: npt.NDArray[np.float32]) -> npt.NDArray[np.bool_]:
        """bool [T, D] from codes int8 [T, d] and scales float32 [T]."""
        between = dequantize(_product(codes, self.down[0]), scales, self.down[1], backend="numba")
        codes, scales = quantize_tokens(between, "predictor")
        return dequantize(_product(codes, self.up[0]), scales, self.up[1], self.bias, backend="numba") > 0


class FittedNeurons:
    """A folder of fitted predictors as a workload asks it (`accel_sim.workload.NeuronMasks`).

    Raises AccelSimError for a folder without predictors, and for predictors without rank, which the unit has no
    circuit for.
    """

    def __init__(self, folder: Path) -> None:
        self.stored: StoredPredictors = read_predictors(folder)
        for layer, fitted in self.stored.layers.items():
            if not isinstance(fitted.predictor, LowRankPredictor):
                raise AccelSimError(
                    f"{folder}: layer {layer}: kind {fitted.options.kind} is not run by the unit; expected svd, trained"
                )

    @property
    def ranks(self) -> Mapping[int, int]:
        """By layer."""
        return {layer: fitted.predictor.rank for layer, fitted in self.stored.layers.items()}

    @property
    def source(self) -> str:
        """For the report."""
        return f"neurons predicted in INT8 by predictors fitted to {self.stored.model}"

    def predicted(
        self, layer: int, codes: npt.NDArray[np.int8], scales: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.bool_]:
        """bool [T, D]: see `accel_sim.workload.NeuronMasks`."""
        return self._predictors[layer].predict(codes, scales)

    @cached_property
    def _predictors(self) -> Mapping[int, Int8Predictor]:
        return {layer: Int8Predictor.of(fitted.predictor) for layer, fitted in self.stored.layers.items()}


def _product(codes: npt.NDArray[np.int8], weight: npt.NDArray[np.int8]) -> npt.NDArray[np.int32]:
    return sparse_matmul(codes, weight, _ALL, backend="numba")
