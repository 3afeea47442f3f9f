"""What a decoder computes besides matrix products, counted in operations of one FP32 lane."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, PositiveInt
from ruamel.yaml import YAML

from accel_sim.errors import AccelSimError

_TABLE = Path(__file__).parent / "data" / "vector_operations.yaml"

VectorKind = Literal["norm", "rotary", "softmax", "activation", "router", "combine"]


@dataclass(frozen=True)
class VectorOperation:
    """Elementwise work and reductions over rows, on the vector unit.

    All quantities are of one repeat. Raises AccelSimError for sizes below their minimum, or rows that do not divide the
    elements.
    """

    name: str
    kind: VectorKind
    elements: int
    operations_per_element: int
    """Lane operations: one addition, multiplication, fused multiply-add, comparison or conversion each."""
    read_bytes: int
    written_bytes: int
    repeat: int = 1
    site: str | None = None
    """The site whose activations it produces, an INT8 code an element; None when it produces none (softmax, router)."""
    rows: int = 1
    """Rows that belong together (a token, or a query of one head): a reduction runs over each."""
    operations_per_row: int = 0
    """Lane operations that a row takes once, such as the reciprocal of its sum."""
    inputs_on_chip: bool = False
    """`read_bytes` are left on chip by the operation before: they do not come from DRAM."""
    outputs_on_chip: bool = False
    """`written_bytes` stay on chip for the operation after: they do not go to DRAM."""
    layer: int | None = None
    """Index of the decoder block; None behind the last one."""

    def __post_init__(self) -> None:
        for quantity, least in (("elements", 1), ("repeat", 1), ("rows", 1), ("read_bytes", 0), ("written_bytes", 0)):
            if getattr(self, quantity) < least:
                given = getattr(self, quantity)
                raise AccelSimError(f"operation {self.name}: {quantity} must be at least {least}, not {given}")
        if self.site is not None and self.written_bytes < self.elements:
            raise AccelSimError(f"operation {self.name}: written_bytes must hold the INT8 codes of site {self.site}")
        if self.elements % self.rows:
            raise AccelSimError(f"operation {self.name}: {self.elements} elements do not make {self.rows} equal rows")

    @property
    def lane_operations(self) -> int:
        """Lane operations of one repeat."""
        return self.elements * self.operations_per_element + self.rows * self.operations_per_row

    @property
    def dram_read_bytes(self) -> int:
        """What one repeat fetches from DRAM."""
        return 0 if self.inputs_on_chip else self.read_bytes

    @property
    def dram_written_bytes(self) -> int:
        """What one repeat stores to DRAM."""
        return 0 if self.outputs_on_chip else self.written_bytes


class _Function(BaseModel):
    """Steps of one function, each a number of lane operations or the name of another function."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    element: dict[str, int | str] = {}
    row: dict[str, int | str] = {}


class OperationTable(BaseModel):
    """The shipped table: bytes of the stored numbers, and the steps of every function."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    activation_bytes: PositiveInt
    """Of an activation between operations."""
    residual_bytes: PositiveInt
    """Of an element of the residual stream."""
    functions: dict[str, _Function]

    def count(self, functions: Iterable[str]) -> tuple[int, int]:
        """Lane operations (per element, per row) of functions that are applied one behind the other."""
        chosen = [self.functions[name] for name in functions]
        return (
            sum(self._steps(function.element) for function in chosen),
            sum(self._steps(function.row) for function in chosen),
        )

    def _steps(self, steps: dict[str, int | str]) -> int:
        return sum(
            step if isinstance(step, int) else self._steps(self.functions[step].element) for step in steps.values()
        )


@cache
def operation_table() -> OperationTable:
    """Lane operations of every function, with their derivation, from `data/vector_operations.yaml`."""
    return OperationTable.model_validate(YAML(typ="safe", pure=True).load(_TABLE.read_text(encoding="utf-8")))
