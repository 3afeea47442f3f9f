"""The stages of the Triton executor alone, with other block shapes than its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields

import torch
from torch import Tensor

from accel_sim.executors.masks import PIPELINES
from accel_sim.executors.triton_executor import Blocks, TritonExecutor
from benchmarks.gpu.ffns import Copies, Copy, relative_error
from benchmarks.gpu.figures import RowsOf
from benchmarks.gpu.timing import Clock, NotCaptured
from benchmarks.rows import Row

GATES = (
    *(Blocks(gate_registers=each) for each in (56, 64, 128)),
    Blocks(gate_warps=2, gate_registers=128),
    Blocks(gate_warps=8),
    *(Blocks(programs=each) for each in (64, 256)),
    Blocks(segment=128, programs=16),
    Blocks(segment=128, programs=32),
    Blocks(segment=512, programs=64),
    Blocks(features=2048),
    Blocks(features=2048, gate_warps=2),
)
"""Blocks of gate and up to try."""
DOWNS = (
    *(Blocks(down_registers=each) for each in (64, 128)),
    Blocks(down_rows=8, down_registers=64),
    Blocks(down_rows=32, down_registers=128),
    Blocks(down_outputs=128, down_registers=64),
    Blocks(down_rows=8, down_outputs=512),
    *(Blocks(down_segment=each) for each in (64, 256)),
    Blocks(down_segment=256, down_rows=32, down_registers=128),
    Blocks(down_warps=2, down_outputs=128),
    Blocks(down_warps=8, down_registers=64),
)
"""Blocks of down to try."""
SKIPPED = 0.9
_SAME = 1e-3
"""‖difference‖ / ‖result‖ that other blocks may make: the order of float32 sums, and one rounding to float16."""

Stage = Callable[[Copy, Blocks], Callable[[], Tensor]]


def tune(
    copies: Copies, clock: Clock, make: RowsOf, gates: Sequence[Blocks], downs: Sequence[Blocks]
) -> Iterator[tuple[list[Row], int]]:
    """Rows of each stage, and how many results were wrong; `copies` are of float16."""
    active = round(copies.each[0].ffn.neurons * (1 - SKIPPED))
    for pipeline in PIPELINES:

        def gate_and_up(copy: Copy, blocks: Blocks, pipeline: str = pipeline) -> Callable[[], Tensor]:
            executor, mask = TritonExecutor(copy.ffn, check_values=False, blocks=blocks), copy.mask(active)
            return lambda: executor.gate_and_up(copies.x, mask, pipeline)

        yield _compared(f"{SKIPPED:.0%} skipped, {pipeline}: gate and up", copies, clock, make, gates, gate_and_up)

    def down(copy: Copy, blocks: Blocks) -> Callable[[], Tensor]:
        executor = TritonExecutor(copy.ffn, check_values=False, blocks=blocks)
        h = executor.gate_and_up(copies.x, copy.mask(active), "sequential")
        return lambda: executor.down(h, copies.x.dtype)

    yield _compared(f"{SKIPPED:.0%} skipped: down and its reduction", copies, clock, make, downs, down)


def changed(blocks: Blocks) -> str:
    """What of `blocks` is not the default's: `programs=8`."""
    told = {each.name: getattr(blocks, each.name) for each in fields(blocks)}
    return ", ".join(f"{name}={value}" for name, value in told.items() if value != getattr(Blocks(), name))


def _compared(
    what: str, copies: Copies, clock: Clock, make: RowsOf, variants: Sequence[Blocks], stage: Stage
) -> tuple[list[Row], int]:
    """One stage with each of the blocks, in turns with the default."""
    works = {Blocks(): [stage(copy, Blocks()) for copy in copies.each]}
    expected = works[Blocks()][0]().double()
    rows, wrong = [], 0
    for blocks in variants:
        name = f"{what}, {changed(blocks)}"
        try:
            calls = [stage(copy, blocks) for copy in copies.each]
            error = relative_error(calls[0](), expected)
        except RuntimeError as refused:  # more registers or shared memory than a multiprocessor has
            rows.append(make.none(name, str(refused).strip().splitlines()[0]))
            continue
        if error > _SAME:
            wrong += 1
            rows.append(make.none(name, f"wrong: {error:.2g} off the default's result"))
        else:
            works[blocks] = calls
    replayed, launched = clock.replayed(works), clock.launched(works)
    seconds = launched if any(isinstance(each, NotCaptured) for each in replayed.values()) else replayed
    for blocks, taken in seconds.items():
        name = f"{what}, {changed(blocks) or 'the default blocks'}, against the default"
        rows.append(make.row(name, taken, seconds[Blocks()], "s", faster=True))
    if copies.x.device.type == "cuda":
        torch.cuda.synchronize()
    return rows, wrong
