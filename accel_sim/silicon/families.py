"""Kinds of kernel, each with parameters of its own: what was measured of each, and what the model says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from accel_sim.arch import Arch
from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern
from accel_sim.silicon.model import OUTPUT_BYTES, Parameters, predicted, seconds, selection_seconds
from accel_sim.silicon.result import Dtype, Row
from accel_sim.silicon.shapes import Shape
from accel_sim.timing import LayerTiming

Work = Literal["dense", "sparse", "select"]


@dataclass(frozen=True)
class Family:
    """One kernel library's work in one number format."""

    dtype: Dtype
    work: Work
    stored_bytes: int | None = None
    """Of a stored result, where a library leaves another format than torch's."""

    @property
    def output_bytes(self) -> int:
        return self.stored_bytes or OUTPUT_BYTES[self.dtype]

    def __str__(self) -> str:
        return f"{self.dtype} {self.work}"

    @property
    def searched(self) -> tuple[str, ...]:
        """Parameters that its times can tell apart; the others stay ideal."""
        if self.work == "select":
            return "launch_s", "memory_share"
        return "launch_s", "tensor_share", "memory_share", "latency_s"

    def measured(self, row: Row) -> float | None:
        """Seconds; None where nothing was measured."""
        return {"dense": row.dense_s, "sparse": row.sparse_s, "select": row.select_pack_s}[self.work]

    def ran(self, row: Row) -> Shape:
        """The shape as the library ran it, padding included."""
        tokens = row.dense_tokens if self.work == "dense" else row.sparse_tokens
        return Shape(tokens, row.features, row.outputs)


FAMILIES = tuple(Family(dtype, work) for dtype in ("int8", "fp16") for work in ("dense", "sparse", "select"))


@dataclass(frozen=True)
class Predictor:
    """The model of one family on one chip; the tile of a shape is chosen once, with the first parameters asked for."""

    arch: Arch
    family: Family
    pattern: Pattern
    tiles: dict[Shape, int]
    warm: bool = False
    """Whether the L2 still holds what fits it from the same product, run just before."""

    @classmethod
    def of(cls, arch: Arch, family: Family, pattern: Pattern | None = None, warm: bool = False) -> Predictor:
        """`pattern` None: the chip's own. Raises AccelSimError for a chip without one."""
        pattern = pattern or arch.pattern()
        if pattern is None or arch.sparsity.selector.placement != "software":
            raise AccelSimError(
                f"arch {arch.name}: expected sparsity.patterns and sparsity.selector.placement software (see h200.yaml)"
            )
        return cls(arch, family, pattern, {}, warm)

    def seconds(self, shape: Shape, parameters: Parameters) -> float:
        if self.family.work == "select":
            return selection_seconds(self.arch, shape, self.family.dtype, self.pattern, parameters)
        timing = self._timing(shape, parameters)
        self.tiles.setdefault(shape, timing.plan.tiling.panel_tokens)
        return seconds(self.arch, timing, parameters)

    def breakdown(self, shape: Shape, parameters: Parameters) -> dict[str, float]:
        """Cause → share of the predicted time; empty for a selection."""
        if self.family.work == "select":
            return {}
        timing = self._timing(shape, parameters)
        return {cause: cycles / timing.cycles for cause, cycles in timing.breakdown.items() if cycles}

    def _timing(self, shape: Shape, parameters: Parameters) -> LayerTiming:
        family = self.family
        pattern = self.pattern if family.work == "sparse" else None
        tile = self.tiles.get(shape)
        return predicted(self.arch, shape, family.dtype, pattern, parameters, tile, family.output_bytes, self.warm)
