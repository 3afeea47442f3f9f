"""The architecture description: one sparse tensor unit with its memories, as validated, frozen data.

Attribute docstrings are the documentation: `accel-sim schema` prints them as JSON Schema for editors.
Units stand in the key names; a key that is not listed here is an error that names its path and what is accepted.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from accel_sim.arch.array import Array, Cores, Mapping
from accel_sim.arch.memory import Dram, Sram
from accel_sim.arch.predictor import Predictor
from accel_sim.arch.section import Section
from accel_sim.arch.sparsity import SKIPS_ZEROS, Selector, Sparsity
from accel_sim.arch.technology import Technology
from accel_sim.arch.vector import Vector
from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern

__all__ = [
    "Arch",
    "Array",
    "Cores",
    "Dram",
    "Mapping",
    "Predictor",
    "Section",
    "Selector",
    "Sparsity",
    "Sram",
    "Technology",
    "Vector",
]


class Arch(Section):
    """One sparse tensor unit, its memories and its technology."""

    name: Annotated[str, Field(min_length=1, pattern=r"^[\w.+-]+$")]
    """Short name that stands in tables and plots."""
    description: str = ""
    """One sentence for people."""
    array: Array = Array()
    cores: Cores = Cores()
    mapping: Mapping = Mapping()
    sparsity: Sparsity = Sparsity()
    predictor: Predictor = Predictor()
    zero_gating: Literal["none", "operand"] = "none"
    """`operand`: a lane whose activation is zero holds its operands still. It saves energy, not time."""
    sram: Sram = Sram()
    dram: Dram = Dram()
    vector: Vector = Vector()
    technology: Technology = Technology()

    @property
    def is_flexible(self) -> bool:
        """True when the pattern is a choice at run time."""
        return len(self.sparsity.patterns) > 1

    def dense(self) -> Arch:
        """The dense machine this one is compared with: same multipliers, cores, memories, technology and zero gating.

        A weight or activation port that was set by hand stays; one left automatic shrinks to the dense demand. A
        `mapping` was made for this machine, so its counterpart chooses its own tilings.
        """
        name = f"{self.name}-dense"
        plain = {"sparsity": Sparsity(), "predictor": Predictor(), "mapping": self.free_mapping}
        return self.model_copy(update={"name": name, **plain})

    @property
    def free_mapping(self) -> Mapping:
        """What a search that is held to nothing has: chunks of both operands stay where `held` is `neither`, since that
        is a kind of machine."""
        if self.mapping.held == "neither":
            return Mapping(held="neither", chunk_features=self.mapping.chunk_features)
        return Mapping()

    def pattern(self, chosen: Pattern | None = None) -> Pattern | None:
        """The pattern a run uses: `chosen` if the unit has it, else the one with the largest groups; None when dense.

        Raises AccelSimError when `chosen` is not among the unit's patterns.
        """
        if chosen is not None and chosen not in self.sparsity.patterns:
            listed = ", ".join(map(str, self.sparsity.patterns)) or "none (it is a dense machine)"
            raise AccelSimError(f"arch {self.name}: pattern {chosen} is not built in; sparsity.patterns: {listed}")
        if chosen is None and self.sparsity.patterns:
            chosen = max(self.sparsity.patterns, key=lambda pattern: pattern.m)
        if chosen is not None and chosen.keeps_all and self.sparsity.skipping not in SKIPS_ZEROS:
            return None
        return chosen

    @model_validator(mode="after")
    def _parts_go_together(self) -> Arch:
        skipping = self.sparsity.skipping
        if skipping in SKIPS_ZEROS and self.array.dataflow != "output_stationary":
            raise AccelSimError(f"sparsity.skipping {skipping}: needs array.dataflow output_stationary")
        if self.predictor.is_built and skipping != "gather":
            raise AccelSimError(
                f"predictor.kind {self.predictor.kind}: needs sparsity.skipping gather, not {skipping}: what is not"
                " predicted has to be left in DRAM"
            )
        if self.mapping.panel_tokens is not None and self.array.dataflow != "weight_stationary":
            raise AccelSimError("mapping.panel_tokens: needs array.dataflow weight_stationary; else it is array.rows")
        if self.mapping.chunk_features is not None and self.mapping.held != "neither":
            raise AccelSimError("mapping.chunk_features: needs mapping.held neither; else blocks decide")
        if self.cores.split == "tiles" and self.mapping.held != "neither":
            raise AccelSimError(
                "cores.split tiles: needs mapping.held neither: a tile is done before the next is dealt"
            )
        if skipping == "elastic" and self.array.lanes % self.sparsity.elastic_lanes:
            raise AccelSimError(
                f"sparsity.elastic_lanes {self.sparsity.elastic_lanes}: must divide array.lanes, {self.array.lanes}"
            )
        return self
