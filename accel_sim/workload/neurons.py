"""Which neurons of a gated MLP a predictor expects to be active: a fitted one's answer, or drawn at stated shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from accel_sim.errors import AccelSimError

Codes = npt.NDArray[np.int8]
Scales = npt.NDArray[np.float32]
Bits = npt.NDArray[np.bool_]


class NeuronMasks(Protocol):
    """A fitted predictor: the neurons of a block that its MLP's input makes active, as far as it can tell."""

    def predicted(self, layer: int, codes: Codes, scales: Scales) -> Bits:
        """bool [T, D], from the MLP's input: codes int8 [T, d] and scales float32 [T], a row a token."""
        ...


@dataclass(frozen=True)
class DrawnNeurons:
    """Neurons drawn at random, for shapes that nobody has activations of.

    Every token of every layer gets a random subset of exactly the stated size, independent of all others; the neurons
    that turn out active are a part of those that were predicted. Nothing is known of what a predictor would miss.

    Raises AccelSimError for shares outside 0 … 1, and where fewer neurons are predicted than turn out active.
    """

    predicted_sparsity: float
    """Share of the neurons that the predictor leaves out."""
    realised_sparsity: float
    """Share that contributes nothing: left out, or not active after all."""
    seed: int = 0
    of_layers: Mapping[int, float] = field(default_factory=dict)
    """Predicted sparsity of the layers that have one of their own."""

    def __post_init__(self) -> None:
        shares = {"predicted": self.predicted_sparsity, "realised": self.realised_sparsity}
        shares |= {f"predicted, layer {layer}": share for layer, share in self.of_layers.items()}
        for name, share in shares.items():
            if not 0 <= share <= 1:
                raise AccelSimError(f"{name} {share:g}: expected a share of the neurons, from 0 to 1")
            if share > self.realised_sparsity:
                raise AccelSimError(
                    f"{name} {share:g}, realised {self.realised_sparsity:g}: a neuron that is left out contributes"
                    " nothing, so realised is at least as much"
                )
        if self.seed < 0:
            raise AccelSimError(f"seed {self.seed}: expected a whole number from 0")

    @property
    def source(self) -> str:
        """What is drawn, for the report."""
        own = "".join(f", {share:g} in layer {layer}" for layer, share in sorted(self.of_layers.items()))
        return (
            f"DRAWN neurons, predicted sparsity {self.predicted_sparsity:g}{own},"
            f" realised {self.realised_sparsity:g}, seed {self.seed}"
        )

    def draw(self, layer: int, tokens: int, neurons: int) -> tuple[Bits, Bits]:
        """(predicted, realised), bool [tokens, neurons] each, the second within the first."""
        generator = np.random.default_rng([self.seed, layer])
        order = generator.permuted(np.tile(np.arange(neurons, dtype=np.int32), (tokens, 1)), axis=1)
        predicted_sparsity = self.of_layers.get(layer, self.predicted_sparsity)
        return _first(order, predicted_sparsity), _first(order, self.realised_sparsity)


def _first(order: npt.NDArray[np.int32], sparsity: float) -> Bits:
    """The neurons [T, D] that stand first in each row's `order`, as many as `sparsity` leaves, to the nearest one."""
    active = round((1 - sparsity) * order.shape[1])
    bits = np.zeros(order.shape, dtype=np.bool_)
    np.put_along_axis(bits, order[:, :active], True, axis=1)
    return bits
