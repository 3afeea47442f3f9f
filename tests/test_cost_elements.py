"""Processing elements as sums of synthesised parts: by hand, adding up, ordered, refused where they cannot be."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel_sim import cost
from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern

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
        ({"lanes": 0}, "lanes: got 0, expected at least 1"),
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
