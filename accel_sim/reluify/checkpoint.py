"""The state of a training in one file, replaced whole, so that one that is killed goes on from its last checkpoint.

Windows come in an order that the seed decides and nothing else is random, so the number of steps is the position in the
text and there is no random state to keep.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from accel_sim.errors import AccelSimError
from accel_sim.reluify.measure import Measurement

CHECKPOINT_NAME = "checkpoint.safetensors"
_WEIGHT, _FIRST, _SECOND = "weight:", "first_moment:", "second_moment:"


class RefitError(BaseModel):
    """What a layer's FFN leaves of the teacher's output, ‖teacher − student‖ / ‖teacher‖ over the refit's tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    layer: int
    before: float
    after: float


class Sample(BaseModel):
    """One point of the curve: the student on held-out text after so many tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    tokens: int
    seconds: float
    """Of training."""
    loss: float | None
    """Mean KL(teacher ‖ student) on the training text since the sample before, in nats; None at the start."""
    measured: Measurement


class Progress(BaseModel):
    """How far a training has come."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    steps: int = 0
    seconds: float = 0.0
    """Of training, over all runs."""
    losses: tuple[float, ...] = ()
    """Of every step since the last sample."""
    curve: tuple[Sample, ...] = ()
    refit: tuple[RefitError, ...] = ()


def save(path: Path, identity: str, progress: Progress, weights: dict[str, Tensor], moments: dict[str, tuple]) -> None:
    """Write a checkpoint beside `path`, then rename it onto it. OSError passes through with the old one in place.

    `weights` by parameter name; `moments` the pair of Adam's moments of each, empty before the first step.
    """
    tensors = {_WEIGHT + name: each.detach().contiguous() for name, each in weights.items()}
    for name, (first, second) in moments.items():
        tensors |= {_FIRST + name: first, _SECOND + name: second}
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        save_file(tensors, temporary, {"of": identity, "progress": progress.model_dump_json()})
        os.replace(temporary, path)
    except SafetensorError as error:  # a full disk
        raise OSError(f"{path}: {error}") from None
    finally:
        temporary.unlink(missing_ok=True)


def load(path: Path, identity: str) -> tuple[Progress, dict[str, Tensor], dict[str, tuple[Tensor, Tensor]]] | None:
    """Progress, weights and moments of the checkpoint at `path`; None where there is none.

    Raises AccelSimError for a file that is no checkpoint, and for one of another training than `identity`.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            kept = file.metadata() or {}
            progress = Progress.model_validate_json(kept["progress"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
    except (SafetensorError, OSError, KeyError, ValidationError, json.JSONDecodeError):
        raise AccelSimError(
            f"{path}: not a checkpoint of `accel-sim reluify`; name another folder with --out"
        ) from None
    if kept.get("of") != identity:
        raise AccelSimError(f"{path}: of another model, text or setting; name another folder with --out, or remove it")
    weights = {name.removeprefix(_WEIGHT): each for name, each in tensors.items() if name.startswith(_WEIGHT)}
    moments = {name: (tensors[_FIRST + name], tensors[_SECOND + name]) for name in weights if _FIRST + name in tensors}
    return progress, weights, moments
