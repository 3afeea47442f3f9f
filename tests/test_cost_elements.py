"""Processing elements as sums of synthesised parts: by hand, adding up, ordered, refused where they cannot be."""

import subprocess
import sys

import pytest
from cost_machines import elastic
from hypothesis import given
from hypothesis import strategies as st

from accel_sim import cost
from accel_sim.arch import derived
from accel_sim.arch.schema import Selector
from accel_sim.cost import circuits, hierarchy, processing_element
from accel_sim.cost.element_check import element_checks, published_gains
from accel_sim.cost.parts import parts
from accel_sim.cost.run import shipped, synthesis_run
from accel_sim.cost.units import load_library
from accel_sim.errors import AccelSimError
from accel_sim.pattern import HierarchicalPattern, Pattern

LADDER = ["2:4", "4:8", "8:16", "16:32"]
FLIP_FLOP, CLOCK, DATA = 4.522, 0.00802208013, 0.006936253203


def test_a_dense_element_by_hand():
    dense = cost.pe(8)
    registers = (64 + 64 + 1) * FLIP_FLOP
    assert dense.area_um2 == pytest.approx(5280.1 + registers)
    assert dense.area_nand2 == pytest.approx((5280.1 + registers) / 0.798)
    assert dense.energy_pj == pytest.approx(11.4365 + 129 * (CLOCK + DATA))
    assert (dense.delay_ns, dense.critical_stage) == (1.9402, "accumulate")
    assert dense.parts["multipliers"].area_um2 == pytest.approx(8 * 492.1)


def test_an_8_16_element_by_hand():
    # Two groups: 2 × 16 weights, 2 × 16 bits of bitmap, one-hot networks and decoders of the unit table.
    element, dot = cost.pe(16, "8:16"), 10173.17
    bits = 16 * 8 + 32 * 8 + 2 * 16 + 1
    assert element.area_um2 == pytest.approx(dot + bits * FLIP_FLOP + 2 * (476.67 + 184.34))
    assert element.parts["metadata_registers"].area_um2 == pytest.approx(32 * FLIP_FLOP)
    assert element.parts["operand_multiplexers"].energy_pj == pytest.approx(2 * 1.364)
    assert element.delay_ns == pytest.approx(0.0967 + 0.0398 + 1.1252 + 0.1117 + 0.9711)
    assert element.critical_stage == "multiply"


def test_a_register_behind_the_multiplexers_holds_both_operands_and_cuts_the_path():
    plain, cut = cost.pe(16, "16:32"), cost.pe(16, "16:32", operand_mux_register=True)
    assert cut.area_um2 - plain.area_um2 == pytest.approx((2 * 16 * 8 + 1) * FLIP_FLOP)
    assert cut.delay_ns == pytest.approx(plain.delay_ns - 0.9711)


def test_lanes_beyond_whole_groups_are_not_built():
    assert cost.pe(16, "3:4").parts["multipliers"].area_um2 == pytest.approx(15 * 492.1)
    assert cost.pe(16, "3:4").parts["weight_registers"].area_um2 == pytest.approx(20 * 8 * FLIP_FLOP)


@pytest.mark.parametrize("mux", ["onehot", "restricted", "full"])
@pytest.mark.parametrize("metadata", ["bitmap", "index", "enumerative"])
@given(lanes=st.integers(1, 32), m=st.integers(2, 32), data=st.data())
def test_parts_add_up_and_no_pattern_is_free(mux, metadata, lanes, m, data):
    n = data.draw(st.integers(1, min(lanes, m - 1)))
    element = cost.pe(lanes, Pattern(f"{n}:{m}"), mux, metadata)
    assert element.area_um2 == pytest.approx(sum(part.area_um2 for part in element.parts.values()))
    assert element.energy_pj == pytest.approx(sum(part.energy_pj for part in element.parts.values()))
    assert min(part.area_um2 for part in element.parts.values()) >= 0
    dense = cost.pe(lanes // n * n)
    assert cost.area_tax(element, dense) > 0 and cost.energy_tax(element, dense) > 0
    assert element.delay_ns >= dense.delay_ns


@pytest.mark.parametrize("mux", ["onehot", "restricted", "full"])
def test_taxes_rise_with_the_group(mux):
    dense, elements = cost.pe(16), [cost.pe(16, pattern, mux) for pattern in LADDER]
    for tax in (cost.area_tax, cost.energy_tax):
        taxes = [tax(element, dense) for element in elements]
        assert taxes == sorted(taxes) and 0.08 < taxes[0] < 0.2


def test_a_pattern_that_keeps_all_is_the_dense_element():
    assert cost.pe(16, "4:4") == cost.pe(16)
    assert cost.pe(16).pattern is None


def test_the_gain_is_the_saved_multiplications_over_the_tax():
    assert cost.iso_throughput_gain("4:8", 0.0) == 2
    assert cost.iso_throughput_gain("1:4", 1.0) == 2
    assert cost.implied_tax("4:8", 1.51) == pytest.approx(0.325, abs=0.001)
    assert cost.implied_tax("4:8", 1.45) == pytest.approx(0.379, abs=0.001)


def test_every_figure_has_a_source():
    rows = {row.quantity: row for row in cost.pe(16, "8:16").sources}
    assert rows["select_onehot 8:16: area"].status == "measured"
    assert rows["dot_product 16 lanes: area"].value == 10173.17
    assert "DFF_X1" in rows["nangate45 DFF_X1: clock_energy_pj"].source
    assert all(row.source for row in rows.values())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lanes": 0}, "lanes: got 0, expected a whole number of at least 1"),
        ({"lanes": 16.5}, "lanes: got 16.5, expected a whole number"),
        ({"lanes": "16", "pattern": "2:4"}, "lanes: got '16', expected a whole number"),
        ({"lanes": 4, "pattern": "8:16"}, "expected at least the 8 slots"),
        ({"lanes": 16, "pattern": "1:2 of 4:8"}, "expected one level"),
        ({"lanes": 16, "pattern": "8:16", "operand_mux": "magic"}, "expected one of restricted, onehot, full"),
        ({"lanes": 16, "pattern": "8:16", "metadata": "braille"}, "expected one of bitmap, index, enumerative"),
        ({"lanes": 16, "operand_mux_register": True}, "has no operand multiplexers"),
        ({"lanes": 16, "library": "nangate46"}, "known: nangate45"),
    ],
)
def test_what_cannot_be_built_says_why(arguments, message):
    with pytest.raises(AccelSimError, match=message):
        cost.pe(**arguments)


WITH_ELEMENTS = [name for name in shipped() if synthesis_run(name).elements]


def test_two_libraries_have_whole_elements():
    assert len(WITH_ELEMENTS) >= 2


@pytest.mark.parametrize("library", WITH_ELEMENTS)
def test_sums_of_parts_meet_whole_synthesised_elements(library):
    found = element_checks(library)
    assert not found.unchecked
    covered = {(one.lanes, str(one.pattern), one.operand_mux) for one in found.checks}
    assert covered >= {(16, pattern, mux) for pattern in LADDER for mux in ("onehot", "restricted")}
    for one in found.checks:
        middle = (one.noise[0] + one.noise[1]) / 2
        assert abs(one.predicted - middle) <= max(0.03, 0.15 * middle), one
        assert one.noise[0] - 1e-9 <= one.synthesised <= one.noise[1] + 1e-9, one
        # Select lines that many gates hang on have slow edges, which no part shows by itself: trees take more.
        assert one.predicted_energy <= one.synthesised_energy + 0.03, one
        if one.operand_mux == "onehot":
            assert one.predicted_energy == pytest.approx(one.synthesised_energy, abs=0.03, rel=0.15), one


@pytest.mark.parametrize("library", WITH_ELEMENTS)
def test_a_wrong_composition_would_be_seen(library, monkeypatch):
    """Leaving the weight registers of the dropped half out would not pass."""
    whole = processing_element._dense_part

    def without(library, slots, weights):
        return whole(library, slots, slots)

    monkeypatch.setattr(processing_element, "_dense_part", without)
    processing_element._element.cache_clear()
    try:
        assert not all(one.holds for one in element_checks(library).checks)
    finally:
        monkeypatch.undo()
        processing_element._element.cache_clear()


@pytest.mark.parametrize("name", shipped())
def test_no_part_of_an_element_is_negative(name):
    for lanes in (1, 4, 8, 16, 32):
        for part in cost.pe(lanes, library=name).parts.values():
            assert part.area_um2 > 0 and part.energy_pj > 0


def test_published_gains_stand_beside_ours_as_gain_and_as_tax():
    area, energy = published_gains("nangate45", 16, "full")
    assert (area.quantity, energy.quantity) == ("area", "energy")
    assert area.published_gain == pytest.approx(3.14 / 2.08) and energy.published_gain == pytest.approx(1.97 / 1.36)
    assert area.published_tax == pytest.approx(2 * 2.08 / 3.14 - 1)
    assert area.gain == pytest.approx(2 / (1 + area.tax))
    assert area.tax < area.tax_with_smaller_multipliers and energy.tax_with_smaller_multipliers is None
    # A lower bound of theirs: nothing around the element is counted here.
    assert all(one.tax < one.published_tax for name in shipped() for one in published_gains(name, 16, "full"))


HALVES = [Pattern(pattern) for pattern in ("2:4", "4:8", "8:16")]


@pytest.mark.parametrize("library", WITH_ELEMENTS)
@pytest.mark.parametrize("pattern", HALVES, ids=str)
def test_two_level_selectors_from_parts_meet_whole_ones(library, pattern):
    tables = load_library(library)
    whole = tables.row("hierarchical_selector", pattern.n, 2 * pattern.m)
    built = hierarchy.selector(tables, Selector(), "bitmap", HierarchicalPattern(f"1:2 of {pattern}"))
    assert built.area_um2 == pytest.approx(whole.area_um2, rel=0.15)
    assert built.energy_pj == pytest.approx(whole.energy_pj, rel=0.2)


@pytest.mark.parametrize("library", WITH_ELEMENTS)
@pytest.mark.parametrize("pattern", [*HALVES, Pattern("16:32")], ids=str)
def test_elastic_front_ends_from_parts_meet_whole_ones(library, pattern):
    """16 lanes in slices of 4, a window of 32. The whole one holds a row's groups once, without line registers."""
    arch = elastic(str(pattern), elastic_lanes=4, sync_window=32, technology={"library": library})
    edge = [part for part in parts(arch) if not part.per_column]
    names = {"zero_skipping": 1, "metadata_decoders": 1, "window_buffers": 1 / 2}
    built = sum(names.get(part.component, 0) * part.area_um2 for part in edge) / arch.array.rows
    supplied = derived.supplied_groups_per_cycle(arch)
    assert supplied == 4
    whole = load_library(library).row("elastic_front_end", pattern.n, pattern.m, 16)
    assert built == pytest.approx(whole.area_um2, rel=0.25)


@pytest.mark.parametrize("library", WITH_ELEMENTS)
@pytest.mark.parametrize("kind", ["rank", "sort", "cascade", "radix"])
def test_selectors_from_parts_meet_whole_ones(library, kind):
    tables = load_library(library)
    for pattern in HALVES:
        built = circuits.selector_of_parts(tables, Selector(kind=kind), "bitmap", pattern)
        whole = circuits.selector(tables, Selector(kind=kind), "bitmap", pattern)
        assert whole.status == "measured" and built.status == "computed"
        assert built.area_um2 == pytest.approx(whole.area_um2, rel=0.25), pattern


def test_the_package_leads_to_its_cost_without_another_import():
    run = [sys.executable, "-c", "import accel_sim; print(accel_sim.cost.pe(16, '8:16').lanes)"]
    assert subprocess.run(run, capture_output=True, text=True, check=True).stdout == "16\n"
