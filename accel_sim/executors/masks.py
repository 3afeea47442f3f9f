"""What an executor is asked and what it answers: activations, masks, pipelines, and the rows that it fetched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel_sim.errors import AccelSimError

Pipeline = Literal["sequential", "parallel"]
PIPELINES: tuple[Pipeline, ...] = get_args(Pipeline)


@dataclass(frozen=True)
class FetchedRows:
    """Weight rows that were read, each once however many tokens of the batch need it: the union over the batch."""

    gate: int
    up: int
    down: int

    @property
    def total(self) -> int:
        return self.gate + self.up + self.down


@dataclass(frozen=True, eq=False)
class Outcome:
    """Outputs [T, d] in the array type that the executor works on, and what it fetched for them."""

    y: Any
    rows: FetchedRows | None
    """None where counting them would stall the device."""


def check_pipeline(pipeline: str) -> None:
    """Raise AccelSimError for no pipeline."""
    if pipeline not in PIPELINES:
        raise AccelSimError(f"pipeline {pipeline!r}: expected one of {', '.join(PIPELINES)}")


def check_activations(x: ArrayLike, features: int) -> NDArray[np.float32]:
    """`x` as float32 [T, d], C-contiguous. Raises AccelSimError for another shape, and for a NaN or an infinity."""
    array = np.ascontiguousarray(x)
    if array.ndim != 2 or array.shape[1] != features or array.dtype.kind != "f":
        raise AccelSimError(f"x: got {array.dtype} {list(array.shape)}, expected floats [tokens, {features}]")
    array = array.astype(np.float32, copy=False)
    finite = np.isfinite(array)
    if not finite.all():
        token, feature = np.argwhere(~finite)[0]
        raise AccelSimError(f"x: token {token}, feature {feature} is {array[token, feature]}; expected finite values")
    return array


def check_mask(mask: ArrayLike | None, tokens: int, neurons: int, pipeline: str) -> NDArray[np.bool_]:
    """Which neurons of each token may be active: bool [T, D].

    `mask` is bool, or float scores, of which those above 0 count (the predictor's strict step, SVDP eq. 2); None is
    all of them, and leaves the skipping to the computed gate. Raises AccelSimError for another shape or dtype, a NaN
    among scores, and None where the pipeline is parallel: there only the mask skips gate and up.
    """
    check_pipeline(pipeline)
    if mask is None:
        if pipeline == "parallel":
            raise AccelSimError("pipeline 'parallel' without a mask would skip no row of gate and up; give a mask")
        return np.ones((tokens, neurons), np.bool_)
    array = np.asarray(mask)
    if array.shape != (tokens, neurons) or array.dtype.kind not in "bf":
        found = f"{array.dtype} {list(array.shape)}"
        raise AccelSimError(f"mask: got {found}, expected bool or float scores [{tokens}, {neurons}]")
    if array.dtype.kind == "f":
        check_scores(array)
        array = array > 0
    return np.ascontiguousarray(array)


def check_scores(scores: NDArray[np.floating]) -> None:
    """Raise AccelSimError for a NaN among scores [T, D]."""
    unclear = np.isnan(scores)
    if unclear.any():
        token, neuron = np.argwhere(unclear)[0]
        raise AccelSimError(f"mask: the score of token {token}, neuron {neuron} is nan; expected numbers")
