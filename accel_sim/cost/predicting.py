"""What a low-rank predictor adds to a gathering machine: thresholds, bits, and a memory for its weights. First order.

Its two products run on the array and are charged there. Behind every requantiser a comparator holds the scaled sum
against the neuron's threshold; the bits of the batch join one union a neuron, kept in a buffer beside those that
gathering has already, from which the address generators take it.
"""

from __future__ import annotations

from collections.abc import Iterator

from accel_sim.arch.schema import Arch
from accel_sim.cost import circuits
from accel_sim.cost.bill import Part
from accel_sim.cost.sram import Sram, build, part_of_a_bank
from accel_sim.cost.tables import constant
from accel_sim.cost.units import Library, UnitCost, library_of, total

COMPONENT = "prediction"


def comparator(library: Library) -> UnitCost:
    """A sum against a threshold, by subtraction, and the bit into the union."""
    compare = circuits.adder(library, circuits.WORD_BITS, "threshold comparator")
    return total("threshold of one neuron", [compare, circuits.and_gates(library, 1, "gate, one bit")])


def prediction_parts(arch: Arch) -> Iterator[Part]:
    """One core's: a comparator and the threshold that waits beside it, for every requantiser."""
    if not arch.predictor.is_built:
        return
    library, count = library_of(arch), arch.array.requantisers
    yield Part(COMPONENT, comparator(library), count, in_array=False)
    yield Part(COMPONENT, library.flip_flop, count * circuits.WORD_BITS, in_array=False)


def bits_buffer(arch: Arch) -> tuple[float, float]:
    """(area in µm², leakage in nW) of one core's union of predicted neurons, by the byte of a bank."""
    if not arch.predictor.is_built:
        return 0.0, 0.0
    return part_of_a_bank(arch, constant("gather_features") / 8)


def weight_memory(arch: Arch) -> Sram | None:
    """The memory that keeps all layers' predictors, beside all cores; None where their weights come from DRAM."""
    predictor = arch.predictor
    if not predictor.holds_weights:
        return None
    return build("predictor", predictor.sram_bytes, predictor.sram_bytes_per_cycle, arch)
