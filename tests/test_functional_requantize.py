"""The two ways out of the accumulators: fixed-point codes with one rounding, floats rounded at each step."""

from fractions import Fraction
from math import floor, frexp

import numpy as np
import pytest
from functional_inputs import OTHER_BACKENDS, require_backend, seeds
from hypothesis import example, given
from hypothesis import strategies as st

from accel_sim import AccelSimError
from accel_sim.functional import dequantize, requantize

positive = st.floats(2.0**-100, 2.0**60, width=32)
int32 = st.integers(-(2**31), 2**31 - 1)


def mantissa_and_exponent(value: float) -> tuple[int, int]:
    """A Q31 mantissa in [2^30, 2^31), rounded half up, and its exponent: value ≈ mantissa · 2^(exponent − 31)."""
    fraction, exponent = frexp(value)
    mantissa = floor(Fraction(fraction) * 2**31 + Fraction(1, 2))
    return (2**30, exponent + 1) if mantissa == 2**31 else (mantissa, exponent)


def requantize_by_fractions(acc: int, scale_x: float, scale_w: float, scale_y: float) -> int:
    """The definition in unlimited integers and fractions."""
    token, token_exponent = mantissa_and_exponent(scale_x / scale_y)
    output, output_exponent = mantissa_and_exponent(scale_w)
    mantissa = (token * output + 2**30) >> 31
    exact = Fraction(acc * mantissa) * Fraction(2) ** (token_exponent + output_exponent - 31)
    away = floor(abs(exact) + Fraction(1, 2))
    return min(away, 127) * (1 if exact >= 0 else -1)


@given(int32, positive, positive, positive)
@example(-(2**31), 1.0, 1.0, 1.0)
@example(2**31 - 1, 1.0, 2.0**-32, 1.0)
@example(5, float(np.float32(0.1)), 1.0, 1.0)  # a little more than a half
@example(1, 0.5, 1.0, 1.0)  # a half: away from zero
@example(-1, 0.5, 1.0, 1.0)
@example(127, 1.0 - 2.0**-24, 1.0, 1.0)
def test_reference_is_the_definition(acc, scale_x, scale_w, scale_y):
    got = requantize(np.array([[acc]], dtype=np.int32), np.float32([scale_x]), np.float32([scale_w]), scale_y)
    assert got.dtype == np.int8
    assert got.item() == requantize_by_fractions(acc, scale_x, scale_w, scale_y)


@given(int32, st.floats(2.0**-20, 1, width=32), st.floats(2.0**-20, 1, width=32))
def test_close_to_the_real_number(acc, scale_x, scale_w):
    real = min(max(Fraction(acc) * Fraction(scale_x) * Fraction(scale_w) / 40, -127), 127)
    got = requantize(np.array([[acc]], dtype=np.int32), np.float32([scale_x]), np.float32([scale_w]), 40.0).item()
    assert abs(got - real) <= Fraction(1, 2) + Fraction(1, 2**20)


def test_rounds_half_away_from_zero():
    acc = np.array([[-3, -1, 0, 1, 3, 5]], dtype=np.int32)
    ones = np.ones(6, dtype=np.float32)
    assert requantize(acc, np.float32([0.5]), ones, 1.0).tolist() == [[-2, -1, 0, 1, 2, 3]]


def test_a_mantissa_that_rounds_up_to_two():
    just_below_one = np.float64(1) - np.float64(2) ** -52
    acc = np.array([[100]], dtype=np.int32)
    assert requantize(acc, np.array([just_below_one]), np.float32([1]), 1.0).item() == 100


def where_the_last_bit_of_the_mantissa_decides(seed: int) -> tuple[int, float, float]:
    """An accumulator and two scales whose product of mantissas rounds up, so that acc·m reaches 1.5 and acc·(m−1) does
    not: 2 where the mantissa is rounded, 1 where it is cut off."""
    draw = np.random.default_rng(seed)
    while True:
        token, output = (int(draw.integers(2**30, 2**31)) for _ in range(2))
        mantissa = (token * output + 2**30) >> 31
        for shift in range(24, 32):
            acc = -(-3 * 2 ** (30 + shift) // mantissa)
            if mantissa > token * output >> 31 and mantissa <= acc < 2**31:
                return acc, token * 2.0 ** (-31 - shift), output * 2.0**-31


@pytest.mark.parametrize("name", ["numpy", *OTHER_BACKENDS])
@given(seeds)
def test_the_product_of_the_mantissas_is_rounded(name, seed):
    acc, scale_x, scale_w = where_the_last_bit_of_the_mantissa_decides(seed)
    assert requantize_by_fractions(acc, scale_x, scale_w, 1.0) == 2
    arguments = np.array([[acc, -acc]], np.int32), np.array([scale_x]), np.full(2, scale_w), 1.0
    assert requantize(*arguments, backend=require_backend(name)).tolist() == [[2, -2]]


def test_the_mantissa_of_each_scale_is_rounded_half_up():
    """2^30 + ½ becomes 2^30 + 1; cut off, or rounded to even, the product would fall just short of 1.5."""
    scale = (2**30 + 0.5) * 2.0**-60
    acc = np.array([[3 * 2**29 - 1]], np.int32)
    assert requantize(acc, np.array([scale]), np.array([1.0]), 1.0).item() == 2
    assert requantize(acc, np.array([1.0]), np.array([scale]), 1.0).item() == 2


def random_outputs(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    acc = draw.integers(-(2**31), 2**31, (5, 9)) >> draw.integers(0, 31, (5, 9))
    scales = (2.0 ** draw.uniform(-30, 10, 14)).astype(np.float32)
    return acc.astype(np.int32), scales[:5], scales[5:]


@pytest.mark.parametrize("name", OTHER_BACKENDS)
@given(seed=seeds, scale_y=positive)
def test_requantize_equals_reference(name, seed, scale_y):
    acc, scale_x, scale_w = random_outputs(seed)
    got = requantize(acc, scale_x, scale_w, scale_y, backend=require_backend(name))
    np.testing.assert_array_equal(got, requantize(acc, scale_x, scale_w, scale_y))


@given(seeds, st.booleans())
def test_dequantize_rounds_every_step(seed, with_bias):
    acc, scale_x, scale_w = random_outputs(seed)
    bias = -dequantize(acc, scale_x, scale_w)[0] if with_bias else None
    got = dequantize(acc, scale_x, scale_w, bias)
    for (token, output), value in np.ndenumerate(got):
        expected = np.float32(acc[token, output]) * np.float32(scale_x[token] * scale_w[output])
        assert value == (expected if bias is None else np.float32(expected + bias[output]))


@pytest.mark.parametrize("name", OTHER_BACKENDS)
@given(seed=seeds, with_bias=st.booleans())
def test_dequantize_equals_reference_without_fused_multiply_add(name, seed, with_bias):
    acc, scale_x, scale_w = random_outputs(seed)
    # the bias cancels the first token's rounded products, so that a fused product's extra bits would show
    bias = -dequantize(acc, scale_x, scale_w)[0] if with_bias else None
    got = dequantize(acc, scale_x, scale_w, bias, backend=require_backend(name))
    expected = dequantize(acc, scale_x, scale_w, bias)
    np.testing.assert_array_equal(got.view(np.uint32), expected.view(np.uint32))


def test_one_scale_for_all():
    acc = np.array([[10, 20], [30, 40]], dtype=np.int32)
    assert dequantize(acc, 0.5, 2.0).tolist() == acc.tolist()
    assert requantize(acc, 0.5, 2.0, 2).tolist() == [[5, 10], [15, 20]]


@pytest.mark.parametrize(
    ("acc", "scale_x", "scale_w", "scale_y", "message"),
    [
        (np.zeros((1, 2)), np.ones(1), np.ones(2), 1.0, "acc: got float64"),
        (np.zeros((1, 2), dtype=np.int32), np.ones(3), np.ones(2), 1.0, "scale_x: got"),
        (np.zeros((1, 2), dtype=np.int32), np.ones(1), np.array([1.0, 0.0]), 1.0, r"scale_w\[output 1\] is 0.0"),
        (np.zeros((1, 2), dtype=np.int32), np.array([np.nan]), np.ones(2), 1.0, r"scale_x\[token 0\] is nan"),
        (np.zeros((1, 2), dtype=np.int32), np.ones(1), np.ones(2), -1.0, "scale_y is -1.0"),
        (np.ones((1, 2), dtype=np.int32), np.array([1e38]), np.ones(2), 1e-300, r"scale_x\[token 0\] / scale_y"),
        (np.ones((2, 2), dtype=np.int32), np.array([1, 1e-38]), np.ones(2), 1e300, r"scale_x\[token 1\] / scale_y"),
    ],
)
def test_refused(acc, scale_x, scale_w, scale_y, message):
    with pytest.raises(AccelSimError, match=message):
        requantize(acc, scale_x, scale_w, scale_y)


def test_dequantize_refuses_a_bias_of_another_kind():
    with pytest.raises(AccelSimError, match=r"bias: got float64 \[2\], expected float32 \[2\]"):
        dequantize(np.zeros((1, 2), dtype=np.int32), 1.0, 1.0, np.ones(2))
