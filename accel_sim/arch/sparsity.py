"""Which zeros the unit makes or finds, how it skips them, and the circuits that takes."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, field_validator, model_validator

from accel_sim.arch.section import Count, Section
from accel_sim.errors import AccelSimError
from accel_sim.pattern import Encoding, HierarchicalPattern, Pattern, parse_pattern


def _pattern(value: Any) -> Pattern:
    return value if isinstance(value, Pattern) else parse_pattern(value)


PatternField = Annotated[
    Pattern,
    BeforeValidator(_pattern),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "examples": ["2:4", "8:16", "1:2 of 4:8"]}),
]


class Selector(Section):
    """The circuit that picks the N of M at run time."""

    kind: Literal["rank", "sort", "cascade", "radix"] = "rank"
    """All-pairs rank, odd-even merge sort, N cascaded maximum trees, or most-significant-bit-first radix."""
    placement: Literal["load", "write_back", "software"] = "load"
    """`load`: dense activations come from DRAM and are selected on their way into SRAM, again at every fetch.
    `write_back`: the unit that produces a site selects once and DRAM holds the compressed form; that unit's own time
    is outside the linear projections, so with `scope: linear` no selection time is counted here. `software`: no
    circuit; a kernel reads the dense activations from DRAM and writes them back compressed before the product starts,
    once a site, as on today's GPUs."""
    units: Count | None = None
    """Selectors, each taking one group of the running pattern a cycle; null builds enough for full rate:
    groups_per_cycle·rows at `load`, ceil(groups_per_cycle·rows·cols / sized_for_outputs) at `write_back`, none for
    `software`."""
    sized_for_outputs: Count = 512
    """Outputs that share one selected site, for the automatic number of units at `write_back`."""
    channel_factors: bool = False
    """Score |q|·f with an UINT8 factor per feature (16-bit scores; a multiplier per element is charged)."""
    software_launch_cycles: Annotated[int, Field(ge=0, le=10**9)] = 2500
    """What starting the kernel of `software` takes (2500 cycles = 5 µs at 500 MHz, a typical launch; assumed)."""


SKIPS_ZEROS = ("elastic", "unstructured")
"""Skipping whose time depends on how many of the kept values are not zero."""
GATHERS = ("row_gather", "output_gather", "gather")
"""Skipping that leaves weights in DRAM."""


class Sparsity(Section):
    """N:M sparsity of one operand, and what the array skips. No patterns: nothing is pruned."""

    patterns: tuple[PatternField, ...] = ()
    """Patterns the unit can run; several make a flexible unit, which pays for its largest network."""
    operand: Literal["activations", "weights"] = "activations"
    """`activations`: pruned at run time, a mask for every token. `weights`: one static mask for all tokens, made before
    the run; weights are stored as N of M with metadata, and the multiplexers stand in front of the activations."""
    skipping: Literal["fixed", "elastic", "unstructured", "hierarchical", "row_gather", "output_gather", "gather"] = (
        "fixed"
    )
    """`fixed`: every group takes its N slots, whatever they hold. `elastic`: lanes form slices that work on a group
    each, and a group takes max(1, ceil(z / elastic_lanes)) cycles, z its kept non-zeros (the time-unrolled blocks of
    S2TA, HPCA 2022). `unstructured`: a row takes max(1, ceil(non-zeros / lanes)) cycles for a window of groups.
    `hierarchical`: patterns of two levels such as `1:2 of 4:8` (HighLight, MICRO 2023), every kept slot taken.
    `row_gather`: weight rows (one feature each, stored feature-major) that no token of the batch needs are neither
    fetched nor computed. `output_gather`: columns that no token needs, where the layer that reads them says so.
    `gather`: both."""
    elastic_lanes: Count = 1
    """Lanes in one slice of an `elastic` processing element."""
    sync_window: Count = 32
    """Groups after which rows (and the slices of `elastic`) wait for each other; a column buffers this many groups of
    weights, which is charged, and `unstructured` takes its non-zeros from them in any order."""
    weight_groups_per_cycle: Count | None = None
    """`elastic` and `unstructured`: groups a cycle whose weights the weight port delivers to a column; null: as many as
    the processing element can finish in a cycle when every group is empty."""
    window_banks: Count | None = None
    """`unstructured`: banks that the multiplexers over the window are built of, each giving one weight a cycle to a
    row; non-zeros of one bank wait for each other. null: any `lanes` positions at once."""
    operand_mux: Literal["restricted", "onehot", "full"] = "onehot"
    """The multiplexer in front of each lane's weight input: a tree over the window of M−N+1, an AND-OR over the same
    window with select lines from one decoder a row, or a tree over all M."""
    operand_mux_register: bool = False
    """A register between multiplexer and multiplier: area and one cycle of latency instead of a longer stage."""
    metadata: Encoding = "bitmap"
    """How the kept positions are encoded in SRAM (and, at `write_back`, in DRAM)."""
    selector: Selector = Selector()

    @field_validator("patterns", mode="before")
    @classmethod
    def _one_pattern_needs_no_list(cls, value: Any) -> Any:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _flexible_units_share_one_density(self) -> Sparsity:
        if self.skipping not in SKIPS_ZEROS and len({pattern.density for pattern in self.patterns}) > 1:
            listed = ", ".join(map(str, self.patterns))
            raise AccelSimError(f"patterns {listed}: a flexible unit serves patterns of one density N/M")
        if len(set(self.patterns)) < len(self.patterns):
            raise AccelSimError(f"patterns {', '.join(map(str, self.patterns))}: each may be listed once")
        return self

    @model_validator(mode="after")
    def _skipping_has_what_it_needs(self) -> Sparsity:
        levels = {isinstance(pattern, HierarchicalPattern) for pattern in self.patterns}
        if self.patterns and levels != {self.skipping == "hierarchical"}:
            raise AccelSimError("skipping hierarchical and patterns of two levels (1:2 of 4:8) need each other")
        if self.skipping in SKIPS_ZEROS and not self.patterns:
            raise AccelSimError(f"skipping {self.skipping}: name its groups in patterns; 16:16 prunes nothing")
        if self.skipping in SKIPS_ZEROS and len({pattern.m for pattern in self.patterns}) > 1:
            raise AccelSimError(f"skipping {self.skipping}: all patterns need groups of one size M")
        if self.skipping == "elastic" and self.operand_mux != "full":
            raise AccelSimError(
                "skipping elastic: needs operand_mux full, as a value may come from anywhere in a group"
            )
        if self.operand == "weights" and self.skipping not in ("fixed", "hierarchical"):
            raise AccelSimError(f"skipping {self.skipping}: expected fixed or hierarchical for static weights")
        return self
