"""What each core does of one product, what they share, and how long they wait for each other."""

from __future__ import annotations

from dataclasses import astuple, dataclass
from itertools import groupby

import numpy as np
from rich.table import Table

from accel_sim.cli.screen import size, span, table_of
from accel_sim.simulation import Machine
from accel_sim.timing import LayerTiming
from accel_sim.timing.pipeline import COMPUTE, LOAD, REQUANTISE, SELECT, STORE


@dataclass(frozen=True)
class CoreShare:
    """One core's part; cycles are sums over its items."""

    units: int
    """Tokens or outputs, by `cores.split`; where both are dealt out, sums (tokens × outputs)."""
    computing: int
    waiting: int
    """Its own loads and stores were ready, and the memory served something else."""


def core_shares(timing: LayerTiming, machine: Machine) -> list[CoreShare]:
    """The cores in order."""
    items, product, durations = timing.plan.items, timing.plan.product, timing.plan.pipeline.durations
    done = np.where(items.completes, items.tokens * items.outputs, 0).sum(axis=1)
    other = {"tokens": product.outputs, "outputs": product.tokens}.get(machine.arch.cores.split, 1)
    waits = memory_waits(timing).sum(axis=(1, 2))
    return [
        CoreShare(int(done[core]) // other, int(durations[core, :, COMPUTE].sum()), int(waits[core]))
        for core in range(machine.arch.cores.count)
    ]


def memory_waits(timing: LayerTiming) -> np.ndarray:
    """[cores, items, 2]: cycles that each load and store waited with all it needs of its own cores at hand.

    The memory was busy with another core, or another item came before in its fixed order.
    """
    pipeline, start, end = timing.plan.pipeline, timing.schedule.start, timing.schedule.end
    cores, items = start.shape[:2]
    ready = np.zeros((cores, items, 2), dtype=np.int64)
    ready[:, 1:, 0] = end[:, :-1, LOAD]
    ready[:, 1:, 1] = end[:, :-1, STORE]
    freed = np.zeros((cores, items), dtype=np.int64)  # when the item's place in SRAM is
    freed[:, 2:] = end[:, :-2, COMPUTE]
    freed[:, 1:] = np.where(pipeline.exclusive[1:], end[:, :-1, COMPUTE], freed[:, 1:])
    freed[:, pipeline.shared] = freed[:, pipeline.shared].max(axis=0)
    selected = (end[..., SELECT] + pipeline.latencies[SELECT]).max(axis=0)
    freed[:, 1:] = np.where(pipeline.after_select[1:], np.maximum(freed[:, 1:], selected[:-1]), freed[:, 1:])
    ready[..., 0] = np.maximum(ready[..., 0], freed)
    ready[..., 1] = np.maximum(ready[..., 1], end[..., REQUANTISE] + pipeline.latencies[REQUANTISE])
    waits = start[..., [LOAD, STORE]] - ready
    return np.where(pipeline.durations[..., [LOAD, STORE]] > 0, waits, 0)


def core_lines(timing: LayerTiming, machine: Machine) -> list[str]:
    """What all cores need, how it comes to them, and how busy the memory is between them."""
    cores, pipeline, items = machine.arch.cores, timing.plan.pipeline, timing.plan.items
    grid = items.grid
    fetched = {"activations": items.activation_bytes, "weights": items.weight_bytes}
    is_shared = {"activations": grid.shares_activations, "weights": grid.shares_weights}
    names = [name for name, several in is_shared.items() if several] or ["activations"]
    common, shared = " and ".join(names), sum(int(fetched[name].sum()) for name in names)
    busy = int(pipeline.durations[:, :, [LOAD, STORE]].sum())
    brought = "are there already"
    if shared:
        loads = f"{int(pipeline.shared.sum())} of {pipeline.items} loads"
        whom = {"grid": "a row or column", "tiles": "a wave that need it"}.get(cores.split, "them")
        brought = f"come once for all of {whom} ({size(shared)}), in {loads}, which wait for a free place in every core"
    split = f"split the {cores.split}"
    if cores.split == "grid":
        split = f"are a grid of {grid.token_parts} (tokens) × {grid.output_parts} (outputs)"
    if cores.split == "tiles":
        tiles = int((items.completes * items.tiles).sum())
        split = f"are dealt {tiles:,} tiles one by one, {grid.token_parts} panels of tokens abreast,"
        split += f" in {-(-tiles // cores.count):,} waves"
    lines = [
        f"{cores.count} cores {split}; the {common} {brought}",
        f"contention: the memory is busy {busy / timing.cycles:.1%} of the time; cores wait"
        f" {int(memory_waits(timing).sum()):,} cycles in sum while it serves others",
    ]
    if cores.shared_buffer_bytes:
        lines.append(_shared_buffer(timing, machine))
    return [*lines, "in the stages below, load and store are of all cores together, the others of the busiest one"]


def _shared_buffer(timing: LayerTiming, machine: Machine) -> str:
    cores, moved = machine.arch.cores, timing.plan.traffic
    from_memory = np.ceil(moved.read / machine.arch.dram.bytes_per_cycle)
    slower = int((timing.plan.item_durations[..., LOAD] - from_memory).sum())
    return (
        f"shared buffer of {size(cores.shared_buffer_bytes)}: the cores fetch {size(int(moved.buffered.sum()))} through"
        f" it, {size(int(moved.read.sum()))} of that from DRAM; its port, {cores.shared_buffer_bytes_per_cycle} B a"
        f" cycle, makes loads {slower:,} cycles longer"
    )


def core_table(timing: LayerTiming, machine: Machine) -> Table:
    """Cores that do the same as one row."""
    split = machine.arch.cores.split
    table = table_of("cores")
    table.add_column("core")
    for column in ("sums" if split in ("grid", "tiles") else split, "computing", "of all", "waits for memory"):
        table.add_column(column, justify="right", no_wrap=True)
    shares = core_shares(timing, machine)
    for (units, computing), group in groupby(range(len(shares)), lambda core: astuple(shares[core])[:2]):
        members = list(group)
        waits = [shares[core].waiting for core in members]
        table.add_row(
            span(members[0], members[-1]),
            f"{units:,}",
            f"{computing:,}",
            f"{computing / timing.cycles:.1%}",
            span(min(waits), max(waits)),
        )
    return table
