"""Turn a gated model into a ReLU one, whose FFNs have zeros to skip: swap, refit, distil, and label the result.

    from accel_sim.reluify import ReluifySettings, reluify
    label = reluify(CaptureOptions(out=Path("relu")), ReluifySettings(minutes=30))

What runs a model needs the `llm` extra, and is imported when it is first named.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from accel_sim.capture.relu_form import ReluForm, apply_form
from accel_sim.reluify.settings import ReluifySettings

__all__ = ["Label", "Observer", "ReluForm", "ReluifySettings", "apply_form", "read_label", "reluify", "reluify_model"]

_NEED_TORCH = {
    "Label": "label",
    "read_label": "label",
    "Observer": "run",
    "reluify": "run",
    "reluify_model": "run",
}


def __getattr__(name: str) -> Any:
    if name in _NEED_TORCH:
        return getattr(import_module(f"accel_sim.reluify.{_NEED_TORCH[name]}"), name)
    raise AttributeError(f"module 'accel_sim.reluify' has no attribute {name!r}")
