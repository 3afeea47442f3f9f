"""A workload: the matrix products of one forward pass, and what is known of the activations that feed them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from accel_sim.errors import AccelSimError

LARGEST_REDUCTION = (2**31 - 1) // 127**2
"""Features whose INT8 products (codes within ±127) always sum to an INT32: 133,144."""


@dataclass(frozen=True)
class Weights:
    """INT8 weights of one projection: `codes` int8 [K, F], `scales` float32 [F]."""

    codes: npt.NDArray[np.int8]
    scales: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Gemm:
    """One linear projection: activations [tokens, features] times weights [features, outputs]."""

    name: str
    site: str
    """Key into `Workload.sites`: projections fed by the same tensor share it."""
    tokens: int
    features: int
    outputs: int
    repeat: int = 1
    """How many equal products this stands for (the experts of a mixture under balanced routing)."""
    load_weights: Callable[[], Weights] | None = None
    """Reads the projection's weights, where the source of the workload holds them."""

    def __post_init__(self) -> None:
        for quantity in ("tokens", "features", "outputs", "repeat"):
            if getattr(self, quantity) < 1:
                raise AccelSimError(f"layer {self.name}: {quantity} must be at least 1, not {getattr(self, quantity)}")
        if self.features > LARGEST_REDUCTION:
            raise AccelSimError(
                f"layer {self.name}: {self.features} features can overflow the INT32 sums of INT8 products;"
                f" at most {LARGEST_REDUCTION} are exact"
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(tokens, features, outputs)."""
        return self.tokens, self.features, self.outputs

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the dense product, all repeats together."""
        return self.tokens * self.features * self.outputs * self.repeat


@dataclass(frozen=True)
class SiteActivations:
    """INT8 activations of one site, read only when they are asked for.

    `load()` gives `codes` int8 [S, K] and `scales` float32 [S], token rows in order. S is the number of tokens (of all
    repeats together), or fewer where a synthetic site is represented by a seeded sample of rows.

    Raises AccelSimError for a sample of one row, whose error nobody could tell.
    """

    load: Callable[[], tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]]
    sampled_rows: int | None = None
    """Rows in the sample; None when every token is there."""

    def __post_init__(self) -> None:
        if self.sampled_rows is not None and self.sampled_rows < 2:
            raise AccelSimError(f"sampled_rows {self.sampled_rows}: expected at least 2")


@dataclass(frozen=True)
class Workload:
    """Matrix products in execution order, with the activations of their sites."""

    name: str
    source: str
    """One line for the report: the trace and its model, or the distribution, its seed and its sample."""
    gemms: tuple[Gemm, ...]
    sites: Mapping[str, SiteActivations]

    def __post_init__(self) -> None:
        if not self.gemms:
            raise AccelSimError(f"workload {self.name}: it has no linear projections")
