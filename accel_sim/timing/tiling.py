"""How one matrix product is cut into tiles, and which ways to cut it fit the buffers.

The array works on rows × cols output tiles with the whole reduction dimension innermost, because accumulators stay in
the processing elements. A panel is what one array tile needs of an operand: `rows` tokens or `cols` outputs, with all
features. One operand is held: a block of its panels stays in SRAM while the panels of the other operand stream past.
A pipeline item is one block against one streaming panel, or against a chunk of its features where a panel is too large.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Literal

import numpy as np
import numpy.typing as npt

from accel_sim.arch.derived import groups_per_cycle
from accel_sim.arch.schema import Arch
from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern
from accel_sim.workload import Gemm

SCALE_BYTES = 4
"""A float32 scale comes from DRAM with every token and with the weights of every output. Scales wait in registers
beside the requantisers, not in SRAM."""

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Formats:
    """Bytes of one token's activations and of one output's weights where they are stored."""

    activation_dram_bytes: int
    activation_sram_bytes: int
    weight_dram_bytes: int
    weight_sram_bytes: int


def formats(gemm: Gemm, arch: Arch, pattern: Pattern | None) -> Formats:
    """Dense everywhere, except kept activations with their metadata in SRAM (and in DRAM at `write_back`)."""
    dense = gemm.features
    in_sram = in_dram = dense
    if pattern is not None:
        groups = pattern.groups(gemm.features)
        in_sram = groups * pattern.n + -(-groups * pattern.metadata_bits(arch.sparsity.metadata) // 8)
        in_dram = in_sram if arch.sparsity.selector.placement == "write_back" else dense
    return Formats(in_dram + SCALE_BYTES, in_sram, dense + SCALE_BYTES, dense)


@dataclass(frozen=True)
class Tiling:
    """One way to cut a product: which operand is held, how its blocks are replaced, how the other operand streams."""

    held: Literal["activations", "weights"]
    """The operand of the outer loop."""
    block_panels: int
    """Panels of the held operand in one block."""
    replacement: Literal["never", "double", "single", "chunks"]
    """The block is the whole operand; or the next one loads into the other half meanwhile; or it waits until the block
    is used up; or not even a panel fits and its chunks are fetched again for every array tile."""
    streaming: Literal["resident", "double", "single", "chunks"]
    """The streaming operand fits whole and is fetched once; or its panels go through two halves; or through one, so
    that loading and computing take turns; or chunks of a panel's features go through two halves."""
    chunks: int = 1
    """Pieces that the features of a panel are cut into."""

    def __str__(self) -> str:
        other = "weights" if self.held == "activations" else "activations"
        pieces = f" of 1/{self.chunks} panel" if self.chunks > 1 else ""
        block = f"{self.held} in blocks of {self.block_panels} panels ({self.replacement})"
        return f"{block}, {other} {self.streaming}{pieces}"


@dataclass(frozen=True)
class _Operand:
    units: int
    """Tokens of the activations, outputs of the weights."""
    panel_units: int
    """Units in a full panel: rows or cols of the array."""
    unit_bytes: int
    capacity: int

    @property
    def panels(self) -> int:
        return -(-self.units // self.panel_units)

    @property
    def panel_bytes(self) -> int:
        return min(self.units, self.panel_units) * self.unit_bytes

    def panels_that_fit(self, halves: int = 1) -> int:
        """Panels in one of `halves` equal parts of the buffer, at most all of them."""
        if halves == 1 and self.units * self.unit_bytes <= self.capacity:
            return self.panels
        return min(self.panels, self.capacity // (halves * self.panel_bytes))


def _operands(gemm: Gemm, arch: Arch, pattern: Pattern | None) -> dict[str, _Operand]:
    stored = formats(gemm, arch, pattern)
    return {
        "activations": _Operand(gemm.tokens, arch.array.rows, stored.activation_sram_bytes, arch.sram.activation_bytes),
        "weights": _Operand(gemm.outputs, arch.array.cols, stored.weight_sram_bytes, arch.sram.weight_bytes),
    }


def chunk_step(arch: Arch, pattern: Pattern | None) -> int:
    """Features are cut at multiples of what the array consumes in one cycle, so that no cycle is lost."""
    return arch.array.lanes if pattern is None else groups_per_cycle(arch.array.lanes, pattern) * pattern.m


def tilings(gemm: Gemm, arch: Arch, pattern: Pattern | None) -> list[Tiling]:
    """Every tiling that fits the buffers, for both operands held.

    Raises AccelSimError naming the buffer and the bytes missing when there is none.
    """
    operands = _operands(gemm, arch, pattern)
    tile_bytes = min(arch.array.rows, gemm.tokens) * min(arch.array.cols, gemm.outputs)
    largest_block = arch.sram.output_bytes // (2 * tile_bytes)
    if largest_block == 0:
        missing = 2 * tile_bytes - arch.sram.output_bytes
        raise AccelSimError(f"arch {arch.name}, layer {gemm.name}: sram.output_bytes is {missing} bytes too small")
    step = Fraction(chunk_step(arch, pattern), gemm.features)
    found = list(_holding("weights", operands["weights"], operands["activations"], largest_block, step))
    found += _holding("activations", operands["activations"], operands["weights"], largest_block, step)
    return found or [_holding_nothing(gemm, arch, operands, step)]


def _holding(held: str, block: _Operand, stream: _Operand, largest_block: int, step: Fraction) -> Iterator[Tiling]:
    double = min(block.panels_that_fit(halves=2), largest_block)
    single = min(block.panels_that_fit(), largest_block)
    sizes = {1 << power for power in range(double.bit_length())} | {double, single}
    for size in sorted(sizes - {0}):
        replacement = "never" if size == block.panels else "double" if size <= double else "single"
        for streaming, chunks in _streaming(stream, size, step):
            yield Tiling(held, size, replacement, streaming, chunks)


def _streaming(stream: _Operand, block_panels: int, step: Fraction) -> Iterator[tuple[str, int]]:
    if stream.panels_that_fit() == stream.panels:
        yield "resident", 1
    elif stream.panels_that_fit(halves=2):
        yield "double", 1
    else:
        if stream.panels_that_fit():
            yield "single", 1
        chunks = _chunks(stream, step)
        if block_panels == 1 and chunks:
            yield "chunks", chunks


def _chunks(operand: _Operand, step: Fraction) -> int:
    """Fewest chunks of a panel, each a whole number of steps, that go through two halves of the buffer.

    `step` is the part of a panel's features that the array consumes in a cycle. 0 when even one step is too large.
    """
    steps_that_fit = int(operand.capacity / (2 * operand.panel_bytes * step))
    return ceil(ceil(1 / step) / steps_that_fit) if steps_that_fit else 0


def _holding_nothing(gemm: Gemm, arch: Arch, operands: dict[str, _Operand], step: Fraction) -> Tiling:
    chunks = {name: _chunks(operand, step) for name, operand in operands.items()}
    for name, operand in operands.items():
        if not chunks[name]:
            missing = ceil(2 * operand.panel_bytes * min(step, 1)) - operand.capacity
            key = f"sram.{name.removesuffix('s')}_bytes"
            where = f"arch {arch.name}, layer {gemm.name}"
            raise AccelSimError(f"{where}: {key} is {missing} bytes too small for what the array takes in a cycle")
    return Tiling("weights", 1, "chunks", "chunks", max(chunks.values()))


def item_count(gemm: Gemm, arch: Arch, tiling: Tiling) -> int:
    """Pipeline items that `cut` makes (at most: chunks may come out fewer)."""
    panels = {
        "activations": -(-gemm.tokens // arch.array.rows),
        "weights": -(-gemm.outputs // arch.array.cols),
    }
    held = panels.pop(tiling.held)
    (streamed,) = panels.values()
    return -(-held // tiling.block_panels) * streamed * tiling.chunks


@dataclass(frozen=True)
class Items:
    """What each pipeline item brings and does: arrays over the items, in execution order.

    Elements are codes of the dense matrices, tokens × features or features × outputs.
    """

    tokens: Integers
    outputs: Integers
    features: Integers
    array_tiles: Integers
    loaded_activations: Integers
    """Elements fetched from DRAM (and selected)."""
    loaded_weights: Integers
    completes: npt.NDArray[np.bool_]
    """The accumulators hold final sums afterwards: they are requantised and stored."""
    exclusive: npt.NDArray[np.bool_]
    """The load overwrites what the item before still uses."""


def cut(gemm: Gemm, arch: Arch, pattern: Pattern | None, tiling: Tiling) -> Items:
    """The items of one product under a tiling: for every block, for every streaming panel, for every chunk."""
    operands = _operands(gemm, arch, pattern)
    block, stream = operands["weights"], operands["activations"]
    if tiling.held == "activations":
        block, stream = stream, block
    block_units = _parts(block.units, tiling.block_panels * block.panel_units)
    stream_units = _parts(stream.units, stream.panel_units)
    step = chunk_step(arch, pattern)
    steps = -(-gemm.features // step)
    features = _parts(gemm.features, -(-steps // tiling.chunks) * step)

    b, p, c = np.indices((len(block_units), len(stream_units), len(features))).reshape(3, -1)
    starts_block = (p == 0) & (c == 0)
    streamed = np.where((b == 0) | (tiling.streaming != "resident"), stream_units[p] * features[c], 0)
    if tiling.replacement == "chunks":
        held = block_units[b] * features[c]
    elif tiling.replacement == "double":
        held = _prefetched(block_units * gemm.features, len(stream_units) * len(features))
    else:
        held = np.where(starts_block, block_units[b] * gemm.features, 0)
    held_units, other_units = block_units[b], stream_units[p]
    by_weights = tiling.held == "weights"
    return Items(
        tokens=other_units if by_weights else held_units,
        outputs=held_units if by_weights else other_units,
        features=features[c],
        array_tiles=-(-held_units // block.panel_units),
        loaded_activations=streamed if by_weights else held,
        loaded_weights=held if by_weights else streamed,
        completes=c == len(features) - 1,
        exclusive=(np.arange(len(b)) > 0)
        & ((tiling.streaming == "single") | (starts_block & (tiling.replacement == "single"))),
    )


def _parts(total: int, size: int) -> Integers:
    """`total` cut into parts of `size`, the last one smaller."""
    return np.minimum(size, total - np.arange(0, total, size, dtype=np.int64))


def _prefetched(blocks: Integers, items_per_block: int) -> Integers:
    """Elements of the held operand by item: the first block at once, every other one in equal shares behind the block
    before it, from that block's second item on (its first item still shares the buffer with the block before)."""
    loads = np.zeros((len(blocks), items_per_block), dtype=np.int64)
    if items_per_block == 1:
        loads[:, 0] = blocks
        return loads.ravel()
    loads[0, 0] = blocks[0]
    shares = np.arange(items_per_block, dtype=np.int64)
    loads[:-1, 1:] = np.diff(blocks[1:, None] * shares // (items_per_block - 1), axis=1)
    return loads.ravel()
