"""Real masks, and the statistics that other studies use in their place.

Three models stand in for a trace. `iid` knows one density for the whole matrix, as analytical models do (the uniform
density of Sparseloop, MICRO 2022). `marginal` knows one density for each channel (feature), because activations have
channels that are large in nearly every token (LLM.int8(), arXiv 2208.07339 §4). `token` knows one density for each
token, because an array's rows wait for the fullest token of their panel. Apart from that density, all elements are
independent of each other. What the models get wrong is what a real trace is for.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel_sim.errors import AccelSimError
from accel_sim.functional import select
from accel_sim.functional.checks import LARGEST_CODE, matrix
from accel_sim.pattern import Pattern

MaskModel = Literal["real", "iid", "marginal", "token"]
MASK_MODELS: tuple[MaskModel, ...] = get_args(MaskModel)
DRAWN_MODELS = MASK_MODELS[1:]


def drawn_masks(mask: ArrayLike, model: str, seed: int | Sequence[int]) -> NDArray[np.bool_]:
    """A stand-in bool [T, K] for the mask bool [T, K], every element drawn independently of all others.

    `iid`: each is set with the density of the whole matrix. `marginal`: with the density of its channel, over the T
    tokens. `token`: with the density of its token, over the K channels. A channel (or token) that is always, or never,
    set stays so. Densities hold in expectation, not in number.
    The draw depends on model, seed, shape and densities alone. Raises AccelSimError for another model, for a seed below
    0, and for a mask that is not bool [T, K].
    """
    mask = matrix("mask", mask, np.bool_, ("token", "feature"))
    if model not in DRAWN_MODELS:
        raise AccelSimError(f"masks {model!r}: expected one of {', '.join(DRAWN_MODELS)} to draw from")
    return _draw(_generator(seed), mask, model)


@dataclass(frozen=True)
class Masks:
    """The masks that a site is looked at with: its real ones, or ones drawn from a statistic of it.

    A site's draw depends on `site` and `seed` alone, in whatever order sites are asked for. The models share their
    random numbers, so that their difference is that of the models.

    Raises AccelSimError for a model that is not one of MASK_MODELS, and for a seed below 0.
    """

    model: MaskModel = "real"
    site: str = ""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.model not in MASK_MODELS:
            raise AccelSimError(f"masks {self.model!r}: expected one of {', '.join(MASK_MODELS)}")
        self._generator()

    def codes(self, codes: NDArray[np.int8]) -> NDArray[np.int8]:
        """Codes int8 [T, K] whose natural non-zeros are real, or drawn with their density.

        Drawn non-zeros get random magnitudes in 1 … 127, so that chance (up to ties) and not their order decides which
        of them a selection keeps.
        """
        if self.model == "real":
            return codes
        generator = self._generator()
        nonzero = _draw(generator, codes != 0, self.model)
        magnitude = np.frombuffer(generator.bytes(codes.size), dtype=np.int8).reshape(codes.shape) & LARGEST_CODE
        return np.maximum(magnitude, 1) * nonzero

    def kept(self, codes: NDArray[np.int8], pattern: Pattern | None) -> NDArray[np.bool_]:
        """Mask bool [T, K] of what the pattern (None: all) keeps of codes int8 [T, K] and is not zero.

        A drawn one has the density of the kept non-zeros; it keeps to no N of a group.
        """
        kept = codes != 0
        if pattern is not None and not pattern.keeps_all:
            kept &= select(codes, pattern, backend="numba")
        return kept if self.model == "real" else _draw(self._generator(), kept, self.model)

    def _generator(self) -> np.random.Generator:
        return _generator([self.seed, zlib.crc32(f"masks of {self.site}".encode())])


def _generator(seed: int | Sequence[int]) -> np.random.Generator:
    try:
        if seed is None:
            raise TypeError("NumPy would take a seed from the system")
        return np.random.default_rng(np.random.SeedSequence(seed))
    except (TypeError, ValueError):
        raise AccelSimError(f"seed {seed!r}: expected whole numbers of at least 0") from None


def _draw(generator: np.random.Generator, mask: NDArray[np.bool_], model: str) -> NDArray[np.bool_]:
    """Independent draws with the density of the matrix (`iid`), of each column (`marginal`) or row (`token`)."""
    if mask.size == 0:
        return mask
    over = {"iid": None, "marginal": 0, "token": 1}[model]
    density = mask.mean(axis=over, dtype=np.float64, keepdims=True)
    return generator.random(mask.shape, dtype=np.float32) < density.astype(np.float32)


REAL_MASKS = Masks()
"""The trace's own."""
