"""FFNs of random weights on a device, enough of them that each call finds its weights in no cache."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import linear

from accel_sim.executors.torch_ffn import TorchFFN, TorchLowRank
from benchmarks.executors import Shape

_TIMES_THE_CACHE = 4
"""Bytes that a round of all copies reads at the least, over the cache's size."""
_SHARE_OF_MEMORY = 0.7
_SURE = 100.0
"""Bias of a random predictor, whose scores are about 1 without: it then tells exactly the mask that is wanted."""


@dataclass(frozen=True)
class Copy:
    """One FFN, as a layer of a model is one."""

    ffn: TorchFFN
    down: Tensor
    """[d, D], as `torch.nn.Linear` stores it, for the dense product."""
    order: Tensor
    """A permutation of its neurons: the first of them are active."""
    thin_down: Tensor
    """B [r, d] of its predictor."""
    thin_up: Tensor
    """A [D, r]."""

    def mask(self, active: int) -> Tensor:
        """bool [1, D]: exactly so many neurons."""
        mask = torch.zeros((1, self.ffn.neurons), dtype=torch.bool, device=self.order.device)
        mask[0, self.order[:active]] = True
        return mask

    def predictor(self, active: int) -> TorchLowRank:
        """One that reads what a predictor of its rank reads, and tells `mask`."""
        bias = torch.where(self.mask(active)[0], _SURE, -_SURE).to(self.thin_up.dtype)
        return TorchLowRank(self.thin_down, self.thin_up, bias)

    def dense(self, x: Tensor) -> Tensor:
        """Three products of the library, with ReLU and multiplication between."""
        ffn = self.ffn
        return linear(linear(x, ffn.gate).relu_().mul_(linear(x, ffn.up)), self.down)

    def expected(self, x: Tensor, mask: Tensor) -> Tensor:
        """The masked dense FFN in float64."""
        ffn, wide = self.ffn, x.double()
        product = (wide @ ffn.gate.double().T).relu() * (wide @ ffn.up.double().T)
        return (product * mask) @ ffn.down.double()


class Copies:
    """Copies of a shape, and the token that all of them are given (as in a model, where it was just computed).

    x and the rows of gate have no negative entries, so that every gate is active: what the mask leaves, all three
    matrices are read for, as in the paper's Table 4.
    """

    def __init__(self, shape: Shape, dtype: torch.dtype, device: torch.device, count: int) -> None:
        draw = torch.Generator(device=device).manual_seed(0)

        def normal(*size: int, over: int) -> Tensor:
            return (torch.randn(size, generator=draw, device=device) / math.sqrt(over)).to(dtype)

        def copy() -> Copy:
            matrix = (shape.neurons, shape.features)
            down = normal(*matrix, over=shape.neurons)
            ffn = TorchFFN(
                normal(*matrix, over=shape.features).abs_(),
                normal(*matrix, over=shape.features),
                down,
                *(torch.zeros(size, device=device) for size in (shape.neurons, shape.neurons, shape.features)),
            )
            thin_down = normal(shape.rank, shape.features, over=shape.features)
            thin_up = normal(shape.neurons, shape.rank, over=shape.rank)
            order = torch.randperm(shape.neurons, generator=draw, device=device)
            return Copy(ffn, down.t().contiguous(), order, thin_down, thin_up)

        self.x = normal(1, shape.features, over=1).abs_()
        self.each = [copy() for _ in range(count)]


def copies_that_fit(shape: Shape, dtype: torch.dtype, device: torch.device, most_skipped: float) -> tuple[int, int]:
    """How many copies a cold cache takes at this sparsity, and how many of them the device has memory for."""
    if device.type != "cuda":
        return 2, 2
    matrix = shape.neurons * shape.features * dtype.itemsize
    cache = getattr(torch.cuda.get_device_properties(device), "L2_cache_size", 0) or 64 << 20
    needed = math.ceil(_TIMES_THE_CACHE * cache / (3 * matrix * (1 - most_skipped)))
    free = torch.cuda.mem_get_info(device)[0] * _SHARE_OF_MEMORY
    return needed, max(1, min(needed, int(free // (4.2 * matrix))))


def relative_error(y: Tensor, expected: Tensor) -> float:
    """‖y − expected‖ / ‖expected‖; infinite where that is no number."""
    off = float((y.double() - expected).norm() / expected.norm())
    return off if math.isfinite(off) else math.inf
