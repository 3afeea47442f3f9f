"""The result of one workload on one machine: everything a table, a plot or a script needs, in one JSON object."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """Frozen, and strict, so that the documented keys are the only ones."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class QualityLoss(Part):
    """How much of the product (or of the activations) selection throws away."""

    value: float
    """Relative squared error: 0 when nothing is pruned."""
    kind: Literal["output", "input"]
    """`output`: ‖XW − X̂W‖²/‖XW‖². `input`: ‖X − X̂‖²/‖X‖², where the workload holds no weights."""
    standard_error: float | None = None
    """Of `value`, where it comes from a sample of token rows; null when every row was counted."""


class OverheadBand(Part):
    """How far the overhead could be off."""

    low: float
    """Least overhead among `by_library`."""
    high: float
    by_library: dict[str, float]
    """The same machine's overhead with the synthesised tables of each library."""
    smaller_multipliers: float
    """If multipliers were as much smaller as commercial tools make them while multiplexers stay."""
    missing: dict[str, str]
    """Libraries that lack a circuit of this machine, and which."""
    effects: list[str]
    """What can only raise the overhead and that no figure here covers."""


class AreaResult(Part):
    """Block area at the architecture's node."""

    total_um2: float
    total_nand2: float
    """Total over the area of the smallest NAND2 gate of the library."""
    overhead: float
    """Fraction over the dense machine, SRAM included."""
    overhead_array: float
    """The same without SRAM."""
    band: OverheadBand
    """Of `overhead`."""
    components: dict[str, float]
    """µm² by component; they add up to `total_um2`."""


class KindResult(Part):
    """All operations of one kind."""

    cycles: int
    dense_cycles: int
    energy_pj: float
    dense_energy_pj: float
    macs: int
    """Multiply-accumulates of the dense products; 0 for what is no product."""


class OperationResult(Part):
    """One operation of the vector unit (`scope: model`)."""

    name: str
    kind: str
    elements: int
    repeat: int
    """Equal operations this entry stands for; cycles, bytes and energies are of all of them."""
    cycles: int
    dense_cycles: int
    breakdown: dict[str, int]
    """Cause → cycles; adds up to `cycles`."""
    bottleneck: str
    dram_bytes: int
    dense_dram_bytes: int
    energy_pj: float
    dense_energy_pj: float


class MethodResult(Part):
    """One criterion or mitigation of a recipe."""

    name: str
    kind: Literal["criterion", "mitigation"]
    projections: int
    """That need it."""
    area_um2: float
    """Circuits and tables; those that an earlier method of the recipe has are that one's."""
    energy_pj: float
    """Circuits, passes and tables, and the products that it adds."""
    cycles: int
    """What it adds to the projections' cycles: latency and passes that nothing hides, and the products that it adds."""
    rule: str
    """What it is built of, and what is folded away."""


class RecipeResult(Part):
    """The recipe that was run, and what it costs."""

    name: str
    description: str
    phase: Literal["prefill", "decode"]
    methods: list[MethodResult]
    """Empty where magnitudes are selected and nothing else is done. Areas add up to `method_circuits` and
    `method_tables`; cycles to those that the same patterns do not take by themselves."""
    differences: list[str]
    """Where the machine does something else than the recipe says."""
    unknown_quality: list[str]
    """What keeps `quality_loss` from being known."""


class LayerResult(Part):
    """One matrix product."""

    name: str
    kind: str
    """`linear`, `predictor`, and with `scope: model` also `attention` and `lm_head`."""
    site: str
    pattern: str
    """N:M, or `dense`."""
    tokens: int
    features: int
    outputs: int
    repeat: int
    """Equal products this entry stands for; cycles and energies are of all of them."""
    cycles: int
    dense_cycles: int
    speedup: float
    breakdown: dict[str, int]
    """Cause → cycles; adds up to `cycles`."""
    bottleneck: str
    multiplies: int
    """Multiplications that the machine did: without what it skips or gathers away."""
    utilisation: float
    """Multiplications over multipliers × cycles."""
    tiling: str
    """How the product was cut."""
    dense_tiling: str
    """Empty of what the dense machine does not run: a predictor's products, whose dense figures are 0."""
    dram_bytes: int
    dense_dram_bytes: int
    energy_pj: float
    dense_energy_pj: float
    zero_fraction: float
    """Activations that are zero after quantisation, before any selection."""
    quality_loss: QualityLoss | None
    """None where it was not asked for, of what is never pruned, and of pruned weights that the workload lacks."""


class Result(Part):
    """One workload on one machine, beside the dense machine with the same multipliers."""

    schema_version: Literal[2] = 2
    arch: str
    trace: str
    """Name of the trace, preset or products that were simulated."""
    source: str
    """What `trace` is: model, phase and tokens, or distribution, seed and sample."""
    scope: str
    """`linear`: the linear projections. `model`: everything the decoder computes."""
    scope_source: str
    """Of `scope: model`: where the model's shape comes from and how attention was cut."""
    pattern: str
    """N:M, `dense`, or `mixed` where a policy makes the projections differ."""
    policy: str | None
    recipe: RecipeResult | None
    """How projections are sparsified; None without a recipe."""
    coverage: float
    """Share of the linear projections' multiply-accumulates that run pruned."""
    masks: str
    """`real`, or the statistic that the non-zeros were drawn from."""
    engine: str
    cycles: int
    dense_cycles: int
    speedup: float
    """dense_cycles / cycles."""
    speedup_time: float
    """The same in seconds, each machine at its own clock."""
    speedup_iso_area: float
    """In seconds, against a dense array enlarged by fractional columns until the total areas are equal."""
    clock_hz: float
    dense_clock_hz: float
    critical_path_ns: float
    time_s: float
    dense_time_s: float
    area: AreaResult
    dense_area_um2: float
    energy_pj: dict[str, float]
    """`total`, and its components, which add up to it."""
    wires_band_pj: tuple[float, float]
    """The component `wires` at the lower and at the upper end of the published energies per bit and mm."""
    dense_energy_pj: float
    edp: float
    """Energy-delay product, in joule-seconds."""
    dense_edp: float
    performance_per_mm2: float
    """Dense-equivalent operations (2 per multiply-accumulate) per second and mm², in GOPS/mm²."""
    dense_performance_per_mm2: float
    macs: int
    """Multiply-accumulates of the dense products."""
    utilisation: float
    """Multiplications over multipliers × cycles."""
    quality_loss: QualityLoss | None
    """Mean over the linear projections, weighted by their multiply-accumulates; None where one of them lacks it."""
    bottleneck: str
    breakdown: dict[str, int]
    """Cause → cycles; adds up to `cycles`."""
    kinds: dict[str, KindResult]
    """Totals by kind of operation; they add up to the result's."""
    layers: list[LayerResult]
    operations: list[OperationResult]
    """What the vector unit did (`scope: model`)."""
    assumptions: str
    """The defaults the figures rest on, in one line."""
    approximations: list[str]
    """What stands in for something unknown in this result."""
    extrapolated: list[str]
    """Quantities that the cost tables lack and a rule stands in for outside what it was fitted to."""

    def to_json(self) -> dict[str, Any]:
        """Plain data, ready for `json.dump`."""
        return self.model_dump(mode="json")
