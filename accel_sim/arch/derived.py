"""What follows from an architecture and a pattern: rates, port widths, numbers of units.

Timing and cost both read these, so that a machine is charged for exactly the width its speed relies on.
"""

from __future__ import annotations

from math import ceil
from typing import Any

from accel_sim.arch.schema import Arch
from accel_sim.arch.sparsity import SKIPS_ZEROS
from accel_sim.pattern import Pattern


def array_pattern(arch: Arch, pattern: Pattern | None) -> Pattern | None:
    """The pattern that the array's multiplexers follow: none where the weights are gathered feature by feature, since
    what reaches the array then is dense."""
    return None if arch.sparsity.skipping in ("row_gather", "gather") else pattern


def array_patterns(arch: Arch) -> tuple[Pattern, ...]:
    """Patterns that the array has multiplexers for. N = M runs by the dense rule, unless zeros are skipped."""
    skips_zeros = arch.sparsity.skipping in SKIPS_ZEROS
    built = (array_pattern(arch, pattern) for pattern in arch.sparsity.patterns if skips_zeros or not pattern.keeps_all)
    return tuple(pattern for pattern in built if pattern is not None)


def groups_per_cycle(lanes: int, pattern: Pattern) -> int:
    """g = floor(lanes / N) whole groups a cycle; 1 when N > lanes, where a group takes several cycles."""
    return max(1, lanes // pattern.n)


def cycles_per_group(lanes: int, pattern: Pattern) -> int:
    """ceil(N / lanes): 1 unless a group has more slots than a processing element has lanes."""
    return -(-pattern.n // lanes)


def tile_row_cycles(lanes: int, features: Any, pattern: Pattern | None) -> Any:
    """Cycles that one array tile spends on `features` positions of the reduction dimension (an int, or an array)."""
    if pattern is None:
        return -(-features // lanes)
    groups = pattern.groups(features)
    return -(-groups // groups_per_cycle(lanes, pattern)) * cycles_per_group(lanes, pattern)


def slices(arch: Arch) -> int:
    """Slices of an `elastic` processing element, each working on a group of its own."""
    return arch.array.lanes // arch.sparsity.elastic_lanes


def supplied_groups_per_cycle(arch: Arch) -> int:
    """Groups a cycle whose operands the ports deliver where zeros are skipped: as set, or all that can be finished."""
    peak = slices(arch) if arch.sparsity.skipping == "elastic" else arch.sparsity.sync_window
    return arch.sparsity.weight_groups_per_cycle or peak


def features_per_cycle(arch: Arch, pattern: Pattern | None) -> int:
    """Features of the operand that is not pruned that one row or column takes in a cycle: `lanes`, or g·M."""
    lanes, pattern = arch.array.lanes, array_pattern(arch, pattern)
    if pattern is None:
        return lanes
    if arch.sparsity.skipping in SKIPS_ZEROS:
        return supplied_groups_per_cycle(arch) * pattern.m
    return -(-groups_per_cycle(lanes, pattern) * pattern.m // cycles_per_group(lanes, pattern))


def pruned_bits_per_cycle(arch: Arch, pattern: Pattern | None) -> int:
    """Bits of the pruned operand, metadata included, that one row or column takes in a cycle."""
    lanes, pattern = arch.array.lanes, array_pattern(arch, pattern)
    if pattern is None:
        return 8 * lanes
    metadata = 0 if pattern.keeps_all else pattern.metadata_bits(arch.sparsity.metadata)
    if arch.sparsity.skipping in SKIPS_ZEROS:
        return supplied_groups_per_cycle(arch) * (8 * pattern.n + metadata)
    bits = groups_per_cycle(lanes, pattern) * (8 * pattern.n + metadata)
    return -(-bits // cycles_per_group(lanes, pattern))


def weight_bytes_per_column_cycle(arch: Arch, pattern: Pattern | None) -> int:
    """Weights one column needs each cycle, with their metadata where weights are the pruned operand."""
    if arch.sparsity.operand == "weights":
        return -(-pruned_bits_per_cycle(arch, pattern) // 8)
    return features_per_cycle(arch, pattern)


def activation_bits_per_row_cycle(arch: Arch, pattern: Pattern | None) -> int:
    """Activations one row needs each cycle, with their metadata where activations are the pruned operand, in bits."""
    if arch.sparsity.operand == "weights":
        return 8 * features_per_cycle(arch, pattern)
    return pruned_bits_per_cycle(arch, pattern)


def _widest(arch: Arch, demand) -> int:
    return max([demand(arch, None), *(demand(arch, pattern) for pattern in array_patterns(arch))])


def weight_port_bytes_per_cycle(arch: Arch) -> int:
    """Width of the weight port over all columns, as set or as the widest pattern needs."""
    return arch.sram.weight_port_bytes_per_cycle or arch.array.cols * _widest(arch, weight_bytes_per_column_cycle)


def activation_port_bytes_per_cycle(arch: Arch) -> int:
    """Width of the activation port over all rows, as set or as the widest pattern needs."""
    demand = ceil(arch.array.rows * _widest(arch, activation_bits_per_row_cycle) / 8)
    return arch.sram.activation_port_bytes_per_cycle or demand


def selects(arch: Arch, pattern: Pattern | None) -> bool:
    """Whether the machine has a selector for `pattern`: run-time pruning by a circuit."""
    sparsity = arch.sparsity
    pruned = pattern is not None and not pattern.keeps_all and sparsity.operand == "activations"
    return pruned and sparsity.selector.placement != "software"


def selector_units(arch: Arch, pattern: Pattern | None) -> int:
    """Selectors of `pattern` in one core, as set or enough for full rate; 0 where nothing is selected by a circuit."""
    if not selects(arch, pattern):
        return 0
    selector = arch.sparsity.selector
    if selector.units is not None:
        return selector.units
    lanes = arch.array.lanes
    full_rate = -(-groups_per_cycle(lanes, pattern) * arch.array.rows // cycles_per_group(lanes, pattern))
    if selector.placement == "load":
        return full_rate
    return -(-full_rate * arch.array.cols // selector.sized_for_outputs)
