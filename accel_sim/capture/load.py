"""Load a causal language model and its tokenizer with transformers: by id, from a folder, or from a GGUF file."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from accel_sim.capture.default_model import default_model_file
from accel_sim.capture.options import DEVICE_MAPS, CaptureOptions
from accel_sim.capture.relu_form import apply_label
from accel_sim.errors import AccelSimError
from accel_sim.trace.reader import file_sha256


@dataclass(frozen=True)
class LoadedModel:
    """A model in evaluation mode, and where it came from."""

    model: transformers.PreTrainedModel
    tokenizer: Any
    id: str
    file_sha256: str | None
    """Of the GGUF file, when it was one."""

    @property
    def device(self) -> torch.device:
        """Where its inputs go: the device of its first weight that has one, else the CPU."""
        placed = (each.device for each in self.model.parameters() if not each.is_meta)
        return next(placed, torch.device("cpu"))


def load_model(options: CaptureOptions, on_status: Callable[[str], None] = lambda _: None) -> LoadedModel:
    """Load what `options.model` names; nothing local is ever looked up on a hub.

    Raises AccelSimError when there is no such model, or transformers cannot load it.
    """
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # retries; the error itself is reported below
    where, gguf = _locate(options.model, on_status)
    name = options.model_name
    # Without an answer transformers would ask on the terminal whether to run code that a model brings along.
    arguments: dict[str, Any] = {"trust_remote_code": False} | ({"gguf_file": gguf} if gguf else {})
    if Path(where).is_dir():
        arguments["local_files_only"] = True
    device = choose_device(options.device)
    placed = {} if options.device_map is None else {"device_map": _device_map(options.device_map)}
    on_status(f"loading {name}")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(where, **arguments)
        model = transformers.AutoModelForCausalLM.from_pretrained(
            where, dtype=options.compute_dtype, **arguments, **placed
        )
    except (
        Exception
    ) as error:  # transformers raises OSError, ValueError, KeyError, ImportError … for one cause: no model
        raise AccelSimError(f"model {name}: cannot be loaded: {type(error).__name__}: {error}") from error
    run_experts_one_by_one(model)
    apply_label(model, Path(where))
    digest = file_sha256(Path(where) / gguf) if gguf else None
    return LoadedModel((model if placed else model.to(device)).eval(), tokenizer, name, digest)


def _device_map(given: str) -> str | dict[str, int | str]:
    """What transformers takes: a word, or the placement that a JSON file holds."""
    if given in DEVICE_MAPS:
        return given
    try:
        placement = json.loads(Path(given).expanduser().read_bytes())
    except (OSError, ValueError) as error:
        raise AccelSimError(f"--device-map {given}: cannot be read as JSON: {error}") from None
    if not isinstance(placement, dict) or not all(isinstance(place, int | str) for place in placement.values()):
        raise AccelSimError(f"--device-map {given}: expected an object of module path → device (0, cpu, disk, …)")
    return placement


def choose_device(name: str) -> torch.device:
    """The device called `name`; `auto` is CUDA when there is one, else the CPU. Raises AccelSimError for no device."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise AccelSimError(f"--device {name}: {str(error).splitlines()[0]}") from None
    return device


def run_experts_one_by_one(model: transformers.PreTrainedModel) -> None:
    """Stacked experts can run as one fused kernel that hides who gets which tokens; ask for the plain loop."""
    if hasattr(model, "set_experts_implementation"):
        model.set_experts_implementation("eager")


def _locate(model: str | None, on_status: Callable[[str], None]) -> tuple[str, str | None]:
    """Folder or id, and the name of the GGUF file in it."""
    if model is None:
        file = default_model_file(on_status)
        return str(file.parent), file.name
    path = Path(model).expanduser()
    if path.is_file():
        if path.suffix.lower() != ".gguf":
            raise AccelSimError(f"--model {model}: a file must be a GGUF file (.gguf); else a folder or a hub id")
        return str(path.parent), path.name
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise AccelSimError(f"--model {model}: the folder has no config.json, so transformers cannot load it")
        return str(path), None
    if model.lower().endswith(".gguf") or model.startswith((".", "/", "~")):
        raise AccelSimError(f"--model {model}: no such file or folder")
    return model, None
