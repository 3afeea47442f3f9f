"""What sparsity adds to the datapath: the networks of the patterns, zero skipping, selectors."""

from __future__ import annotations

from collections.abc import Iterator

from accel_sim.arch import derived
from accel_sim.arch.schema import Arch
from accel_sim.cost import circuits, hierarchy, operands, skipping
from accel_sim.cost.bill import Part, held_register
from accel_sim.cost.datapath import weight_copies
from accel_sim.cost.delays import edge_cycles, pipeline_cycles
from accel_sim.cost.network import Network, network
from accel_sim.cost.operands import OPERAND_BITS
from accel_sim.cost.tables import constant
from accel_sim.cost.units import library_of
from accel_sim.pattern import Pattern


def pattern_parts(arch: Arch, pattern: Pattern) -> Iterator[Part]:
    """One core's for one pattern of the array."""
    net = network(arch, pattern)
    yield from _multiplexers(arch, net)
    yield from _steps(arch, pattern, net)
    if net.skipping is None:
        yield from _metadata(arch, pattern)
    else:
        yield from _zero_skipping(arch, net)
    yield from _decoders(arch, net)


def _multiplexers(arch: Arch, net: Network) -> Iterator[Part]:
    elements = arch.array.rows * arch.array.cols
    for placed in net.multiplexers:
        yield Part("operand_multiplexers", placed.unit, elements * placed.count, per_column=True)
    if arch.sparsity.operand_mux_register:
        yield Part(
            "operand_mux_registers", library_of(arch).flip_flop, elements * net.slots * OPERAND_BITS, per_column=True
        )
    if arch.zero_gating == "operand" and operands.prunes_weights(arch):
        for placed in net.multiplexers:  # the selected activation brings its flag along
            flag = placed.unit.times(1 / OPERAND_BITS, f"zero flags of {placed.unit.name}", rule="one bit of eight")
            yield Part("zero_gating", flag, elements * placed.count, per_column=True)


def _steps(arch: Arch, pattern: Pattern, net: Network) -> Iterator[Part]:
    """Where a group has more slots than there are lanes, its operands step along, so that the reach stays M−N+1.

    The register of the operand that is not pruned shifts. Weights that stay cannot: a multiplexer steps along them.
    """
    cycles = derived.cycles_per_group(arch.array.lanes, pattern)
    if cycles == 1 or net.skipping is not None:
        return
    rows, cols, lanes = arch.array.rows, arch.array.cols, arch.array.lanes
    stationary, prunes_weights = operands.is_stationary(arch), operands.prunes_weights(arch)
    if stationary:
        reach = OPERAND_BITS * (lanes if prunes_weights else lanes + pattern.m - pattern.n)
        reach += -(-net.select_lines * lanes // pattern.n) if prunes_weights else 0
        step = circuits.tree(library_of(arch), cycles, reach)
        yield Part("weight_shift_multiplexers", step, rows * cols, per_column=True)
    if prunes_weights or not stationary:
        shift = circuits.multiplexer_2(library_of(arch), pattern.m * OPERAND_BITS, "load or shift, one group")
        edge = rows if prunes_weights else cols
        chains = rows * cols if operands.is_systolic(arch) else edge
        per_column = operands.is_systolic(arch) or not prunes_weights
        yield Part("weight_shift_multiplexers", shift, chains, per_column=per_column)


def _metadata(arch: Arch, pattern: Pattern) -> Iterator[Part]:
    """Metadata wait with the pruned operand: at the rows', at the columns' edge, or with weights that stay."""
    rows, cols = arch.array.rows, arch.array.cols
    bits = derived.groups_per_cycle(arch.array.lanes, pattern) * pattern.metadata_bits(arch.sparsity.metadata)
    if not operands.prunes_weights(arch):
        yield Part("metadata_registers", library_of(arch).flip_flop, rows * bits)
    elif operands.is_stationary(arch):
        elements = rows * cols * weight_copies(arch)
        yield from held_register(
            library_of(arch), "metadata_registers", "weight_load_multiplexers", bits, elements, per_column=True
        )
    else:
        yield Part("metadata_registers", library_of(arch).flip_flop, cols * bits, per_column=True)


def _decoders(arch: Arch, net: Network) -> Iterator[Part]:
    """At the edge of the pruned operand, with a register behind each stage. Metadata of weights that stay are decoded
    where they stand, and their lines stand still."""
    rows, cols = arch.array.rows, arch.array.cols
    prunes_weights = operands.prunes_weights(arch)
    if prunes_weights and operands.is_stationary(arch):
        if net.decoder is not None:
            yield Part("metadata_decoders", net.decoder, rows * cols * net.decoders, per_column=True)
        return
    edge = cols if prunes_weights else rows
    if net.decoder is not None:
        yield Part("metadata_decoders", net.decoder, edge * net.decoders, per_column=prunes_weights)
    lines = edge * net.select_lines
    yield Part(
        "select_line_registers", library_of(arch).flip_flop, lines * edge_cycles(arch, net), per_column=prunes_weights
    )
    if operands.is_systolic(arch):  # decoded once at the edge, then handed on with the operand
        yield Part("select_line_registers", library_of(arch).flip_flop, rows * cols * net.select_lines, per_column=True)


def _zero_skipping(arch: Arch, net: Network) -> Iterator[Part]:
    """The window of weights, the groups that wait at a row's edge, and what finds the non-zeros among them."""
    assert net.skipping is not None
    skips, rows, cols = net.skipping, arch.array.rows, arch.array.cols
    copies = int(constant("window_buffer_copies"))
    # Every row works on another part of the window, so it stands in registers that all of them read.
    windows = (rows * cols if operands.is_systolic(arch) else cols) * copies
    buffers = "window_buffers"
    yield from held_register(library_of(arch), buffers, buffers, operands.window_bits(arch), windows, per_column=True)
    values = skips.groups_held * skips.group_values
    yield from held_register(
        library_of(arch), buffers, buffers, values * skips.value_bits, rows * copies, per_column=False
    )
    for placed in skips.window_multiplexers:
        yield Part("window_multiplexers", placed.unit, rows * cols * placed.count, per_column=True)
    for placed in (*skips.finders, *skips.selects):
        yield Part("zero_skipping", placed.unit, rows * placed.count)
    yield Part("zero_skipping", skipping.zero_detector(library_of(arch)), rows * skips.zero_detectors)
    count = circuits.adder(library_of(arch), 1, "counter, one bit")
    yield Part("zero_skipping", count, rows * skips.counter_bits)
    yield Part("zero_skipping", library_of(arch).flip_flop, rows * skips.counter_bits)
    # A value that was taken leaves the flags; a lane without one adds zero.
    gate = circuits.and_gates(library_of(arch), 1, "gate, one bit")
    yield Part("zero_skipping", gate, rows * (values + net.slots * OPERAND_BITS))


def selector_parts(arch: Arch, pattern: Pattern) -> Iterator[Part]:
    """One core's selectors for one pattern that a circuit selects."""
    sparsity = arch.sparsity
    selector = hierarchy.selector(library_of(arch), sparsity.selector, sparsity.metadata, pattern)
    units = derived.selector_units(arch, pattern)
    yield Part("selectors", selector, units, in_array=False)
    held = hierarchy.pipeline_bits(pattern) * (pipeline_cycles(arch, selector) - 1)
    yield Part("selector_pipeline_registers", library_of(arch).flip_flop, units * held, in_array=False)
