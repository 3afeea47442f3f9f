"""What the vector unit does for one operation, in lines."""

from __future__ import annotations

from accel_sim.arch.derived import selector_units
from accel_sim.simulation import Machine
from accel_sim.timing.vector import CHUNKS, VectorTiming

STAGES = ("load", "(none)", "lanes", "selectors", "store")
"""What the five stages of the pipeline are to a vector operation."""


def vector_lines(timing: VectorTiming, machine: Machine) -> list[str]:
    """The lanes' work, what is moved, the chunks, and the selectors behind the lanes."""
    work, operation, cores = timing.work, timing.work.operation, machine.arch.cores.count
    total = int(work.lane_operations.sum())
    lanes = f"{work.lanes} lanes" + (f" in each of {cores} cores" if cores > 1 else "")
    return [
        f"lanes: {operation.operations_per_element} operations an element and {operation.operations_per_row} a row of"
        f" {operation.elements // operation.rows:,}, {total:,} in all; {lanes}:"
        f" {total / (work.lanes * cores):,.1f} cycles at full rate",
        f"reads {_moved(operation.read_bytes, operation.inputs_on_chip)}, writes"
        f" {_moved(operation.written_bytes, operation.outputs_on_chip)}; with DRAM it exchanges"
        f" {int(work.read_bytes.sum()):,} + {int(work.written_bytes.sum()):,} B in whole bursts, at"
        f" {machine.arch.dram.bytes_per_cycle:g} B a cycle",
        f"whole rows only: {operation.rows:,} rows in {work.groups.size} chunks, at least {CHUNKS} a core where there"
        " are so many rows, more where two chunks would not fit the buffers",
        _selection(timing, machine),
    ]


def _moved(count: int, on_chip: bool) -> str:
    return f"{count:,} B{' on chip' * on_chip}"


def _selection(timing: VectorTiming, machine: Machine) -> str:
    groups, site = int(timing.work.groups.sum()), timing.work.operation.site
    if not groups:
        return "nothing is selected behind the lanes"
    return (
        f"selected behind the lanes (write_back): {groups:,} groups of {machine.pattern} for {site} through"
        f" {selector_units(machine.arch, machine.pattern)} selectors, stored compressed"
    )
