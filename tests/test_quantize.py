"""INT8 codes follow the written rule to the bit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from accel_sim.errors import AccelSimError
from accel_sim.quantize import quantize_tokens, quantize_weight

FLOATS = st.floats(-(2.0**100), 2.0**100, width=32)


def by_the_rule(row: np.ndarray) -> tuple[list[int], np.float32]:
    """One token, element by element, with Python's own round-half-to-even."""
    scale = np.float32(np.max(np.abs(row))) / np.float32(127)
    scale = scale if scale > 0 else np.float32(1)
    return [max(-127, min(127, round(float(np.float32(x) / scale)))) for x in row], scale


@given(arrays(np.float32, (3, 9), elements=FLOATS))
def test_codes_and_scales_follow_the_rule(x):
    codes, scales = quantize_tokens(x)
    for row, code, scale in zip(x, codes, scales, strict=True):
        expected, expected_scale = by_the_rule(row)
        assert code.tolist() == expected and scale == expected_scale


def test_blocks_of_rows_do_not_change_the_result():
    x = np.random.default_rng(0).normal(size=(300, 2048)).astype(np.float32)
    codes, scales = quantize_tokens(x)
    apart = [quantize_tokens(x[i : i + 1]) for i in range(300)]
    np.testing.assert_array_equal(codes, np.concatenate([each[0] for each in apart]))
    np.testing.assert_array_equal(scales, np.concatenate([each[1] for each in apart]))


def test_halves_round_to_even():
    codes, _ = quantize_tokens(np.array([[127, 0.5, 1.5, 2.5, -0.5, -1.5]], np.float32))
    assert codes.tolist() == [[127, 0, 2, 2, 0, -2]]


def test_it_divides_rather_than_multiplies_by_a_reciprocal():
    """2.97… is the float32 at 2.5 scales or just above; its product with the rounded reciprocal is not."""
    codes, _ = quantize_tokens(np.array([[151.0, float.fromhex("0x1.7c78f4p+1")]], np.float32))
    assert codes.tolist() == [[127, 3]]


def test_the_largest_magnitude_becomes_127_on_either_side():
    codes, scales = quantize_tokens(np.array([[-3.0, 3.0, 0.0], [-8.0, 1.0, 0.0]]))
    assert codes.tolist() == [[-127, 127, 0], [-127, 16, 0]]
    assert scales.dtype == np.float32 and codes.dtype == np.int8


@pytest.mark.parametrize("value", [0.0, -0.0, 1e-45])
def test_a_token_without_a_usable_scale_is_all_zero(value):
    codes, scales = quantize_tokens(np.full((1, 4), value, np.float32))
    assert not codes.any() and scales.tolist() == [1.0]


def test_no_tokens_are_no_problem():
    codes, scales = quantize_tokens(np.zeros((0, 4), np.float32))
    assert codes.shape == (0, 4) and scales.shape == (0,)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_named(value):
    x = np.zeros((5, 4), np.float32)
    x[3, 2] = value
    with pytest.raises(AccelSimError, match=f"layers.0.q_proj: token 103, feature 2 is {value}"):
        quantize_tokens(x, "layers.0.q_proj", tokens=np.arange(100, 105))


@given(arrays(np.float32, (3, 9), elements=st.one_of(FLOATS, st.sampled_from([0.0, -0.0, 1e-45, 1e-38]))))
def test_tensors_on_a_device_get_the_same_codes(x):
    torch = pytest.importorskip("torch")
    from accel_sim.quantize.tensors import quantize_on_device

    for dtype in (torch.float32, torch.bfloat16):
        given = torch.tensor(x).to(dtype)
        if not given.isfinite().all():
            continue
        expected = quantize_tokens(given.float().numpy())
        for got, wanted in zip(quantize_on_device(given), expected, strict=True):
            np.testing.assert_array_equal(got.numpy(), wanted, strict=True)


def test_triton_quantises_on_cuda_where_it_is_installed(monkeypatch):
    torch = pytest.importorskip("torch")
    from accel_sim.quantize import tensors

    for found, with_cuda in ((object(), "triton"), (None, "torch")):
        monkeypatch.setattr(tensors.importlib.util, "find_spec", lambda name, found=found: found)
        assert tensors.quantises_with(torch.device("cuda")) == with_cuda
        assert tensors.quantises_with(torch.device("cpu")) == "torch"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_tensor_on_a_device_marks_what_is_not_finite(value):
    torch = pytest.importorskip("torch")
    from accel_sim.quantize.tensors import NOT_FINITE, quantize_on_device

    x = torch.ones(3, 4)
    x[1, 2] = value
    codes, scales = quantize_on_device(x)
    assert scales.isfinite().tolist() == [True, False, True]
    assert (codes == NOT_FINITE).nonzero().tolist() == [[1, 2]]


def test_weights_come_out_feature_major_with_a_scale_an_output():
    weight = np.random.default_rng(1).normal(size=(6, 10)).astype(np.float32)
    codes, scales = quantize_weight(weight)
    assert codes.shape == (10, 6) and codes.flags.c_contiguous and scales.shape == (6,)
    np.testing.assert_allclose(codes.T * scales[:, None], weight, atol=scales.max() / 2)
    with pytest.raises(AccelSimError, match="up_proj: output 1, feature 2"):
        weight[1, 2] = np.nan
        quantize_weight(weight, "up_proj")
