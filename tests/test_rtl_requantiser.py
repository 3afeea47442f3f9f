"""The requantiser is `accel_sim.functional.requantize`, bit for bit, on every simulator that is there."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="pip install 'accel_sim[rtl]'")

from rtl_operands import (
    SHIPPED_PROJECTION,
    SHIPPED_SITE,
    assert_refused,
    real_operands,
    require_simulator,
    shipped_trace,
)

from accel_sim.functional import requantize, sparse_matmul
from accel_sim.functional.fixed_point import Multipliers, multipliers
from accel_sim.functional.numpy_backend import NumpyBackend
from accel_sim.rtl.requantiser import Requantiser
from accel_sim.rtl.simulation import run

LOWEST, HIGHEST = -(2**31), 2**31 - 1
SMALLEST_MANTISSA, LARGEST_MANTISSA = 2**30, 2**31 - 1


def requantised(columns: dict[str, np.ndarray], pipelined: bool, simulator: str = "amaranth") -> np.ndarray:
    """Codes [cases] of the hardware, one case a cycle."""
    unit = Requantiser(pipelined)
    cases = len(columns["accumulator"])
    return run(unit, columns, simulator, cases + unit.latency)["code"][unit.latency :]


def expected(columns: dict[str, np.ndarray]) -> np.ndarray:
    """Codes [cases] of the reference."""
    codes = []
    for acc, *constants in zip(*(columns[name] for name in PORTS), strict=True):
        of_one = Multipliers(*(np.array([each]) for each in constants))
        codes.append(NumpyBackend().requantize(np.array([[acc]], dtype=np.int32), of_one).item())
    return np.array(codes)


PORTS = ("accumulator", "token_mantissa", "token_exponent", "output_mantissa", "output_exponent")


def corner_cases() -> dict[str, np.ndarray]:
    """Every shift and both saturated ends, ties, the extremes of accumulators and mantissas, and random ones."""
    draw = np.random.default_rng(0)
    accumulators = [LOWEST, LOWEST + 1, -128, -127, -3, -1, 0, 1, 2, 3, 127, 128, HIGHEST - 1, HIGHEST]
    extremes = [SMALLEST_MANTISSA, LARGEST_MANTISSA]
    cases = [(acc, m_t, e, m_f, 0) for acc in accumulators for m_t in extremes for m_f in extremes for e in (-1, 0, 9)]
    for exponent in [*range(-70, 36), -2048, 2047]:
        acc = int(draw.integers(LOWEST, HIGHEST + 1)) >> int(draw.integers(0, 31))
        mantissas = draw.integers(SMALLEST_MANTISSA, LARGEST_MANTISSA + 1, 2)
        cases.append((acc, mantissas[0], exponent, mantissas[1], int(draw.integers(-3, 4))))
        cases.append((acc, mantissas[0], -2048, mantissas[1], exponent))
        cases.append((acc, mantissas[0], 2047, mantissas[1], exponent))
    # m = 2^29 exactly, so acc·m / 2^shift is an odd number of halves: ties away from zero, of both signs
    cases += [(acc, SMALLEST_MANTISSA, -1, SMALLEST_MANTISSA, e) for acc in range(-260, 261, 5) for e in (0, 1, 2, 3)]
    return {
        name: np.array(column, dtype=np.int64) for name, column in zip(PORTS, zip(*cases, strict=True), strict=True)
    }


@pytest.mark.parametrize("pipelined", [False, True])
def test_every_corner_has_the_reference_code(pipelined):
    cases = corner_cases()
    wanted = expected(cases)
    assert {-127, 0, 127} < set(wanted.tolist()) and len(set(wanted.tolist())) > 100
    np.testing.assert_array_equal(requantised(cases, pipelined), wanted)


def test_ties_round_away_from_zero():
    ties = {"accumulator": [1, -1, 3, -3, 5, -5], "token_exponent": 1, "output_exponent": 0}  # times 2^29 / 2^30
    halves = {**ties, "token_mantissa": SMALLEST_MANTISSA, "output_mantissa": SMALLEST_MANTISSA}
    assert run(Requantiser(), halves)["code"].tolist() == [1, -1, 2, -2, 3, -3]


@pytest.mark.parametrize("pipelined", [False, True])
def test_the_emitted_verilog_has_the_reference_code(pipelined):
    require_simulator("icarus")
    cases = corner_cases()
    np.testing.assert_array_equal(requantised(cases, pipelined, "icarus"), expected(cases))


def captured_case() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Ports for real accumulators with their real scales, and the codes [T·F] that the public function gives."""
    x, w = real_operands(16, 576, 24)
    acc = sparse_matmul(x, w, "8:16")
    scale_x = shipped_trace().scales(SHIPPED_SITE)[:16]
    scale_w = shipped_trace().weight(SHIPPED_PROJECTION).scales[:24]
    scale_y = float(np.abs(acc * scale_x[:, None] * scale_w).max() / 100)  # a static scale that saturates nothing
    constants = multipliers(scale_x, scale_w, scale_y)
    columns = {
        "accumulator": acc.reshape(-1),
        "token_mantissa": np.repeat(constants.token_mantissa, 24),
        "token_exponent": np.repeat(constants.token_exponent, 24),
        "output_mantissa": np.tile(constants.output_mantissa, 16),
        "output_exponent": np.tile(constants.output_exponent, 16),
    }
    return columns, requantize(acc, scale_x, scale_w, scale_y).reshape(-1)


def test_captured_rows_become_the_codes_of_the_public_function():
    columns, wanted = captured_case()
    assert len(set(wanted.tolist())) > 50
    np.testing.assert_array_equal(requantised(columns, True), wanted)


@pytest.mark.parametrize("options", [{"accumulator_bits": 33}, {"accumulator_bits": 1}, {"exponent_bits": 1}])
def test_widths_that_cannot_be_built_are_refused(options):
    assert_refused(lambda: Requantiser(**options), "expected 2 … 32")


def test_a_narrow_accumulator_gives_the_same_codes():
    cases = corner_cases()
    inside = np.abs(cases["accumulator"]) < 2**19
    cases = {name: column[inside] for name, column in cases.items()}
    np.testing.assert_array_equal(run(Requantiser(accumulator_bits=20), cases)["code"], expected(cases))


@pytest.mark.slow
@pytest.mark.parametrize("simulator", ["verilator", "icarus"])
def test_a_hundred_thousand_random_cases(simulator):
    require_simulator(simulator)
    draw, cases = np.random.default_rng(1), 100_000
    columns = {
        "accumulator": draw.integers(LOWEST, HIGHEST + 1, cases) >> draw.integers(0, 32, cases),
        "token_mantissa": draw.integers(SMALLEST_MANTISSA, LARGEST_MANTISSA + 1, cases),
        "token_exponent": draw.integers(-40, 8, cases),
        "output_mantissa": draw.integers(SMALLEST_MANTISSA, LARGEST_MANTISSA + 1, cases),
        "output_exponent": draw.integers(-8, 8, cases),
    }
    np.testing.assert_array_equal(requantised(columns, True, simulator), expected(columns))
