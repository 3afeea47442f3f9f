"""A gated FFN as the executors store it: one neuron is one contiguous row of each of its three matrices."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel_sim.errors import AccelSimError
from accel_sim.executors import bfloat16

Activation = Literal["relu", "drelu"]
Weight = NDArray[np.float32] | NDArray[np.uint16]
"""[D, d]; uint16 holds the bits of bfloat16."""


@dataclass(frozen=True, eq=False)
class GatedFFN:
    """y = W_down (a(W_gate x + b_g) ⊙ (W_up x + b_u)) + b_d, with d features and D neurons.

    a(g) is g where g > `threshold`, else 0: ReLU at 0, FATReLU (ProSparse, arXiv 2402.13516) above. `drelu` applies
    ReLU to the up projection as well (TurboSparse, arXiv 2406.05955). Build one with :meth:`of`, which checks.
    """

    gate: Weight
    up: Weight
    down: Weight
    """[D, d]: W_down transposed, so that a skipped neuron skips a contiguous row here as well."""
    gate_bias: NDArray[np.float32]
    up_bias: NDArray[np.float32]
    down_bias: NDArray[np.float32]
    activation: Activation = "relu"
    threshold: float = 0.0

    @classmethod
    def of(
        cls,
        gate: ArrayLike,
        up: ArrayLike,
        down: ArrayLike,
        *,
        gate_bias: ArrayLike | None = None,
        up_bias: ArrayLike | None = None,
        down_bias: ArrayLike | None = None,
        activation: Activation = "relu",
        threshold: float = 0.0,
    ) -> GatedFFN:
        """From matrices in the layout of `torch.nn.Linear`: `gate` and `up` [D, d], `down` [d, D].

        Float arrays are taken as float32, `gate` and `up` without a copy where they are that already; uint16 is taken
        as the bits of bfloat16, in all three or in none. Biases are [D], [D] and [d]; None is zero. Raises
        AccelSimError for shapes that do not fit, a NaN or an infinity, another activation, a negative threshold.
        """
        stored = [_weight(name, each) for name, each in (("gate", gate), ("up", up), ("down", down))]
        neurons, features = stored[0].shape
        for name, each, shape in (("up", stored[1], (neurons, features)), ("down", stored[2], (features, neurons))):
            if each.shape != shape:
                raise AccelSimError(f"{name}: got {list(each.shape)}, expected {list(shape)} beside gate [D, d]")
            if each.dtype != stored[0].dtype:
                raise AccelSimError(f"{name}: got {each.dtype}, expected {stored[0].dtype} as in gate")
        if activation not in get_args(Activation):
            raise AccelSimError(f"activation {activation!r}: expected one of {', '.join(get_args(Activation))}")
        if not (np.isfinite(threshold) and threshold >= 0):
            raise AccelSimError(f"threshold {threshold}: expected a finite number of at least 0")
        return cls(
            gate=np.ascontiguousarray(stored[0]),
            up=np.ascontiguousarray(stored[1]),
            down=np.ascontiguousarray(stored[2].T),
            gate_bias=_bias("gate_bias", gate_bias, neurons),
            up_bias=_bias("up_bias", up_bias, neurons),
            down_bias=_bias("down_bias", down_bias, features),
            activation=activation,
            threshold=float(threshold),
        )

    @property
    def neurons(self) -> int:
        """D."""
        return self.gate.shape[0]

    @property
    def features(self) -> int:
        """d."""
        return self.gate.shape[1]

    @property
    def row_bytes(self) -> int:
        """Bytes of one neuron in one of the three matrices."""
        return self.gate.itemsize * self.features

    def in_bfloat16(self) -> GatedFFN:
        """The same with weights rounded to bfloat16, half the bytes; biases stay float32, and so do all sums.

        Raises AccelSimError for a weight that is too large for bfloat16.
        """
        if self.gate.dtype == np.uint16:
            return self
        named = {name: bfloat16.rounded(getattr(self, name)) for name in ("gate", "up", "down")}
        for name, bits in named.items():
            _require_finite(name, bfloat16.widened(bits))
        return replace(self, **named)

    def in_float32(self) -> GatedFFN:
        """The same with weights widened to float32."""
        if self.gate.dtype == np.float32:
            return self
        return replace(self, **{name: bfloat16.widened(getattr(self, name)) for name in ("gate", "up", "down")})


def _weight(name: str, given: ArrayLike) -> Weight:
    array = np.asarray(given)
    if array.ndim != 2 or 0 in array.shape:
        raise AccelSimError(f"{name}: got {list(array.shape)}, expected a matrix")
    if array.dtype == np.uint16:
        _require_finite(name, bfloat16.widened(array))
        return array
    if array.dtype.kind != "f":
        raise AccelSimError(f"{name}: got {array.dtype}, expected floats, or bfloat16 as uint16")
    array = array.astype(np.float32, copy=False)
    _require_finite(name, array)
    return array


def _bias(name: str, given: ArrayLike | None, length: int) -> NDArray[np.float32]:
    if given is None:
        return np.zeros(length, np.float32)
    array = np.ascontiguousarray(given, np.float32)
    if array.shape != (length,):
        raise AccelSimError(f"{name}: got {list(array.shape)}, expected [{length}]")
    _require_finite(name, array)
    return array


def _require_finite(name: str, array: NDArray[np.float32]) -> None:
    # a sum of finite numbers can overflow, so it only spares the search where it is finite itself
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(array.sum(dtype=np.float64)):
            return
    bad = np.argwhere(~np.isfinite(array))
    if bad.size:
        place = tuple(int(i) for i in bad[0])
        raise AccelSimError(f"{name}{list(place)} is {array[place]}; an FFN needs finite weights")
