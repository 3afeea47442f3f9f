"""Activations drawn from a stated distribution, for models that are too large to capture.

Three shapes are offered. Inputs of attention and MLP blocks look Gaussian, intermediate ones Laplace (TEAL,
arXiv 2408.14690 §3); measured over whole models, Student's t fits better than either (arXiv 2405.03103 §3), and a
few channels are far larger than the rest in every token (LLM.int8(), arXiv 2208.07339 §4).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern

Floats = npt.NDArray[np.float32]


class Distribution(Protocol):
    """What activations are drawn from. `str()` states it with its parameters, for reports."""

    def draw(self, generator: np.random.Generator, rows: int, features: int) -> Floats:
        """float32 [rows, features]."""
        ...


@dataclass(frozen=True)
class Gaussian:
    """Independent, zero mean, unit variance. The unit cancels: INT8 codes do not depend on it."""

    def draw(self, generator: np.random.Generator, rows: int, features: int) -> Floats:
        return generator.standard_normal((rows, features), dtype=np.float32)

    def __str__(self) -> str:
        return "Gaussian"


@dataclass(frozen=True)
class Laplace:
    """Independent, zero mean, unit scale."""

    def draw(self, generator: np.random.Generator, rows: int, features: int) -> Floats:
        magnitude = generator.standard_exponential((rows, features), dtype=np.float32)
        return np.where(generator.random((rows, features), dtype=np.float32) < 0.5, -magnitude, magnitude)

    def __str__(self) -> str:
        return "Laplace"


@dataclass(frozen=True)
class HeavyTailed:
    """Student's t everywhere, and a few channels that are larger in every token.

    Raises AccelSimError when a parameter is outside its range.
    """

    degrees_of_freedom: float = 5.0
    """ν of Student's t; about 5 over the activations of many models (arXiv 2405.03103 §3)."""
    outlier_share: float = 0.001
    """Share of the features that are outlier channels, one at least; about 0.1 % (arXiv 2208.07339 §4)."""
    outlier_scale: float = 20.0
    """How many times larger they are; up to 20 times (arXiv 2208.07339 §1)."""

    def __post_init__(self) -> None:
        if not self.degrees_of_freedom > 2:
            raise AccelSimError(f"heavy_tailed: degrees_of_freedom must exceed 2, not {self.degrees_of_freedom}")
        if not 0 <= self.outlier_share <= 1:
            raise AccelSimError(f"heavy_tailed: outlier_share must lie in 0 … 1, not {self.outlier_share}")
        if not self.outlier_scale >= 1:
            raise AccelSimError(f"heavy_tailed: outlier_scale must be at least 1, not {self.outlier_scale}")

    def outlier_channels(self, features: int) -> int:
        """How many of `features` channels are outliers: the share, rounded, but one at least unless it is zero."""
        return max(1, round(self.outlier_share * features)) if self.outlier_share else 0

    def draw(self, generator: np.random.Generator, rows: int, features: int) -> Floats:
        x = generator.standard_t(self.degrees_of_freedom, (rows, features)).astype(np.float32)
        channels = generator.choice(features, self.outlier_channels(features), replace=False)
        x[:, channels] *= np.float32(self.outlier_scale)
        return x

    def __str__(self) -> str:
        return (
            f"heavy-tailed (Student's t, nu = {self.degrees_of_freedom:g}; "
            f"{self.outlier_share:.2%} outlier channels, {self.outlier_scale:g}×)"
        )


DISTRIBUTIONS: dict[str, Distribution] = {"gaussian": Gaussian(), "laplace": Laplace(), "heavy_tailed": HeavyTailed()}


def distribution_named(distribution: str | Distribution) -> Distribution:
    """One of DISTRIBUTIONS by name, or the distribution itself. Raises AccelSimError for another name."""
    if not isinstance(distribution, str):
        return distribution
    if distribution not in DISTRIBUTIONS:
        raise AccelSimError(f"distribution {distribution!r}: expected one of {', '.join(DISTRIBUTIONS)}")
    return DISTRIBUTIONS[distribution]


def draw_site(distribution: Distribution, site: str, rows: int, features: int, seed: int = 0) -> Floats:
    """float32 [rows, features] of one site: the same for the same seed, site name and shape, whatever else is drawn."""
    generator = np.random.default_rng([seed, zlib.crc32(site.encode())])
    return distribution.draw(generator, rows, features)


def pruning_errors(x: npt.NDArray, pattern: Pattern) -> npt.NDArray[np.float64]:
    """‖x − x̂‖² and ‖x‖² of every row when each group keeps its N largest magnitudes: float64 [T, 2].

    Float scoring, as the papers do. Ties have no influence: equal magnitudes leave equal errors.
    """
    rows, features = x.shape
    energy = np.zeros((rows, pattern.groups(features) * pattern.m))
    energy[:, :features] = np.square(x, dtype=np.float64)
    groups = energy.reshape(rows, -1, pattern.m)
    pruned = pattern.m - pattern.n
    lost = np.partition(groups, pruned - 1, axis=-1)[..., :pruned].sum(axis=(1, 2)) if pruned else np.zeros(rows)
    return np.stack([lost, energy.sum(axis=1)], axis=1)
