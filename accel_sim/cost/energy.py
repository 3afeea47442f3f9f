"""Energy per component of what a machine did. Linear in the activity, so layers add up to their sum."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import ceil, log2
from typing import TYPE_CHECKING

from accel_sim.arch.schema import Arch
from accel_sim.cost import circuits, parts, sram
from accel_sim.cost.area import area
from accel_sim.cost.scaling import Scale
from accel_sim.cost.tables import constant, constants, dram
from accel_sim.cost.units import dot_product_flip_flops, flip_flop, register_data_energy_pj, unit
from accel_sim.pattern import Pattern

if TYPE_CHECKING:  # counts only: no need to load the timing engines
    from accel_sim.timing.activity import Activity

BITS = 8
"""Bits in a byte."""


@dataclass(frozen=True)
class Energy:
    """Energy of one activity."""

    components_pj: dict[str, float]
    """Flat; adds up to `total_pj`."""
    wires_band_pj: tuple[float, float]
    """`wires` at the lower and at the upper end of the published energies per bit and mm."""

    @property
    def total_pj(self) -> float:
        return sum(self.components_pj.values())


@dataclass(frozen=True)
class _PerEvent:
    """Energy of one event of each kind, in pJ at the machine's node and energy scale; powers in pJ a cycle or s."""

    multiply: float
    held_multiply: float
    """What zero gating saves of a multiplication with a zero: the multiplier itself."""
    slot: float
    selected_group: float
    decoded_group: float
    clock_cycle: float
    loaded_bit: float
    requantised: float
    sram: dict[str, tuple[float, float]]
    """(read, write) per byte by buffer."""
    buffered_feature: float
    wire_bit_mm: float
    wire_transition_mm: float
    dram_byte: float
    leakage_per_s: float


def energy(arch: Arch, pattern: Pattern | None, activity: Activity, clock_hz: float) -> Energy:
    """Energy of `activity` on `arch` running `pattern` (None: by the dense rule) at `clock_hz`."""
    if pattern is not None and pattern.keeps_all:
        pattern = None
    each = _per_event(arch, pattern)
    done = activity
    held = done.zero_multiplies if arch.zero_gating == "operand" else 0
    activation = _accesses(each, "activation", done.activation_sram_read_bytes, done.activation_sram_write_bytes)
    metadata = _accesses(each, "activation", done.metadata_sram_read_bytes, done.metadata_sram_write_bytes)
    wires = _wires(arch, pattern, done, each)
    low, high = _wire_band()
    loaded_bits = _register_loads(arch, done)
    return Energy(
        {
            "multiply": done.multiplies * each.multiply - held * each.held_multiply,
            "operand_select": done.multiplies * each.slot,
            "selector": done.selected_groups * each.selected_group,
            "metadata": done.decoded_groups * each.decoded_group,
            "registers_and_clock": done.cycles * each.clock_cycle + loaded_bits * each.loaded_bit,
            "requantise": done.requantised * each.requantised,
            "wires": wires,
            "sram_activation": activation - metadata,
            "sram_metadata": metadata,
            "sram_weight": _accesses(each, "weight", done.weight_sram_read_bytes, done.weight_sram_write_bytes),
            "sram_output": _accesses(each, "output", done.output_sram_read_bytes, done.output_sram_write_bytes),
            "row_scale_buffer": done.selected_groups * (pattern.m if pattern else 0) * each.buffered_feature,
            "dram": (done.dram_read_bytes + done.dram_write_bytes) * each.dram_byte,
            "leakage": done.cycles / clock_hz * each.leakage_per_s,
        },
        wires_band_pj=(wires * low, wires * high),
    )


def _register_loads(arch: Arch, done: Activity) -> int:
    """Bits that operand registers take up: once at the row's or column's edge, or in every element on the way."""
    systolic = arch.array.interconnect == "systolic"
    elements = (arch.array.cols, arch.array.rows) if systolic else (1, 1)
    return BITS * (done.activation_sram_read_bytes * elements[0] + done.weight_sram_read_bytes * elements[1])


def _accesses(each: _PerEvent, buffer: str, read_bytes: int, written_bytes: int) -> float:
    read, write = each.sram[buffer]
    return read_bytes * read + written_bytes * write


@cache
def _wire_band() -> tuple[float, float]:
    """Ends of the band of the wire energy over its central value."""
    figure = constants()["wire_energy_per_random_bit"]
    return figure.low / figure.value, figure.high / figure.value


@cache
def _per_event(arch: Arch, pattern: Pattern | None) -> _PerEvent:
    scale = Scale.of(arch.technology)
    lanes, register = arch.array.lanes, flip_flop()
    # The netlist's energy includes its own registers' clock, which is charged in every cycle below.
    dot_product = unit("dotk", k=lanes).energy_pj - dot_product_flip_flops(lanes) * register.energy_pj
    requantised = circuits.requantiser().energy_pj + unit("add32").energy_pj
    buffers = sram.memories(arch)
    act_width, weight_width = sram.activation_width(arch, pattern), sram.weight_width(arch, pattern)
    logic_leakage = scale.energy * sum(part.leakage_nw for part in parts.parts(arch))
    wires = scale.wire if arch.technology.wires else 0.0
    return _PerEvent(
        multiply=scale.energy * dot_product / lanes,
        held_multiply=scale.energy * unit("mul8").energy_pj,
        slot=scale.energy * _slot_pj(arch),
        selected_group=scale.energy * _per_group_pj(arch, pattern, "selector"),
        decoded_group=scale.energy * _per_group_pj(arch, pattern, "decoder"),
        clock_cycle=scale.energy * register.energy_pj * parts.register_bits(arch),
        loaded_bit=scale.energy * register_data_energy_pj(),
        requantised=scale.energy * requantised,
        sram={
            "activation": (
                buffers.activation.read_pj_per_byte(act_width),
                buffers.activation.write_pj_per_byte(),
            ),
            "weight": (buffers.weight.read_pj_per_byte(weight_width), buffers.weight.write_pj_per_byte()),
            "output": (buffers.output.read_pj_per_byte(), buffers.output.write_pj_per_byte()),
        },
        buffered_feature=_buffered_feature_pj(arch),
        wire_bit_mm=wires * constant("wire_energy_per_random_bit") / 1000,
        wire_transition_mm=wires * constant("wire_energy_per_transition") / 1000,
        dram_byte=BITS * dram(arch.dram.kind).value,
        leakage_per_s=1000 * (logic_leakage + _sram_leakage_nw(arch)),  # 1 nW is 1000 pJ/s
    )


def _slot_pj(arch: Arch) -> float:
    """One slot's multiplexer; a flexible unit drives its largest network whatever runs."""
    muxes = ((circuits.multiplexer(arch.sparsity.operand_mux, p), p) for p in circuits.sparse_patterns(arch.sparsity))
    return max((mux.energy_pj / p.n for mux, p in muxes), default=0.0)


def _per_group_pj(arch: Arch, pattern: Pattern | None, what: str) -> float:
    """Selecting or decoding one group of `pattern`; a flexible unit spends its largest circuit's energy a feature."""
    if pattern is None:
        return 0.0
    sparsity = arch.sparsity

    def cost(built: Pattern) -> float:
        if what == "selector":
            return circuits.selector(sparsity.selector, sparsity.metadata, built).energy_pj
        circuit = circuits.decoder(sparsity.operand_mux, sparsity.metadata, built)
        return 0.0 if circuit is None else circuit.energy_pj

    return pattern.m * max(cost(built) / built.m for built in circuits.sparse_patterns(sparsity))


def _buffered_feature_pj(arch: Arch) -> float:
    """A feature in and out of the buffer that waits for the row's maximum; nothing unless selecting at write-back."""
    if arch.sparsity.selector.placement != "write_back":
        return 0.0
    buffer = sram.memories(arch).activation
    per_byte = buffer.read_pj_per_byte(buffer.bank.bus_bytes) + buffer.write_pj_per_byte(buffer.bank.bus_bytes)
    return constant("row_buffer_bytes_per_feature") * per_byte


def _sram_leakage_nw(arch: Arch) -> float:
    total = sum(buffer.leakage_nw for buffer in sram.memories(arch))
    if area(arch).components_um2["row_scale_buffer"]:
        total += sram.row_scale_buffer(arch)[1]
    return total


def _wires(arch: Arch, pattern: Pattern | None, done: Activity, each: _PerEvent) -> float:
    """Bits × distance. Operands and select lines cross the array's block once; a transfer crosses its buffer once."""
    built = area(arch)
    side = built.block_um2**0.5 / 1000
    # Metadata end at the decoder at the row's edge; what crosses the row are its select lines.
    kept_bytes = done.activation_sram_read_bytes - done.metadata_sram_read_bytes
    crossing = BITS * (kept_bytes + done.weight_sram_read_bytes)
    crossing += parts.ACCUMULATOR_BITS * done.requantised
    buffers = sram.memories(arch)
    in_buffers = BITS * (
        (done.activation_sram_read_bytes + done.activation_sram_write_bytes) * _side_mm(buffers.activation)
        + (done.weight_sram_read_bytes + done.weight_sram_write_bytes) * _side_mm(buffers.weight)
        + (done.output_sram_read_bytes + done.output_sram_write_bytes) * _side_mm(buffers.output)
    )
    lines = done.decoded_groups * _select_lines_pj_per_mm(arch, pattern, each) * side
    return (crossing * side + in_buffers) * each.wire_bit_mm + lines


def _side_mm(buffer: sram.Sram) -> float:
    return buffer.area_um2**0.5 / 1000


def _select_lines_pj_per_mm(arch: Arch, pattern: Pattern | None, each: _PerEvent) -> float:
    """One group's select lines: binary ones are random bits, of one-hot ones two change unless the slot repeats."""
    if pattern is None:
        return 0.0
    reach = pattern.m if arch.sparsity.operand_mux == "full" else circuits.window(pattern)
    if arch.sparsity.operand_mux == "onehot":
        return pattern.n * 2 * (1 - 1 / reach) * each.wire_transition_mm
    return pattern.n * ceil(log2(reach)) * each.wire_bit_mm
