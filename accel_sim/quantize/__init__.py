"""Floats to INT8 codes: symmetric, per token for activations, per output channel for weights."""

from accel_sim.quantize.int8 import quantize_tokens, quantize_weight

__all__ = ["quantize_tokens", "quantize_weight"]
