"""The whole unit's RTL: bits of the functional model, cycles of the timing model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from rtl_operands import require_simulator, shipped_trace

from accel_sim.cost import delays
from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern
from accel_sim.proof import cycles
from accel_sim.proof.configurations import configurations, quick, real_operands
from accel_sim.proof.cycles import Configuration, Outcome, Stalls, prove
from accel_sim.proof.job import Operands, arch, job
from accel_sim.rtl.shape import UnitShape
from accel_sim.rtl.unit import Unit
from accel_sim.timing.stages import Latencies

SMALL = UnitShape(2, 4, 4, features=16, pattern=Pattern("2:4"), bus_bytes=8, weight_panels=1)


def agrees(outcome: Outcome) -> bool:
    return not outcome.core_errors and outcome.unit_error == 0 and not outcome.divergences


@pytest.mark.parametrize("configuration", quick(), ids=lambda c: f"{c.shape.pattern or 'dense'} {c.stalls}")
def test_captured_rows_take_the_predicted_cycles_and_give_the_reference_codes(configuration):
    assert agrees(prove(configuration, real_operands(shipped_trace(), configuration)))


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(configurations())))
def test_every_configuration(number):
    configuration = configurations()[number]
    assert agrees(prove(configuration, real_operands(shipped_trace(), configuration)))


def test_there_are_at_least_fifty_configurations_limited_by_memory_array_and_requantisers():
    """A beat fills no more rows than are selected together, and holds as many codes as are requantised together: so
    selection never takes longer than the load, nor a store longer than requantising."""
    limits = {
        job(one.shape, real_operands(shipped_trace(), one), Latencies(1, 4, 5), one.held, one.mode).bottleneck
        for one in configurations()
    }
    assert len(configurations()) >= 50 and any(one.stalls.held for one in configurations())
    assert limits == {"load", "compute", "requantise"}


@pytest.mark.slow
@pytest.mark.parametrize("simulator", ["verilator", "icarus"])
@pytest.mark.parametrize("configuration", quick(), ids=lambda c: f"{c.shape.pattern or 'dense'} {c.stalls}")
def test_the_emitted_verilog_does_the_same(configuration, simulator):
    require_simulator(simulator)
    assert agrees(prove(configuration, real_operands(shipped_trace(), configuration), simulator))


ADVERSARIAL = {
    "all zero": lambda shape: np.zeros(shape, np.int8),
    "all equal": lambda shape: np.full(shape, -127, np.int8),
    "ties of both signs": lambda shape: np.resize(np.array([127, -127, 127, 3], np.int8), shape),
    "one feature": lambda shape: np.eye(*shape, dtype=np.int8) * np.int8(127),
}


@pytest.mark.parametrize("name", ADVERSARIAL)
def test_adversarial_rows(name):
    tokens, features, outputs = 4, 16, 8
    weights = np.random.default_rng(7).choice(np.array([-127, 127, 1], np.int8), (features, outputs))
    scales = [np.full(count, 2.0**-6, np.float32) for count in (tokens, outputs)]
    operands = Operands(ADVERSARIAL[name]((tokens, features)), weights, *scales)
    assert agrees(prove(Configuration(SMALL, tokens, features, outputs), operands))


@pytest.mark.parametrize("longer", ["select", "compute", "requantise"])
def test_a_model_told_another_latency_is_found_out(monkeypatch, longer):
    one = quick()[0]

    def told(select: int, compute: int, requantise: int) -> Latencies:
        right = Latencies(select, compute, requantise)
        return replace(right, **{longer: getattr(right, longer) + 1})

    monkeypatch.setattr(cycles, "Latencies", told)
    outcome = prove(one, real_operands(shipped_trace(), one))
    assert outcome.core_errors or outcome.unit_error


@pytest.mark.parametrize(
    "shape",
    [
        replace(SMALL, pattern=None, bus_bytes=4),
        SMALL,
        replace(SMALL, operand_mux_register=True),
        UnitShape(4, 4, 8, features=32, pattern=Pattern("4:8"), bus_bytes=4),
    ],
    ids=["dense", "2:4", "2:4 with a register", "4:8"],
)
def test_latencies_that_the_cost_model_derives_are_those_of_the_unit(shape):
    """Where the clock leaves every circuit a cycle, as the unit is built."""
    unit, derived = Unit(shape), delays(arch(shape, shape.features, "weights"), shape.pattern)
    assert (unit.latency_select, unit.latency_compute, unit.latency_requantise) == (
        derived.selector_latency_cycles,
        derived.compute_latency_cycles,
        derived.requantiser_latency_cycles,
    )


def test_a_wrong_code_is_found_out(monkeypatch):
    one = quick()[0]
    operands = real_operands(shipped_trace(), one)
    reference = operands.reference(one.shape.pattern)
    reference[0, 0] += 1
    monkeypatch.setattr(Operands, "reference", lambda self, pattern: reference)
    assert prove(one, operands).divergences == 1


def test_a_product_that_the_unit_has_no_commands_for_is_refused():
    with pytest.raises(AccelSimError, match="3 features: expected multiples of 8"):
        three = Configuration(SMALL, 4, 3, 8)
        prove(three, real_operands(shipped_trace(), three))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"lanes": 1}, "at least N = 2"),
        ({"bus_bytes": 6}, "multiple of 4"),
        ({"bus_bytes": 12}, "a divisor or a multiple of a chunk's 8 features"),
        ({"requantisers": 4}, "a divisor of rows"),
        ({"bus_bytes": 32}, "a beat of 4 rows"),
    ],
)
def test_sizes_that_do_not_fit_together_are_refused(change, what):
    with pytest.raises(AccelSimError, match=what):
        replace(SMALL, **change)


def test_latencies_follow_from_what_is_built():
    dense, sparse = Unit(replace(SMALL, pattern=None, bus_bytes=4)), Unit(SMALL)
    registered = Unit(replace(SMALL, operand_mux_register=True))
    assert (dense.latency_select, dense.latency_compute) == (0, 3)
    assert (sparse.latency_select, sparse.latency_compute, registered.latency_compute) == (1, 4, 5)


def test_stalls_hold_back_their_share():
    assert Stalls(8, 3).of(80, 0).sum() == 30 and Stalls(8, 3).duty == 5 / 8
    assert 0.3 < Stalls(8, 3, random=True).of(10_000, 0).mean() < 0.45
