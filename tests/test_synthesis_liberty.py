"""The Liberty reader: units, functions, tables, and one-line errors."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="pip install 'accel_sim[rtl]'")

import tiny_library

from accel_sim.errors import AccelSimError
from accel_sim.synthesis.boolean import compile_function, evaluate, truth_table
from accel_sim.synthesis.liberty import read_liberty


def test_reads_areas_pins_functions_and_tables(tmp_path):
    library = read_liberty(tiny_library.written(tmp_path))
    assert (library.name, library.voltage_v, library.temperature_c) == ("tiny", 1.0, 25.0)
    assert library.nand2.name == "NAND2" and library.inverter.name == "INV"
    inverter = library.cells["INV"]
    assert inverter.inputs == ("A",) and inverter.outputs == ("Y",)
    assert inverter.pins["A"].capacitance_pf == 0.002 and inverter.leakage_nw == pytest.approx(0.1)
    tables = inverter.pins["Y"].timing[0].tables
    assert tables["cell_rise"].at(0.2, 0.03) == pytest.approx(0.05 + 0.3 + 0.1)
    assert tables["cell_rise"].at(2.0, 0.2) == pytest.approx(0.05 + 2 + 1)  # beyond both edges
    register = library.cells["DFF"].flip_flop
    assert register and (register.next_state, register.clocked_on, register.clear) == ("D", "CK", "")


def test_units_are_those_of_the_file(tmp_path):
    units = """
      time_unit : "10ps"; voltage_unit : "100mV"; leakage_power_unit : "1uW"; capacitive_load_unit (2.0, ff);
    """
    library = read_liberty(tiny_library.written(tmp_path, units=units))
    inverter = library.cells["INV"]
    assert library.voltage_v == pytest.approx(0.1)
    assert inverter.pins["A"].capacitance_pf == pytest.approx(0.002 * 0.002)
    assert inverter.leakage_nw == pytest.approx(0.1 * 1000)
    assert inverter.pins["Y"].timing[0].tables["cell_rise"].at(0, 0) == pytest.approx(0.05 * 0.01)
    assert inverter.pins["Y"].timing[0].tables["cell_rise"].other[-1] == pytest.approx(0.1 * 0.002)
    assert inverter.pins["Y"].power[0].rise.at(0, 0) == pytest.approx(0.001 * 0.002 * 0.01)  # pF of 2 fF · (0.1 V)²


def test_constraints_are_found_by_variable_not_by_place(tmp_path):
    library = read_liberty(tiny_library.written(tmp_path))
    setup = library.cells["DFF"].pins["D"].timing[0].tables["rise_constraint"]
    assert setup.at(0.5, 0.0) == pytest.approx(0.10) and setup.at(0.0, 0.5) == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        ('cell (X) { area : 1; dont_use : true; pin (Y) { direction : output; function : "1"; } }', "dont_use"),
        (
            'cell (X) { area : 1; latch (a, b) { enable : "E"; } pin (Y) { direction : output; function : "a"; } }',
            "latch",
        ),
        (
            "cell (X) { area : 1; pin (E) { direction : input; } "
            'pin (Y) { direction : output; function : "E"; three_state : "E"; } }',
            "three-state",
        ),
        ("cell (X) { area : 0.1; }", "no function"),
    ],
)
def test_cells_that_are_not_for_the_mapper_are_left_out(tmp_path, extra, why):
    library = read_liberty(tiny_library.written(tmp_path, extra=extra))
    assert why in library.cells["X"].refused
    assert "cell (X)" not in library.mapping_text() and "cell (INV)" in library.mapping_text()


@pytest.mark.parametrize(
    ("function", "table"),
    [
        ("!(A*B)", 0b0111),
        ("(A B)'", 0b0111),
        ("A^B", 0b0110),
        ("A + B", 0b1110),
        ("A & !B | 0", 0b0010),
        ("A B^1", 0b0010),
    ],
)
def test_functions_are_read_in_every_spelling(function, table):
    assert truth_table(function, ("A", "B")) == table


def test_programs_work_on_words():
    program = compile_function("(A + B) C'", ("A", "B", "C"))
    draw = np.random.default_rng(0)
    a, b, c = (int(word) for word in draw.integers(0, 2**63, 3))
    assert evaluate(program, (a, b, c), 2**64 - 1) == (a | b) & ~c


@pytest.mark.parametrize("function", ["A +", "(A", "A @ B", "C", ""])
def test_what_is_no_function_is_refused(function):
    with pytest.raises(AccelSimError, match="Boolean function"):
        compile_function(function, ("A", "B"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("hello", "not a Liberty file"),
        ("library (a) { cell (b) { area : 1; }", "closing brace"),
        ("library (a) { area } ", r"line 1: expected : or \("),
        ('library (a) { nom_voltage : 1; time_unit : "1ns"; voltage_unit : "1V"; }', "capacitive_load_unit"),
        ('library (a) { nom_voltage : 1; time_unit : "1x"; capacitive_load_unit (1, pf); }', "time_unit"),
        (tiny_library.text().replace("area : 1.5", "area : big"), "area is 'big'"),
        (tiny_library.text(leave_out="DFF"), "no usable flip-flop"),
        (tiny_library.text().replace("0.100000", "", 1), "values has axes"),
    ],
)
def test_what_cannot_be_used_is_one_line_with_the_file(tmp_path, content, message):
    path = tmp_path / "bad.lib"
    path.write_text(content)
    with pytest.raises(AccelSimError, match=message) as found:
        read_liberty(path)
    assert str(path) in str(found.value) and "\n" not in str(found.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(AccelSimError, match=r"nothing.lib: cannot be read"):
        read_liberty(tmp_path / "nothing.lib")
