"""Count the zeros of gated FFNs while a model runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn

from accel_sim.capture.gated_mlps import gated_mlps


@dataclass
class Zeros:
    """Exact zeros of one tensor a layer, and its elements, over all that ran."""

    zeros: list[int]
    elements: list[int]

    def add(self, layer: int, values: Tensor) -> None:
        self.zeros[layer] += int((values == 0).sum())
        self.elements[layer] += values.numel()

    @property
    def shares(self) -> tuple[float, ...]:
        """By layer."""
        return tuple(zeros / elements for zeros, elements in zip(self.zeros, self.elements, strict=True))


@contextmanager
def counted_zeros(model: nn.Module) -> Iterator[tuple[Zeros, Zeros]]:
    """Zeros behind the gate's activation, and in what `down_proj` reads, of what runs inside the `with` block."""
    mlps = tuple(gated_mlps(model).values())
    gate, down = (Zeros([0] * len(mlps), [0] * len(mlps)) for _ in range(2))
    handles = []
    for layer, mlp in enumerate(mlps):
        handles += [
            mlp.act_fn.register_forward_hook(lambda _, __, output, i=layer: gate.add(i, output)),
            mlp.down_proj.register_forward_pre_hook(lambda _, args, i=layer: down.add(i, args[0])),
        ]
    try:
        yield gate, down
    finally:
        for handle in handles:
            handle.remove()
