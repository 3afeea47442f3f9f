"""Predictors at work: from what an FFN reads to the neurons that it needs. T tokens, d features, D neurons, rank r."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil
from typing import Protocol

import torch
from torch import Tensor

from accel_sim.errors import AccelSimError
from accel_sim.sparsify.contextual.ffn import GatedFfn
from accel_sim.sparsify.contextual.importance import importance
from accel_sim.sparsify.contextual.options import Importance


class Predictor(Protocol):
    """Predicts, before the gate is computed, which of its neurons are active."""

    @property
    def rank(self) -> int | None:
        """Of the scores' factors; None for a predictor without."""
        ...

    def scores(self, x: Tensor) -> Tensor:
        """float32 [T, D] of x [T, d], without the bias: the higher, the more probably active."""
        ...

    def predict(self, x: Tensor) -> Tensor:
        """bool [T, D] of x [T, d]: active."""
        ...

    def weights_bytes(self, bits: int = 16) -> int:
        """What a token's prediction reads from memory, with weights and biases of so many bits."""
        ...

    def to(self, device: torch.device | str) -> Predictor:
        """The same on another device."""
        ...


@dataclass(frozen=True, eq=False)
class LowRankPredictor:
    """P(x) = H(A·B·x + b) with H strict: what SVD and training give (SVDP, arXiv 2603.14110, section 3).

    Raises AccelSimError for tensors that do not fit each other, are not float32, or not finite.
    """

    down: Tensor
    """B float32 [r, d]."""
    up: Tensor
    """A float32 [D, r]."""
    bias: Tensor
    """b float32 [D]."""

    def __post_init__(self) -> None:
        shapes = [tuple(tensor.shape) for tensor in (self.down, self.up, self.bias)]
        fit = self.down.dim() == self.up.dim() == 2 and self.bias.dim() == 1
        if not fit or self.down.shape[0] != self.up.shape[1] or self.bias.shape[0] != self.up.shape[0]:
            raise AccelSimError(f"low-rank predictor: down, up, bias {shapes}; expected [r, d], [D, r], [D]")
        _check_values("low-rank predictor", self.down, self.up, self.bias)

    @property
    def rank(self) -> int:
        return self.down.shape[0]

    def scores(self, x: Tensor) -> Tensor:
        return x.float() @ self.down.mT @ self.up.mT

    def predict(self, x: Tensor) -> Tensor:
        return self.scores(x) + self.bias > 0

    def weights_bytes(self, bits: int = 16) -> int:
        return ceil((self.down.numel() + self.up.numel() + self.bias.numel()) * bits / 8)

    def to(self, device: torch.device | str) -> LowRankPredictor:
        return replace(self, down=self.down.to(device), up=self.up.to(device), bias=self.bias.to(device))


@dataclass(frozen=True, eq=False)
class SignBitPredictor:
    """Counts, for each neuron, the products w·x whose sign bits agree: SparseInfer (arXiv 2411.12692), with biases.

    The score is N₊ − N₋, products with equal sign bits less those with different ones (zero counts as positive, as in
    hardware). SparseInfer skips a neuron where α·N₊ < N₋; with N₊ + N₋ = d that is score < −b, α = (d + b)/(d − b). So
    one b for the layer is its α; a b for each neuron is an extension of it here. A gate's bias takes no part.

    Raises AccelSimError for tensors that do not fit each other or signs that are not 1 and −1.
    """

    signs: Tensor
    """float32 [D, d]: −1 where the gate's weight has its sign bit set, else 1."""
    bias: Tensor
    """b float32 [D]."""

    def __post_init__(self) -> None:
        if self.signs.dim() != 2 or self.bias.shape != self.signs.shape[:1]:
            shapes = [tuple(self.signs.shape), tuple(self.bias.shape)]
            raise AccelSimError(f"sign-bit predictor: signs, bias {shapes}; expected [D, d], [D]")
        _check_values("sign-bit predictor", self.signs, self.bias)
        if not bool((self.signs.abs() == 1).all()):
            raise AccelSimError("sign-bit predictor: signs other than 1 and -1")

    @property
    def rank(self) -> None:
        return None

    def scores(self, x: Tensor) -> Tensor:
        return sign_bits(x) @ self.signs.mT

    def predict(self, x: Tensor) -> Tensor:
        return self.scores(x) + self.bias > 0

    def weights_bytes(self, bits: int = 16) -> int:
        """A bit a weight, and biases of `bits`."""
        return ceil((self.signs.numel() + self.bias.numel() * bits) / 8)

    def to(self, device: torch.device | str) -> SignBitPredictor:
        return replace(self, signs=self.signs.to(device), bias=self.bias.to(device))


@dataclass(frozen=True, eq=False)
class OraclePredictor:
    """The layer's own activity, known beforehand: the bound of what any predictor can do, and none that can be built.

    Active is what `GatedFfn.realised` says, if its importance is above `floor`: 0 gives the true mask; a floor that was
    calibrated for more sparsity than the gate has gives, of all masks of that sparsity, the one of least lost
    importance.
    """

    ffn: GatedFfn
    importance: Importance
    floor: float

    @property
    def rank(self) -> None:
        return None

    def scores(self, x: Tensor) -> Tensor:
        """The importance itself."""
        return importance(self.ffn, x, self.importance)

    def predict(self, x: Tensor) -> Tensor:
        active = self.ffn.realised(x)
        return active & (self.scores(x) > self.floor) if self.floor > 0 else active

    def weights_bytes(self, bits: int = 16) -> int:
        """None: an oracle is told."""
        return 0

    def to(self, device: torch.device | str) -> OraclePredictor:
        names = ("gate", "up", "down", "gate_bias", "up_bias", "down_bias")
        tensors = {name: getattr(self.ffn, name) for name in names}
        moved = {name: tensor.to(device) for name, tensor in tensors.items() if tensor is not None}
        return replace(self, ffn=replace(self.ffn, **moved))


def sign_bits(values: Tensor) -> Tensor:
    """float32, −1 where the sign bit is set, else 1."""
    return 1 - 2 * torch.signbit(values).float()


def _check_values(what: str, *tensors: Tensor) -> None:
    for tensor in tensors:
        if tensor.dtype != torch.float32 or not bool(torch.isfinite(tensor).all()):
            dtype = str(tensor.dtype).removeprefix("torch.")
            raise AccelSimError(f"{what}: {dtype} {list(tensor.shape)}; expected finite float32 values")
