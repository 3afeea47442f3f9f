"""What an array that skips zeros does with one product: the cycles of its panels, who waits for whom, and supply."""

from __future__ import annotations

from accel_sim.arch.derived import slices, supplied_groups_per_cycle, tile_row_cycles, weight_port_bytes_per_cycle
from accel_sim.cli.screen import count, span
from accel_sim.pattern import Pattern
from accel_sim.simulation import Machine
from accel_sim.timing import LayerTiming
from accel_sim.timing.array_time import full_windows
from accel_sim.timing.product import Product


def skipping_lines(timing: LayerTiming, machine: Machine, pattern: Pattern) -> list[str]:
    """Elastic and unstructured skipping: what a tile takes of what full groups would, and who waits for whom."""
    product, sparsity, lanes = timing.plan.product, machine.arch.sparsity, machine.arch.array.lanes
    full = full_windows(product, machine.arch, pattern)
    windows = product.windows or full
    panels, most = windows.cycles.sum(axis=1), int(full.cycles.sum(axis=1).max())
    known = "" if product.windows else " (its activations are not known: every group counts as full)"
    slots = product.tokens * pattern.groups(product.features) * pattern.n
    return [
        f"array tile: {machine.arch.array.rows} tokens × {machine.arch.array.cols} outputs; "
        f"{span(int(panels.min()), int(panels.max()))} cycles, mean {panels.mean():.1f} over"
        f" {count(len(panels), 'panel')} of tokens{known}; every group full: {most}; fixed skipping"
        f" {tile_row_cycles(lanes, product.features, pattern)}, dense {tile_row_cycles(lanes, product.features, None)}",
        f"{windows.nonzeros.sum() / slots:.1%} of the kept slots hold no zero;"
        f" {_waiting(timing):.1%} of the array's time is synchronisation: rows{_and_slices(machine)} wait for the"
        f" slowest of them every {sparsity.sync_window} groups",
        _dealing(product, machine, pattern),
        f"the weight port supplies {count(supplied_groups_per_cycle(machine.arch), 'group')} a cycle, so a window of"
        f" {min(sparsity.sync_window, pattern.groups(product.features))} takes"
        f" {_supply(product, machine, pattern)} cycles at least",
    ]


def _waiting(timing: LayerTiming) -> float:
    compute = timing.plan.compute
    waiting = compute.synchronisation.sum()
    return float(waiting / (waiting + compute.array.sum()))


def _and_slices(machine: Machine) -> str:
    return " and slices" if machine.arch.sparsity.skipping == "elastic" else ""


def _supply(product: Product, machine: Machine, pattern: Pattern) -> int:
    groups = min(machine.arch.sparsity.sync_window, pattern.groups(product.features))
    cols = min(machine.arch.array.cols, product.outputs)
    return -(-groups * pattern.m * cols // weight_port_bytes_per_cycle(machine.arch))


def _dealing(product: Product, machine: Machine, pattern: Pattern) -> str:
    """How groups come to slices (or lanes), and the rounds lost where they do not come out even."""
    arch, groups = machine.arch, pattern.groups(product.features)
    sizes = [min(arch.sparsity.sync_window, groups - at) for at in range(0, groups, arch.sparsity.sync_window)]
    if arch.sparsity.skipping == "unstructured":
        banks = arch.sparsity.window_banks
        through = "" if banks is None else f", or its fullest of {banks} banks if that takes longer"
        return (
            f"a row takes max(1, ceil(non-zeros / {arch.array.lanes})) cycles a window{through};"
            f" {len(sizes)} windows of {span(min(sizes), max(sizes))} groups, each rounded up"
        )
    parts, each = slices(arch), arch.sparsity.elastic_lanes
    rounds = sum(-(-size // parts) for size in sizes)
    rule = f"a group takes max(1, ceil(non-zeros / {each})) cycles of one of {parts} slices"
    if rounds * parts == groups:
        return f"{rule}; {groups} groups deal evenly, {rounds} rounds"
    cut = f" (windows of {' + '.join(map(str, sizes))})" if 1 < len(sizes) <= 4 else ""
    return (
        f"{rule}; {groups} groups do not deal evenly over {parts} slices: {rounds} rounds{cut} where"
        f" {groups / parts:.2f} would do"
    )
