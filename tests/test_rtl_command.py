"""`accel-sim rtl` writes every circuit as Verilog that a Verilog compiler accepts."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest

pytest.importorskip("amaranth", reason="pip install 'accel_sim[rtl]'")

from rtl_operands import assert_refused, require_simulator

from accel_sim.cli.main import main
from accel_sim.rtl.units import UNITS, build, settings_of
from accel_sim.rtl.verilog import verilog

SMALL = {
    "lanes": "4",
    "pattern": "2:4",
    "patterns": "4:8,2:4",
    "count": "4",
    "metadata": "bitmap",
    "operand_mux": "onehot",
    "rows": "2",
    "cols": "4",
    "features": "16",
    "elastic_lanes": "1",
    "sync_window": "2",
}
OTHERWISE = {
    "shifting_processing_element": {"lanes": "1"},
    "hierarchical_selector": {"pattern": "1:2 of 2:4"},
    "unit": {"bus_bytes": "8"},
}
"""What must differ from `SMALL` for a unit to be possible."""


def small_settings(unit: str) -> dict[str, str]:
    required = {name: SMALL[name] for name, setting in settings_of(unit).items() if setting.default is None}
    return {**required, **OTHERWISE.get(unit, {})}


@pytest.mark.parametrize("unit", UNITS)
def test_every_unit_is_emitted_and_compiles(unit, tmp_path):
    text = verilog(build(unit, small_settings(unit)), unit)
    assert text.count(f"\nmodule {unit}(") == 1
    require_simulator("icarus")  # only to compile it
    (tmp_path / "unit.v").write_text(text)
    command = ["iverilog", "-g2005", "-Wall", "-s", unit, "-o", "unit", "unit.v"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def command(monkeypatch, *arguments: str) -> int:
    """Exit status of `accel-sim rtl …`."""
    monkeypatch.setattr("sys.argv", ["accel-sim", "rtl", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    return left.value.code or 0


def test_verilog_goes_to_the_terminal_or_to_a_file(monkeypatch, capsys, tmp_path):
    assert command(monkeypatch, "select_onehot", "pattern=8:16", "--name", "picks") == 0
    printed = capsys.readouterr().out
    assert "\nmodule picks(" in printed and "input [127:0] window;" in printed
    file = tmp_path / "new" / "picks.v"
    assert command(monkeypatch, "select_onehot", "pattern=8:16", "--name", "picks", "--out", str(file)) == 0
    assert file.read_text() == printed
    assert "wrote" in capsys.readouterr().out


def test_without_a_unit_all_are_listed_with_their_settings(monkeypatch, capsys):
    assert command(monkeypatch) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == list(UNITS)
    assert "dot_product lanes=… accumulator_bits=32 bias=false" in lines


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tensor_core"], "unit 'tensor_core': expected one of unit, processing_element"),
        (["dot_product"], "dot_product: lanes is missing, expected: lanes=…, accumulator_bits=32, bias=false"),
        (["dot_product", "lanes=4", "pattern=2:4"], "no setting 'pattern', expected some of: lanes=…"),
        (["dot_product", "lanes"], "setting 'lanes': expected NAME=VALUE"),
        (["dot_product", "lanes=four"], "lanes: got 'four', expected a whole number"),
        (["requantiser", "pipelined=yes"], "pipelined: got 'yes', expected true or false"),
        (["processing_element", "lanes=4", "pattern=8:16"], "expected at least the 8 slots of a group of 8:16"),
        (["processing_element", "lanes=-1"], "lanes: got -1, expected at least 1"),
        (["processing_element", "lanes=4", "accumulator_bits=0"], "accumulator_bits: got 0, expected at least the 16"),
        (["processing_element", "lanes=4", "pattern=2:4", "operand_mux=fast"], "operand_mux 'fast': expected one of"),
        (["dot_product", "lanes=4", "--name", "4lanes"], "expected a Verilog identifier"),
    ],
)
def test_what_cannot_be_built_is_one_line_on_stderr(monkeypatch, capsys, arguments, message):
    assert command(monkeypatch, *arguments) == 2
    gc.collect()  # Amaranth warns of a unit that was refused when it goes: that must not be seen either
    written = capsys.readouterr()
    assert message in written.err and written.out == "" and written.err.count("\n") == 1


def test_settings_are_read_as_their_kind():
    unit = build(
        "processing_element", {"lanes": "8", "pattern": "4:8", "operand_mux_register": "true", "metadata": "index"}
    )
    assert (unit.lanes, str(unit.pattern), unit.operand_mux_register, unit.encoding) == (8, "4:8", True, "index")
    assert verilog(unit, "element").count("\nmodule element(") == 1
    assert_refused(lambda: build("select_onehot", {"pattern": "9:8"}), "1 <= N <= M")


@pytest.mark.parametrize("arguments", [["rtl"], ["rtl", "unit"], ["prove"], ["synthesize", "--liberty", "any.lib"]])
def test_without_the_extra_every_hardware_command_names_it(arguments):
    script = (
        "import sys; sys.modules.update(amaranth=None, pyosys=None)\n"
        f"sys.argv = ['accel-sim', *{arguments!r}]\n"
        "from accel_sim.cli.main import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and done.stdout == ""
    assert "pip install 'accel_sim[rtl]'" in done.stderr and done.stderr.count("\n") == 1
