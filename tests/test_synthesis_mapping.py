"""From a component to a checked netlist, with a library small enough for a test."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="pip install 'accel_sim[rtl]'")

import tiny_library
from amaranth.back import rtlil
from amaranth.hdl import Module
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern
from accel_sim.rtl.processing_element import ProcessingElement
from accel_sim.rtl.top_n import TopN
from accel_sim.shipped import folder
from accel_sim.synthesis import yosys
from accel_sim.synthesis.catalogue import PATTERNS, catalogue, chosen, processing_element
from accel_sim.synthesis.liberty import read_liberty
from accel_sim.synthesis.measure import check, measure
from accel_sim.synthesis.operands import Operands
from accel_sim.synthesis.rtlil_text import merge_equal_modules, shuffled
from accel_sim.synthesis.timing import analyse
from accel_sim.synthesis.unit import Unit
from accel_sim.trace import Trace
from accel_sim.trace.synthetic_trace import write_synthetic_trace

PAIR = Pattern("2:4")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return read_liberty(tiny_library.written(tmp_path_factory.mktemp("library")))


@pytest.fixture(scope="module")
def real():
    return Operands.from_trace(folder("traces") / "smollm2-135m")


@pytest.fixture(scope="module")
def uniform():
    return Operands.uniform()


def element(lanes: int) -> Unit:
    """The 2:4 processing element with few lanes."""
    return processing_element(lanes, PAIR)


def test_a_processing_element_is_mapped_checked_and_measured(library, real, uniform):
    found = measure(element(2), library, real, uniform, remappings=2)
    assert found.failure == ""
    # Two operands of 8 bits and four weights, one bitmap, clear; two products of 16 bits, clear again; 32 bits of sum.
    assert found.flip_flops == 2 * 8 + 4 * 8 + 4 + 1 + 2 * 16 + 1 + 32
    assert found.area_um2 > 6 * found.flip_flops and found.cells > found.flip_flops
    assert found.delay_ns > 1 and found.energy_pj > 0 and found.random_energy_pj > 0 and found.leakage_nw > 0
    assert len(found.remapped_um2) == 2
    assert all(abs(area / found.area_um2 - 1) < 0.1 for area in found.remapped_um2)


def test_a_netlist_that_does_something_else_is_found_out(library, real):
    unit = element(2)

    class Wrong(ProcessingElement):
        """Adds one product where the other one belongs."""

        def elaborate(self, platform):
            m = Module()
            right = ProcessingElement(2, PAIR)
            m.submodules.right = right
            for name in ("weights", "metadata", "clear"):
                m.d.comb += getattr(right, name).eq(getattr(self, name))
            m.d.comb += [right.activations[0].eq(self.activations[1]), right.activations[1].eq(self.activations[0])]
            m.d.comb += self.accumulator.eq(right.accumulator)
            return m

    component = Wrong(2, PAIR)
    netlist = yosys.synthesise(component, library).netlist
    with pytest.raises(AccelSimError, match="port accumulator, cycle 0, stream"):
        check(unit, component, netlist, analyse(netlist), real)


def test_comparators_are_mapped_once_and_give_the_same_circuit(library, real, uniform):
    text = rtlil.convert(TopN(PAIR, "rank"), emit_src=False)
    merged = merge_equal_modules(text)
    # Two kinds: Amaranth joins the words of neighbours into one port.
    assert text.count("module \\top.comparator_") == 6 and merged.count("module \\top.comparator_") == 2
    assert text.count("module \\top.popcount_") == 4 and merged.count("module \\top.popcount_") == 1
    unit = next(unit for unit in catalogue((PAIR,)) if unit.key == "top_n_rank 2:4")
    found = measure(unit, library, real, uniform)
    assert found.failure == "" and found.flip_flops == 0 and found.mapper_delay_ns is None


def test_shuffling_changes_names_and_order_but_not_the_netlist():
    text = rtlil.convert(ProcessingElement(2, PAIR), emit_src=False)
    one, again, other = shuffled(text, 1), shuffled(text, 1), shuffled(text, 2)
    assert one == again != other
    assert one.count("\n  cell ") == text.count("\n  cell ") and one.count("\n    connect ") == text.count(
        "\n    connect "
    )
    assert " input " in one and "\\activations" in one  # ports keep their names


def test_booth_and_time_limits_are_options(library, monkeypatch):
    class Product(wiring.Component):
        latency = 0

        def __init__(self):
            super().__init__({"a": In(8), "b": In(8), "c": Out(16)})

        def elaborate(self, platform):
            m = Module()
            m.d.comb += self.c.eq(self.a * self.b)
            return m

    plain, booth = (yosys.synthesise(Product(), library, yosys.Flow(booth=booth)) for booth in (False, True))
    assert plain.netlist.area_um2 != booth.netlist.area_um2
    assert plain.mapper_delay_ns and plain.mapper_delay_ns > 0
    with pytest.raises(AccelSimError, match=r"Product: not mapped within 0.01 s"):
        yosys.synthesise(Product(), library, yosys.Flow(time_limit_s=0.01))


def test_a_unit_that_cannot_be_mapped_says_why(library, real, uniform):
    found = measure(element(2), library, real, uniform, yosys.Flow(time_limit_s=0.01))
    assert found.area_um2 is None and found.failure == "ProcessingElement: not mapped within 0.01 s"


def test_every_key_of_the_catalogue_is_one_row():
    units = catalogue(PATTERNS)
    assert len({unit.key for unit in units}) == len(units) > 250
    names = {unit.name for unit in chosen(units, ("processing_elements", "magnitude"))}
    assert names == {"processing_element", "magnitude"}
    with pytest.raises(AccelSimError, match=r"unit 'mul8': expected some of processing_elements, .*multiplier"):
        chosen(units, ("mul8",))


def test_real_operands_are_the_traces_and_their_masks_its_magnitudes(real):
    tiles = real.tiles(40, 16, Pattern("8:16"))
    assert tiles.activations.shape == (40, 64, 16) and tiles.weights.shape == (40, 64, 32)
    dropped = np.ones(tiles.values.shape, bool)
    np.put_along_axis(dropped, tiles.positions, False, axis=-1)
    kept = np.take_along_axis(tiles.values, tiles.positions, axis=-1)
    assert (np.abs(kept).min(axis=-1) >= np.where(dropped, np.abs(tiles.values), 0).max(axis=-1)).all()
    assert np.array_equal(kept.reshape(tiles.activations.shape), tiles.activations)
    site = real.sites[0]
    assert any(np.array_equal(tiles.values[0, 0].ravel(), row[:32]) for row in site.codes)  # a tile begins with K = 0
    assert tiles.clear[0].all() and tiles.clear[18, 0] == 1  # 576 features, 32 a cycle


def test_a_trace_without_weights_is_refused(tmp_path):
    site = Trace.open(folder("traces") / "smollm2-135m").sites[0]
    with pytest.raises(AccelSimError, match="holds no weights"):
        Operands.from_trace(write_synthetic_trace(tmp_path / "trace", [site]).path)
