"""Unit costs against the published table of the netlists, and the forms that stand in where it has no row."""

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel_sim import cost
from accel_sim.arch.schema import Selector
from accel_sim.cost import circuits
from accel_sim.cost.units import load_library, unit
from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern

LADDER = [Pattern(text) for text in ("2:4", "4:8", "8:16", "16:32")]
NANGATE = load_library("nangate45")
PATTERN_KINDS = [kind for kind in NANGATE.kinds() if kind.startswith(("select_", "decode_", "encode_", "top_n_"))]


@pytest.mark.parametrize(
    ("kind", "gates"),
    [
        ("select_full", [114, 539, 2199, 9214]),
        ("select_restricted", [75, 303, 1234, 4745]),
        ("select_onehot", [53, 171, 597, 2574]),
        ("decode_bitmap_onehot", [11, 55, 231, 983]),
        ("decode_bitmap_index", [12, 69, 288, 1296]),
        ("encode_enumerative", [14, 206, 1368, 7074]),
        ("top_n_rank", [173, 924, 4296, 18576]),
        ("top_n_cascade", [350, 1735, 8171, 32971]),
        ("top_n_sort", [315, 1437, 5356, 18034]),
        ("top_n_radix", [598, 1174, 2604, 4689]),
    ],
)
def test_table_rows_are_looked_up_exactly(kind, gates):
    assert [round(unit(kind, p.n, p.m).nand2) for p in LADDER] == pytest.approx(gates, abs=1)


def test_a_complete_selector_is_the_sum_of_its_measured_parts():
    found = [circuits.selector(NANGATE, Selector(kind="rank"), "bitmap", pattern).nand2 for pattern in LADDER]
    assert found == pytest.approx([343, 1360, 5546, 22975], abs=1)


def test_radix_makes_a_smaller_complete_selector_from_sixteen_on():
    found = [circuits.selector(NANGATE, Selector(kind="radix"), "bitmap", pattern).nand2 for pattern in LADDER[2:]]
    assert found == pytest.approx([3853, 9089], abs=2)


@pytest.mark.parametrize("lanes", [1, 2, 4, 8, 16, 32])
def test_the_dot_product_line_fits_its_rows(lanes):
    row = unit("dot_product", lanes=lanes).nand2
    assert 771 * lanes + 377 == pytest.approx(row, rel=0.025)


def test_a_dot_product_without_a_row_lies_on_the_line():
    dot = unit("dot_product", lanes=24)
    assert dot.nand2 == pytest.approx(771 * 24 + 377)
    assert dot.estimated and dot.status == "computed"


@pytest.mark.parametrize(
    "kind", ["select_full", "select_restricted", "select_onehot", "top_n_rank", "top_n_cascade", "top_n_radix"]
)
def test_closed_forms_reproduce_their_rows(kind):
    for row in NANGATE.rows(kind):
        if row.bits == 8:
            area, _ = NANGATE.form_area(kind, row.n, row.m)
            assert area == pytest.approx(row.area_um2, rel=0.12), row


def test_a_complete_row_is_measured_and_a_gap_is_flagged():
    assert unit("select_onehot", 8, 16).status == "measured"
    assert not unit("select_onehot", 8, 16).estimated
    assert unit("select_onehot", 8, 32).status == "extrapolated"  # area only
    assert unit("dot_product", lanes=16).status == "extrapolated"  # no energy, no timing analysis


def test_the_16_32_enumerative_decoder_is_extrapolated():
    decoder = unit("decode_enumerative", 16, 32)
    assert decoder.status == "extrapolated"
    assert decoder.nand2 > unit("decode_enumerative", 8, 32).nand2
    assert "encode_enumerative" in decoder.source


def test_an_area_with_a_row_is_measured_even_where_the_energy_is_not():
    assert unit("dot_product", lanes=16).area_status == "measured"
    assert unit("dot_product", lanes=24).area_status is None  # as the whole: computed


def test_missing_energy_scales_with_area():
    known, missing = unit("dot_product", lanes=8), unit("dot_product", lanes=16)
    assert missing.energy_pj / missing.area_um2 == pytest.approx(known.energy_pj / known.area_um2)


def test_a_delay_of_the_mapper_alone_is_raised_to_the_timing_analysers():
    assert unit("dot_product", lanes=16).delay_ns == pytest.approx(1.92498 * 1.157, rel=0.01)


@pytest.mark.parametrize("kind", PATTERN_KINDS)
@given(data=st.data())
def test_every_pattern_has_a_positive_cost(kind, data):
    m = data.draw(st.integers(2, 64))
    n = data.draw(st.integers(1, m - 1))
    found = unit(kind, n, m)
    assert found.area_um2 > 0 and found.delay_ns > 0 and found.energy_pj > 0 and found.leakage_nw > 0


def test_an_unknown_kind_names_the_known_ones():
    with pytest.raises(AccelSimError, match=r"no unit .flux_capacitor. was synthesised; it has: magnitude"):
        cost.unit("flux_capacitor")


def test_a_flip_flop_is_five_and_two_thirds_gates():
    assert NANGATE.flip_flop.nand2 == pytest.approx(5.67, abs=0.01)


def test_clock_and_data_energy_of_a_register_are_both_a_few_femtojoules():
    assert 0.004 < NANGATE.flip_flop.energy_pj < 0.012
    assert 0.002 < NANGATE.register_data_energy_pj < 0.012


@pytest.mark.parametrize(("lanes", "registers"), [(1, 49), (4, 97), (16, 289), (32, 545)])
def test_registers_inside_a_dot_product_match_the_netlists(lanes, registers):
    assert unit("dot_product", lanes=lanes).flip_flops == registers


def test_one_hot_with_its_decoder_beats_the_tree_even_for_one_column():
    for pattern in LADDER:
        n, m = pattern.n, pattern.m
        assert (
            unit("select_onehot", n, m).nand2 + unit("decode_bitmap_onehot", n, m).nand2
            < unit("select_restricted", n, m).nand2
        )


def test_energies_anchor_to_the_published_ones():
    k = NANGATE.anchor_factor
    assert k * unit("multiplier").energy_pj == pytest.approx(0.2, rel=0.05)
    assert k * unit("adder").energy_pj == pytest.approx(0.1, rel=0.05)


def test_every_row_of_every_data_file_has_a_source():
    folder = Path(cost.__file__).parent / "data"
    files = sorted(set(folder.rglob("*.csv")) - set(folder.rglob("processing_elements.csv")))
    assert len(files) >= 6
    for path in files:
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                assert row["source"], (path.name, row)


@pytest.mark.parametrize("encoding", ["bitmap", "index", "enumerative"])
@pytest.mark.parametrize("mux", ["restricted", "onehot", "full"])
def test_every_multiplexer_takes_every_metadata(mux, encoding):
    for pattern in [*LADDER, Pattern("3:4"), Pattern("7:16"), Pattern("1:2"), Pattern("63:64")]:
        decoder = circuits.decoder(NANGATE, mux, encoding, pattern)
        if (mux, encoding) == ("full", "index"):
            assert decoder is None  # the index is the tree's select
        else:
            assert decoder.area_um2 > 0 and decoder.delay_ns > 0


def test_select_lines_follow_the_reach():
    assert circuits.select_bits("onehot", Pattern("8:16")) == 72
    assert circuits.select_bits("restricted", Pattern("8:16")) == 32
    assert circuits.select_bits("full", Pattern("16:32")) == 80


def test_channel_factors_cost_a_multiplier_an_element():
    plain = circuits.selector(NANGATE, Selector(), "bitmap", Pattern("8:16"))
    scored = circuits.selector(NANGATE, Selector(channel_factors=True), "bitmap", Pattern("8:16"))
    assert scored.area_um2 > plain.area_um2 + 16 * unit("multiplier").area_um2
    assert scored.delay_ns > plain.delay_ns + unit("multiplier").delay_ns
