"""How the items of a plan walk over two operands: blocks of the held one, panels of the other, chunks of features."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import ceil

import numpy as np

from accel_sim.arch.schema import Arch
from accel_sim.demand.requests import Integers
from accel_sim.timing.layer import Plan
from accel_sim.timing.tiling import share


@dataclass(frozen=True)
class Runs:
    """Rows of one operand (tokens, or outputs), dealt to cores and cut into what is fetched together."""

    units: Integers
    """Rows of each run, [cores, runs]; 0 where a core has fewer."""
    fetcher: Integers
    """The core that fetches each core's rows, for itself and all that have the same ones, [cores]."""

    def behind_each_other(self, sizes: Integers) -> Integers:
        """Where each run of `sizes` [cores, runs] starts when they lie one behind the other."""
        own, index = np.unique(self.fetcher, return_inverse=True)
        of_own = sizes[own]
        return (np.cumsum(of_own) - of_own.ravel()).reshape(of_own.shape)[index]

    def distinct(self, amounts: Integers) -> Integers:
        """`amounts` [cores, runs] of the runs that differ, in the order of their rows."""
        return amounts[np.unique(self.fetcher)].ravel()

    @cached_property
    def first(self) -> Integers:
        """First row of each run in the whole operand, [cores, runs]."""
        return self.behind_each_other(self.units)


@dataclass(frozen=True)
class Operand:
    """One operand, as the items use it."""

    held: bool
    runs: Runs
    """Blocks of the held operand, panels of the streaming one."""
    run: Integers
    """Which of them each item computes with, [items]."""
    fetched: Integers
    """Which of them its load belongs to: while one block is used, shares of the next one may come."""
    panel_units: int
    """Rows in a full panel."""
    whole: bool
    """Rows are fetched with all their features; else in chunks."""
    replacement: str
    """How its place in SRAM is filled anew: `Tiling.replacement`, or `Tiling.streaming`."""

    def brought_before(self, amounts: Integers) -> Integers:
        """Of `amounts` that items bring, [cores, items], what earlier ones have brought of the same run."""
        if not self.whole:
            return np.zeros_like(amounts)
        before = np.cumsum(amounts, axis=1) - amounts
        return before - before[:, np.searchsorted(self.fetched, self.fetched)]


@dataclass(frozen=True)
class Walk:
    """The items of a plan in execution order."""

    activations: Operand
    weights: Operand
    chunk: Integers
    """[items]."""
    chunk_features: Integers
    """[chunks]."""


def walk(plan: Plan, arch: Arch) -> Walk:
    """Read the blocks, panels and chunks off a plan: for every block, for every panel, for every chunk."""
    items, tiling, product = plan.items, plan.tiling, plan.product
    chunks = int(np.argmax(items.completes)) + 1
    by_weights = tiling.held == "weights"
    held, panel = (product.outputs, arch.array.cols) if by_weights else (product.tokens, tiling.panel_tokens)
    grid = items.grid
    mine = share(held, panel, grid.output_parts if by_weights else grid.token_parts)
    blocks = ceil(ceil(mine / panel) / tiling.block_panels)
    shape = (blocks, items.tokens.shape[1] // (blocks * chunks), chunks)
    block, streamed, chunk = np.indices(shape).reshape(3, -1)

    def operand(name: str, units: Integers, panel_units: int) -> Operand:
        units, is_held = units.reshape(arch.cores.count, *shape), tiling.held == name
        first_of_row, first_of_column = grid.token_part * grid.output_parts, grid.output_part
        fetcher = np.maximum(first_of_row if name == "activations" else first_of_column, 0)  # idle ones: any
        replacement = tiling.replacement if is_held else tiling.streaming
        run = block if is_held else streamed
        ahead = is_held and replacement == "double" and shape[1] * chunks > 1
        return Operand(
            held=is_held,
            runs=Runs(units[:, :, 0, 0] if is_held else units[:, 0, :, 0], fetcher),
            run=run,
            fetched=run + (ahead & ((streamed > 0) | (chunk > 0))),
            panel_units=panel_units,
            whole=is_held and replacement != "chunks",
            replacement=replacement,
        )

    return Walk(
        activations=operand("activations", items.tokens, tiling.panel_tokens),
        weights=operand("weights", items.outputs, arch.array.cols),
        chunk=chunk,
        chunk_features=items.features[0, :chunks],
    )
