"""Predictors as the executors use them: scores m = U (V x) + b, of which a neuron may be active where m > 0."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel_sim.errors import AccelSimError


@dataclass(frozen=True, eq=False)
class LowRank:
    """The two thin matrices and the bias of a predictor (SVDP eq. 2: B, A and b), float32; built with :meth:`of`."""

    down: NDArray[np.float32]
    """[r, d]."""
    up: NDArray[np.float32]
    """[D, r], each column contiguous: rows of r numbers would be too short to multiply fast."""
    bias: NDArray[np.float32]
    """[D]."""

    @classmethod
    def of(cls, down: ArrayLike, up: ArrayLike, bias: ArrayLike) -> LowRank:
        """From float arrays. Raises AccelSimError for shapes that do not fit each other, a NaN or an infinity."""
        parts = {name: _floats(given) for name, given in (("down", down), ("up", up), ("bias", bias))}
        shapes = {name: each.shape for name, each in parts.items()}
        rank = shapes["down"][0] if len(shapes["down"]) == 2 else None
        fits = len(shapes["up"]) == 2 and shapes["up"][1] == rank and shapes["bias"] == shapes["up"][:1]
        if not fits:
            found = ", ".join(f"{name} {list(shape)}" for name, shape in shapes.items())
            raise AccelSimError(f"predictor: got {found}, expected down [r, d], up [D, r], bias [D]")
        for name, each in parts.items():
            if not np.isfinite(each).all():
                raise AccelSimError(f"predictor: {name} holds a NaN or an infinity; expected finite values")
        return cls(parts["down"], np.asfortranarray(parts["up"]), parts["bias"])

    @property
    def features(self) -> int:
        """d."""
        return self.down.shape[1]

    @property
    def neurons(self) -> int:
        """D."""
        return self.up.shape[0]


def low_rank_of(predictor: Any) -> LowRank | None:
    """A predictor that has `down`, `up` and `bias` (NumPy or torch) as :class:`LowRank`; None for one that has not."""
    if isinstance(predictor, LowRank):
        return predictor
    parts = [getattr(predictor, name, None) for name in ("down", "up", "bias")]
    if any(part is None or callable(part) for part in parts):
        return None
    return LowRank.of(*parts)


def _floats(given: Any) -> NDArray[np.float32]:
    if hasattr(given, "detach"):
        given = given.detach().float().cpu().numpy()
    return np.ascontiguousarray(given, np.float32)
