"""How fast the functional backends are, as ratios to named peers timed in the same run.

    python benchmarks/functional.py [--pattern 8:16] [--rounds 5] [--json FILE]

Products count as dense ones (2·T·K·F operations), whatever the pattern leaves out, and include selection; their peers
are the dense products `numpy.matmul` in float32 and, where torch is installed, `torch._int_mm`. Selection's peer is
`torch.topk` over the same groups, which has no tie rule and packs nothing; without torch, `numpy.argpartition`.
All candidates take turns in every round and the fastest round of each counts, so that a busy machine hits them alike.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from accel_sim import AccelSimError, Pattern
from accel_sim.functional import BACKENDS, backend_notes, select, sparse_matmul
from accel_sim.functional.backends import backend

SHAPES = ((512, 576, 1536), (512, 1536, 576), (512, 4096, 4096))
"""T, K, F: SmolLM2-135M's gate/up and down projections at 512 tokens, and a layer of a 7B model's width."""
SLOW = ("numpy",)
"""Measured once: the reference is there to be read."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pattern", type=Pattern, default=Pattern("8:16"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    notes = backend_notes()
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, pattern {arguments.pattern}")
    for name, note in notes.items():
        print(f"  {name:<11} {note}")
    rows = [row for shape in SHAPES for row in measure(shape, arguments.pattern, arguments.rounds)]
    for row in rows:
        ratios = ", ".join(f"{ratio:.2f}x {peer}" for peer, ratio in row["ratios"].items())
        print(f"{row['work']:<14} {row['shape']:<14} {row['candidate']:<22} {row['rate']:9.2f} {row['unit']}  {ratios}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"backends": notes, "rows": rows}, indent=2) + "\n")


def measure(shape: tuple[int, int, int], pattern: Pattern, rounds: int) -> list[dict]:
    """Rows of the table for one shape: products, then selection."""
    tokens, features, outputs = shape
    draw = np.random.default_rng(0)
    x = np.clip(np.rint(draw.normal(0, 25, (tokens, features))), -127, 127).astype(np.int8)
    w = draw.integers(-127, 128, (features, outputs)).astype(np.int8)
    here = [name for name in BACKENDS if is_here(name)]
    products = {name: lambda name=name: sparse_matmul(x, w, pattern, backend=name) for name in here}
    selections = {name: lambda name=name: select(x, pattern, backend=name) for name in here}
    return [
        *table("sparse_matmul", shape, dense_peers(x, w), products, rounds, 2 * x.size * outputs, "GOPS"),
        *table("select", shape, selection_peers(x, pattern), selections, rounds, x.size, "G elements/s"),
    ]


def dense_peers(x: np.ndarray, w: np.ndarray) -> dict[str, Callable[[], object]]:
    float_x, float_w = x.astype(np.float32), w.astype(np.float32)
    peers: dict[str, Callable[[], object]] = {"numpy.matmul float32": lambda: float_x @ float_w}
    if is_here("torch"):
        import torch

        codes, weights = torch.tensor(x), torch.tensor(w)
        peers["torch._int_mm"] = lambda: torch._int_mm(codes, weights)
    return peers


def selection_peers(x: np.ndarray, pattern: Pattern) -> dict[str, Callable[[], object]]:
    groups = np.abs(x[:, : x.shape[1] // pattern.m * pattern.m]).reshape(-1, pattern.m)
    if is_here("torch"):
        import torch

        tensor = torch.tensor(groups)
        return {"torch.topk": lambda: torch.topk(tensor, pattern.n, dim=1)}
    return {"numpy.argpartition": lambda: np.argpartition(-groups, pattern.n - 1, axis=1)}


def table(
    work: str,
    shape: tuple[int, int, int],
    peers: dict[str, Callable[[], object]],
    candidates: dict[str, Callable[[], object]],
    rounds: int,
    operations: int,
    unit: str,
) -> list[dict]:
    seconds = fastest({**peers, **candidates}, rounds)
    return [
        {
            "work": work,
            "shape": "x".join(map(str, shape)),
            "candidate": name,
            "seconds": seconds[name],
            "rate": operations / seconds[name] / 1e9,
            "unit": unit,
            "ratios": {peer: seconds[peer] / seconds[name] for peer in peers if peer != name},
        }
        for name in seconds
    ]


def fastest(candidates: dict[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Seconds of the fastest call of each, all called in turn; one call before the first round compiles and warms."""
    best = dict.fromkeys(candidates, float("inf"))
    for number in range(-1, rounds):
        for name, call in candidates.items():
            if name in SLOW and number > 0:
                continue
            start = time.perf_counter()
            call()
            if number >= 0:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


def is_here(name: str) -> bool:
    try:
        backend(name)
    except AccelSimError:
        return False
    return True


if __name__ == "__main__":
    main()
