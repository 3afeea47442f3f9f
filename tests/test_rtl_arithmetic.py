"""Dense arithmetic beside NumPy."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="pip install 'accel_sim[rtl]'")

from rtl_operands import assert_refused

from accel_sim.rtl.arithmetic import Adder, Multiplier, MultiplyAccumulate
from accel_sim.rtl.simulation import run

DRAW = np.random.default_rng(0)
A, B = DRAW.integers(-128, 128, (2, 60))


def test_multiplier_is_exact_at_its_extremes_too():
    a, b = np.append(A, [-128, -128, 127]), np.append(B, [-128, 127, 127])
    np.testing.assert_array_equal(run(Multiplier(), {"a": a, "b": b})["product"], a * b)


def test_adder_wraps():
    a, b = np.array([2**31 - 1, -(2**31), 5]), np.array([1, -1, -32768])
    assert run(Adder(), {"a": a, "b": b})["total"].tolist() == [-(2**31), 2**31 - 1, 5 - 32768]


@pytest.mark.parametrize("registered", [False, True])
def test_multiply_accumulate_starts_anew_where_it_is_cleared(registered):
    clear = (np.arange(60) % 7 == 0).astype(int)
    unit = MultiplyAccumulate(registered)
    made = run(unit, {"a": A, "b": B, "clear": clear}, cycles=60 + unit.latency)["accumulator"][unit.latency :]
    sums = [int((A * B)[cycle - cycle % 7 : cycle + 1].sum()) for cycle in range(60)]
    assert made[:60].tolist() == sums


@pytest.mark.parametrize(
    "build", [lambda: Multiplier(1), lambda: Adder(32, 1), lambda: MultiplyAccumulate(False, 8, 15)]
)
def test_widths_that_cannot_be_are_refused(build):
    assert_refused(build, "expected at least")
