"""A whole run: the command, its folder, what it takes over, and what it refuses."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("amaranth", reason="pip install 'accel_sim[rtl]'")

import tiny_library

from accel_sim.cli.main import main
from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern
from accel_sim.shipped import folder
from accel_sim.synthesis.report import report, taxes
from accel_sim.synthesis.run import JOURNAL, Request, remaining, synthesise_library
from accel_sim.synthesis.table import ELEMENT_COLUMNS, form_rows, write_run


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """`accel-sim synthesize` in this process, in an empty folder: (exit status, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["accel-sim", "synthesize", *map(str, arguments)])
        with pytest.raises(SystemExit) as leave:
            main()
        return leave.value.code or 0, capsys.readouterr().err

    return run


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Multiplexers, magnitudes and the adder over two patterns, in a folder: (request, what was measured)."""
    place = tmp_path_factory.mktemp("run")
    request = Request(
        liberty=tiny_library.written(place),
        name="tiny",
        out=place / "tables",
        trace=folder("traces") / "smollm2-135m",
        units=("select_onehot", "magnitude", "adder"),
        patterns=(Pattern("2:4"), Pattern("4:8")),
        jobs=1,
    )
    measured: list[str] = []
    write_run(synthesise_library(request, measured.append))
    return request, measured


def test_a_run_is_a_folder_of_tables(run):
    request, measured = run
    assert sorted(measured) == ["adder", "magnitude 4", "magnitude 8", "select_onehot 2:4", "select_onehot 4:8"]
    units = {(row["unit"], row["m"]): row for row in rows(request.out / "units.csv")}
    assert list(units) == [("adder", ""), *((name, m) for name in ("select_onehot", "magnitude") for m in ("4", "8"))]
    adder = units["adder", ""]
    assert adder["n"] == adder["lanes"] == "" and adder["bits"] == "8" and adder["flip_flops"] == "0"
    assert float(adder["nand2"]) == pytest.approx(float(adder["area_um2"]) / 1.5, rel=1e-4)
    assert float(adder["energy_pj"]) > 0 and float(adder["leakage_nw"]) > 0
    assert adder["source"].startswith("tiny.lib, Yosys")
    record = json.loads((request.out / "run.json").read_text())
    assert record["library"] == "tiny" and record["nand2_cell"] == "NAND2" and record["flip_flop"]["cell"] == "DFF"
    assert record["flip_flop"]["area_um2"] == 6 and record["supply_v"] == 1
    assert record["operands"]["trace"] == "smollm2-135m"
    forms = {row["kind"]: row for row in rows(request.out / "closed_forms.csv")}
    assert forms["select_onehot"]["rows"] == "2" and float(forms["magnitude"]["rms_percent"]) < 5
    assert "## Closed forms" in (request.out / "report.md").read_text()


def test_a_resumed_run_measures_only_what_is_missing(run):
    request, _ = run
    more = replace(request, resume=True, units=(*request.units, "multiplier"))
    assert remaining(more) == 1
    measured: list[str] = []
    found = synthesise_library(more, measured.append)
    assert measured == ["multiplier"] and len(found.measurements) == 6
    assert len((request.out / JOURNAL).read_text().splitlines()) == 7


def test_a_run_of_something_else_is_not_resumed(run, tmp_path):
    request, _ = run
    for changes in ({"remappings": 1}, {"liberty": tiny_library.written(tmp_path, extra=" ")}):
        with pytest.raises(AccelSimError, match="was made with another"):
            synthesise_library(replace(request, resume=True, **changes))


def test_an_earlier_run_is_not_overwritten(run):
    request, _ = run
    before = (request.out / JOURNAL).read_bytes()
    with pytest.raises(AccelSimError, match="holds an earlier run; go on with --resume"):
        synthesise_library(request)
    assert (request.out / JOURNAL).read_bytes() == before


def test_measurements_of_other_rtl_are_not_resumed(run, monkeypatch):
    request, _ = run
    monkeypatch.setattr("accel_sim.synthesis.run._rtl_digest", lambda: "another")
    with pytest.raises(AccelSimError, match="was made with another rtl_sha256"):
        synthesise_library(replace(request, resume=True))


def test_taxes_are_relative_to_the_dense_element_of_as_many_lanes():
    dense = dict.fromkeys(ELEMENT_COLUMNS) | {
        "lanes": 16, "area_um2": 100.0, "energy_pj": 10.0, "delay_ns": 5.0, "noise_low_um2": 99.0,
        "noise_high_um2": 101.0,
    }  # fmt: skip
    sparse = dense | {
        "n": 3, "m": 4, "operand_mux": "onehot", "metadata": "bitmap", "operand_mux_register": "false",
        "area_um2": 120.0, "energy_pj": 13.0, "delay_ns": 6.0, "noise_low_um2": 118.8, "noise_high_um2": 121.2,
    }  # fmt: skip
    other = sparse | {"lanes": 8}
    (row,) = taxes([dense, sparse, other])
    assert row["area_tax"] == pytest.approx(0.2) and row["energy_tax"] == pytest.approx(0.3)
    assert row["area_tax_low"] == pytest.approx(118.8 / 101 - 1)
    assert row["area_tax_high"] == pytest.approx(121.2 / 99 - 1)
    assert row["area_gain"] == pytest.approx(4 / 3 / 1.2 * 15 / 16)  # five groups of three fill 15 of 16 lanes
    record = {"library": "x", "liberty_file": "x", "supply_v": 1, "temperature_c": 25, "tools": {"yosys": "x"}}
    record |= {"operands": {"trace": "x"}, "date": "x", "nand2_area_um2": 1, "nand2_cell": "x"}
    record |= {"flow": {"wire_pf_a_sink": 1e-3}}
    # 1.04 at an equal clock; at 6 ns beside 5 ns five sixths of it
    assert "| 6.00 (5.00) | 1.04× | 0.87× |" in report(record, [dense, sparse], [])


def test_rows_without_area_and_without_enough_company_have_no_form():
    empty = {"unit": "decode_bitmap_onehot", "n": 1, "m": 4, "lanes": None, "bits": 8, "nand2": None}
    wires = {"unit": "select_full", "n": 1, "m": 4, "lanes": None, "bits": 8, "nand2": 0.0}
    one = {"unit": "dot_product", "n": None, "m": None, "lanes": 4, "bits": 8, "nand2": 3000.0}
    assert form_rows([empty, wires, one]) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--liberty", "nothing.lib"], "nothing.lib: cannot be read"),
        (["--liberty", __file__], "not a Liberty file"),
        (["--liberty", "TINY", "--units", "mul8"], "unit 'mul8': expected some of processing_elements"),
        (["--liberty", "TINY", "--patterns", "4:2"], "pattern '4:2'"),
        (["--liberty", "TINY", "--trace", "nowhere"], "nowhere"),
    ],
)
def test_what_cannot_be_synthesised_is_one_line(command, tmp_path, arguments, message):
    tiny = str(tiny_library.written(tmp_path))
    status, said = command(*(tiny if argument == "TINY" else argument for argument in arguments))
    assert status == 2 and message in said and len(said.strip().splitlines()) == 1


def test_a_library_without_flip_flops_is_refused(command, tmp_path):
    status, said = command("--liberty", tiny_library.written(tmp_path, leave_out="DFF"))
    assert status == 2 and "no usable flip-flop" in said


def test_a_line_that_was_cut_short_is_measured_again(run, tmp_path):
    request, _ = run
    lines = (request.out / JOURNAL).read_text().splitlines(keepends=True)
    (tmp_path / JOURNAL).write_text("".join(lines[:2]) + lines[2][:-20])
    resumed = replace(request, out=tmp_path, resume=True, units=("select_onehot", "magnitude"))
    expected = 4 - ("adder" not in lines[1])
    assert remaining(resumed) == expected
    measured: list[str] = []
    synthesise_library(resumed, measured.append)
    assert len(measured) == expected
    assert remaining(resumed) == 0


@pytest.mark.parametrize("content", ["", "[1]\n", "{}\n[1]\n", "{\n", "{}\n{}\n"])
def test_what_is_no_journal_is_not_resumed(run, tmp_path, content):
    request, _ = run
    (tmp_path / JOURNAL).write_text(content)
    with pytest.raises(AccelSimError, match=r"measurements\.jsonl: is no journal of a run|was made with another"):
        resumed = replace(request, out=tmp_path, resume=True)
        remaining(resumed)
        synthesise_library(resumed)
    assert (tmp_path / JOURNAL).read_text() == content


@pytest.mark.skipif(sys.platform == "win32", reason="process groups")
def test_a_killed_run_leaves_no_process(tmp_path):
    program = "from accel_sim.cli.main import main; main()"
    command = [sys.executable, "-c", program, "synthesize", "--units", "top_n_sort"]
    command += ["--liberty", str(tiny_library.written(tmp_path)), "--patterns", "8:16", "--out", str(tmp_path / "out")]
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    wait_until(lambda: (tmp_path / "out" / JOURNAL).exists() or process.poll() is not None)
    time.sleep(1)  # its processes start
    assert process.poll() is None
    process.kill()
    process.wait()
    wait_until(lambda: not alive(process.pid))


def wait_until(met, limit_s: float = 60) -> None:
    end = time.monotonic() + limit_s
    while not met():
        assert time.monotonic() < end
        time.sleep(0.1)


def alive(group: int) -> bool:
    """Whether a process of that group is left."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
