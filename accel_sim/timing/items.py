"""A product cut by a tiling: what each pipeline item brings from DRAM and does on each core."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from accel_sim.arch.schema import Arch
from accel_sim.pattern import Pattern
from accel_sim.timing.core_grid import CoreGrid
from accel_sim.timing.formats import SCALE_BYTES, formats
from accel_sim.timing.product import Product
from accel_sim.timing.tile_deal import deal
from accel_sim.timing.tiling import Tiling, chunk_step, share

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Items:
    """Arrays over [cores, items] in execution order; the flags over [items].

    Elements are codes of the dense matrices, tokens × features or features × outputs. A core whose share of the product
    is smaller has items with nothing to do.
    """

    grid: CoreGrid
    tokens: Integers
    outputs: Integers
    features: Integers
    activation_panels: Integers
    weight_panels: Integers
    first_panel: Integers
    """Index of the item's first activation panel in the whole product."""
    first_feature: Integers
    loaded_activations: Integers
    """Elements that the core takes in (and selects)."""
    loaded_weights: Integers
    activation_bytes: Integers
    """The same in bytes as they are stored in DRAM, whole bursts; what all cores share counts for the first one."""
    weight_bytes: Integers
    fetches_activations: npt.NDArray[np.bool_]
    """[cores, 1] or [cores, items]: the first of the cores that need these activations, which fetches for them all."""
    fetches_weights: npt.NDArray[np.bool_]
    shared: npt.NDArray[np.bool_]
    """[items]: what a core fetches, several need."""
    activations_again: npt.NDArray[np.bool_]
    """[items] or [cores, items]: these activations have been fetched before: they come from the shared buffer, where
    that holds them."""
    weights_again: npt.NDArray[np.bool_]
    completes: npt.NDArray[np.bool_]
    """The accumulators hold final sums afterwards: they are requantised and stored."""
    exclusive: npt.NDArray[np.bool_]
    """The load overwrites what the item before still uses."""

    @property
    def tiles(self) -> Integers:
        """Output tiles of the item: panels of activations × panels of weights."""
        return self.activation_panels * self.weight_panels


def item_count(product: Product, arch: Arch, tiling: Tiling) -> int:
    """Pipeline items that `cut` makes, of all cores together (at most: chunks may come out fewer)."""
    grid = grid_of(product, arch, tiling)
    if arch.cores.split == "tiles":
        tiles = -(-product.tokens // tiling.panel_tokens) * -(-product.outputs // arch.array.cols)
        return -(-tiles // arch.cores.count) * arch.cores.count * tiling.chunks
    panels = {
        "activations": -(-share(product.tokens, tiling.panel_tokens, grid.token_parts) // tiling.panel_tokens),
        "weights": -(-share(product.outputs, arch.array.cols, grid.output_parts) // arch.array.cols),
    }
    held = panels.pop(tiling.held)
    (streamed,) = panels.values()
    return -(-held // tiling.block_panels) * streamed * tiling.chunks * arch.cores.count


@dataclass(frozen=True)
class _Operand:
    """One operand's part in every item, [cores, items] each."""

    units: Integers
    panels: Integers
    elements: Integers
    dram_bytes: Integers
    again: npt.NDArray[np.bool_]


def grid_of(product: Product, arch: Arch, tiling: Tiling) -> CoreGrid:
    """How the cores share a product under a tiling."""
    return CoreGrid.of(product.tokens, product.outputs, tiling.panel_tokens, arch)


def cut(product: Product, arch: Arch, pattern: Pattern | None, tiling: Tiling) -> Items:
    """The items of one product under a tiling: for every block, for every streaming panel, for every chunk."""
    if arch.cores.split == "tiles":
        return _cut_dealt(product, arch, pattern, tiling)
    grid = grid_of(product, arch, tiling)
    first_panels, token_panels = _shares(product.tokens, tiling.panel_tokens, grid.token_parts, grid.token_part)
    _, output_panels = _shares(product.outputs, arch.array.cols, grid.output_parts, grid.output_part)
    features = _features(product, arch, pattern, tiling)
    by_weights = tiling.held == "weights"
    held_panels, streaming = (output_panels, token_panels) if by_weights else (token_panels, output_panels)
    starts = np.arange(0, held_panels.shape[1], tiling.block_panels)
    blocks = np.add.reduceat(held_panels, starts, axis=1)
    panels_of_block = np.add.reduceat((held_panels > 0).astype(np.int64), starts, axis=1)
    b, p, c = np.indices((blocks.shape[1], streaming.shape[1], len(features))).reshape(3, -1)
    order = _Order(tiling, b, p, c)
    held_bytes, streamed_bytes = _bytes(product, arch, pattern, tiling, blocks, streaming, features)
    held = _Operand(
        units=blocks[:, b],
        panels=panels_of_block[:, b],
        elements=order.held(blocks[:, :, None] * features),
        dram_bytes=order.held(held_bytes),
        again=(p > 0) & (tiling.replacement == "chunks"),
    )
    streamed = _Operand(
        units=streaming[:, p],
        panels=(streaming[:, p] > 0).astype(np.int64),
        elements=order.streamed(streaming[:, :, None] * features),
        dram_bytes=order.streamed(streamed_bytes),
        again=b > 0,
    )
    activations, weights = (streamed, held) if by_weights else (held, streamed)
    fetches = (grid.output_part == 0)[:, None], (grid.token_part == 0)[:, None]  # one transfer brings what several need
    _leave_out(activations, weights, product, fetches, tiling)
    starts_block = (p == 0) & (c == 0)
    brings = activations.elements[0] > 0, weights.elements[0] > 0
    return Items(
        grid=grid,
        tokens=activations.units,
        outputs=weights.units,
        features=np.broadcast_to(features[c], activations.units.shape),
        activation_panels=activations.panels,
        weight_panels=weights.panels,
        first_panel=first_panels[:, None] + (p if by_weights else b * tiling.block_panels),
        first_feature=np.broadcast_to(np.cumsum(features)[c] - features[c], activations.units.shape),
        loaded_activations=activations.elements,
        loaded_weights=weights.elements,
        activation_bytes=activations.dram_bytes,
        weight_bytes=weights.dram_bytes,
        fetches_activations=fetches[0],
        fetches_weights=fetches[1],
        shared=(brings[0] & grid.shares_activations) | (brings[1] & grid.shares_weights),
        activations_again=activations.again,
        weights_again=weights.again,
        completes=c == len(features) - 1,
        exclusive=(np.arange(len(b)) > 0)
        & ((tiling.streaming == "single") | (starts_block & (tiling.replacement == "single"))),
    )


def _cut_dealt(product: Product, arch: Arch, pattern: Pattern | None, tiling: Tiling) -> Items:
    """The same where tiles are dealt one by one: for every wave, for every chunk."""
    panel, cols = tiling.panel_tokens, arch.array.cols
    dealt = deal(-(-product.tokens // panel), -(-product.outputs // cols), arch.cores.count)
    features = _features(product, arch, pattern, tiling)
    tokens = _units(product.tokens, panel, dealt.token_panel)
    outputs = _units(product.outputs, cols, dealt.output_panel)
    weight_bytes, activation_bytes = _bytes(product, arch, pattern, tiling, outputs, tokens, features)

    def by_item(by_wave: npt.NDArray) -> npt.NDArray:
        return np.repeat(by_wave, len(features), axis=1)

    def by_chunk(units: Integers, dram_bytes: Integers, again: npt.NDArray[np.bool_]) -> _Operand:
        return _Operand(
            units=by_item(units),
            panels=by_item((units > 0).astype(np.int64)),
            elements=(units[:, :, None] * features).reshape(len(units), -1),
            dram_bytes=dram_bytes.reshape(len(units), -1),
            again=by_item(again),
        )

    activations = by_chunk(tokens, activation_bytes, dealt.activations_again)
    weights = by_chunk(outputs, weight_bytes, dealt.weights_again)
    fetches = by_item(dealt.fetches_activations), by_item(dealt.fetches_weights)
    _leave_out(activations, weights, product, fetches, tiling)
    at_work = activations.panels > 0
    chunk = np.tile(np.arange(len(features)), tokens.shape[1])
    return Items(
        grid=grid_of(product, arch, tiling),
        tokens=activations.units,
        outputs=weights.units,
        features=np.broadcast_to(features[chunk], activations.units.shape),
        activation_panels=activations.panels,
        weight_panels=weights.panels,
        first_panel=by_item(np.maximum(dealt.token_panel, 0)),
        first_feature=np.broadcast_to((np.cumsum(features) - features)[chunk], activations.units.shape),
        loaded_activations=activations.elements,
        loaded_weights=weights.elements,
        activation_bytes=activations.dram_bytes,
        weight_bytes=weights.dram_bytes,
        fetches_activations=fetches[0],
        fetches_weights=fetches[1],
        shared=(at_work & ~(fetches[0] & fetches[1])).any(axis=0),
        activations_again=activations.again,
        weights_again=weights.again,
        completes=chunk == len(features) - 1,
        exclusive=np.zeros(len(chunk), dtype=np.bool_),
    )


def _units(units: int, panel: int, panels: Integers) -> Integers:
    """Units in each of `panels`; 0 where there is none (−1)."""
    return np.where(panels >= 0, np.minimum(panel, units - panels * panel), 0)


def _leave_out(
    activations: _Operand,
    weights: _Operand,
    product: Product,
    fetches: tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]],
    tiling: Tiling,
) -> None:
    """Clear what does not come from DRAM for every core or item, in place; `fetches`: of activations, of weights."""
    for operand, mine in zip((activations, weights), fetches, strict=True):
        operand.dram_bytes[np.broadcast_to(~mine, operand.dram_bytes.shape)] = 0
    if product.activations_on_chip:
        activations.dram_bytes[:] = 0
    if product.weights_on_chip:
        weights.dram_bytes[:] = 0
    resident = tiling.streaming == "resident" if tiling.held == "weights" else tiling.replacement == "never"
    if product.gathers_features and resident:  # the scan for what is needed has brought them
        activations.dram_bytes[:] = 0
        activations.elements[:] = 0


@dataclass(frozen=True)
class _Order:
    """Which block, streaming panel and chunk of features each item is, and when operands are loaded for it."""

    tiling: Tiling
    block: Integers
    panel: Integers
    chunk: Integers

    def streamed(self, amounts: Integers) -> Integers:
        """[cores, items] of the streaming operand's amounts [cores, panels, chunks]."""
        loads = (self.block == 0) | (self.tiling.streaming != "resident")
        return np.where(loads, amounts[:, self.panel, self.chunk], 0)

    def held(self, amounts: Integers) -> Integers:
        """[cores, items] of the held operand's amounts [cores, blocks, chunks]."""
        if self.tiling.replacement == "chunks":
            return amounts[:, self.block, self.chunk]
        whole = amounts.sum(axis=2)
        if self.tiling.replacement == "double":
            return np.stack([_prefetched(core, len(self.block) // len(core)) for core in whole])
        return np.where((self.panel == 0) & (self.chunk == 0), whole[:, self.block], 0)


def _prefetched(blocks: Integers, items_per_block: int) -> Integers:
    """Amounts of the held operand by item: the first block at once, every other one in equal shares behind the block
    before it, from that block's second item on (its first item still shares the buffer with the block before)."""
    loads = np.zeros((len(blocks), items_per_block), dtype=np.int64)
    if items_per_block == 1:
        loads[:, 0] = blocks
        return loads.ravel()
    loads[0, 0] = blocks[0]
    shares = np.arange(items_per_block, dtype=np.int64)
    loads[:-1, 1:] = np.diff(blocks[1:, None] * shares // (items_per_block - 1), axis=1)
    return loads.ravel()


def _shares(units: int, panel: int, parts: int, part: Integers) -> tuple[Integers, Integers]:
    """First panel of each core [cores], and units in each of its panels [cores, panels] (0 where it has fewer).

    `part` [cores] says which of the `parts` a core has, −1 for none.
    """
    panels = -(-units // panel)
    counts = panels // parts + (np.arange(parts) < panels % parts)
    starts = np.cumsum(counts) - counts
    most = -(-share(units, panel, parts) // panel)
    index = starts[:, None] + np.arange(most)
    mine = np.arange(most) < counts[:, None]
    sizes = np.where(mine, np.minimum(panel, units - index * panel), 0)
    return starts[part], np.where(part[:, None] >= 0, sizes[part], 0)


def _features(product: Product, arch: Arch, pattern: Pattern | None, tiling: Tiling) -> Integers:
    """Features of each chunk."""
    step = chunk_step(arch, pattern)
    size = -(-(-(-product.features // step)) // tiling.chunks) * step  # noqa: B002
    return np.minimum(size, product.features - np.arange(0, product.features, size, dtype=np.int64))


def _bytes(
    product: Product,
    arch: Arch,
    pattern: Pattern | None,
    tiling: Tiling,
    blocks: Integers,
    streaming: Integers,
    features: Integers,
) -> tuple[Integers, Integers]:
    """DRAM bytes of the held operand [cores, blocks, chunks] (one chunk of all features where a block is brought whole)
    and of the streaming one [cores, panels, chunks].

    Whole rows (tokens, or outputs) lie one behind the other, so a transfer of them is one run of bursts; parts of rows
    are a run each, and so are the rows of weights that are gathered feature by feature.
    """
    stored = formats(product, arch, pattern)
    burst = arch.dram.burst_bytes
    whole = np.array([product.features], dtype=np.int64)

    def rows(units: Integers, row_bytes: int, pieces: Integers) -> Integers:
        if len(pieces) == 1:
            return _bursts(units * row_bytes, burst)[:, :, None]
        return units[:, :, None] * _bursts(-(-row_bytes * pieces // product.features), burst)

    def activations(units: Integers, pieces: Integers) -> Integers:
        return rows(units, stored.activation_dram_bytes, pieces)

    def weights(units: Integers, pieces: Integers) -> Integers:
        if not product.gathers_features:
            return rows(units, stored.weight_dram_bytes, pieces)
        scales = _bursts(units * SCALE_BYTES, burst)[:, :, None] * (np.arange(len(pieces)) == 0)
        return _bursts(units, burst)[:, :, None] * pieces + scales

    held, streamed = (weights, activations) if tiling.held == "weights" else (activations, weights)
    return held(blocks, features if tiling.replacement == "chunks" else whole), streamed(streaming, features)


def _bursts(run_bytes: Integers, burst: int) -> Integers:
    return -(-run_bytes // burst) * burst
