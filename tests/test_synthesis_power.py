"""Energy: toggles counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="pip install 'accel_sim[rtl]'")

import tiny_library
from netlists import netlist

from accel_sim.errors import AccelSimError
from accel_sim.synthesis.liberty import read_liberty
from accel_sim.synthesis.power import simulate
from accel_sim.synthesis.timing import wire_pf

ONES = np.uint64(2**64 - 1)


def words(*bits: int) -> np.ndarray:
    """The same bit a cycle in all 64 streams: uint64 [cycles, 1]."""
    return np.array([[ONES if bit else 0] for bit in bits], np.uint64)


@pytest.fixture
def library(tmp_path):
    return read_liberty(tiny_library.written(tmp_path))


def test_a_gate_pays_for_its_input_net_and_its_own_transitions(tmp_path, library):
    one = netlist(tmp_path, library, {"a": 3}, {"y": 4}, {"u": ("INV", {"A": 3, "Y": 4})})
    activity = simulate(one, {"a": words(0, 1, 1, 0, 1)}, warm_up=0)  # 3 toggles in 4 steps: Y falls, rises, falls
    assert activity.outputs["y"].tolist() == words(1, 0, 0, 1, 0).tolist()
    assert activity.switching_pj == pytest.approx(3 / 4 * (0.002 + wire_pf(library)) / 2)  # Y drives nothing of its own
    assert activity.internal_pj == pytest.approx((0.001 + 2 * 0.0005) / 4)
    assert activity.clock_pj == 0
    assert activity.energy_pj == pytest.approx(activity.switching_pj + activity.internal_pj)


def test_one_transition_counts_once_though_two_inputs_changed(tmp_path, library):
    pins = {"A": 3, "B": 4, "Y": 5}
    both = netlist(tmp_path, library, {"a": 3, "b": 4}, {"y": 5}, {"u": ("NOR2", pins)})
    activity = simulate(both, {"a": words(0, 1, 0), "b": words(0, 1, 0)}, warm_up=0)
    assert activity.internal_pj == pytest.approx((0.002 + 0.001) / 2)


def test_steps_that_fill_the_pipeline_are_not_counted(tmp_path, library):
    one = netlist(tmp_path, library, {"a": 3}, {"y": 4}, {"u": ("INV", {"A": 3, "Y": 4})})
    quiet = simulate(one, {"a": words(0, 1, 0, 1, 1, 1)}, warm_up=4)
    assert quiet.energy_pj == 0 and quiet.steps == 2 * 64


def test_a_register_pays_for_its_clock_in_every_cycle(tmp_path, library):
    """The clock pin's energy depends on D: at the rising edge on the D that is loaded, at the falling on the next."""
    register = netlist(tmp_path, library, {"d": 3}, {"q": 4}, {"u": ("DFF", {"CK": 2, "D": 3, "Q": 4})})
    activity = simulate(register, {"d": words(0, 1, 1, 0, 1)}, warm_up=0)
    assert activity.outputs["q"].tolist() == words(0, 0, 1, 1, 0).tolist()
    rising = 0.008 + 0.004 + 0.004 + 0.008  # D 0, 1, 1, 0 before the edges
    falling = 0.002 + 0.002 + 0.001 + 0.002  # D 1, 1, 0, 1 behind them
    assert activity.clock_pj == pytest.approx((rising + falling) / 4 + 0.003 + wire_pf(library))
    assert activity.internal_pj == pytest.approx((0.02 + 0.01) / 4)
    assert activity.switching_pj == pytest.approx(3 / 4 * (0.002 + wire_pf(library)) / 2)


def test_streams_do_not_touch_each_other(tmp_path, library):
    one = netlist(tmp_path, library, {"a": 3}, {"y": 4}, {"u": ("INV", {"A": 3, "Y": 4})})
    first_only = np.array([[0], [1], [0]], np.uint64)
    activity = simulate(one, {"a": first_only}, warm_up=0)
    assert activity.outputs["y"][1, 0] == ONES - np.uint64(1)
    assert activity.toggles[3].tolist() == [1, 1] and activity.internal_pj == pytest.approx(0.0015 / (2 * 64))


def test_energy_that_both_outputs_of_a_flip_flop_tell_counts_once(tmp_path):
    """Tables of Q and its complement that grow by ½V² a pF hold the other output's load, and the same transition."""
    both = """cell (DFFB) { area : 5; ff (IQ, IQN) { next_state : "D"; clocked_on : "CK"; }
      pin (CK) { direction : input; capacitance : 0.0; clock : true; }
      pin (D) { direction : input; capacitance : 0.0; }"""
    for pin, state in (("Q", "IQ"), ("QN", "IQN")):
        both += f"""pin ({pin}) {{ direction : output; function : "{state}"; internal_power () {{ related_pin : "CK";
          rise_power (delay) {{ values ("0.010, 0.010", "0.060, 0.060"); }}
          fall_power (delay) {{ values ("0.010, 0.010", "0.060, 0.060"); }} }} }}"""
    library = read_liberty(tiny_library.written(tmp_path, extra=both + "}"))
    register = netlist(tmp_path, library, {"d": 3}, {"q": 4}, {"u": ("DFFB", {"CK": 2, "D": 3, "Q": 4})})
    activity = simulate(register, {"d": words(0, 1, 1)}, warm_up=0)
    assert activity.internal_pj == pytest.approx(0.010 / 2)


def test_streams_that_do_not_fit_are_refused(tmp_path, library):
    one = netlist(tmp_path, library, {"a": 3}, {"y": 4}, {"u": ("INV", {"A": 3, "Y": 4})})
    with pytest.raises(AccelSimError, match="port a needs 1 bits"):
        simulate(one, {"a": np.zeros((3, 2), np.uint64)}, warm_up=0)
    with pytest.raises(AccelSimError, match="expected more than the 3"):
        simulate(one, {"a": words(0, 1, 0)}, warm_up=3)
