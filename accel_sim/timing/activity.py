"""What a layer made the machine do: the counts that energy is charged for."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Activity:
    """Event counts of one layer on one machine; all integers, additive over layers.

    Counts cover valid tokens and outputs only: processing elements beyond the edge of a matrix hold their operands
    still and cost clock and leakage alone.
    """

    cycles: int
    """End to end, as the timing model counts them."""
    pe_cycles: int
    """Processing-element cycles with valid operands: tokens × outputs × cycles of a tile row."""
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
    metadata_sram_bytes: int
    """The metadata's part of the two counts above (reads and writes), for reporting; not additional."""
    weight_sram_read_bytes: int
    """Dense weights, read once per array tile for the column."""
    weight_sram_write_bytes: int
    output_sram_bytes: int
    """Requantised outputs, written and read once each."""
    requantised: int
    """Accumulators taken to INT8."""
    dram_read_bytes: int
    dram_write_bytes: int

    def __add__(self, other: Activity) -> Activity:
        return Activity(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))
