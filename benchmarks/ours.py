"""This project's side of the comparisons with peers."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from accel_sim.arch import Arch
from accel_sim.simulation import Machine
from accel_sim.timing import LayerTiming
from accel_sim.timing.pipeline import COMPUTE
from accel_sim.workload import Gemm
from benchmarks.children import Finished, run_child


def timings(arch: Arch, products: Sequence[Gemm]) -> list[LayerTiming]:
    """Every product planned and scheduled on a fresh machine, which schedules equal shapes once, as `simulate` does."""
    machine = Machine(arch, None)
    return [machine.time(gemm) for gemm in products]


def compute_cycles(timing: LayerTiming) -> int:
    """Cycles in which the array is taken: its tiles and, where folds do not overlap, what lies between them."""
    return int(timing.plan.pipeline.durations[..., COMPUTE].sum())


def simulate_command(*arguments: str) -> Finished:
    """A whole `simulate` command, from starting its interpreter: energy, area and statistics are worked out as well.

    It runs twice and the second time counts, as after a first use: compiled code is then cached on disk.
    """
    command = [Path(sys.executable).parent / "simulate", *arguments]
    run_child(command)
    return run_child(command)


def gemm_arguments(products: Sequence[Gemm]) -> list[str]:
    """`--gemm` for each product."""
    sizes = ("x".join(map(str, gemm.shape)) for gemm in products)
    return [argument for size in sizes for argument in ("--gemm", size)]
