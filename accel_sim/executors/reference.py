"""Plain references: the masked dense FFN that every executor must equal, written without a thought for speed.

`masked_dense` multiplies as NumPy's BLAS does: the same sums in another order. `float_in_order` and `int8` fix every
rounding, and the compiled executor returns their bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accel_sim.executors.ffn import GatedFFN
from accel_sim.executors.quantized import QuantizedFFN
from accel_sim.functional import dequantize
from accel_sim.quantize import quantize_tokens

LANES = 64
"""Partial sums of a dot product: feature k belongs to lane k mod 64. Enough for any SIMD width to hide latency."""

Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


def masked_dense(ffn: GatedFFN, x: Floats, mask: Mask) -> Floats:
    """y float32 [T, d] of x float32 [T, d] under mask bool [T, D]: all rows multiplied, then masked.

    Both pipelines mean this: where the gate is 0 the product is 0, whatever up is.
    """
    ffn = ffn.in_float32()
    gate = x @ ffn.gate.T + ffn.gate_bias
    up = x @ ffn.up.T + ffn.up_bias
    return product(ffn, gate, up, mask) @ ffn.down + ffn.down_bias


def product(ffn: GatedFFN | QuantizedFFN, gate: Floats, up: Floats, mask: Mask) -> Floats:
    """a(gate) ⊙ up, 0 where the mask or the activation drops it; [T, D] all."""
    kept = mask & (gate > np.float32(ffn.threshold))
    return np.where(kept, gate * (np.maximum(up, 0) if ffn.activation == "drelu" else up), np.float32(0))


def float_in_order(ffn: GatedFFN, x: Floats, mask: Mask) -> Floats:
    """The same with every sum in the executor's order: 64 lanes then a tree; down neuron after neuron, ascending."""
    ffn = ffn.in_float32()
    outputs = np.empty_like(x)
    for t, token in enumerate(x):
        gate = _dots(ffn.gate, token) + ffn.gate_bias
        up = _dots(ffn.up, token) + ffn.up_bias
        h = product(ffn, gate[None], up[None], mask[t : t + 1])[0]
        y = np.zeros_like(token)
        for value, row in zip(h, ffn.down, strict=True):
            y += value * row
        outputs[t] = y + ffn.down_bias
    return outputs


def _dots(weight: Floats, x: Floats) -> Floats:
    """[D] of weight [D, d] and x [d], in the order of the lanes."""
    padded = -(-x.size // LANES) * LANES
    terms = np.zeros((weight.shape[0], padded), np.float32)
    terms[:, : x.size] = weight * x
    lanes = np.zeros((weight.shape[0], LANES), np.float32)
    for start in range(0, padded, LANES):
        lanes += terms[:, start : start + LANES]
    width = LANES // 2
    while width:
        lanes = lanes[:, :width] + lanes[:, width:]
        width //= 2
    return lanes[:, 0]


def int8(ffn: QuantizedFFN, x: Floats, mask: Mask) -> Floats:
    """y float32 [T, d], by the functional mode's own quantiser and dequantiser and sums in INT64."""
    codes, scale = quantize_tokens(x, "x")
    gate = dequantize(_sums(codes, ffn.gate.T), scale, ffn.gate_scale, ffn.gate_bias)
    up = dequantize(_sums(codes, ffn.up.T), scale, ffn.up_scale, ffn.up_bias)
    h, h_scale = quantize_tokens(product(ffn, gate, up, mask), "a(gate)·up")
    return dequantize(_sums(h, ffn.down), h_scale, ffn.down_scale, ffn.down_bias)


def _sums(left: NDArray[np.int8], right: NDArray[np.int8]) -> NDArray[np.int32]:
    return (left.astype(np.int64) @ right.astype(np.int64)).astype(np.int32)
