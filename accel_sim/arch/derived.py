"""What follows from an architecture and a pattern: rates, port widths, numbers of units.

Timing and cost both read these, so that a machine is charged for exactly the width its speed relies on.
"""

from __future__ import annotations

from math import ceil
from typing import Any

from accel_sim.arch.schema import Arch
from accel_sim.pattern import Pattern


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


def weight_bytes_per_column_cycle(arch: Arch, pattern: Pattern | None) -> int:
    """Weights one column needs each cycle: g·M, or `lanes` on the dense machine."""
    lanes = arch.array.lanes
    if pattern is None:
        return lanes
    return -(-groups_per_cycle(lanes, pattern) * pattern.m // cycles_per_group(lanes, pattern))


def activation_bits_per_row_cycle(arch: Arch, pattern: Pattern | None) -> int:
    """Kept activations and metadata one row needs each cycle, in bits."""
    lanes = arch.array.lanes
    if pattern is None:
        return 8 * lanes
    bits = groups_per_cycle(lanes, pattern) * (8 * pattern.n + pattern.metadata_bits(arch.sparsity.metadata))
    return -(-bits // cycles_per_group(lanes, pattern))


def _widest(arch: Arch, demand) -> int:
    sparse = [pattern for pattern in arch.sparsity.patterns if not pattern.keeps_all]
    return max([demand(arch, None), *(demand(arch, pattern) for pattern in sparse)])


def weight_port_bytes_per_cycle(arch: Arch) -> int:
    """Width of the weight port over all columns, as set or as the widest pattern needs."""
    return arch.sram.weight_port_bytes_per_cycle or arch.array.cols * _widest(arch, weight_bytes_per_column_cycle)


def activation_port_bytes_per_cycle(arch: Arch) -> int:
    """Width of the activation port over all rows, as set or as the widest pattern needs."""
    demand = ceil(arch.array.rows * _widest(arch, activation_bits_per_row_cycle) / 8)
    return arch.sram.activation_port_bytes_per_cycle or demand


def selector_units(arch: Arch, pattern: Pattern | None) -> int:
    """Selectors of `pattern` in the machine, as set or enough for full rate; 0 on a dense machine."""
    if pattern is None:
        return 0
    selector = arch.sparsity.selector
    if selector.units is not None:
        return selector.units
    lanes = arch.array.lanes
    full_rate = -(-groups_per_cycle(lanes, pattern) * arch.array.rows // cycles_per_group(lanes, pattern))
    if selector.placement == "load":
        return full_rate
    return -(-full_rate * arch.array.cols // selector.sized_for_outputs)
