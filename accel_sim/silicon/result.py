"""What was measured on a card, as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from accel_sim.errors import AccelSimError
from accel_sim.files import replacing
from accel_sim.silicon.shapes import Shape

Dtype = Literal["int8", "fp16"]
Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class Row(_Part):
    """One shape in one number format; seconds are medians over repetitions with a cold L2, None where refused."""

    dtype: Dtype
    tokens: Count
    features: Count
    outputs: Count
    dense_tokens: Count
    """Tokens that the dense product ran with: `tokens`, padded with zero rows to what the library takes."""
    sparse_tokens: Count
    """The same of the sparse product."""
    dense_s: Seconds | None = None
    """torch._int_mm, or matmul."""
    sparse_s: Seconds | None = None
    """The product alone, X packed beforehand."""
    select_pack_s: Seconds | None = None
    """Selecting 2 of 4 of X and packing what is kept."""
    on_the_fly_s: Seconds | None = None
    """Selecting, packing and multiplying, timed together."""
    exact: bool | None = None
    """INT8: whether every INT32 sum of the sparse product equals the functional mode's; None where not checked."""
    refused: dict[str, str] = {}
    """What could not be measured → what the library said."""

    @property
    def shape(self) -> Shape:
        return Shape(self.tokens, self.features, self.outputs)


class Machine(_Part):
    """The card and what drove it."""

    device: str
    multiprocessors: Count
    l2_bytes: Count
    driver: str
    torch: str
    cuda: str
    sparse_library: str
    """Library behind the sparse products, and its version."""
    selection: str
    """How 2 of 4 were selected on the card."""
    clocks: tuple[str, ...]
    """What nvidia-smi said of SM and memory clocks before, between and after; empty where there is none."""


class Measurements(_Part):
    """Everything of one run."""

    command: str
    machine: Machine
    repetitions: Count
    rows: Annotated[tuple[Row, ...], Field(min_length=1)]

    def write(self, path: Path) -> None:
        """As JSON, whole or not at all."""
        with replacing(path) as stream:
            stream.write(self.model_dump_json(indent=1) + "\n")


def read_measurements(path: Path) -> Measurements:
    """Raises AccelSimError naming the file and the field's path for a file that is missing or damaged."""
    try:
        return Measurements.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise AccelSimError(f"measurements {path}: no such file; `accel-sim silicon measure` writes it") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise AccelSimError(f"measurements {path}: {where}: {first['msg']}") from None
