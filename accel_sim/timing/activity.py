"""What a layer made the machine do: the counts that energy is charged for."""

from __future__ import annotations

from dataclasses import dataclass, fields

from accel_sim.arch.derived import array_pattern
from accel_sim.arch.schema import Arch
from accel_sim.pattern import Pattern
from accel_sim.timing.formats import formats, metadata_bytes
from accel_sim.timing.layer import LayerTiming, Plan
from accel_sim.timing.product import Product
from accel_sim.timing.stages import selects_at_load
from accel_sim.timing.tiling import ACCUMULATOR_BYTES, chunk_step
from accel_sim.workload import Gemm

BITS_A_BYTE = 8
"""Outputs that leave a threshold as bits, in a byte of SRAM."""


@dataclass(frozen=True)
class Activity:
    """Event counts of one layer on one machine; all integers, additive over layers.

    Counts cover valid tokens and outputs only: processing elements beyond the edge of a matrix hold their operands
    still and cost clock and leakage alone.
    """

    cycles: int
    """End to end, as the timing model counts them."""
    multiplies: int
    """Products of a slot with its weight: tokens × outputs × slots (dense: × features), zero operands included unless
    the machine skips them."""
    zero_multiplies: int
    """Those of `multiplies` whose activation operand is zero, which zero gating holds still."""
    selected_groups: int
    """Groups that pass a selector; a tile that is fetched again is selected again."""
    decoded_groups: int
    """Metadata fields decoded at the array's edge, once per array tile that uses them."""
    activation_sram_read_bytes: int
    """Activations (kept ones with metadata, where they are pruned), read once per array tile for the row."""
    activation_sram_write_bytes: int
    metadata_sram_read_bytes: int
    """The metadata's part of the pruned operand's reads, for reporting; not additional."""
    metadata_sram_write_bytes: int
    """The metadata's part of its writes."""
    weight_sram_read_bytes: int
    """Weights, read once per array tile for the column (weight-stationary: once for every panel of tokens)."""
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
    thresholded: int = 0
    """Accumulators that are compared with a threshold, after they were scaled (`requantised` counts them too)."""
    predictor_sram_read_bytes: int = 0
    """Weights from the memory on chip that holds a predictor's; they go through the weight SRAM like all others."""

    def __add__(self, other: Activity) -> Activity:
        return Activity(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    def times(self, repeat: int) -> Activity:
        """The counts of `repeat` equal layers."""
        return Activity(*(getattr(self, f.name) * repeat for f in fields(self)))


def count_activity(gemm: Gemm, arch: Arch, pattern: Pattern | None, timing: LayerTiming, zero_slots: float) -> Activity:
    """Count what one product made the machine do.

    `zero_slots` is the fraction of the activations' slots (of features, where activations are not pruned) that hold a
    zero. What is selected once a site, and not at every fetch, is counted by `select_site`.
    """
    chosen, product, used = timing.plan, timing.plan.product, array_pattern(arch, pattern)
    stored = formats(product, arch, pattern)
    output_panels = -(-product.outputs // arch.array.cols)
    token_panels = -(-product.tokens // chosen.tiling.panel_tokens)
    loaded_rows, loaded_outputs = _loaded(chosen, arch)
    pairs = product.tokens * product.outputs
    groups, slots, padded = 0, product.features, product.features
    if used is not None:
        groups = used.groups(product.features)
        slots, padded = groups * used.n, groups * used.m
    metadata = metadata_bytes(product.features, arch, used)
    by_weights = arch.sparsity.operand == "weights"
    # Metadata are read, and decoded, wherever the rows (or columns) of the pruned operand are.
    uses = product.outputs * token_panels if by_weights else product.tokens * output_panels
    activation_row, weight_column = stored.activation_sram_bytes, padded
    if by_weights:
        activation_row, weight_column = padded, stored.weight_sram_bytes
    multiplies, zero_multiplies = _products(gemm, product, slots, pattern, zero_slots)
    partial_sums = ACCUMULATOR_BYTES * pairs * _folds(product, arch, used)
    return Activity(
        cycles=timing.cycles,
        multiplies=multiplies,
        zero_multiplies=zero_multiplies,
        selected_groups=_selected_at_load(gemm, arch, pattern, chosen),
        decoded_groups=groups * uses,
        activation_sram_read_bytes=product.tokens * activation_row * output_panels,
        activation_sram_write_bytes=loaded_rows * stored.activation_sram_bytes,
        metadata_sram_read_bytes=metadata * uses,
        metadata_sram_write_bytes=metadata * (loaded_outputs if by_weights else loaded_rows),
        weight_sram_read_bytes=product.outputs * weight_column * token_panels,
        weight_sram_write_bytes=loaded_outputs * stored.weight_sram_bytes,
        output_sram_write_bytes=-(-pairs // BITS_A_BYTE) if product.thresholds else pairs,
        output_sram_read_bytes=0 if product.outputs_on_chip else pairs,
        requantised=pairs,
        dram_read_bytes=chosen.dram_read_bytes,
        dram_write_bytes=int(chosen.traffic.write.sum()),
        accumulator_sram_read_bytes=partial_sums,
        accumulator_sram_write_bytes=partial_sums,
        shared_buffer_read_bytes=int(chosen.traffic.buffered.sum()),
        shared_buffer_write_bytes=chosen.dram_read_bytes if arch.cores.shared_buffer_bytes else 0,
        thresholded=pairs if product.thresholds else 0,
        predictor_sram_read_bytes=int(chosen.traffic.held.sum()),
    )


def _loaded(chosen: Plan, arch: Arch) -> tuple[int, int]:
    """Rows of activations and columns of weights written to the SRAM of all cores together."""
    product = chosen.product
    rows = int(chosen.items.loaded_activations.sum()) // product.features
    if product.gathers_features and rows == 0:  # they came with the scan for what is needed, and stayed
        rows = product.tokens * chosen.items.grid.output_parts
    return rows, int(chosen.items.loaded_weights.sum()) // product.features


def _products(gemm: Gemm, product: Product, slots: int, pattern: Pattern | None, zero_slots: float) -> tuple[int, int]:
    """Multiplications, and those of them with a zero activation."""
    if product.windows is not None:
        return int(product.windows.nonzeros.sum()) * product.outputs, 0
    multiplies = product.tokens * product.outputs * slots
    if not product.gathers_features:
        return multiplies, round(multiplies * zero_slots)
    of_layer = gemm.features if pattern is None else pattern.groups(gemm.features) * pattern.n
    return multiplies, max(0, multiplies - round(product.tokens * product.outputs * of_layer * (1 - zero_slots)))


def _folds(product: Product, arch: Arch, used: Pattern | None) -> int:
    """Parts of the reduction dimension whose sums a weight-stationary array adds up in SRAM."""
    if arch.array.dataflow == "output_stationary":
        return 0
    return -(-product.features // chunk_step(arch, used))


def _selected_at_load(gemm: Gemm, arch: Arch, pattern: Pattern | None, chosen: Plan) -> int:
    if not selects_at_load(arch, pattern):
        return 0
    scanned = gemm.tokens if chosen.product.gathers_features else 0
    rows = scanned + int(chosen.items.loaded_activations.sum()) // chosen.product.features
    return rows * pattern.groups(gemm.features)
