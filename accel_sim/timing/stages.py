"""How long each stage works on each item, and what its compute time is made of."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from typing import Any

import numpy as np
import numpy.typing as npt

from accel_sim.arch.derived import groups_per_cycle, selector_units, selects
from accel_sim.arch.schema import Arch
from accel_sim.pattern import Pattern
from accel_sim.timing.array_time import array_time, through_array
from accel_sim.timing.formats import formats
from accel_sim.timing.items import Integers, Items
from accel_sim.timing.pipeline import SELECT, Pipeline
from accel_sim.timing.product import Product


@dataclass(frozen=True)
class Latencies:
    """Cycles from the last operand in to the last result out of each unit, beyond the time it is occupied."""

    select: int
    compute: int
    requantise: int
    passes: int = 0
    """Times that a token's codes pass the selectors before they are selected (what a median takes, or norms)."""


@dataclass(frozen=True)
class ComputeTime:
    """Cycles of the compute stage by item [cores, items] and reason; they add up to the stage's duration."""

    array: Integers
    """Lanes at work, or idle for lack of slots, rows or columns."""
    synchronisation: Integers
    """Rows waiting for each other, where zeros are skipped."""
    weight_port: Integers
    """Waiting for weights, where the port is narrower than the demand."""
    sram: Integers
    """Waiting for activations, where their port is."""
    requantise: Integers
    """Waiting until the requantisers have taken the tile before."""
    fill: Integers
    """Operands on their way through the array, where the next tile may not follow at once."""
    drain: Integers
    """Emptying the accumulators, where that is not overlapped."""

    @property
    def fed(self) -> Integers:
        """What operands take, whatever becomes of the sums."""
        return self.array + self.synchronisation + self.weight_port + self.sram + self.fill

    @property
    def total(self) -> Integers:
        return self.fed + self.requantise + self.drain


@dataclass(frozen=True)
class Traffic:
    """Bytes by item [cores, items]."""

    read: Integers
    """From DRAM, whole bursts; what all cores share counts for the first one."""
    write: Integers
    """To DRAM."""
    buffered: Integers
    """Through the buffer that the cores share, whether it came from DRAM or was still there; 0 without one."""
    held: Integers
    """From the memory on chip that holds a predictor's weights; what all cores share counts for the first one."""


def compute_time(
    items: Items, product: Product, arch: Arch, pattern: Pattern | None, latencies: Latencies
) -> ComputeTime:
    """The compute stage: tiles of the item one behind the other, each as slow as its slowest supply."""
    work = array_time(items, product, arch, pattern, latencies.compute)
    drain = _drain_cycles(items, arch)
    none = np.zeros_like(work.array)
    serial = arch.array.drain == "serial"
    fed = work.array + work.synchronisation + work.weight_port + work.sram + work.fill
    return ComputeTime(
        array=work.array,
        synchronisation=work.synchronisation,
        weight_port=work.weight_port,
        sram=work.sram,
        requantise=none if serial else -(-_waits_for_requantisers(items, drain, fed) // np.maximum(items.tiles, 1)),
        fill=work.fill,
        drain=items.tiles * drain if serial else none,
    )


def _waits_for_requantisers(items: Items, drain: Integers, fed: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Cycles, times the tiles of the item, until the second accumulators are free, where emptying them takes longer
    than the next tile. All tiles of an item count as long as their mean, `fed` over their number.

    Every tile waits for the one before it, and the first tile of an item for the last one of the item before, as if it
    followed at once (at most one drain too long where it does not). Items of one tile wait in the requantise stage.
    """
    before = np.concatenate([np.zeros_like(drain[:, :1]), drain[:, :-1]], axis=1)
    first = np.where(items.tiles > 1, np.maximum(before * items.tiles - fed, 0), 0)
    return first + np.maximum(items.tiles - 1, 0) * np.maximum(drain * items.tiles - fed, 0)


def enlarged_compute_time(compute: ComputeTime, items: Items, arch: Arch, factor: float) -> npt.NDArray[np.float64]:
    """Cycles by item on an array with `factor` times the columns (a fraction), its requantisers unchanged.

    A wider tile is fed as fast and does `factor` times the work, but has as many more accumulators to requantise.
    """
    fed = compute.fed / factor
    if arch.array.drain == "serial":
        return fed + compute.drain
    return fed + _waits_for_requantisers(items, _drain_cycles(items, arch), fed) / np.maximum(items.tiles, 1)


def _drain_cycles(items: Items, arch: Arch) -> Integers:
    """Cycles that emptying one output tile of each item takes."""
    return np.where(items.completes & (arch.array.drain != "none"), requantise_cycles(items, arch), 0)


def requantise_cycles(items: Items, arch: Arch) -> Integers:
    """Cycles to take one output tile's accumulators to INT8 (the last tile of an item may be smaller; counted full)."""
    tokens = -(-items.tokens // np.maximum(items.activation_panels, 1))
    if arch.array.dataflow == "output_stationary":
        tokens = np.minimum(items.tokens, arch.array.rows)
    accumulators = tokens * np.minimum(items.outputs, arch.array.cols)
    return -(-accumulators // arch.array.requantisers)


def traffic(items: Items, product: Product, arch: Arch, pattern: Pattern | None) -> Traffic:
    """Bytes of each item's load and store."""
    fetched = items.activation_bytes + items.weight_bytes
    read, buffered = fetched, np.zeros_like(fetched)
    if arch.cores.shared_buffer_bytes:
        held_back = _held_in_shared_buffer(items, product, arch, pattern)
        read = np.where(items.activations_again & ("activations" in held_back), 0, items.activation_bytes)
        read = read + np.where(items.weights_again & ("weights" in held_back), 0, items.weight_bytes)
        buffered = fetched
    stored = np.where(items.completes & (not product.outputs_on_chip), items.tokens * items.outputs, 0)
    stored = stored * arch.array.stored_output_bytes
    if arch.cores.split == "tiles":
        stored = _behind_the_next_tile(stored, items.completes)
    return Traffic(read, stored, buffered, _held_on_chip(items, product))


def _behind_the_next_tile(stored: Integers, completes: npt.NDArray[np.bool_]) -> Integers:
    """Bytes of a tile's outputs in equal pieces behind the chunks of the core's next tile; of its last one at once.

    Nothing keeps the cores of a card in step, so their stores do not all come at the end of a wave, as those of one
    schedule would.
    """
    by_wave = stored[:, completes]
    chunks = stored.shape[1] // by_wave.shape[1]
    cores, waves = by_wave.shape
    last = np.ones_like(by_wave, dtype=np.bool_)
    last[:, :-1] = by_wave[:, 1:] == 0
    shares = np.arange(chunks + 1, dtype=np.int64)
    before = np.where(last, 0, by_wave)
    pieces = np.zeros((cores, waves, chunks), dtype=np.int64)
    pieces[:, 1:] = np.diff(before[:, :-1, None] * shares // chunks, axis=2)
    pieces[:, :, -1] += np.where(last, by_wave, 0)
    return pieces.reshape(stored.shape)


def _held_on_chip(items: Items, product: Product) -> Integers:
    """Bytes of weights that come from a memory of their own: a code each; scales and thresholds wait beside it."""
    if not product.weights_on_chip:
        return np.zeros_like(items.loaded_weights)
    held = items.loaded_weights.copy()
    held[np.broadcast_to(~items.fetches_weights, held.shape)] = 0  # one transfer brings what several cores need
    return held


def _held_in_shared_buffer(items: Items, product: Product, arch: Arch, pattern: Pattern | None) -> set[str]:
    """Operands that stay in the shared buffer: both if they fit together, else the one that fits and saves most."""
    stored = formats(product, arch, pattern)
    sizes = {
        "activations": product.tokens * stored.activation_dram_bytes,
        "weights": product.outputs * stored.weight_dram_bytes,
    }
    if sum(sizes.values()) <= arch.cores.shared_buffer_bytes:
        return set(sizes)
    activations_again = items.loaded_activations * items.activations_again * items.fetches_activations
    weights_again = items.loaded_weights * items.weights_again * items.fetches_weights
    again = {
        "activations": (activations_again, stored.activation_dram_bytes),
        "weights": (weights_again, stored.weight_dram_bytes),
    }
    saved = {
        name: int(loaded.sum()) * row_bytes
        for name, (loaded, row_bytes) in again.items()
        if sizes[name] <= arch.cores.shared_buffer_bytes
    }
    return {max(saved, key=lambda name: saved[name])} if saved else set()


def pipeline(
    items: Items,
    compute: ComputeTime,
    moved: Traffic,
    product: Product,
    arch: Arch,
    pattern: Pattern | None,
    latencies: Latencies,
) -> Pipeline:
    """The five stages' occupation by every item.

    Where weights are gathered by what selection left over, an item goes ahead that reads all activations for it.
    """
    requantise = _drain_cycles(items, arch) * (arch.array.drain == "overlapped")
    select = select_cycles(items, product, arch, pattern)
    durations = np.stack(
        [load_cycles(moved, arch), select, compute.total, requantise, store_cycles(moved, arch)], axis=2
    )
    exclusive, after_select = items.exclusive, np.zeros_like(items.exclusive)
    shared = items.shared
    if product.gathers_features:
        durations = np.concatenate([_scan(product, arch, pattern), durations], axis=1)
        exclusive = np.concatenate([[False], exclusive])
        shared = np.concatenate([[False], shared])
        after_select = np.arange(len(exclusive)) == 1
    durations[..., SELECT] *= 1 + latencies.passes
    selecting = latencies.select if selects_at_load(arch, pattern) else 0
    through = through_array(arch, latencies.compute)
    latency = arch.dram.latency_cycles if moved.read.any() else 0
    waits = [latency, selecting, through, latencies.requantise, 0]
    return Pipeline(durations, np.array(waits, dtype=np.int64), exclusive, shared, after_select)


def _scan(product: Product, arch: Arch, pattern: Pattern | None) -> Integers:
    """[cores, 1, 5]: the item that reads all activations once, to know which weights are needed."""
    durations = np.zeros((arch.cores.count, 1, 5), dtype=np.int64)
    durations[0, 0, 0] = ceil(scanned_bytes(product, arch, pattern) / arch.dram.bytes_per_cycle)
    if selects_at_load(arch, pattern):
        groups = product.tokens * pattern.groups(product.stored_features)
        durations[0, 0, 1] = -(-groups // _selectors_at_work(arch, pattern, product.tokens))
    return durations


def scanned_bytes(product: Product, arch: Arch, pattern: Pattern | None) -> int:
    """DRAM bytes of that item; 0 where nothing is gathered."""
    if not product.gathers_features:
        return 0
    row, burst = formats(product, arch, pattern).activation_dram_bytes, arch.dram.burst_bytes
    return -(-product.tokens * row // burst) * burst


def select_cycles(items: Items, product: Product, arch: Arch, pattern: Pattern | None) -> Integers:
    """Cycles to select what each item fetched; none on a dense machine, or where the producer has done it."""
    if not selects_at_load(arch, pattern):
        return np.zeros_like(items.tokens)
    rows, rest = np.divmod(np.cumsum(items.loaded_activations, axis=1), product.features)
    groups = rows * pattern.groups(product.stored_features)
    groups = np.diff(groups + rest * pattern.groups(product.stored_features) // product.features, axis=1, prepend=0)
    return -(-groups // _selectors_at_work(arch, pattern, items.tokens))


def _selectors_at_work(arch: Arch, pattern: Pattern, tokens: Integers | int) -> Integers:
    """Selectors that tiles of so many tokens keep busy. A selector stands at a row of the array, g of them at the most
    at each, so those of rows without a token idle; weight-stationary rows have a part of every token."""
    units = selector_units(arch, pattern)
    if arch.array.dataflow == "weight_stationary":
        return np.full_like(tokens, units)
    filled = np.clip(tokens, 1, arch.array.rows)
    return np.minimum(units, filled * groups_per_cycle(arch.array.lanes, pattern))


def selects_at_load(arch: Arch, pattern: Pattern | None) -> bool:
    """Whether activations go through a selector on their way into SRAM."""
    return selects(arch, pattern) and arch.sparsity.selector.placement == "load"


def load_cycles(moved: Traffic, arch: Arch) -> Integers:
    """Cycles of each load: the memory, the shared buffer's port or a predictor's memory, whichever takes longest."""
    from_memory = np.ceil(moved.read / arch.dram.bytes_per_cycle).astype(np.int64)
    on_chip = np.maximum(
        -(-moved.buffered // arch.cores.shared_buffer_bytes_per_cycle),
        -(-moved.held // arch.predictor.sram_bytes_per_cycle),
    )
    return np.maximum(from_memory, on_chip)


def store_cycles(moved: Traffic, arch: Arch) -> Integers:
    """Cycles of each store, turning the bus round included."""
    return np.ceil(moved.write * arch.dram.turnaround / arch.dram.bytes_per_cycle).astype(np.int64)
