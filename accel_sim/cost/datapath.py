"""The datapath that needs no sparsity: dot products, operand registers, sums, requantisers, control."""

from __future__ import annotations

from collections.abc import Iterator

from accel_sim.arch import derived
from accel_sim.arch.schema import Arch
from accel_sim.cost import circuits, operands, skipping
from accel_sim.cost.bill import Part, held_register
from accel_sim.cost.delays import column_tree, pipeline_cycles
from accel_sim.cost.operands import ACCUMULATOR_BITS, OPERAND_BITS
from accel_sim.cost.tables import constant
from accel_sim.cost.units import library_of


def datapath(arch: Arch) -> Iterator[Part]:
    """One core's, by dataflow and interconnect."""
    library, rows, cols = library_of(arch), arch.array.rows, arch.array.cols
    yield Part(
        "multipliers_and_adder_trees", library.unit("dot_product", lanes=arch.array.lanes), rows * cols, per_column=True
    )
    # Operands stand in one register set a row and one a column, or move through one in every processing element.
    systolic = operands.is_systolic(arch)
    held = rows * cols if systolic else rows
    yield Part("activation_registers", library.flip_flop, held * operands.activation_bits(arch), per_column=systolic)
    if operands.is_stationary(arch):
        yield from _stationary_weights(arch)
        yield from _column_sums(arch)
    else:
        weights = rows * cols if systolic else cols
        yield Part("weight_registers", library.flip_flop, weights * operands.weight_bits(arch), per_column=True)
        yield from _drain(arch)
    yield from _behind_the_array(arch)
    if arch.zero_gating == "operand":
        yield from _zero_gating(arch)


def weight_copies(arch: Arch) -> int:
    """Stationary weights in a processing element: those at work, and the next fold's where they load meanwhile."""
    return 2 if arch.array.fold_overlap else 1


def _stationary_weights(arch: Arch) -> Iterator[Part]:
    elements = arch.array.rows * arch.array.cols * weight_copies(arch)
    bits = operands.weight_bits(arch)
    yield from held_register(
        library_of(arch), "weight_registers", "weight_load_multiplexers", bits, elements, per_column=True
    )


def _drain(arch: Arch) -> Iterator[Part]:
    """A tile leaves column by column: one 2:1 multiplexer a bit, in the accumulator or in the register behind it."""
    library, elements = library_of(arch), arch.array.rows * arch.array.cols
    load_or_shift = circuits.multiplexer_2(library, ACCUMULATOR_BITS, "load or shift, 32 bits")
    yield Part("accumulator_drain", load_or_shift, elements, per_column=True)
    if arch.array.drain == "overlapped":
        yield Part("accumulator_drain", library.flip_flop, elements * ACCUMULATOR_BITS, per_column=True)


def _column_sums(arch: Arch) -> Iterator[Part]:
    """What sums the rows of a column, beyond the elements' own accumulate adders and registers.

    Every dot product comes with an INT32 adder and a register. Here that adder is one of the column's: in a chain it
    adds what comes from the row above; of a tree over R rows it is one of the R − 1. The register stands behind the
    element's tree either way. So only the tree's registers come in addition, and at the accumulator SRAM an adder with
    two registers a column.
    """
    library, cols = library_of(arch), arch.array.cols
    yield Part("column_sums", library.flip_flop, cols * tree_register_bits(arch), per_column=True)
    yield Part("column_sums", library.unit("adder"), cols, per_column=True)
    held = constant("column_sum_registers") * ACCUMULATOR_BITS
    yield Part("column_sums", library.flip_flop, cols * held, per_column=True)


def tree_register_bits(arch: Arch) -> int:
    """Registers between the stages of one column's adder tree: after every so many levels, a sum of 32 bits each."""
    levels = operands.column_tree_levels(arch)
    if levels == 0:
        return 0
    together = -(-levels // pipeline_cycles(arch, column_tree(arch)))
    cuts = [min(level, levels) for level in range(together, levels + together, together)]
    return ACCUMULATOR_BITS * sum(-(-arch.array.rows // 2**level) for level in cuts)


def _behind_the_array(arch: Arch) -> Iterator[Part]:
    library = library_of(arch)
    requantiser, adder = circuits.requantiser(library), library.unit("adder")
    count = arch.array.requantisers
    own_stages = constant("requantiser_stages") if requantiser.flip_flops else 0
    held = max(0, pipeline_cycles(arch, requantiser) - own_stages) * constant("pipeline_bits_per_requantiser_stage")
    yield Part("requantisers", requantiser, count, in_array=False)
    yield Part("requantisers", library.flip_flop, count * held, in_array=False)
    yield Part("token_scale_units", adder, count, in_array=False)
    yield Part("token_scale_units", library.flip_flop, count * constant("token_scale_width"), in_array=False)
    yield Part("control", adder, constant("control_counters"), in_array=False)
    yield Part("control", library.flip_flop, constant("control_counters") * ACCUMULATOR_BITS, in_array=False)


def _zero_gating(arch: Arch) -> Iterator[Part]:
    """A lane whose activation is zero keeps its operands and adds zero.

    Where the weights are pruned every lane selects an activation of its own, so detectors stand at each of a row's
    activations and the flag is selected with the value.
    """
    library, rows, elements = library_of(arch), arch.array.rows, arch.array.rows * arch.array.cols
    lanes = elements * arch.array.lanes
    if bits := _held_operand_bits(arch):
        yield Part("zero_gating", library.flip_flop, lanes * bits, per_column=True)
    gate = circuits.and_gates(library, constant("zero_gating_product_bits"), "product gate")
    yield Part("zero_gating", gate, lanes, per_column=True)
    detectors = rows * operands.activation_bits(arch) // OPERAND_BITS
    yield Part("zero_gating", skipping.zero_detector(library), detectors)
    yield Part("zero_gating", library.flip_flop, detectors)


def _held_operand_bits(arch: Arch) -> float:
    """Registers that hold the operands of a lane still, beyond those it has: for the selected operand unless a register
    behind the multiplexer holds it, and for a moving weight where activations are selected. Weights that stay, and
    activations at a row's edge, need none."""
    one = constant("zero_gating_hold_bits")
    registered = arch.sparsity.operand_mux_register and bool(derived.array_patterns(arch))
    if operands.prunes_weights(arch):
        return (0 if registered else one) + (0 if operands.is_stationary(arch) else one)
    return 0 if registered or operands.is_stationary(arch) else one
