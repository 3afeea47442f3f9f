"""A language model's forward pass → a trace. Everything here but `options` needs the `llm` extra."""

from accel_sim.capture.options import CaptureOptions

__all__ = ["CaptureOptions"]
