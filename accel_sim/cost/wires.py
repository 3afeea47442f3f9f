"""Wire energy, first order: bits × distance × a published energy per bit and mm."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from accel_sim.arch import derived
from accel_sim.arch.schema import Arch
from accel_sim.cost import operands, predicting, sram
from accel_sim.cost.area import area
from accel_sim.cost.network import network
from accel_sim.cost.scaling import Scale
from accel_sim.cost.tables import constant
from accel_sim.pattern import Pattern

if TYPE_CHECKING:
    from accel_sim.timing.activity import Activity

BITS = 8
"""Bits in a byte."""


@dataclass(frozen=True)
class Wires:
    """Energy per event, in pJ at the machine's node.

    Operands, select lines and sums cross the array's block; a transfer crosses its buffer; what several cores fetch or
    store crosses all of them, where one transfer reaches every core that takes it.
    """

    operand_byte: float
    """Over the side of the block."""
    sum: float
    """A finished sum of an output-stationary array, likewise."""
    column_sum_byte: float
    """A column's sum: down all rows of a chain; over a tree its parts go log2(rows) / 2 times that way."""
    group: float
    """The select lines of a group."""
    activation_byte: float
    """Over the side of the buffer, as the next five."""
    weight_byte: float
    output_byte: float
    accumulator_byte: float
    shared_byte: float
    predictor_byte: float
    cores_byte: float
    """Over the side of all cores together."""
    through_shared_buffer: bool

    def energy_pj(self, done: Activity) -> float:
        # Metadata end at the decoder at the edge; what crosses the block are their select lines.
        operand_bytes = done.activation_sram_read_bytes + done.weight_sram_read_bytes - done.metadata_sram_read_bytes
        fetched = done.shared_buffer_read_bytes if self.through_shared_buffer else done.dram_read_bytes
        fetched += done.predictor_sram_read_bytes
        return (
            operand_bytes * self.operand_byte
            + done.requantised * self.sum
            + done.accumulator_sram_write_bytes * self.column_sum_byte
            + done.decoded_groups * self.group
            + (done.activation_sram_read_bytes + done.activation_sram_write_bytes) * self.activation_byte
            + (done.weight_sram_read_bytes + done.weight_sram_write_bytes) * self.weight_byte
            + (done.output_sram_read_bytes + done.output_sram_write_bytes) * self.output_byte
            + (done.accumulator_sram_read_bytes + done.accumulator_sram_write_bytes) * self.accumulator_byte
            + (done.shared_buffer_read_bytes + done.shared_buffer_write_bytes) * self.shared_byte
            + done.predictor_sram_read_bytes * self.predictor_byte
            + (fetched + done.dram_write_bytes) * self.cores_byte
        )


@cache
def wires(arch: Arch, pattern: Pattern | None) -> Wires:
    """What `arch` spends running `pattern`; nothing where wires are switched off."""
    scale = Scale.of(arch.technology).wire / 1000 if arch.technology.wires else 0.0
    bit_mm = scale * constant("wire_energy_per_random_bit")
    transition_mm = scale * constant("wire_energy_per_transition")

    def over(area_um2: float, bits: float = BITS) -> float:
        return bits * bit_mm * _side_mm(area_um2)

    built, buffers, shared = area(arch), sram.memories(arch), sram.shared_buffer(arch)
    weights = predicting.weight_memory(arch)
    stationary = operands.is_stationary(arch)
    down = max(1.0, operands.column_tree_levels(arch) / 2)
    random_bits, transitions = _line_activity(arch, pattern)
    return Wires(
        operand_byte=over(built.block_um2),
        sum=0.0 if stationary else over(built.block_um2, operands.ACCUMULATOR_BITS),
        column_sum_byte=down * over(built.block_um2) if stationary else 0.0,
        group=(random_bits * bit_mm + transitions * transition_mm) * _side_mm(built.block_um2),
        activation_byte=over(buffers.activation.area_um2),
        weight_byte=over(buffers.weight.area_um2),
        output_byte=over(buffers.output.area_um2),
        accumulator_byte=0.0 if buffers.accumulator is None else over(buffers.accumulator.area_um2),
        shared_byte=0.0 if shared is None else over(shared.area_um2),
        predictor_byte=0.0 if weights is None else over(weights.area_um2),
        cores_byte=over(built.cores_um2) if arch.cores.count > 1 else 0.0,
        through_shared_buffer=shared is not None,
    )


def _side_mm(area_um2: float) -> float:
    return area_um2**0.5 / 1000


def _line_activity(arch: Arch, pattern: Pattern | None) -> tuple[float, float]:
    """(random bits, transitions) on the lines of one group; lines of weights that stay stand still."""
    runs = derived.array_pattern(arch, pattern)
    stays = operands.prunes_weights(arch) and operands.is_stationary(arch)
    if runs not in derived.array_patterns(arch) or stays:
        return 0.0, 0.0
    return network(arch, runs).activity
