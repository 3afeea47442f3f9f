"""What a layer made the machine do: the counts that energy is charged for."""

from __future__ import annotations

from dataclasses import dataclass, fields

from accel_sim.arch.schema import Arch
from accel_sim.pattern import Pattern
from accel_sim.timing.layer import LayerTiming
from accel_sim.timing.tiling import formats
from accel_sim.workload import Gemm


@dataclass(frozen=True)
class Activity:
    """Event counts of one layer on one machine; all integers, additive over layers.

    Counts cover valid tokens and outputs only: processing elements beyond the edge of a matrix hold their operands
    still and cost clock and leakage alone.
    """

    cycles: int
    """End to end, as the timing model counts them."""
    multiplies: int
    """Products of a slot with its weight: tokens × outputs × slots (dense: × features), zero operands included."""
    zero_multiplies: int
    """Those of `multiplies` whose activation operand is zero, which zero gating holds still."""
    selected_groups: int
    """Groups that pass a selector; a tile that is fetched again is selected again."""
    decoded_groups: int
    """Metadata fields decoded at the array's rows, once per array tile that uses them."""
    activation_sram_read_bytes: int
    """Kept activations with metadata, read once per array tile for the row."""
    activation_sram_write_bytes: int
    metadata_sram_read_bytes: int
    """The metadata's part of the activation reads, for reporting; not additional."""
    metadata_sram_write_bytes: int
    """The metadata's part of the activation writes."""
    weight_sram_read_bytes: int
    """Dense weights, read once per array tile for the column."""
    weight_sram_write_bytes: int
    output_sram_write_bytes: int
    """Requantised outputs, as they leave the array."""
    output_sram_read_bytes: int
    """The same on their way to DRAM."""
    requantised: int
    """Accumulators taken to INT8."""
    dram_read_bytes: int
    dram_write_bytes: int
    accumulator_sram_read_bytes: int = 0
    """INT32 partial sums that a weight-stationary array reads back, to add to them or to requantise them."""
    accumulator_sram_write_bytes: int = 0
    shared_buffer_read_bytes: int = 0
    """What the cores fetch through the buffer they share; one transfer to all of them counts once."""
    shared_buffer_write_bytes: int = 0
    vector_operations: int = 0
    """Lane operations of the vector unit (`scope: model`): one lane busy for one cycle."""

    def __add__(self, other: Activity) -> Activity:
        return Activity(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def times(self, repeat: int) -> Activity:
        """The counts of `repeat` equal layers."""
        return Activity(*(getattr(self, f.name) * repeat for f in fields(self)))


def count_activity(
    gemm: Gemm, arch: Arch, pattern: Pattern | None, timing: LayerTiming, zero_slots: float, first_use_of_site: bool
) -> Activity:
    """Count what one product made the machine do.

    `zero_slots` is the fraction of slots (dense: of features) whose activation is zero. At `write_back` a site is
    selected once for all the projections it feeds: `first_use_of_site` charges it to the first of them.
    """
    stored = formats(gemm, arch, pattern)
    items = timing.plan.items
    output_panels = -(-gemm.outputs // arch.array.cols)
    token_panels = -(-gemm.tokens // arch.array.rows)
    loaded_rows = int(items.loaded_activations.sum()) // gemm.features
    loaded_outputs = int(items.loaded_weights.sum()) // gemm.features
    pairs = gemm.tokens * gemm.outputs
    groups = metadata_bytes = selected_groups = 0
    slots = weight_features = gemm.features
    if pattern is not None:
        groups = pattern.groups(gemm.features)
        slots, weight_features = groups * pattern.n, groups * pattern.m
        metadata_bytes = -(-groups * pattern.metadata_bits(arch.sparsity.metadata) // 8)
        once = gemm.tokens if first_use_of_site else 0
        selected_groups = groups * (loaded_rows if arch.sparsity.selector.placement == "load" else once)
    return Activity(
        cycles=timing.cycles,
        multiplies=pairs * slots,
        zero_multiplies=round(pairs * slots * zero_slots),
        selected_groups=selected_groups,
        decoded_groups=gemm.tokens * groups * output_panels,
        activation_sram_read_bytes=gemm.tokens * stored.activation_sram_bytes * output_panels,
        activation_sram_write_bytes=loaded_rows * stored.activation_sram_bytes,
        metadata_sram_read_bytes=metadata_bytes * gemm.tokens * output_panels,
        metadata_sram_write_bytes=metadata_bytes * loaded_rows,
        weight_sram_read_bytes=gemm.outputs * weight_features * token_panels,
        weight_sram_write_bytes=loaded_outputs * stored.weight_sram_bytes,
        output_sram_write_bytes=pairs,
        output_sram_read_bytes=pairs,
        requantised=pairs,
        dram_read_bytes=int(timing.plan.traffic.read.sum()),
        dram_write_bytes=int(timing.plan.traffic.write.sum()),
    )
