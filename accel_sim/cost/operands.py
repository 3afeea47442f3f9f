"""Widths of what the array's registers hold and what crosses it, by dataflow and by which operand is pruned."""

from __future__ import annotations

from math import ceil, log2

from accel_sim.arch import derived
from accel_sim.arch.schema import Arch
from accel_sim.arch.sparsity import SKIPS_ZEROS
from accel_sim.cost.network import networks

OPERAND_BITS = 8
ACCUMULATOR_BITS = 32


def is_stationary(arch: Arch) -> bool:
    """Whether weights stand in the processing elements."""
    return arch.array.dataflow == "weight_stationary"


def is_systolic(arch: Arch) -> bool:
    return arch.array.interconnect == "systolic"


def prunes_weights(arch: Arch) -> bool:
    """Whether multiplexers stand in front of the activations."""
    return arch.sparsity.operand == "weights"


def skips_zeros(arch: Arch) -> bool:
    return arch.sparsity.skipping in SKIPS_ZEROS


def activation_bits(arch: Arch) -> int:
    """One row's activation register: a kept activation a lane; whole groups where weights are pruned."""
    return _unpruned_bits(arch) if prunes_weights(arch) else OPERAND_BITS * arch.array.lanes


def weight_bits(arch: Arch) -> int:
    """One column's weight register (weight-stationary: one element's): whole groups; what is kept where weights are
    pruned, which is a lane's worth a cycle unless they stay. None where a window buffer stands in its place."""
    if skips_zeros(arch):
        return 0
    if not prunes_weights(arch):
        return _unpruned_bits(arch)
    lanes = arch.array.lanes
    kept = [derived.groups_per_cycle(lanes, p) * p.n for p in derived.array_patterns(arch)]
    return OPERAND_BITS * (max([lanes, *kept]) if is_stationary(arch) else lanes)


def _unpruned_bits(arch: Arch) -> int:
    """g·M operands, or a whole group of which `lanes` slots are used a cycle."""
    lanes = arch.array.lanes
    groups = (derived.groups_per_cycle(lanes, p) * p.m for p in derived.array_patterns(arch))
    return OPERAND_BITS * max([lanes, *groups])


def window_bits(arch: Arch) -> int:
    """One window of weights, at least what the dense rule needs in a cycle; 0 without a window."""
    windows = [net.skipping.window_bytes for net in networks(arch) if net.skipping]
    return OPERAND_BITS * max([arch.array.lanes, *windows]) if windows else 0


def column_tree_levels(arch: Arch) -> int:
    """Levels of the adder tree over a column: broadcast weight-stationary arrays have one."""
    return ceil(log2(arch.array.rows)) if is_stationary(arch) and not is_systolic(arch) else 0


def row_tracks(arch: Arch) -> int:
    """Wires along one row: activations, and select lines where activations are pruned."""
    return activation_bits(arch) + (0 if prunes_weights(arch) else _select_lines(arch))


def column_tracks(arch: Arch) -> int:
    """Wires along one column: weights, sums, and select lines where weights are pruned and move.

    Weights that stay are loaded through the width of the port. A window that all rows work on at once is wired to all
    of them; in a systolic array it is handed on at the width of the port. A tree over the column's sums takes a sum's
    width a level at its densest, a chain one.
    """
    port = OPERAND_BITS * max(
        derived.weight_bytes_per_column_cycle(arch, pattern) for pattern in (None, *derived.array_patterns(arch))
    )
    sums = ACCUMULATOR_BITS * max(1, column_tree_levels(arch))
    if is_stationary(arch):
        return port + sums
    if skips_zeros(arch):
        return (port if is_systolic(arch) else window_bits(arch)) + sums
    return weight_bits(arch) + sums + (_select_lines(arch) if prunes_weights(arch) else 0)


def _select_lines(arch: Arch) -> int:
    return max((net.select_lines for net in networks(arch)), default=0)
