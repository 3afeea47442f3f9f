"""Static timing: a chain worked out by hand."""

from __future__ import annotations

import pytest

pytest.importorskip("amaranth", reason="pip install 'accel_sim[rtl]'")

import tiny_library
from netlists import netlist

from accel_sim.errors import AccelSimError
from accel_sim.synthesis.liberty import read_liberty
from accel_sim.synthesis.timing import analyse, typical_slew_ns, wire_pf


@pytest.fixture
def library(tmp_path):
    return read_liberty(tiny_library.written(tmp_path))


def test_wires_and_transitions_follow_the_library(library):
    wire = 0.001 * (1.5 / 0.798) ** 0.5
    assert wire_pf(library) == pytest.approx(wire)
    assert typical_slew_ns(library) == pytest.approx(0.02 + 4 * 4 * (0.002 + wire))


def test_a_path_between_registers(tmp_path, library):
    """Clock to Q, an inverter, a NAND whose other input is a port, set-up."""
    chain = netlist(
        tmp_path, library, {"a": 3, "d": 9}, {"y": 7},
        {
            "launch": ("DFF", {"CK": 2, "D": 9, "Q": 4}),
            "invert": ("INV", {"A": 4, "Y": 5}),
            "both": ("NAND2", {"A": 5, "B": 3, "Y": 6}),
            "capture": ("DFF", {"CK": 2, "D": 6, "Q": 7}),
        },
    )  # fmt: skip
    load = 0.002 + wire_pf(library)  # every net has one sink of 0.002 pF
    transition = 0.02 + 4 * load
    launched_rise = 0.2 + 10 * load + typical_slew_ns(library) / 2
    launched_fall = launched_rise + 0.01
    inverted_rise = launched_fall + 0.05 + 10 * load + transition / 2
    inverted_fall = launched_rise + 0.06 + 10 * load + transition / 2
    made_rise = inverted_fall + 0.06 + 10 * load + transition / 2
    made_fall = inverted_rise + 0.07 + 10 * load + transition / 2
    setup_rise, setup_fall = 0.05 + 0.1 * transition, 0.06 + 0.1 * transition
    timing = analyse(chain)
    assert timing.delay_ns == pytest.approx(max(made_rise + setup_rise, made_fall + setup_fall))


def test_from_port_to_port_and_the_load_behind_outputs(tmp_path, library):
    one = netlist(tmp_path, library, {"a": 3}, {"y": 4}, {"u": ("XOR2", {"A": 3, "B": "1", "Y": 4})})
    behind = 0.002 + wire_pf(library)  # one inverter and its wire
    timing = analyse(one)
    assert timing.delay_ns == pytest.approx(0.1 + 0.01 + 10 * behind + typical_slew_ns(library) / 2)
    net = one.outputs["y"][0]
    assert timing.load_pf[net] == pytest.approx(behind) and timing.own_pf[net] == 0


@pytest.mark.parametrize(
    ("cells", "message"),
    [
        ({"u": ("NAND3", {"A": 3, "Y": 4})}, "no usable cell"),
        ({"u": ("INV", {"Y": 4})}, "input A of u .* not connected"),
        ({"u": ("NAND2", {"A": 3, "B": 4, "Y": 4})}, "wait for each other"),
        ({"u": ("DFF", {"CK": 3, "D": 3, "Q": 4})}, "not clocked by the clock"),
        ({"u": ("INV", {"A": 3, "Y": 5})}, "not driven"),
    ],
)
def test_netlists_that_cannot_be_used(tmp_path, library, cells, message):
    with pytest.raises(AccelSimError, match=message):
        netlist(tmp_path, library, {"a": 3}, {"y": 4}, cells)
