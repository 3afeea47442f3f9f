"""How long the statistics of a trace's activations take, against reading the same bytes once, in one run.

    python benchmarks/pruning.py --trace demo/smollm2-135m-512 [--pattern 8:16] [--rounds 7] [--mapped]

Everything maps the files anew, as `simulate` does (`--mapped`: once, before), and takes turns in every round; medians
over the rounds after one that compiles and warms. Ratios, because machines differ.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np

from accel_sim.functional import pruning_statistics, zero_statistics
from accel_sim.trace import Trace

PATTERNS = ("2:4", "4:8", "8:16", "16:32", "1:2 of 4:8")


def candidates(trace: Trace, patterns: tuple[str, ...], mapped: bool) -> dict[str, Callable[[], object]]:
    """What is timed, by name; the first is what the others are compared with."""
    names = [site.name for site in trace.sites]
    codes, scales = (cache(read) if mapped else read for read in (trace.codes, trace.scales))
    work: dict[str, Callable[[], object]] = {
        "np.sum": lambda: [np.sum(codes(name).view(np.uint8), dtype=np.int64) for name in names]
    }
    for text in patterns:
        work[f"zero_statistics {text}"] = lambda text=text: [zero_statistics(codes(name), text) for name in names]
        work[f"pruning_statistics {text}"] = lambda text=text: [
            pruning_statistics(codes(name), scales(name), text) for name in names
        ]
    return work


def median_seconds(work: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Median wall time of each, all called in turn; the first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(rounds + 1):
        for name, call in work.items():
            begin = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(times[1:]) for name, times in seconds.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trace", type=Path, required=True)
    parser.add_argument("--pattern", action="append", help="repeatable; none: " + ", ".join(PATTERNS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--mapped", action="store_true", help="leave mapping the files out, of reading as well")
    arguments = parser.parse_args()
    trace = Trace.open(arguments.trace)
    seconds = median_seconds(
        candidates(trace, tuple(arguments.pattern or PATTERNS), arguments.mapped), arguments.rounds
    )
    elements = sum(site.tokens * site.features for site in trace.sites)
    print(f"{len(trace.sites)} sites, {elements / 1e6:.1f} M activations")
    for name, taken in seconds.items():
        print(f"{name:<32} {taken * 1e3:8.1f} ms  {taken / seconds['np.sum']:5.2f} × reading")


if __name__ == "__main__":
    main()
