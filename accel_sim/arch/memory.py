"""On-chip buffers and off-chip memory."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from accel_sim.arch.section import Bytes, Section


class Sram(Section):
    """On-chip buffers. Ports left null are sized to the array's demand; their width is charged for."""

    activation_bytes: Bytes = 512 * 1024
    """Kept activations with their metadata."""
    weight_bytes: Bytes = 1024 * 1024
    """Dense weights."""
    output_bytes: Bytes = 256 * 1024
    """Requantised outputs on their way to DRAM."""
    accumulator_bytes: Bytes = 256 * 1024
    """INT32 partial sums of a weight-stationary array, in two halves; not built otherwise."""
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
    burst_bytes: Annotated[int, Field(ge=1, le=4096)] = 32
    """Smallest piece the memory moves: a run of consecutive addresses occupies it for whole bursts. 32 is HBM2's
    (a 64-bit pseudo channel, burst length 4)."""
    turnaround: Annotated[float, Field(ge=1, le=8)] = 1.0
    """What a store occupies the memory for, over its transfer alone: turning the bus round to writing and back, as a
    fixed factor. 1: not charged."""
