"""Weights that no token of the batch needs stay in DRAM: what finds out, and brings the others together. First order.

`row_gather` forms the union of what the batch's tokens need of the features, bit by bit as they are loaded, and
searches it for the next one, whose address is the index times the bytes of a weight row. The array is dense and takes
its activations from as many banks as it has lanes, through a crossbar in every row. `output_gather` gets its mask from
the layer that reads the outputs, and places the results with a second address generator.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from math import ceil, log2

from accel_sim.arch import derived
from accel_sim.arch.schema import Arch
from accel_sim.arch.sparsity import GATHERS
from accel_sim.cost import circuits, skipping
from accel_sim.cost.bill import Part
from accel_sim.cost.network import Placed
from accel_sim.cost.sram import part_of_a_bank
from accel_sim.cost.tables import constant
from accel_sim.cost.units import Library, UnitCost, library_of, total


def gathers(arch: Arch) -> bool:
    return arch.sparsity.skipping in GATHERS


def gathers_features(arch: Arch) -> bool:
    return arch.sparsity.skipping in ("row_gather", "gather")


def masks(arch: Arch) -> int:
    """Unions that are kept: of the features, of the outputs."""
    return {"row_gather": 1, "output_gather": 1, "gather": 2}.get(arch.sparsity.skipping, 0)


def address_generators(arch: Arch) -> int:
    """One for weight rows; for outputs one for their weights and one for their places."""
    return {"row_gather": 1, "output_gather": 2, "gather": 3}.get(arch.sparsity.skipping, 0)


@cache
def address_generator(library: Library) -> UnitCost:
    """The next bit of a word of the union, its index times the bytes of a row, added to where the weights start."""
    word, index = int(constant("gather_word_bits")), constant("gather_index_bits")
    address = constant("gather_address_bits")
    finder = skipping.finder(library, 1, word)
    small = library.unit("multiplier")
    products = (index / circuits.TABLE_BITS) ** 2
    product = small.times(products, f"{index:g}×{index:g}-bit multiplier", rule="bit products")
    product = replace(product, delay_ns=small.delay_ns * log2(index) / log2(circuits.TABLE_BITS))
    return total("address generator", [finder, product, circuits.adder(library, address, f"{address:g}-bit adder")])


def elements_per_cycle(arch: Arch) -> int:
    """Features that join the union in a cycle: what the selectors take, else what DRAM delivers."""
    selected = (derived.selector_units(arch, pattern) * pattern.m for pattern in arch.sparsity.patterns)
    return max([ceil(arch.dram.bytes_per_cycle), *selected])


def mask_buffers(arch: Arch) -> tuple[float, float]:
    """(area in µm², leakage in nW) of the unions, by the byte of a bank."""
    return part_of_a_bank(arch, masks(arch) * constant("gather_features") / 8)


def joining(library: Library) -> UnitCost:
    """One element's non-zero bit into the union."""
    join = circuits.and_gates(library, 1, "gate, one bit")
    return total("union of one element", [skipping.zero_detector(library), join])


def crossbar(arch: Arch) -> Placed | None:
    """In every row: any lane from any of as many banks, where features are gathered."""
    tree = circuits.tree(library_of(arch), arch.array.lanes) if gathers_features(arch) else None
    return None if tree is None else Placed(tree, arch.array.lanes)


def gathering_parts(arch: Arch) -> Iterator[Part]:
    """One core's."""
    if not gathers(arch):
        return
    library, generators = library_of(arch), address_generators(arch)
    yield Part("gathering", address_generator(library), generators, in_array=False)
    # As many addresses wait as bursts are under way while the memory takes its time.
    bursts = ceil(arch.dram.latency_cycles * arch.dram.bytes_per_cycle / arch.dram.burst_bytes)
    queue = generators * max(1, bursts) * constant("gather_address_bits")
    yield Part("gathering", library.flip_flop, queue, in_array=False)
    word = constant("gather_word_bits")
    yield Part("gathering", library.flip_flop, generators * word, in_array=False)
    yield Part("gathering", joining(library), elements_per_cycle(arch) * masks(arch), in_array=False)
    if placed := crossbar(arch):
        yield Part("gathering", placed.unit, arch.array.rows * placed.count)
