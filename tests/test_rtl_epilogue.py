"""The epilogues of mitigations: shift and rank-1 term undo each other, scales are rounded once."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="pip install 'accel_sim[rtl]'")

from rtl_operands import assert_refused, real_operands, require_simulator

from accel_sim.functional import sparse_matmul
from accel_sim.rtl.epilogue import RankOneEpilogue, TokenScale, TokenShift
from accel_sim.rtl.simulation import run

SMALLEST, LARGEST = 2**30, 2**31 - 1
NEXT_TO_CARRY = [(SMALLEST + 1, LARGEST - 1), (SMALLEST, LARGEST), (1518500249, 1518500250), (LARGEST, SMALLEST + 1)]
"""Products around 2^61, where the mantissa is normalised by one bit or not."""


def test_the_shift_saturates_at_127():
    values = np.array([[-127, 0, 127], [-127, 0, 127], [100, -100, 5], [-128, 127, -1]])
    shift = np.array([127, -127, -27, 1])
    shifted = run(TokenShift(3), {"values": values, "shift": shift})["shifted"]
    np.testing.assert_array_equal(shifted, np.clip(values - shift[:, None], -127, 127))


@pytest.mark.parametrize("pipelined", [False, True])
def test_the_rank_one_term_gives_the_product_of_the_unshifted_codes_back(pipelined):
    x, w = real_operands(4, 144, 6)
    small = np.clip(x, -60, 60)  # nothing saturates, so nothing is lost
    shift = np.array([0, 50, -67, 13])
    acc = sparse_matmul((small - shift[:, None]).astype(np.int8), w, "4:4")
    unit = RankOneEpilogue(pipelined)
    inputs = {
        "accumulator": acc.reshape(-1),
        "shift": np.repeat(shift, 6),
        "column_sum": np.tile(w.astype(np.int64).sum(axis=0), 4),
    }
    corrected = run(unit, inputs, cycles=24 + unit.latency)["corrected"][unit.latency :]
    np.testing.assert_array_equal(corrected.reshape(4, 6), small.astype(np.int64) @ w)


def test_the_rank_one_term_is_exact_at_its_extremes():
    largest_sum = 133_144 * 127
    inputs = {
        "accumulator": [2**31 - 1 - 127 * largest_sum, -(2**31) + 127 * largest_sum, 0, 7],
        "shift": [127, 127, -127, -128],
        "column_sum": [largest_sum, -largest_sum, largest_sum, -(2**25)],
    }
    wanted = [2**31 - 1, -(2**31), -127 * largest_sum, 7]  # the last one wraps: 7 + 2^32
    assert run(RankOneEpilogue(), inputs)["corrected"].tolist() == wanted


def rounded_product(mantissa: int, exponent: int, scale_mantissa: int, scale_exponent: int) -> tuple[int, int]:
    """Mantissa and exponent of the exact product, rounded half up to 31 bits."""
    value = Fraction(mantissa * scale_mantissa, 2**62)  # in [1/4, 1)
    total = exponent + scale_exponent
    while value < Fraction(1, 2):
        value, total = value * 2, total - 1
    whole = (value * 2**31 + Fraction(1, 2)).__floor__()
    return (2**30, total + 1) if whole == 2**31 else (whole, total)


def scale_cases() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    mantissas = [(a, b) for a in (SMALLEST, LARGEST) for b in (SMALLEST, LARGEST)] + NEXT_TO_CARRY
    mantissas += [tuple(pair) for pair in draw.integers(SMALLEST, LARGEST + 1, (200, 2)).tolist()]
    # products just below 2^61, which rounding carries over
    mantissas += [(m, (2**61 - 1) // m) for m in draw.integers(SMALLEST + 1, LARGEST, 200).tolist()]
    exponents = draw.integers(-2048, 2048, (len(mantissas), 2))
    first, second = np.array(mantissas).T
    return {
        "mantissa": first,
        "exponent": exponents[:, 0],
        "scale_mantissa": second,
        "scale_exponent": exponents[:, 1],
    }


@pytest.mark.parametrize(
    ("pipelined", "simulator"), [(False, "amaranth"), (True, "amaranth"), (True, "icarus"), (False, "icarus")]
)
def test_a_scaled_mantissa_is_the_product_rounded_once(pipelined, simulator):
    require_simulator(simulator)
    cases = scale_cases()
    unit = TokenScale(pipelined)
    cycles = len(cases["mantissa"]) + unit.latency
    outputs = run(unit, cases, simulator, cycles)
    wanted = [rounded_product(*case) for case in zip(*(column.tolist() for column in cases.values()), strict=True)]
    got = zip(*(outputs[name][unit.latency :].tolist() for name in ("scaled_mantissa", "scaled_exponent")), strict=True)
    assert list(got) == wanted


def test_some_case_is_carried_to_the_next_power_of_two():
    columns = zip(*(column.tolist() for column in scale_cases().values()), strict=True)
    below = [case for case in columns if case[0] * case[2] < 2**61]
    assert any(rounded_product(*case)[0] == 2**30 for case in below)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: TokenShift(0), "count is 0"),
        (lambda: RankOneEpilogue(column_sum_bits=1), "expected at least 2"),
        (lambda: TokenScale(exponent_bits=1), "expected at least 2"),
    ],
)
def test_units_that_cannot_be_built_are_refused(build, message):
    assert_refused(build, message)
