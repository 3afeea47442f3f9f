"""Wire energy, first order: bits × distance × a published energy per bit and mm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from accel_sim.arch import derived
from accel_sim.arch.schema import Arch
from accel_sim.cost import operands, sram
from accel_sim.cost.area import area
from accel_sim.cost.network import network
from accel_sim.cost.scaling import Scale
from accel_sim.cost.tables import constant
from accel_sim.pattern import Pattern

if TYPE_CHECKING:
    from accel_sim.timing.activity import Activity

BITS = 8
"""Bits in a byte."""


def energy_pj(arch: Arch, pattern: Pattern | None, done: Activity) -> float:
    """Operands, select lines and sums cross the array's block; a transfer crosses its buffer; what several cores share
    crosses all of them."""
    if not arch.technology.wires:
        return 0.0
    scale = Scale.of(arch.technology).wire / 1000
    bit_mm = scale * constant("wire_energy_per_random_bit")
    transition_mm = scale * constant("wire_energy_per_transition")
    side = _side_mm(area(arch).block_um2)
    bits = _crossing_bits(arch, done) * side + _between_memories_bit_mm(arch, done)
    random_bits, transitions = _line_activity(arch, pattern)
    lines = random_bits * bit_mm + transitions * transition_mm
    return bits * bit_mm + done.decoded_groups * lines * side


def _side_mm(area_um2: float) -> float:
    return area_um2**0.5 / 1000


def _crossing_bits(arch: Arch, done: Activity) -> float:
    """Bits over the side of the block. Metadata end at the decoder at the edge; what crosses are their select lines.

    A column's sum goes down all rows of a chain; over a tree its parts go log2(rows) / 2 times that way.
    """
    operand_bytes = done.activation_sram_read_bytes + done.weight_sram_read_bytes - done.metadata_sram_read_bytes
    if not operands.is_stationary(arch):
        return BITS * operand_bytes + operands.ACCUMULATOR_BITS * done.requantised
    down = max(1.0, operands.column_tree_levels(arch) / 2)
    return BITS * (operand_bytes + done.accumulator_sram_write_bytes * down)


def _between_memories_bit_mm(arch: Arch, done: Activity) -> float:
    """Bits × mm of transfers: over the side of the buffer they go to or come from; with several cores also over the
    side of all cores together, where one transfer reaches every core that takes it."""
    buffers, shared = sram.memories(arch), sram.shared_buffer(arch)
    byte_mm = (
        (done.activation_sram_read_bytes + done.activation_sram_write_bytes) * _side_mm(buffers.activation.area_um2)
        + (done.weight_sram_read_bytes + done.weight_sram_write_bytes) * _side_mm(buffers.weight.area_um2)
        + (done.output_sram_read_bytes + done.output_sram_write_bytes) * _side_mm(buffers.output.area_um2)
    )
    if buffers.accumulator is not None:
        moved = done.accumulator_sram_read_bytes + done.accumulator_sram_write_bytes
        byte_mm += moved * _side_mm(buffers.accumulator.area_um2)
    if shared is not None:
        byte_mm += (done.shared_buffer_read_bytes + done.shared_buffer_write_bytes) * _side_mm(shared.area_um2)
    if arch.cores.count > 1:
        fetched = done.dram_read_bytes if shared is None else done.shared_buffer_read_bytes
        byte_mm += (fetched + done.dram_write_bytes) * _side_mm(area(arch).cores_um2)
    return BITS * byte_mm


def _line_activity(arch: Arch, pattern: Pattern | None) -> tuple[float, float]:
    """(random bits, transitions) on the lines of one group; lines of weights that stay stand still."""
    runs = derived.array_pattern(arch, pattern)
    stays = operands.prunes_weights(arch) and operands.is_stationary(arch)
    if runs not in derived.array_patterns(arch) or stays:
        return 0.0, 0.0
    return network(arch, runs).activity
