"""What `trace.json` holds. A trace is a folder: this manifest, `activations/` and, if asked for, `weights/`.

docs/traces.md describes every field for readers who do not use this package.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from accel_sim.errors import AccelSimError

SCHEMA_VERSION = 1
MANIFEST_NAME = "trace.json"
UNFINISHED_NAME = "unfinished.json"
"""The state of a capture that has not finished; a folder that holds it and no manifest is not a trace."""

StoredType = Literal["int8", "float16", "bfloat16", "float32"]
STORED_TYPES: tuple[StoredType, ...] = ("int8", "float16", "bfloat16", "float32")
TENSOR_TYPES: dict[StoredType, str] = {"int8": "I8", "float16": "F16", "bfloat16": "BF16", "float32": "F32"}
"""What safetensors calls them."""
Phase = Literal["prefill", "decode"]

Size = Annotated[int, Field(gt=0, lt=2**31)]
"""A dimension of a matrix."""
Count = Annotated[int, Field(ge=0)]
_FILE_NAME = re.compile(r"(activations|weights)/[^/\\\x00-\x1f\ud800-\udfff]+\.safetensors")


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class Projection(_Entry):
    """One linear projection: outputs = activations · W (+ bias)."""

    name: str
    """Module path in the model; a stacked expert has its index in it (`model.layers.0.mlp.experts.5.down_proj`)."""
    features: Size
    """K, the reduction dimension."""
    outputs: Size
    """F."""
    has_bias: bool = False
    """The model adds a bias after this product."""
    has_weight: bool = False
    """The trace holds the INT8 weight, its scales and the bias."""
    parameter: str | None = None
    """Name of the model's parameter the weight is (a part of)."""
    parameter_layout: Literal["outputs_features", "features_outputs"] | None = None
    """How the model stores it: [F, K] as in `nn.Linear`, or [K, F] as in GPT-2's `Conv1D`."""
    bias: str | None = None
    """Name of the model's bias parameter."""
    weight_file: str | None = None
    """Path of the safetensors file with `<name>.codes`, `<name>.scales` and, with a bias, `<name>.bias`."""


class Site(_Entry):
    """One captured activation matrix: what one linear projection reads, or several that are fed by the same tensor."""

    name: str = Field(pattern=r"^[^\x00-\x1f]+$")
    """Unique in the trace."""
    layer: Count | None = None
    """Index of the decoder block; null for the LM head."""
    features: Size
    """K."""
    tokens: int = Field(ge=0, lt=2**31)
    """T, the rows. An expert has those of the tokens that were routed to it."""
    dtype: StoredType = "int8"
    """How the activations are stored."""
    expert: Count | None = None
    """Index of the expert in its block, for stacked experts."""
    projections: tuple[Projection, ...]
    """All of them read this matrix."""
    file: str | None = None
    """Path of the safetensors file, relative to the trace's folder."""

    @model_validator(mode="after")
    def _all_read_this_matrix(self) -> Site:
        for each in self.projections:
            if each.features != self.features:
                raise ValueError(f"{each.name} reads {each.features} features, the site has {self.features}")
        return self


class ModelInfo(_Entry):
    """Which model the activations come from."""

    id: str
    """The transformers id, or the name of the folder or GGUF file."""
    architecture: str
    """Class in transformers, such as LlamaForCausalLM."""
    dtype: str
    """Floating-point type the forward pass was computed in."""
    device: str
    """Device type it was computed on."""
    parameters: int
    """Number of parameters, tied ones counted once."""
    file_sha256: str | None = None
    """Of the GGUF file, when the model was one."""
    config: dict[str, Any]
    """The model's configuration as transformers gives it."""


class TokenizerInfo(_Entry):
    """What cut the text into tokens."""

    name: str
    """Class in transformers."""
    vocabulary: int
    """Number of tokens it knows."""


class TextCut(_Entry):
    """The stretch of text that became one sequence."""

    source: str
    """File name, or the name of the standard-library text."""
    start: int
    """First character in the source."""
    characters: int
    """Length of the cut."""
    sha256: str
    """Of the cut, in UTF-8."""
    tokens: int
    """What it became, special tokens included."""


class Coverage(_Entry):
    """Multiply-accumulates of the linear projections that were captured, of those the chosen layers compute."""

    expected_macs: Count
    """Counted from the model's parameters and configuration."""
    captured_macs: Count
    """Counted from the products that were seen."""
    missing: tuple[str, ...] = ()
    """Parameters whose products were not, or not all, seen."""

    @property
    def fraction(self) -> float:
        """Captured over expected; 1.0 is complete."""
        return self.captured_macs / self.expected_macs if self.expected_macs else 1.0


class StoredFile(_Entry):
    """One file of the trace."""

    bytes: Count
    """Its size."""
    sha256: str
    """Its checksum."""


class Manifest(_Entry):
    """Everything in `trace.json`."""

    schema_version: Literal[1] = SCHEMA_VERSION
    """Changes when a reader of the old one would misread the new one."""
    model: ModelInfo
    tokenizer: TokenizerInfo
    text: tuple[TextCut, ...]
    """One entry a sequence."""
    token_ids_sha256: str
    """Of the prompts' token ids, int32 little-endian, one sequence after the other."""
    phase: Phase
    """prefill: rows are the prompt's tokens. decode: rows are generated tokens, one a step, with the KV cache."""
    tokens_per_sequence: Count
    """Length of each prompt."""
    sequences: Count
    new_tokens: Count | None = None
    """Decode steps a sequence; null in prefill."""
    dtype: StoredType
    """How the activations are stored."""
    layers: tuple[Count, ...]
    """The decoder blocks that were captured."""
    layers_in_model: Count
    """Number of decoder blocks of the model."""
    site_filter: tuple[str, ...] = ()
    """The words that chose projections (`--sites`); none means that all were captured."""
    coverage: Coverage
    sites: tuple[Site, ...]
    """In execution order."""
    files: dict[str, StoredFile]
    """Every other file of the trace, by its path relative to the folder."""
    versions: dict[str, str]
    """Of Python and the libraries that made it."""
    command: tuple[str, ...]
    """The command line that made it."""

    @model_validator(mode="after")
    def _names_and_files_agree(self) -> Manifest:
        names = [site.name for site in self.sites]
        if not names or len(set(names)) < len(names):
            raise ValueError("sites must be there and have different names")
        for name in self.files:
            if not _FILE_NAME.fullmatch(name):
                raise ValueError(f"files: {name!r}: expected activations/NAME.safetensors or weights/NAME.safetensors")
        if len({site.file for site in self.sites}) < len(self.sites):
            raise ValueError("each site must have a file of its own")
        for site in self.sites:
            if not site.projections:
                raise ValueError(f"site {site.name}: has no projections")
            for file in (site.file, *(each.weight_file for each in site.projections if each.has_weight)):
                if file not in self.files:
                    raise ValueError(f"site {site.name}: {file!r} is not among files")
        return self


def read_manifest(folder: Path) -> Manifest:
    """Read and validate `folder/trace.json`.

    Raises AccelSimError when there is none, when the capture has not finished, or naming the first wrong field.
    """
    path = folder / MANIFEST_NAME
    if not path.is_file():
        if (folder / UNFINISHED_NAME).is_file():
            raise AccelSimError(f"{folder}: an unfinished capture, not a trace; go on with `capture --resume`")
        what = f"no {MANIFEST_NAME} in it" if folder.is_dir() else "no such folder"
        raise AccelSimError(f"{folder}: not a trace ({what})")
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise AccelSimError(f"{path}: cannot be read as JSON: {error}") from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise AccelSimError(f"{path}: schema_version is {version!r}; this version reads {SCHEMA_VERSION}")
    try:
        return Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise AccelSimError(f"{path}: {where + ': ' if where else ''}{first['msg']}") from None
