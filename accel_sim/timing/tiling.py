"""Which ways to cut one matrix product into tiles fit the buffers.

A panel is what one array tile needs of an operand, with all features: `cols` outputs, and the tokens that go through
the array together. Output-stationary these are `rows` tokens, as accumulators stay in the processing elements.
Weight-stationary they are as many as their partial sums fit the accumulator SRAM, as they stream past the weights.

One operand is held: a block of its panels stays in SRAM while the panels of the other operand stream past. A pipeline
item is one block against one streaming panel, or against a chunk of its features where a panel is too large.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Literal

from accel_sim.arch.derived import array_pattern, features_per_cycle
from accel_sim.arch.schema import Arch
from accel_sim.arch.sparsity import SKIPS_ZEROS
from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern
from accel_sim.timing.core_grid import CoreGrid
from accel_sim.timing.formats import formats
from accel_sim.timing.product import Product

ACCUMULATOR_BYTES = 4
"""An INT32 partial sum."""
PANEL_HALVINGS = 3
"""Weight-stationary panels tried: as many tokens as the accumulators hold, half of them, a quarter, an eighth."""


@dataclass(frozen=True)
class Tiling:
    """One way to cut a product: which operand is held, how its blocks are replaced, how the other operand streams."""

    held: Literal["activations", "weights"]
    """The operand of the outer loop."""
    block_panels: int
    """Panels of the held operand in one block."""
    panel_tokens: int
    """Tokens in a panel of the activations."""
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
        return f"{block}, {other} {self.streaming}{pieces}, {self.panel_tokens} tokens a panel"


@dataclass(frozen=True)
class _Operand:
    units: int
    """Tokens of the activations, outputs of the weights."""
    panel_units: int
    """Units in a full panel."""
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


def chunk_step(arch: Arch, pattern: Pattern | None) -> int:
    """Features in the smallest piece that a panel can be cut into: what a row or column takes in a cycle (all rows of a
    weight-stationary array together), or a window where zeros are skipped."""
    if arch.sparsity.skipping in SKIPS_ZEROS and pattern is not None:
        return arch.sparsity.sync_window * pattern.m
    rows = arch.array.rows if arch.array.dataflow == "weight_stationary" else 1
    pattern = array_pattern(arch, pattern)
    each = features_per_cycle(arch, pattern)
    if pattern is not None:  # whole groups, also where a group takes several cycles
        each = -(-each // pattern.m) * pattern.m
    return rows * each


def share(units: int, panel: int, cores: int) -> int:
    """Units of the largest core's share: whole panels, dealt as evenly as they go."""
    return min(units, ceil(ceil(units / panel) / cores) * panel)


def bytes_of_sums(arch: Arch) -> int:
    """Accumulator SRAM that the partial sums of one token take in all columns; twice where drain overlaps."""
    return ACCUMULATOR_BYTES * arch.array.cols * (2 if arch.array.drain == "overlapped" else 1)


def accumulated_tokens(arch: Arch) -> int:
    """Tokens whose partial sums the accumulator SRAM of a weight-stationary array holds."""
    return arch.sram.accumulator_bytes // bytes_of_sums(arch)


def panel_tokens(product: Product, arch: Arch) -> list[int]:
    """Tokens that a panel of activations may have, most first."""
    if arch.array.dataflow == "output_stationary":
        return [arch.array.rows]
    fitting = accumulated_tokens(arch)
    if fitting == 0:
        missing = bytes_of_sums(arch) - arch.sram.accumulator_bytes
        raise AccelSimError(
            f"arch {arch.name}, layer {product.name}: sram.accumulator_bytes is {missing} bytes too small for one token"
        )
    asked = arch.mapping.panel_tokens
    if asked is not None:
        if asked > fitting:
            raise AccelSimError(f"arch {arch.name}: mapping.panel_tokens {asked}: sums of at most {fitting} tokens fit")
        return [asked]
    outputs_fit = arch.sram.output_bytes // (2 * min(arch.array.cols, product.outputs))
    cores = arch.cores.count if arch.cores.split == "tokens" else 1  # in a grid a panel may be as large as it fits
    most = max(1, min(fitting, outputs_fit, ceil(product.tokens / cores)))
    return sorted({max(1, most >> power) for power in range(PANEL_HALVINGS + 1)}, reverse=True)


def _operands(product: Product, arch: Arch, pattern: Pattern | None, tokens: int) -> dict[str, _Operand]:
    stored = formats(product, arch, pattern)
    grid = CoreGrid.of(product.tokens, product.outputs, tokens, arch)
    activations = share(product.tokens, tokens, grid.token_parts)
    weights = share(product.outputs, arch.array.cols, grid.output_parts)
    return {
        "activations": _Operand(activations, tokens, stored.activation_sram_bytes, arch.sram.activation_bytes),
        "weights": _Operand(weights, arch.array.cols, stored.weight_sram_bytes, arch.sram.weight_bytes),
    }


def tilings(product: Product, arch: Arch, pattern: Pattern | None) -> list[Tiling]:
    """Every tiling that fits the buffers of a core and `arch.mapping`, those with the largest panels first.

    Raises AccelSimError naming the buffer and the bytes missing, or what the mapping excludes, when there is none.
    """
    sizes = panel_tokens(product, arch)
    if arch.mapping.held == "neither":
        return [
            _holding_nothing(product, arch, _operands(product, arch, pattern, size), pattern, size) for size in sizes
        ]
    found = [tiling for tokens in sizes for tiling in _with_panels(product, arch, pattern, tokens)]
    if not found:
        smallest = sizes[-1]
        found = [_holding_nothing(product, arch, _operands(product, arch, pattern, smallest), pattern, smallest)]
    asked = arch.mapping
    allowed = [
        tiling
        for tiling in found
        if asked.held in (None, tiling.held) and asked.block_panels in (None, tiling.block_panels)
    ]
    if not allowed:
        blocks = sorted({(tiling.held, tiling.block_panels) for tiling in found})
        listed = ", ".join(f"{held} in blocks of {panels}" for held, panels in blocks)
        raise AccelSimError(f"arch {arch.name}, layer {product.name}: mapping fits no tiling; there are: {listed}")
    return allowed


def _with_panels(product: Product, arch: Arch, pattern: Pattern | None, tokens: int) -> Iterator[Tiling]:
    operands = _operands(product, arch, pattern, tokens)
    tile_bytes = min(tokens, product.tokens) * min(arch.array.cols, product.outputs)
    largest_block = arch.sram.output_bytes // (2 * tile_bytes)
    if largest_block == 0:
        missing = 2 * tile_bytes - arch.sram.output_bytes
        raise AccelSimError(f"arch {arch.name}, layer {product.name}: sram.output_bytes is {missing} bytes too small")
    step = min(Fraction(1), Fraction(chunk_step(arch, pattern), product.features))
    for held, other in (("weights", "activations"), ("activations", "weights")):
        block, stream = operands[held], operands[other]
        asked = arch.mapping.block_panels if arch.mapping.held in (None, held) else None
        for size in _block_sizes(block, largest_block, asked):
            replacement = "never" if size == block.panels else "double" if _double(block, size) else "single"
            for streaming, chunks in _streaming(stream, size, step):
                yield Tiling(held, size, tokens, replacement, streaming, chunks)


def _double(block: _Operand, size: int) -> bool:
    return size <= block.panels_that_fit(halves=2)


def _block_sizes(block: _Operand, largest: int, asked: int | None) -> list[int]:
    """Blocks of every power of two and of the largest size; `asked` as well, where it fits."""
    double = min(block.panels_that_fit(halves=2), largest)
    single = min(block.panels_that_fit(), largest)
    sizes = {1 << power for power in range(double.bit_length())} | {double, single}
    if asked is not None and asked <= single:
        sizes.add(asked)
    return sorted(sizes - {0})


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


def _holding_nothing(
    product: Product, arch: Arch, operands: dict[str, _Operand], pattern: Pattern | None, tokens: int
) -> Tiling:
    step = min(Fraction(1), Fraction(chunk_step(arch, pattern), product.features))
    chunks = {name: _chunks(operand, step) for name, operand in operands.items()}
    for name, operand in operands.items():
        if not chunks[name]:
            missing = ceil(2 * operand.panel_bytes * step) - operand.capacity
            key = f"sram.{name.removesuffix('s')}_bytes"
            where = f"arch {arch.name}, layer {product.name}"
            raise AccelSimError(f"{where}: {key} is {missing} bytes too small for what the array takes in a cycle")
    asked = arch.mapping.chunk_features
    deepest = ceil(product.features / asked) if asked else 1
    return Tiling("weights", 1, tokens, "chunks", "chunks", max(deepest, *chunks.values()))
