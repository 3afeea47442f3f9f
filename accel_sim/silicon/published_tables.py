"""Tables of product times that others published: what they are, where they stand, and what they do not say."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from accel_sim.errors import AccelSimError
from accel_sim.silicon.families import Work
from accel_sim.silicon.result import Dtype
from accel_sim.silicon.shapes import Shape
from accel_sim.yaml_file import find_yaml, read_yaml, shipped_yaml

FOLDER = Path(__file__).parent / "data"
Count = Annotated[int, Field(ge=1)]
Microseconds = Annotated[float, Field(gt=0)]
Text = Annotated[str, Field(min_length=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


class Source(_Part):
    """Where the figures were read."""

    work: Text
    """Paper or thread."""
    address: Text
    commit: str | None = None
    """Of the repository, where the figures are files."""
    files: tuple[Text, ...] = ()
    taken: Text
    """Which of its figures stand here."""


class Product(_Part):
    """One projection with several numbers of tokens; the lists are aligned."""

    outputs: Count
    features: Count
    tokens: Annotated[tuple[Count, ...], Field(min_length=1)]
    dense_us: tuple[Microseconds, ...]
    sparse_us: tuple[Microseconds, ...]

    @model_validator(mode="after")
    def _aligned(self) -> Product:
        for name in ("dense_us", "sparse_us"):
            if len(getattr(self, name)) != len(self.tokens):
                raise ValueError(f"{name}: {len(getattr(self, name))} times for {len(self.tokens)} numbers of tokens")
        return self


class OfEach(_Part):
    """One thing of the dense and one of the sparse product."""

    dense: Text
    sparse: Text


class OutputBytes(_Part):
    """Bytes of a stored output of the dense and of the sparse product."""

    dense: Count
    sparse: Count


@dataclass(frozen=True)
class Published:
    """One shape of a table."""

    shape: Shape
    """X [tokens, features] times W [features, outputs]."""
    seconds: dict[Work, float]
    """Of the dense and the sparse product."""


class Table(_Part):
    """Times of one card in one number format."""

    name: Text
    device: Text
    arch: Text
    """Shipped machine that describes the card."""
    dtype: Dtype
    """The model's format: `fp16` for every one of 16 bits."""
    formats: OfEach
    output_bytes: OutputBytes
    sparse_operand: Literal["activations", "weights"]
    libraries: OfEach
    source: Source
    timing: Text
    """How it was timed, as far as it is said."""
    warm_cache: bool
    """Whether the same product ran just before on the same buffers: what fits half of the L2 then comes from there."""
    unknown: tuple[Text, ...]
    """What is not said."""
    parameters_of: Text | None = None
    """Table whose fitted parameters predict this one, which is too small for a fit of its own."""
    products: Annotated[tuple[Product, ...], Field(min_length=1)]

    @property
    def rows(self) -> Iterator[Published]:
        """Every shape, in the order of the file."""
        for product in self.products:
            for tokens, dense, sparse in zip(product.tokens, product.dense_us, product.sparse_us, strict=True):
                shape = Shape(tokens, product.features, product.outputs)
                yield Published(shape, {"dense": dense * 1e-6, "sparse": sparse * 1e-6})

    def ran(self, shape: Shape, work: Work) -> Shape:
        """The product as the model has it, whose sparse operand is always the left one: W^T · X^T where that is W."""
        if work == "sparse" and self.sparse_operand == "weights":
            return Shape(shape.outputs, shape.features, shape.tokens)
        return shape


def read_table(name: str) -> Table:
    """A shipped table, or a file. Raises AccelSimError naming file and field for one that is not well-formed."""
    path = find_yaml(Path(name), FOLDER, "table")
    try:
        table = Table.model_validate(read_yaml(path, "table"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise AccelSimError(f"table {path}: {where}: {first['msg']}") from None
    shapes = [row.shape for row in table.rows]
    for shape in shapes:
        if shapes.count(shape) > 1:
            raise AccelSimError(f"table {path}: products: {shape} stands there twice")
    return table


def shipped_tables() -> list[str]:
    """Names, those whose parameters others use first."""
    names = shipped_yaml(FOLDER)
    return sorted(names, key=lambda name: (read_table(name).parameters_of is not None, name))
