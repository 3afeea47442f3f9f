"""The INT8 form of a gated FFN: codes per neuron and per output, with the scales of `accel_sim.quantize`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accel_sim.errors import AccelSimError
from accel_sim.executors.ffn import Activation, GatedFFN
from accel_sim.quantize import quantize_weight

MOST_PRODUCTS = (2**31 - 1) // 127**2
"""K·127² must fit INT32: 133,144."""


@dataclass(frozen=True, eq=False)
class QuantizedFFN:
    """W8A8 of :class:`GatedFFN`: activations per token, weights per output, both symmetric.

    The input is quantised per token, gate and up are INT32 sums and dequantised as `functional.dequantize` does it; the
    products a(gate)·up, 0 where the mask drops them, are quantised per token again, and so on through down.
    """

    gate: NDArray[np.int8]
    up: NDArray[np.int8]
    down: NDArray[np.int8]
    """Codes [D, d] all three, down transposed as in :class:`GatedFFN`."""
    gate_scale: NDArray[np.float32]
    up_scale: NDArray[np.float32]
    """[D]."""
    down_scale: NDArray[np.float32]
    """[d]."""
    gate_bias: NDArray[np.float32]
    up_bias: NDArray[np.float32]
    down_bias: NDArray[np.float32]
    activation: Activation
    threshold: float

    @classmethod
    def of(cls, ffn: GatedFFN) -> QuantizedFFN:
        """Quantise an FFN. Raises AccelSimError where d or D is so large that INT32 sums could overflow."""
        largest = max(ffn.neurons, ffn.features)
        if largest > MOST_PRODUCTS:
            raise AccelSimError(f"{largest:,} products of INT8 codes can overflow INT32; at most {MOST_PRODUCTS:,} fit")
        ffn = ffn.in_float32()
        (gate, gate_scale), (up, up_scale) = (quantize_weight(each) for each in (ffn.gate, ffn.up))
        down, down_scale = quantize_weight(ffn.down.T, "down")
        return cls(
            np.ascontiguousarray(gate.T),
            np.ascontiguousarray(up.T),
            down,
            gate_scale,
            up_scale,
            down_scale,
            ffn.gate_bias,
            ffn.up_bias,
            ffn.down_bias,
            ffn.activation,
            ffn.threshold,
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
        return self.features
