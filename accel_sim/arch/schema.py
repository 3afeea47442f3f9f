"""The architecture description: one sparse tensor unit with its memories, as validated, frozen data.

Attribute docstrings are the documentation: `accel-sim schema` prints them as JSON Schema for editors.
Units stand in the key names; a key that is not listed here is an error that names its path and what is accepted.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from accel_sim.errors import AccelSimError
from accel_sim.pattern import Encoding, Pattern


def _pattern(value: Any) -> Pattern:
    return value if isinstance(value, Pattern) else Pattern(value)


PatternField = Annotated[
    Pattern,
    BeforeValidator(_pattern),
    PlainSerializer(str),
    WithJsonSchema({"type": "string", "pattern": r"^\d+:\d+$", "examples": ["2:4", "8:16"]}),
]
# Upper bounds lie far beyond any machine; they keep every product of them within the engines' 64-bit integers.
Count = Annotated[int, Field(ge=1, le=2**20)]
Bytes = Annotated[int, Field(ge=1, le=2**40)]


class Section(BaseModel):
    """What every part of the description shares: frozen, and strict about unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, arbitrary_types_allowed=True)


class Technology(Section):
    """What the unit is built from, and how the tables of unit costs are read."""

    library: Literal["nangate45"] = "nangate45"
    """Cell library whose synthesised unit table the cost model reads."""
    node_nm: Literal[45, 32, 20, 16, 14, 10, 7] = 45
    """Node that area and energy are reported at; other than 45 they are scaled by the rule the report names."""
    supply_v: Annotated[float, Field(gt=0.3, le=1.5)] | None = None
    """Supply voltage of the energy scaling; null takes the node's nominal voltage."""
    clock_target_hz: Annotated[float, Field(ge=1e3, le=1e12)] = 500e6
    """The clock is the lower of this and 1 / critical path."""
    utilisation: Annotated[float, Field(ge=0.01, le=1)] = 0.7
    """Placed cell area over block area: standard cells are divided by it, SRAM macros are not."""
    energy_scale: Literal["raw", "anchored"] = "anchored"
    """`raw`: the netlists' toggle energies. `anchored`: those times one factor onto published 45 nm energies."""
    wires: bool = True
    """Whether the first-order wire energy and track area are charged."""


class Array(Section):
    """rows × cols processing elements; rows work on tokens, columns on outputs."""

    rows: Count = 32
    """Processing elements along the token dimension."""
    cols: Count = 32
    """Processing elements along the output dimension."""
    lanes: Count = 16
    """INT8×INT8 multipliers in one processing element."""
    dataflow: Literal["output_stationary"] = "output_stationary"
    """Accumulators stay in the processing elements, the reduction dimension runs innermost."""
    interconnect: Literal["broadcast", "systolic"] = "broadcast"
    """`broadcast`: one operand register set a row (kept activations, metadata) and one a column (weights), without
    skew. `systolic`: operands and select lines move from element to element through registers in each (charged), so the
    last element works rows + cols − 2 cycles behind the first."""
    fold_overlap: bool = True
    """Whether an array tile may enter while the one before it is still on its way through; false leaves the skew
    (broadcast: the pipeline depth) between any two tiles."""
    drain: Literal["overlapped", "serial", "none"] = "overlapped"
    """`overlapped`: a second accumulator register (charged) empties behind the next tile. `serial`: the array waits.
    `none`: emptying takes no time, as some simulators count; only for comparing with them."""
    requantisers: Count = 64
    """INT32 → INT8 units behind the array; each takes one accumulator a cycle."""


class Selector(Section):
    """The circuit that picks the N of M at run time."""

    kind: Literal["rank", "sort", "cascade", "radix"] = "rank"
    """All-pairs rank, odd-even merge sort, N cascaded maximum trees, or most-significant-bit-first radix."""
    placement: Literal["load", "write_back"] = "load"
    """`load`: dense activations come from DRAM and are selected on their way into SRAM, again at every fetch.
    `write_back`: the unit that produces a site selects once and DRAM holds the compressed form; that unit's own time
    is outside the linear projections, so no selection time is counted here."""
    units: Count | None = None
    """Selectors, each taking one group of the running pattern a cycle; null builds enough for full rate:
    groups_per_cycle·rows at `load`, ceil(groups_per_cycle·rows·cols / sized_for_outputs) at `write_back`."""
    sized_for_outputs: Count = 512
    """Outputs that share one selected site, for the automatic number of units at `write_back`."""
    channel_factors: bool = False
    """Score |q|·f with an UINT8 factor per feature (16-bit scores; a multiplier per element is charged)."""


class Sparsity(Section):
    """Run-time N:M sparsity of the activations. No patterns: the dense machine."""

    patterns: tuple[PatternField, ...] = ()
    """Patterns the unit can run; several make a flexible unit, which pays for its largest network."""
    skipping: Literal["fixed"] = "fixed"
    """`fixed`: every group takes its N slots, whatever they hold."""
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
        if len({pattern.density for pattern in self.patterns}) > 1:
            listed = ", ".join(map(str, self.patterns))
            raise AccelSimError(f"patterns {listed}: a flexible unit serves patterns of one density N/M")
        if len(set(self.patterns)) < len(self.patterns):
            raise AccelSimError(f"patterns {', '.join(map(str, self.patterns))}: each may be listed once")
        return self


class Sram(Section):
    """On-chip buffers. Ports left null are sized to the array's demand; their width is charged for."""

    activation_bytes: Bytes = 512 * 1024
    """Kept activations with their metadata."""
    weight_bytes: Bytes = 1024 * 1024
    """Dense weights."""
    output_bytes: Bytes = 256 * 1024
    """Requantised outputs on their way to DRAM."""
    bank_bytes: Literal[65536, 131072, 262144, 524288, 1048576] = 65536
    """Size of one bank."""
    kind: Literal["hp", "lstp"] = "hp"
    """High-performance or low-standby-power cells."""
    weight_port_bytes_per_cycle: Bytes | None = None
    """Weights read a cycle for all columns together; null: cols × groups_per_cycle × M (dense: cols × lanes)."""
    activation_port_bytes_per_cycle: Bytes | None = None
    """Kept activations and metadata read a cycle for all rows together; null: what the rows consume."""


class Dram(Section):
    """Off-chip memory: one server, loads and stores in a fixed order."""

    kind: Literal["hbm2", "hbm3", "hbm4", "lpddr4", "lpddr", "ddr3"] = "hbm2"
    """Names the energy per bit in the table of memories."""
    bytes_per_cycle: Annotated[float, Field(ge=0.001, le=1e9)] = 256
    """Bandwidth, in bytes per cycle of the array's clock."""
    latency_cycles: Annotated[int, Field(ge=0, le=10**6)] = 50
    """From the end of a transfer at the memory to its data being usable on chip (50 cycles = 100 ns at 500 MHz)."""


class Arch(Section):
    """One sparse tensor unit, its memories and its technology."""

    name: Annotated[str, Field(min_length=1, pattern=r"^[\w.+-]+$")]
    """Short name that stands in tables and plots."""
    description: str = ""
    """One sentence for people."""
    array: Array = Array()
    sparsity: Sparsity = Sparsity()
    zero_gating: Literal["none", "operand"] = "none"
    """`operand`: a lane whose activation is zero holds its operands still. It saves energy, not time."""
    sram: Sram = Sram()
    dram: Dram = Dram()
    technology: Technology = Technology()

    @property
    def is_flexible(self) -> bool:
        """True when the pattern is a choice at run time."""
        return len(self.sparsity.patterns) > 1

    def dense(self) -> Arch:
        """The dense machine this one is compared with: same multipliers, memories, technology and zero gating.

        A weight or activation port that was set by hand stays; one left automatic shrinks to the dense demand.
        """
        return self.model_copy(update={"name": f"{self.name}-dense", "sparsity": Sparsity()})

    def pattern(self, chosen: Pattern | None = None) -> Pattern | None:
        """The pattern a run uses: `chosen` if the unit has it, else the one with the largest groups; None when dense.

        Raises AccelSimError when `chosen` is not among the unit's patterns.
        """
        if chosen is not None and chosen not in self.sparsity.patterns:
            listed = ", ".join(map(str, self.sparsity.patterns)) or "none (it is a dense machine)"
            raise AccelSimError(f"arch {self.name}: pattern {chosen} is not built in; sparsity.patterns: {listed}")
        if chosen is None and self.sparsity.patterns:
            chosen = max(self.sparsity.patterns, key=lambda pattern: pattern.m)
        return None if chosen is None or chosen.keeps_all else chosen
