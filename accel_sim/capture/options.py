"""What is captured, of what, and how; checked before anything heavy is imported."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass, field
from pathlib import Path

from accel_sim.errors import AccelSimError
from accel_sim.trace.format import STORED_TYPES, Phase, StoredType
from accel_sim.trace.layers import check_layers

DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
"""How accelerate can be told to place a model on all devices there are."""
_NEEDED = ("torch", "transformers", "accelerate", "gguf")


@dataclass(frozen=True)
class CaptureOptions:
    """One capture. Raises AccelSimError for values that cannot be."""

    out: Path
    """Folder of the trace."""
    model: str | None = None
    """A transformers id or folder, a GGUF file, or None for the default model."""
    texts: tuple[Path, ...] = ()
    """Text files, taken in turn; none means prose and code that come with CPython."""
    tokens: int = 512
    """Length of every prompt."""
    sequences: int = 1
    phase: Phase = "prefill"
    new_tokens: int | None = None
    """Decode steps a sequence."""
    layers: str | None = None
    """Decoder blocks, such as 0-5,29; None means all."""
    sites: tuple[str, ...] = ()
    """Keep projections whose module path contains one of these, or matches one as a shell pattern; none means all."""
    lm_head: bool = False
    dtype: StoredType = "int8"
    weights: bool = False
    weight_layers: str | None = None
    """Store the weights of these decoder blocks alone."""
    chunk: int = 512
    """Tokens a forward pass; what bounds memory."""
    compute_dtype: str = "auto"
    """Floating-point type of the forward pass: auto (the model's own), float32, bfloat16, float16."""
    device: str = "auto"
    """A torch device; auto takes CUDA when there is one."""
    device_map: str | None = None
    """How accelerate places the model on several devices: one of DEVICE_MAPS, or a JSON file of module path → device.
    None: all of it on `device`."""
    buffer_gib: float = 2.0
    """Of rows that may be on their way to the disk; the model waits when there are more."""
    allow_partial: bool = False
    resume: bool = False
    force: bool = False
    command: tuple[str, ...] = field(default=(), compare=False)
    """The command line, for the record."""

    def __post_init__(self) -> None:
        for name in ("tokens", "sequences", "chunk", "new_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise AccelSimError(f"--{name.replace('_', '-')} {value}: expected a whole number from 1 on")
        if "" in self.sites:
            raise AccelSimError("--sites: an empty word; expected words or shell patterns separated by commas")
        _one_of("--dtype", self.dtype, STORED_TYPES)
        _one_of("--phase", self.phase, ("prefill", "decode"))
        # Commands that capture nothing call this option otherwise.
        _one_of("compute dtype", self.compute_dtype, ("auto", "float32", "bfloat16", "float16"))
        if self.device_map is not None and self.device not in ("auto", "cuda"):
            raise AccelSimError(f"--device {self.device}: --device-map places the model; leave --device out")
        if self.device_map is not None and self.device_map not in DEVICE_MAPS and not self.device_map.endswith(".json"):
            expected = ", ".join(DEVICE_MAPS)
            raise AccelSimError(f"--device-map {self.device_map}: expected one of {expected}, or a .json file")
        if not 0 < self.buffer_gib < math.inf:
            raise AccelSimError(f"--buffer-gib {self.buffer_gib:g}: expected a number above 0")
        if self.phase == "decode" and self.new_tokens is None:
            raise AccelSimError("--phase decode needs --new-tokens, the number of decode steps")
        if self.phase == "prefill" and self.new_tokens is not None:
            raise AccelSimError("--new-tokens belongs to --phase decode; prefill generates nothing")
        if self.resume and self.force:
            raise AccelSimError("--resume and --force exclude each other: go on, or start again")
        for name in ("layers", "weight_layers"):
            text = getattr(self, name)
            if text is not None:
                check_layers(text, f"--{name.replace('_', '-')}")

    @property
    def buffer_bytes(self) -> int:
        """`buffer_gib` in bytes."""
        return int(self.buffer_gib * 2**30)

    @property
    def model_name(self) -> str:
        """What a trace calls the model: its id, or the name of the folder or file."""
        if self.model is None:
            from accel_sim.capture.default_model import DEFAULT_ID

            return DEFAULT_ID
        path = Path(self.model).expanduser()
        return path.resolve().name if path.is_dir() else path.name if path.is_file() else self.model


def require_libraries() -> None:
    """Raise AccelSimError unless the libraries that run a language model are installed."""
    missing = [name for name in _NEEDED if not _importable(name)]
    if missing:
        raise AccelSimError(
            f"running a language model needs {', '.join(missing)}, not installed here: pip install 'accel_sim[llm]'"
        )


def _importable(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # a module set to None in sys.modules
        return False


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise AccelSimError(f"{name} {value}: expected one of {', '.join(allowed)}")
