"""How long simulating a trace takes, against reading its bytes once and against the SimPy engine, in one run.

    python benchmarks/simulate.py --trace demo/smollm2-135m-512

Medians over the rounds; inside one warm process, checksums apart. Ratios, because machines differ.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from accel_sim.arch import load_arch
from accel_sim.simulation import simulate
from accel_sim.trace import Trace
from accel_sim.workload import Workload
from accel_sim.workload.from_trace import workload_from_trace


def median_seconds(work: Callable[[], object], rounds: int) -> float:
    """Median wall time of `work` after one warm-up call."""
    work()
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def read_once(workload: Workload) -> int:
    """The limit: every activation byte touched once."""
    return sum(int(np.sum(site.load()[0].view(np.uint8), dtype=np.int64)) for site in workload.sites.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", type=Path, required=True)
    parser.add_argument("--arch", default="8x16.yaml")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    arch = load_arch(arguments.arch)
    workload = workload_from_trace(Trace.open(arguments.trace))
    reading = median_seconds(lambda: read_once(workload), arguments.rounds)
    compiled = median_seconds(lambda: simulate(arch, workload), arguments.rounds)
    event = median_seconds(lambda: simulate(arch, workload, engine="event"), arguments.rounds)
    print(f"{workload.source}; {arch.name}")
    print(f"reading the activations once (np.sum)  {reading * 1e3:9.1f} ms")
    print(f"simulate, compiled engine              {compiled * 1e3:9.1f} ms  {compiled / reading:6.2f} × reading")
    print(f"simulate, SimPy engine                 {event * 1e3:9.1f} ms  {event / compiled:6.2f} × compiled")


if __name__ == "__main__":
    main()
