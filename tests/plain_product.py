"""One product worked out item by item and tile by tile in plain loops, from docs/timing.md and nothing of the model.

Slow and long-winded, so that whoever doubts a figure can read how it comes about; the model has to give the same.
"""

from dataclasses import dataclass, field
from fractions import Fraction
from itertools import product as product_of
from math import ceil

from accel_sim.arch import Arch
from accel_sim.arch.derived import selector_units
from accel_sim.pattern import Pattern
from accel_sim.timing.product import Product
from accel_sim.timing.tiling import Tiling

SCALE = 4
"""Bytes of the scale beside every token and every output in DRAM."""


REASONS = ("array", "synchronisation", "weight_port", "sram", "requantise", "fill", "drain")


def up(amount, piece):
    """Whole pieces."""
    return -(-amount // piece) * piece


class Rates:
    """What a machine stores, takes in a cycle, and is given in a cycle."""

    def __init__(self, product: Product, arch: Arch, pattern: Pattern | None) -> None:
        sparsity, lanes = arch.sparsity, arch.array.lanes
        self.gathers = sparsity.skipping in ("row_gather", "gather")
        self.in_array = None if self.gathers else pattern
        self.skips_zeros = sparsity.skipping in ("elastic", "unstructured") and pattern is not None
        self.prunes = pattern is not None and pattern.n < pattern.m
        self.prunes_weights = sparsity.operand == "weights"
        placement = sparsity.selector.placement
        self.selects_at_load = self.prunes and not self.prunes_weights and placement == "load"
        self.slices = lanes // sparsity.elastic_lanes if sparsity.skipping == "elastic" else 1
        groups = self.slices if sparsity.skipping == "elastic" else sparsity.sync_window
        self.supplied_groups = sparsity.weight_groups_per_cycle or groups
        self.arch, self.lanes, self.pattern = arch, lanes, pattern
        self._store(product, placement)
        built = [
            None,
            *([] if self.gathers else (one for one in sparsity.patterns if self.skips_zeros or one.n < one.m)),
        ]
        self.weights_wanted, self.activation_bits_wanted = self._wanted(self.in_array)
        most = [max(demand) for demand in zip(*map(self._wanted, built), strict=True)]
        sram = arch.sram
        self.weight_port = sram.weight_port_bytes_per_cycle or arch.array.cols * most[0]
        self.activation_port = sram.activation_port_bytes_per_cycle or -(-arch.array.rows * most[1] // 8)

    def _store(self, product: Product, placement: str) -> None:
        """Bytes of a token's activations and of an output's weights, in DRAM and in SRAM."""
        kept, stored = self._compressed(product.features), product.stored_features
        if self.prunes_weights:
            self.activation_dram, self.activation_sram, self.weight_dram = (
                stored + SCALE,
                product.features,
                kept + SCALE,
            )
            return
        in_dram = stored if placement == "load" else self._compressed(stored)
        self.activation_dram, self.weight_dram = in_dram + SCALE, product.features + SCALE
        self.activation_sram = product.features if self.gathers else kept

    def _compressed(self, features: int) -> int:
        if not self.prunes:
            return features
        groups = -(-features // self.pattern.m)
        return groups * self.pattern.n + -(-groups * self.metadata_bits(self.pattern) // 8)

    def metadata_bits(self, pattern: Pattern) -> int:
        return 0 if pattern.n == pattern.m else pattern.metadata_bits(self.arch.sparsity.metadata)

    def groups(self, pattern: Pattern) -> tuple[int, int]:
        """(groups in a cycle, cycles of a group)."""
        return max(1, self.lanes // pattern.n), -(-pattern.n // self.lanes)

    def _wanted(self, pattern: Pattern | None) -> tuple[int, int]:
        """(bytes of weights a column takes in a cycle, bits of activations a row does)."""
        if pattern is None:
            return self.lanes, 8 * self.lanes
        at_once, cycles = self.groups(pattern)
        if self.arch.sparsity.skipping in ("elastic", "unstructured"):
            at_once, cycles = self.supplied_groups, 1
        whole = -(-at_once * pattern.m // cycles)
        kept_bits = -(-at_once * (8 * pattern.n + self.metadata_bits(pattern)) // cycles)
        return (-(-kept_bits // 8), 8 * whole) if self.prunes_weights else (whole, kept_bits)


def deal(units: int, panel: int, parts: int, columns: int, cores: int, by_rows: bool) -> list[list[tuple[int, int]]]:
    """The panels of every core, each as (number, units in it), of an operand dealt out in `parts`: one a row of the
    grid, or one a column."""
    panels = [(number, min(panel, units - first)) for number, first in enumerate(range(0, units, panel))]
    least, rest = divmod(len(panels), parts)
    dealt = []
    for part in range(parts):
        mine = least + (part < rest)
        dealt.append(panels[:mine])
        panels = panels[mine:]
    return [dealt[core // columns % parts if by_rows else core % columns] for core in range(cores)]


def best_grid(tokens: int, outputs: int, panel: int, arch: Arch) -> tuple[int, int]:
    """(rows, columns) of cores: fewest array tiles for the busiest, then fewest parts, then fewest rows."""
    count, best = arch.cores.count, None
    if arch.cores.split != "grid":
        return (count, 1) if arch.cores.split == "tokens" else (1, count)
    token_panels, output_panels = ceil(tokens / panel), ceil(outputs / arch.array.cols)
    for rows in range(1, min(count, token_panels) + 1):
        for columns in range(1, min(count // rows, output_panels) + 1):
            tiles = ceil(token_panels / rows) * ceil(output_panels / columns)
            best = min(best or (tiles, rows + columns, rows), (tiles, rows + columns, rows))
    return best[2], best[1] - best[2]


@dataclass
class Item:
    """One block (or panel) of each operand, with some of the features."""

    activations: list[tuple[int, int]]
    """Panels, as `deal` gives them."""
    weights: list[tuple[int, int]]
    first_feature: int
    features: int
    completes: bool
    amounts: dict[str, int | bool] = field(default_factory=dict)
    """What it brings, takes and leaves, by name."""

    @property
    def tokens(self) -> int:
        return units_of(self.activations)

    @property
    def outputs(self) -> int:
        return units_of(self.weights)

    @property
    def tiles(self) -> int:
        return len(self.activations) * len(self.weights)


def units_of(panels: list[tuple[int, int]]) -> int:
    return sum(units for _, units in panels)


class PlainProduct:
    """A product on a machine, cut by a tiling; `depth` is the array's latency, `windows` what zero skipping finds."""

    def __init__(self, product: Product, arch: Arch, pattern: Pattern | None, tiling: Tiling, depth: int) -> None:
        self.product, self.arch, self.pattern, self.tiling, self.depth = product, arch, pattern, tiling, depth
        self.rates = Rates(product, arch, pattern)
        self.chunks = self._chunks()
        self.grid = best_grid(product.tokens, product.outputs, tiling.panel_tokens, arch)
        self.items = [self._items_of(core) for core in range(arch.cores.count)]
        kept = self._in_shared_buffer()
        for core in self.items:  # whoever brings it, the transfer waits for all
            for first, item in zip(self.items[0], core, strict=True):
                item.amounts["shared"] = first.amounts["shared"]
        for core in self.items:
            for number, item in enumerate(core):
                self._cross(item, kept)
                self._stages(item, core[:number])

    def _chunks(self) -> list[tuple[int, int]]:
        """(first feature, features) of the pieces a panel is cut into: whole cycles of the array, whole windows."""
        used, array, features = self.rates.in_array, self.arch.array, self.product.features
        step = array.lanes if used is None else self.rates.groups(used)[0] * used.m
        if array.dataflow == "weight_stationary":
            step *= array.rows
        if self.rates.skips_zeros:
            step = self.arch.sparsity.sync_window * used.m
        size = ceil(ceil(features / step) / self.tiling.chunks) * step
        return [(first, min(size, features - first)) for first in range(0, features, size)]

    def _items_of(self, core: int) -> list[Item]:
        cores, tiling, product = self.arch.cores, self.tiling, self.product
        rows, columns = self.grid
        tokens = deal(product.tokens, tiling.panel_tokens, rows, columns, cores.count, by_rows=True)
        outputs = deal(product.outputs, self.arch.array.cols, columns, columns, cores.count, by_rows=False)
        if core >= rows * columns:
            tokens[core], outputs[core] = [], []
        held, streaming = (tokens, outputs) if tiling.held == "activations" else (outputs, tokens)
        most = max(map(len, held))  # a core with fewer panels has items with nothing to do
        blocks = [held[core][first : first + tiling.block_panels] for first in range(0, most, tiling.block_panels)]
        panels = [streaming[core][number : number + 1] for number in range(max(map(len, streaming)))]
        order = list(product_of(range(len(blocks)), range(len(panels)), range(len(self.chunks))))
        items: list[Item] = []
        for number, (b, p, c) in enumerate(order):
            pair = (blocks[b], panels[p]) if tiling.held == "activations" else (panels[p], blocks[b])
            item = Item(*pair, *self.chunks[c], completes=c == len(self.chunks) - 1)
            self._bring_held(item, blocks, b, number % (len(panels) * len(self.chunks)), len(panels), c)
            self._bring_streamed(item, panels[p], c, again=b > 0)
            item.amounts["exclusive"] = number > 0 and (
                tiling.streaming == "single" or (tiling.replacement == "single" and p == c == 0)
            )
            self._leave_out(item, core)
            self._work(item, items)
            items.append(item)
        return items

    def _bring_held(self, item: Item, blocks: list, b: int, within: int, panels: int, c: int) -> None:
        """`within` counts the items of the block."""
        name, replacement, each_block = self.tiling.held, self.tiling.replacement, panels * len(self.chunks)
        brought = (0, 0)
        if replacement == "chunks":
            brought = self._fetched(name, units_of(blocks[b]), c)
        elif within == 0 and (b == 0 or replacement != "double" or each_block == 1):
            brought = self._fetched(name, units_of(blocks[b]), None)
        elif within > 0 and replacement == "double" and b + 1 < len(blocks):  # the next one, in equal shares
            whole = self._fetched(name, units_of(blocks[b + 1]), None)
            brought = tuple(
                all_ * within // (each_block - 1) - all_ * (within - 1) // (each_block - 1) for all_ in whole
            )
        item.amounts[f"loaded_{name}"], item.amounts[f"bytes of {name}"] = brought
        item.amounts[f"{name} again"] = replacement == "chunks" and within >= len(self.chunks)

    def _bring_streamed(self, item: Item, panel: list, c: int, again: bool) -> None:
        name = "weights" if self.tiling.held == "activations" else "activations"
        brought = (0, 0) if self.tiling.streaming == "resident" and again else self._fetched(name, units_of(panel), c)
        item.amounts[f"loaded_{name}"], item.amounts[f"bytes of {name}"] = brought
        item.amounts[f"{name} again"] = again

    def _fetched(self, name: str, units: int, chunk: int | None) -> tuple[int, int]:
        """(elements, bytes in whole bursts) of whole rows, or of one chunk of each."""
        burst, every = self.arch.dram.burst_bytes, self.product.features
        features = every if chunk is None else self.chunks[chunk][1]
        if name == "weights" and self.product.gathers_features:  # a run for every feature, and one of scales
            scales = up(units * SCALE, burst) if chunk in (None, 0) else 0
            return units * features, features * up(units, burst) + scales
        row = self.rates.activation_dram if name == "activations" else self.rates.weight_dram
        if features == every:
            return units * features, up(units * row, burst)
        return units * features, units * up(ceil(Fraction(row * features, every)), burst)

    def _leave_out(self, item: Item, core: int) -> None:
        """What does not come from DRAM for this core or item."""
        brought, tiling = item.amounts, self.tiling
        rows, columns = self.grid
        if core % columns > 0 or core >= rows * columns:  # what several need comes with the first one's transfer
            brought["bytes of activations"] = 0
        if core >= columns:
            brought["bytes of weights"] = 0
        if self.product.activations_on_chip:
            brought["bytes of activations"] = 0
        stays = tiling.replacement == "never" if tiling.held == "activations" else tiling.streaming == "resident"
        if self.product.gathers_features and stays:  # they came when the machine looked for what is needed
            brought["bytes of activations"] = brought["loaded_activations"] = 0
        brought["shared"] = (columns > 1 and brought["loaded_activations"] > 0) or (
            rows > 1 and brought["loaded_weights"] > 0
        )

    def _cross(self, item: Item, kept: list[str]) -> None:
        """Bytes that cross the DRAM, and the shared buffer's port."""
        brought, cores, names = item.amounts, self.arch.cores, ("activations", "weights")
        brought["read"] = sum(brought[f"bytes of {n}"] for n in names if not (brought[f"{n} again"] and n in kept))
        everything = sum(brought[f"bytes of {n}"] for n in names)
        brought["buffered"] = everything if cores.shared_buffer_bytes else 0
        leaves = item.completes and not self.product.outputs_on_chip
        brought["write"] = item.tokens * item.outputs * self.arch.array.stored_output_bytes if leaves else 0

    def _in_shared_buffer(self) -> list[str]:
        """Operands that stay there: both if they fit together, else the one that fits and saves most."""
        room, every = self.arch.cores.shared_buffer_bytes, self.product.features
        rows = {"activations": self.rates.activation_dram, "weights": self.rates.weight_dram}
        units = {"activations": self.product.tokens, "weights": self.product.outputs}
        fitting = [name for name in rows if units[name] * rows[name] <= room]
        if sum(units[name] * rows[name] for name in rows) <= room:
            return fitting
        saved = dict.fromkeys(fitting, 0)
        for number, core in enumerate(self.items):
            for name in fitting:
                columns = self.grid[1]
                fetches = number % columns == 0 if name == "activations" else number < columns
                again = [one.amounts[f"loaded_{name}"] for one in core if one.amounts[f"{name} again"] and fetches]
                saved[name] += sum(again) * rows[name] // every
        return sorted(fitting, key=lambda name: -saved[name])[:1]

    def _work(self, item: Item, before: list[Item]) -> None:
        """Cycles in the array, tile by tile."""
        array, spent = self.arch.array, dict.fromkeys(REASONS, 0)
        for number, _ in item.activations:
            for _ in item.weights:
                if array.dataflow == "weight_stationary":
                    self._folds(item, spent)
                elif self.rates.skips_zeros:
                    self._windows(item, number, spent)
                    spent["fill"] += self._gap
                else:
                    self._fixed_rate(item, spent)
                    spent["fill"] += self._gap
        if array.dataflow == "weight_stationary" and array.fold_overlap and not before and item.tiles:
            spent["fill"] = self._preload(item)
        rows = min(item.tokens, array.rows)
        if array.dataflow == "weight_stationary":
            rows = ceil(item.tokens / max(1, len(item.activations)))
        counted = item.completes and array.drain != "none"
        emptying = ceil(rows * min(item.outputs, array.cols) / array.requantisers) if counted else 0
        if array.drain == "serial":
            spent["drain"] = item.tiles * emptying
        elif item.tiles > 1:  # a tile cannot leave its sums before those of the tile in front of it have gone
            tile = Fraction(sum(spent.values()), item.tiles)
            in_front = before[-1].amounts["emptying"] if before else 0
            waits = max(0, in_front - tile) + (item.tiles - 1) * max(0, emptying - tile)
            spent["requantise"] = ceil(waits)
        item.amounts |= spent | {"emptying": emptying}

    @property
    def _gap(self) -> int:
        """Cycles behind a tile before the next one may enter."""
        array = self.arch.array
        skew = array.rows + array.cols - 2 if array.interconnect == "systolic" else 0
        return 0 if array.fold_overlap else skew or self.depth

    def _fixed_rate(self, item: Item, spent: dict) -> None:
        used, rates = self.rates.in_array, self.rates
        cycles = ceil(item.features / rates.lanes)
        if used is not None:
            at_once, each = rates.groups(used)
            cycles = ceil(ceil(item.features / used.m) / at_once) * each
        weights = ceil(Fraction(cycles * self._columns(item) * rates.weights_wanted, rates.weight_port))
        bits = cycles * min(item.tokens, self.arch.array.rows) * rates.activation_bits_wanted
        spent["array"] += cycles
        _wait(spent, cycles, weights, ceil(Fraction(bits, 8 * rates.activation_port)))

    def _windows(self, item: Item, panel: int, spent: dict) -> None:
        used, rates, window = self.pattern, self.rates, self.arch.sparsity.sync_window
        every, rows = -(-self.product.features // used.m), self.arch.array.rows
        tokens = min(rows, self.product.tokens - panel * rows)
        for number in range(-(-every // window)):
            if not item.first_feature <= number * window * used.m < item.first_feature + item.features:
                continue
            groups = min(window, every - number * window)
            cycles, busy = (int(table[panel, number]) for table in (self.windows.cycles, self.windows.busy))
            useful = ceil(Fraction(busy, tokens * rates.slices))
            spent["array"] += useful
            spent["synchronisation"] += cycles - useful
            weights = ceil(Fraction(groups * used.m * self._columns(item), rates.weight_port))
            bits = tokens * groups * (8 * used.n + rates.metadata_bits(used))
            _wait(spent, cycles, weights, ceil(Fraction(bits, 8 * rates.activation_port)))

    @property
    def windows(self):
        return self.product.windows

    def _folds(self, item: Item, spent: dict) -> None:
        used, rates, array = self.rates.in_array, self.rates, self.arch.array
        at_once, each = (1, 1) if used is None else rates.groups(used)
        spanned = array.rows * (rates.lanes if used is None else at_once * used.m)
        stream = item.tokens * each // len(item.activations)
        fed = ceil(Fraction(stream * array.rows * rates.activation_bits_wanted, 8 * rates.activation_port))
        for _ in range(0, item.features, spanned):
            spent["array"] += Fraction(item.tokens * each, len(item.activations))
            spent["sram"] += max(0, fed - stream)
            if array.fold_overlap:
                spent["weight_port"] += max(0, self._preload(item) - max(stream, fed))
            else:
                spent["fill"] += self._preload(item) + self._gap

    def _preload(self, item: Item) -> int:
        """Cycles to load a fold's weights, row by row."""
        rates, rows = self.rates, self.arch.array.rows
        each = 1 if rates.in_array is None else rates.groups(rates.in_array)[1]
        moved = rows * each * self._columns(item) * rates.weights_wanted
        return max(rows * each, ceil(Fraction(moved, rates.weight_port)))

    def _columns(self, item: Item) -> int:
        return min(item.outputs, self.arch.array.cols)

    def _stages(self, item: Item, before: list[Item]) -> None:
        """Cycles in each stage of the pipeline."""
        dram, done = self.arch.dram, item.amounts
        bandwidth = Fraction(dram.bytes_per_cycle)
        through_port = ceil(done["buffered"] / self.arch.cores.shared_buffer_bytes_per_cycle)
        select = 0
        if self.rates.selects_at_load:  # a group is selected when the last of its features has come
            every = -(-self.product.stored_features // self.pattern.m)
            earlier = sum(one.amounts["loaded_activations"] for one in before)
            ends = (earlier + part for part in (0, done["loaded_activations"]))
            begun, ended = (features * every // self.product.features for features in ends)
            at_work = selector_units(self.arch, self.pattern)
            if self.arch.array.dataflow == "output_stationary":  # those of rows without a token idle
                at_rows = max(1, min(item.tokens, self.arch.array.rows))
                at_work = min(at_work, at_rows * max(1, self.arch.array.lanes // self.pattern.n))
            select = ceil((ended - begun) / at_work)
        done["load"] = max(ceil(done["read"] / bandwidth), through_port)
        done["select"] = select
        done["compute"] = sum(done[reason] for reason in REASONS)
        done["requantising"] = done["emptying"] if self.arch.array.drain == "overlapped" else 0
        done["store"] = ceil(done["write"] * Fraction(dram.turnaround) / bandwidth)


def _wait(spent: dict, cycles: int, weights: int, activations: int) -> None:
    """The array waits for the slower of two ports; ties are the weights'."""
    spent["weight_port" if weights >= activations else "sram"] += max(0, max(weights, activations) - cycles)
