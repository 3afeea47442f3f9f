"""Synthesis runs as folders: what is read, what is refused, and how another library comes to 45 nm."""

import csv
import json
from pathlib import Path

import pytest
from cost_machines import WORK, machine

from accel_sim import cost
from accel_sim.arch import load_arch
from accel_sim.arch.schema import Selector
from accel_sim.cost import circuits
from accel_sim.cost.run import shipped, synthesis_run
from accel_sim.cost.scaling import Scale
from accel_sim.cost.units import load_library
from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern

NANGATE = Path(cost.__file__).parent / "data" / "nangate45"
AREA, ENERGY, DELAY, LEAKAGE = 9.0, 5.0, 4.0, 0.5


def rewrite(path, columns):
    """Multiply columns of a table, leaving empty cells empty."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        for column, factor in columns.items():
            row[column] = repr(float(row[column]) * factor) if row[column] else ""
    write(path, rows)


def write(path, rows):
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, rows[0])
        table.writeheader()
        table.writerows(rows)


@pytest.fixture
def folder(tmp_path):
    """The NanGate run on cells that are larger, slower and hungrier by one factor each."""
    for name in ("units.csv", "closed_forms.csv"):
        (tmp_path / name).write_text((NANGATE / name).read_text(encoding="utf-8"), encoding="utf-8")
    delays = {"delay_ns": DELAY, "mapper_delay_ns": DELAY}
    rewrite(tmp_path / "units.csv", {"area_um2": AREA, "energy_pj": ENERGY, "leakage_nw": LEAKAGE, **delays})
    run = json.loads((NANGATE / "run.json").read_text(encoding="utf-8"))
    run |= {"library": "big", "node_nm": 130, "supply_v": 1.2, "nand2_area_um2": run["nand2_area_um2"] * AREA}
    factors = {"area_um2": AREA, "clock_energy_pj": ENERGY, "data_energy_pj": ENERGY, "leakage_nw": LEAKAGE}
    factors |= {"clock_to_q_ns": DELAY, "setup_ns": DELAY}
    run["flip_flop"] |= {name: run["flip_flop"][name] * factor for name, factor in factors.items()}
    save(tmp_path, run)
    return tmp_path


def save(folder, run):
    (folder / "run.json").write_text(json.dumps(run), encoding="utf-8")


def change(folder, **facts):
    save(folder, json.loads((folder / "run.json").read_text(encoding="utf-8")) | facts)


@pytest.mark.parametrize("name", ["8x16.yaml", "dense.yaml", "systolic32_os.yaml"])
def test_a_library_that_differs_by_factors_alone_gives_the_same_machine(folder, name):
    small, big = load_arch(name), load_arch(name, [f"technology.library={folder}"])
    areas = [cost.area(arch) for arch in (small, big)]
    assert areas[1].components_um2 == pytest.approx(areas[0].components_um2)
    assert areas[1].total_nand2 == pytest.approx(areas[0].total_nand2)
    delays = [cost.delays(arch, arch.pattern()) for arch in (small, big)]
    assert delays[1].clock_hz == pytest.approx(delays[0].clock_hz)
    assert delays[1].selector_latency_cycles == delays[0].selector_latency_cycles
    # The anchor is rounded to three digits, 0.215 here and 0.0431 there: a two-thousandth apart.
    spent = [cost.energy(arch, arch.pattern(), WORK, 4e8) for arch in (small, big)]
    assert spent[1].components_pj == pytest.approx(spent[0].components_pj, rel=2e-3)
    assert spent[1].components_pj["leakage"] == pytest.approx(spent[0].components_pj["leakage"])


def test_raw_energies_come_by_the_node_polynomials(folder):
    raw = machine("8:16", technology={"library": str(folder), "energy_scale": "raw"}).technology
    ratio = (1.103 * 1.1**2 - 0.362 * 1.1 + 0.2767) / (7.171 * 1.2**2 - 6.709 * 1.2 + 2.904)
    assert Scale.of(raw).energy == pytest.approx(ratio)
    assert Scale.of(raw).supply_v == 1.1


def test_raw_energies_of_a_node_without_polynomials_are_refused(folder):
    change(folder, node_nm=180)
    arch = machine("8:16", technology={"library": str(folder), "energy_scale": "raw"})
    with pytest.raises(AccelSimError, match=r"180 nm: the scaling table runs .* anchored takes any library"):
        Scale.of(arch.technology)
    assert Scale.of(arch.technology.model_copy(update={"energy_scale": "anchored"})).energy > 0


def test_raw_energies_of_a_run_that_does_not_name_its_node_are_refused(folder):
    change(folder, node_nm=None)
    arch = machine("8:16", technology={"library": str(folder), "energy_scale": "raw"})
    with pytest.raises(AccelSimError, match="does not name the node"):
        Scale.of(arch.technology)


def test_a_unit_that_could_not_be_mapped_is_absent_and_one_of_wires_is_free(folder):
    text = (folder / "units.csv").read_text(encoding="utf-8")
    header = text.splitlines()[0].split(",")
    wires = {"unit": "decode_bitmap_onehot", "n": "1", "m": "8", "bits": "8", "area_um2": "0", "flip_flops": "0"}
    wires |= {"delay_ns": "0", "energy_pj": "0", "leakage_nw": "0", "source": "wires"}
    failed = {"unit": "select_full", "n": "2", "m": "16", "bits": "8", "source": "took too long"}
    rows = [",".join(cells.get(name, "") for name in header) for cells in (wires, failed)]
    (folder / "units.csv").write_text("\n".join([text.rstrip("\n"), *rows, ""]), encoding="utf-8")
    library = load_library(str(folder))
    assert library.unit("decode_bitmap_onehot", 1, 8).area_um2 == 0
    assert library.row("select_full", 2, 16) is None
    assert library.unit("select_full", 2, 16).area_um2 > 0


def test_smaller_nodes_scale_another_library_as_they_do_the_first(folder):
    scales = [
        Scale.of(machine(technology={"library": library, "node_nm": 16}).technology)
        for library in ("nangate45", str(folder))
    ]
    assert scales[1].area * AREA == pytest.approx(scales[0].area)
    assert scales[1].node_area == scales[0].node_area == 0.19
    assert scales[1].leakage * LEAKAGE == pytest.approx(scales[0].leakage)


def test_the_report_says_how_the_library_came_to_45_nm(folder):
    arch = machine("8:16", technology={"library": str(folder)})
    line = cost.defaults_line(arch)
    assert "measured at 130 nm, 1.2 V and brought to 45 nm" in line and "NAND2-equivalents" in line
    listed = {row.quantity: row.value for row in cost.sources(arch)}
    assert listed["area factor big to 45 nm"] == pytest.approx(1 / AREA)
    assert listed["delay factor big to 45 nm"] == pytest.approx(1 / DELAY)
    assert "brought to" not in cost.defaults_line(machine("8:16"))


def test_a_run_with_its_own_rows_uses_them_instead_of_compositions(folder):
    with (folder / "units.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    own = {"n": "", "m": "", "lanes": "", "bits": "", "cells": "9", "flip_flops": "0", "mapper_delay_ns": ""}
    own |= {"nand2": "1000", "delay_ns": "2", "energy_pj": "3", "leakage_nw": "4", "source": "own"}
    added = [
        {**own, "unit": "requantiser", "area_um2": "1234"},
        {**own, "unit": "top_n_rank", "n": "8", "m": "16", "bits": "16", "area_um2": "5678"},
        {**own, "unit": "decode_bitmap_offset", "n": "8", "m": "16", "area_um2": "91"},
        {**own, "unit": "selector_rank", "n": "4", "m": "8", "bits": "8", "area_um2": "2468"},
    ]
    write(folder / "units.csv", rows + added)
    library, pattern = load_library(str(folder)), Pattern("8:16")
    assert circuits.requantiser(library).area_um2 == 1234
    assert circuits.top_n(library, Selector(channel_factors=True), pattern).area_um2 == 5678
    assert circuits.decoder(library, "restricted", "bitmap", pattern).area_um2 == 91
    assert circuits.selector(library, Selector(), "bitmap", Pattern("4:8")).area_um2 == 2468
    # A width without a row follows the ratio of the rows that have both.
    ratio = 5678 / (3428.21 * AREA)
    four = circuits.top_n(library, Selector(channel_factors=True), Pattern("4:8"))
    assert four.area_um2 == pytest.approx(737.35 * AREA * ratio)


def test_a_pipelined_requantiser_brings_its_own_registers_and_their_clock(folder):
    text = (folder / "units.csv").read_text(encoding="utf-8")
    row = 'requantiser,,,,8,90000,1000,900,150,8,8,40,4,"own"'  # 100 flip-flops' worth of cells and 50 more
    (folder / "units.csv").write_text(f"{text}{row}\n", encoding="utf-8")
    arch = machine(technology={"library": str(folder), "utilisation": 1.0})
    library, scale = load_library(str(folder)), Scale.of(arch.technology)
    # Three stages of 8 ns here are 2 ns each at 45 nm, so 6 ns together: three cycles at 449 MHz, no register added.
    assert circuits.requantiser(library).delay_ns == 24
    assert cost.area(arch).components_um2["requantisers"] == pytest.approx(arch.array.requantisers * 90000 * scale.area)
    clock = library.flip_flop.energy_pj
    spent = cost.energy(arch, None, WORK, 4e8).components_pj
    each = scale.energy * (40 - 150 * clock + library.unit("adder").energy_pj)
    assert spent["requantise"] == pytest.approx(WORK.requantised * each)
    composed = machine(technology={"utilisation": 1.0})
    assert cost.area(composed).components_um2["requantisers"] > 0


def test_a_width_without_a_row_follows_the_median_of_the_rows_that_have_both(folder):
    text = (folder / "units.csv").read_text(encoding="utf-8")
    narrow = {pattern: load_library("nangate45").row("top_n_rank", *pattern) for pattern in ((1, 4), (2, 4), (4, 8))}
    wide = [
        f"top_n_rank,{n},{m},,16,{row.area_um2 * AREA * ratio!r},,,0,{row.delay_ns * DELAY!r},,"
        f"{row.energy_pj * ENERGY!r},{row.leakage_nw * LEAKAGE!r},own"
        for ((n, m), row), ratio in zip(narrow.items(), (1.5, 1.8, 4.0), strict=True)
    ]
    (folder / "units.csv").write_text("\n".join([text.rstrip("\n"), *wide, ""]), encoding="utf-8")
    library = load_library(str(folder))
    assert library.width_ratios("top_n_rank", 16) == pytest.approx((1.8, 1, 1, 1))
    assert library.width_ratios("top_n_sort", 16) is None


def test_every_shipped_run_makes_every_shipped_pattern():
    for name in shipped():
        for pattern in ("2:4", "4:8", "8:16", "16:32"):
            arch = machine(pattern, technology={"library": name})
            assert 0 < cost.area(arch).overhead(cost.area(arch.dense())) < 0.5
            assert 1e8 < cost.delays(arch, arch.pattern()).clock_hz <= 5e8


def test_a_library_of_no_name_is_refused_where_it_is_written():
    with pytest.raises(AccelSimError, match=r"technology\.library.*nangate46.*nangate45"):
        load_arch("8x16.yaml", ["technology.library=nangate46"])


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        ("run.json", '"schema_version": 1', '"schema_version": 2', "schema_version 2; this version reads 1"),
        ("run.json", '"library"', '"books"', "run.json: no 'library'"),
        ("run.json", "{", "[", "not JSON"),
        ("units.csv", "area_um2,", "area,", "units.csv line 2: no column 'area_um2'"),
        ("units.csv", "magnitude,,4,", "magnitude,,8,", "line 3: a second row of magnitude"),
        ("units.csv", ",8,756.54", ",8,-1", "line 2: area_um2 -1; expected 0 or more"),
        ("closed_forms.csv", "select_full", "select_some", "closed form 'select_some' is not one of"),
        ("closed_forms.csv", "N·(M-1)·W", "N·M·W", "select_full was fitted to N·M·W, not"),
        ("closed_forms.csv", "2.36", "much", "line 2: could not convert"),
    ],
)
def test_a_damaged_run_says_what_is_wrong_and_where(folder, file, old, new, message):
    text = (folder / file).read_text(encoding="utf-8")
    assert old in text
    (folder / file).write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(AccelSimError, match=message):
        synthesis_run(str(folder))


@pytest.mark.parametrize("name", ["run.json", "units.csv", "closed_forms.csv"])
def test_a_folder_without_a_file_is_no_run(folder, name):
    (folder / name).unlink()
    with pytest.raises(AccelSimError, match=f"not a synthesis run: no {name}"):
        synthesis_run(str(folder))


def test_a_run_without_a_unit_names_it(folder):
    with (folder / "units.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["unit"] != "select_onehot"]
    write(folder / "units.csv", rows)
    with pytest.raises(AccelSimError, match="library big: no unit 'select_onehot' was synthesised"):
        cost.area(machine("8:16", technology={"library": str(folder)}))


@pytest.mark.parametrize(
    ("was", "is_now", "message"),
    [
        (f"{492.1 * AREA!r}", "nan", r"units\.csv line \d+: area_um2 nan; expected 0 or more"),
        (f"{492.1 * AREA!r}", "much", r"units\.csv line \d+: could not convert"),
        (f"{492.1 * AREA!r}", None, r"units\.csv line \d+: fewer cells than columns"),
    ],
)
def test_a_damaged_table_is_named_with_its_line_and_no_other_file(folder, was, is_now, message):
    table = folder / "units.csv"
    before, after = table.read_text(encoding="utf-8").split(was, 1)
    table.write_text(before if is_now is None else before + is_now + after, encoding="utf-8")
    with pytest.raises(AccelSimError, match=message) as refused:
        synthesis_run(str(folder))
    assert "run.json" not in str(refused.value)


def test_a_table_that_lost_whole_lines_is_refused(folder):
    table = folder / "units.csv"
    lines = table.read_text(encoding="utf-8").splitlines(keepends=True)
    change(folder, unit_rows=len(lines) - 1)
    assert synthesis_run(str(folder)).rows
    synthesis_run.cache_clear()
    table.write_text("".join(lines[:-1]), encoding="utf-8")
    with pytest.raises(AccelSimError, match=rf"units\.csv: {len(lines) - 2} rows, but run\.json says {len(lines) - 1}"):
        synthesis_run(str(folder))


def test_a_flip_flop_that_is_no_number_is_refused(folder):
    flip_flop = json.loads((folder / "run.json").read_text(encoding="utf-8"))["flip_flop"]
    change(folder, flip_flop=flip_flop | {"clock_energy_pj": "little"})
    with pytest.raises(AccelSimError, match=r"run\.json: could not convert"):
        synthesis_run(str(folder))
