"""The Triton kernels of the functional mode; test_functional_triton.py runs this interpreted, and on a GPU compiled.

Small sizes: interpreting is slow. What is expected comes from the reference.
"""

from itertools import product

import numpy as np
import pytest
import torch
from functional_inputs import codes

from accel_sim import AccelSimError
from accel_sim.functional.backends import backend
from accel_sim.functional.fixed_point import multipliers
from accel_sim.functional.gpu import device
from accel_sim.functional.numpy_backend import NumpyBackend
from accel_sim.pattern import ENCODINGS, parse_pattern
from accel_sim.quantize import quantize_tokens, triton_int8
from accel_sim.quantize.tensors import NOT_FINITE

REFERENCE, TRITON = NumpyBackend(), backend("triton")
DEVICE = "cpu" if device.INTERPRETED else "cuda"
PATTERNS = ("2:4", "4:8", "8:16", "16:32", "1:4", "3:4", "4:4", "5:7", "1:2 of 4:8", "2:3 of 3:5")


def shapes(pattern):
    """One token of one group; whole words but no whole group; nothing aligned."""
    return (1, pattern.m), (3, 2 * pattern.m + 4), (2, 3 * pattern.m + 1)


def factors(features):
    return np.random.default_rng(features).integers(1, 256, features).astype(np.uint8)


def ones(features):
    return np.ones(features, np.uint8)


def on_device(array):
    return torch.tensor(array, device=DEVICE)


def array(tensor):
    return tensor.cpu().numpy()


@pytest.mark.parametrize("text", PATTERNS)
def test_selection(text):
    pattern = parse_pattern(text)
    for shape, style in product(shapes(pattern), ("ties", "any")):
        x = codes(shape, style, sum(shape))
        for f in (ones(shape[1]), factors(shape[1])):
            np.testing.assert_array_equal(TRITON.select(x, pattern, f), REFERENCE.select(x, pattern, f))


@pytest.mark.parametrize("text", ["2:4", "8:16", "1:2 of 4:8"])
@pytest.mark.parametrize("style", ["zero", "equal", "largest"])
def test_selection_of_what_is_all_alike(text, style):
    pattern = parse_pattern(text)
    x = codes((2, 3 * pattern.m + 1), style, 1)
    got, expected = (unit.select(x, pattern, ones(x.shape[1])) for unit in (TRITON, REFERENCE))
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("text", PATTERNS)
def test_compression_there_and_back(text):
    pattern = parse_pattern(text)
    for shape in shapes(pattern):
        x = codes(shape, "ties", sum(shape))
        full = REFERENCE.select(x, pattern, ones(shape[1]))
        fewer = full & (np.random.default_rng(1).random(shape) < 0.6)
        for mask, encoding in product((full, fewer), ENCODINGS):
            expected = REFERENCE.compress(x, mask, pattern, encoding)
            for got, wanted in zip(TRITON.compress(x, mask, pattern, encoding), expected, strict=True):
                np.testing.assert_array_equal(got, wanted, strict=True)
            back = TRITON.decompress(*expected, shape[1], pattern, encoding)
            np.testing.assert_array_equal(back, np.where(mask, x, 0))


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_the_widest_fields(encoding):
    pattern = parse_pattern("31:64")
    x = codes((2, 70), "any", 5)
    mask = REFERENCE.select(x, pattern, ones(70))
    expected = REFERENCE.compress(x, mask, pattern, encoding)
    for got, wanted in zip(TRITON.compress(x, mask, pattern, encoding), expected, strict=True):
        np.testing.assert_array_equal(got, wanted)
    np.testing.assert_array_equal(TRITON.decompress(*expected, 70, pattern, encoding), np.where(mask, x, 0))


@pytest.mark.parametrize("text", ["2:4", "4:8", "8:16", "1:2 of 4:8"])
def test_selection_and_compression_in_one_pass(text):
    pattern = parse_pattern(text)
    for shape in shapes(pattern):
        x, f = codes(shape, "ties", sum(shape)), factors(shape[1])
        for encoding in ENCODINGS:
            made, scales = device.compress(on_device(x), pattern, encoding, factors=on_device(f))
            values, metadata = REFERENCE.compress(x, REFERENCE.select(x, pattern, f), pattern, encoding)
            np.testing.assert_array_equal(array(made.values), values.reshape(shape[0], -1))
            np.testing.assert_array_equal(array(made.metadata), metadata)
            assert scales is None


def nasty_floats(shape):
    """Ties halfway between codes, an all-zero token, one below float32's normal range, one of large numbers."""
    draw = np.random.default_rng(3)
    x = draw.standard_normal(shape).astype(np.float32)
    x[1] = 0
    x[2] = draw.integers(-3, 4, shape[1]) * np.float32(1e-45)
    x[3] *= np.float32(1e37)
    x[4] = draw.integers(-254, 255, shape[1]) / 2
    x[4, 0] = 127  # the scale is then 1, and half the codes are ties
    x[5] = draw.integers(-300, 301, shape[1]) * np.float32(1e-43)
    return x


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("text", ["2:4", "8:16", "3:5"])
def test_quantisation_in_the_same_pass(text, dtype):
    pattern = parse_pattern(text)
    x = nasty_floats((6, 2 * pattern.m + 3))
    if dtype == torch.float16:
        x = np.clip(x, -60000, 60000)
    given = torch.tensor(x).to(dtype)
    wanted, wanted_scales = quantize_tokens(given.to(torch.float32).numpy())
    made, scales = device.compress(given.to(DEVICE), pattern, "bitmap")
    mask = REFERENCE.select(wanted, pattern, ones(x.shape[1]))
    values, metadata = REFERENCE.compress(wanted, mask, pattern, "bitmap")
    np.testing.assert_array_equal(array(scales).view(np.uint32), wanted_scales.view(np.uint32))
    np.testing.assert_array_equal(array(made.values), values.reshape(len(x), -1))
    np.testing.assert_array_equal(array(made.metadata), metadata)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("features", [1, 127, 300])
def test_quantisation_alone(dtype, features, monkeypatch):
    monkeypatch.setattr(triton_int8, "_LONGEST_BLOCK", 128)  # of several blocks, the last not full
    x = nasty_floats((6, features))
    if dtype == torch.float16:
        x = np.clip(x, -60000, 60000)
    given = torch.tensor(x).to(dtype)
    for rows in (given, given.T.contiguous().T):
        got = triton_int8.quantize(rows.to(DEVICE))
        for made, wanted in zip(got, quantize_tokens(given.float().numpy()), strict=True):
            np.testing.assert_array_equal(array(made), wanted, strict=True)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_finite_number_shows_in_the_scale(bad):
    x = np.ones((3, 9), np.float32)
    x[1, 8] = bad
    codes, scales = triton_int8.quantize(on_device(x))
    assert array(torch.isfinite(scales)).tolist() == [True, False, True]
    assert np.argwhere(array(codes) == NOT_FINITE).tolist() == [[1, 8]]
    _, scales = device.compress(on_device(x), parse_pattern("2:4"))
    assert array(torch.isfinite(scales)).tolist() == [True, False, True]


@pytest.mark.parametrize("text", PATTERNS)
def test_products(text):
    pattern = parse_pattern(text)
    for shape, style in zip(shapes(pattern), ("largest", "ties", "any"), strict=True):
        x, w = codes(shape, style, sum(shape)), codes((shape[1], 19), "largest" if style == "largest" else "any", 8)
        bias = np.random.default_rng(2).integers(-(2**30), 2**30, 19).astype(np.int32)
        mask = REFERENCE.select(x, pattern, factors(shape[1]))
        for kept in (mask, mask & (np.random.default_rng(1).random(shape) < 0.6)):
            expected = REFERENCE.multiply(x, kept, w, pattern, bias)
            np.testing.assert_array_equal(TRITON.multiply(x, kept, w, pattern, bias), expected, strict=True)


@pytest.mark.parametrize("text", ["2:4", "16:32", "5:7"])
def test_products_of_an_operand_that_is_expanded_first(text):
    """Several tiles of tokens, outputs and features, none of them full."""
    pattern = parse_pattern(text)
    x, w = codes((130, 150), "any", 4), codes((150, 140), "any", 5)
    mask = REFERENCE.select(x, pattern, ones(150))
    expected = REFERENCE.multiply(x, mask, w, pattern, np.zeros(140, np.int32))
    left = device.operand(on_device(x), pattern)
    weights = device.stored_weights(on_device(w), pattern)
    for first in (False, True):
        np.testing.assert_array_equal(array(device.multiply(left, weights, expand_first=first)), expected)


def test_requantisation():
    draw = np.random.default_rng(4)
    acc = draw.integers(-(2**31) + 1, 2**31, (9, 37)).astype(np.int32)
    acc[0] = np.arange(37) - 18
    acc[1] = 2**31 - 1
    acc[2] = 0
    for exponent in (-40, -20, -9, 0, 30):  # from all zeros over ties to all saturated
        scale_x = np.exp2(draw.uniform(exponent - 2, exponent, 9)).astype(np.float32)
        scale_w = np.exp2(draw.uniform(-3, 0, 37)).astype(np.float32)
        scale_x[0], scale_w[:5] = np.exp2(np.float32(exponent)), 0.5  # powers of two: halves are met exactly
        constants = multipliers(scale_x, scale_w, 1.0)
        np.testing.assert_array_equal(
            TRITON.requantize(acc, constants), REFERENCE.requantize(acc, constants), strict=True
        )


def test_requantisation_that_the_last_bit_of_a_multiplier_decides():
    """Sums just behind the middle between two codes, which a multiplier one lower leaves in front of it."""
    draw = np.random.default_rng(6)
    scale_x, scale_w = (draw.uniform(0.5, 1, size).astype(np.float32) for size in (9, 37))
    constants = multipliers(scale_x, scale_w, 2.0**24)
    multiplier = (np.multiply.outer(constants.token_mantissa, constants.output_mantissa) + 2**30) >> 31
    shift = 31 - np.add.outer(constants.token_exponent, constants.output_exponent)
    middle = 81 << (shift - 1)  # 40.5
    acc = (-(-middle // multiplier)).astype(np.int32)
    lower = (acc.astype(np.int64) * (multiplier - 1) + (1 << (shift - 1))) >> shift
    expected = REFERENCE.requantize(acc, constants)
    assert (expected == 41).all() and (lower == 40).mean() > 0.3
    np.testing.assert_array_equal(TRITON.requantize(acc, constants), expected)
    np.testing.assert_array_equal(TRITON.requantize(-acc, constants), -expected)


def test_dequantisation():
    draw = np.random.default_rng(5)
    acc = draw.integers(-(2**31) + 1, 2**31, (9, 300)).astype(np.int32)
    scale_x, scale_w = (draw.uniform(1e-4, 1, size).astype(np.float32) for size in (9, 300))
    scale_w[:3] = 1e-38  # products below the normal range
    exact = acc.astype(np.float64) * np.multiply.outer(scale_x, scale_w)
    near = (-exact[0]).astype(np.float32)  # cancels all but the rounding: a fused multiply-add would differ
    for bias in (None, near, draw.standard_normal(300).astype(np.float32)):
        got, expected = (unit.dequantize(acc, scale_x, scale_w, bias) for unit in (TRITON, REFERENCE))
        np.testing.assert_array_equal(got.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize(
    ("text", "encoding", "byte"),
    [
        ("2:4", "bitmap", 0b0111_0011),
        ("2:4", "index", 0b0101_0100),
        ("2:4", "enumerative", 0b00_110_000),
        ("2:5", "index", 0b00_110_001),
        ("1:2 of 2:4", "bitmap", 0b00_0011_11),
    ],
)
def test_what_is_no_code_word_is_refused(text, encoding, byte):
    """By the same group, in the same words."""
    pattern = parse_pattern(text)
    groups = 2 if text == "2:4" else 1
    stored = np.zeros((1, groups, pattern.n), np.int8), np.array([[byte]], np.uint8)
    messages = []
    for unit in (TRITON, REFERENCE):
        with pytest.raises(AccelSimError, match="is no code word") as refused:
            unit.decompress(*stored, groups * pattern.m, pattern, encoding)
        messages.append(str(refused.value))
    assert messages[0] == messages[1]


def test_no_tokens():
    x, w = np.zeros((0, 8), np.int8), np.zeros((8, 3), np.int8)
    pattern = parse_pattern("2:4")
    mask = TRITON.select(x, pattern, ones(8))
    values, metadata = TRITON.compress(x, mask, pattern, "index")
    assert (mask.shape, values.shape, metadata.shape) == ((0, 8), (0, 2, 2), (0, 1))
    assert TRITON.decompress(values, metadata, 8, pattern, "index").shape == (0, 8)
    assert TRITON.multiply(x, mask, w, pattern, np.zeros(3, np.int32)).shape == (0, 3)
