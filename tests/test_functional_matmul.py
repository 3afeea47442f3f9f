"""Products: exact INT32 sums over the kept slots, and the guard against overflow."""

import numpy as np
import pytest
from functional_inputs import OTHER_BACKENDS, all_codes, all_patterns, codes, factors_for, require_backend, seeds
from hypothesis import given
from hypothesis import strategies as st

from accel_sim import AccelSimError
from accel_sim.functional import select, sparse_matmul


def weights_and_bias(features: int, outputs: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(seed)
    bias = draw.integers(-(2**30), 2**30, outputs).astype(np.int32)
    return codes((features, outputs), "largest" if seed % 2 else "any", seed), bias


@given(all_codes, all_patterns(), st.integers(1, 20), seeds)
def test_reference_is_the_integer_product_of_what_is_kept(x, text, outputs, seed):
    w, bias = weights_and_bias(x.shape[1], outputs, seed)
    factors = factors_for(x.shape[1], seed)
    kept = np.where(select(x, text, factors=factors), x, 0).astype(np.int64)
    got = sparse_matmul(x, w, text, factors=factors, bias=bias)
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, kept @ w.astype(np.int64) + bias)


@pytest.mark.parametrize("name", OTHER_BACKENDS)
@given(x=all_codes, text=all_patterns(), outputs=st.integers(1, 20), seed=seeds)
def test_backend_equals_reference(name, x, text, outputs, seed):
    w, bias = weights_and_bias(x.shape[1], outputs, seed)
    factors = factors_for(x.shape[1], seed)
    expected = sparse_matmul(x, w, text, factors=factors, bias=bias)
    got = sparse_matmul(x, w, text, factors=factors, bias=bias, backend=require_backend(name))
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, expected)


@pytest.mark.parametrize("name", ["numpy", *OTHER_BACKENDS])
def test_saturating_operands_and_wide_outputs(name):
    x, w = codes((3, 2050), "largest", 1), codes((2050, 1100), "largest", 2)
    kept = np.where(select(x, "8:16"), x, 0).astype(np.float64)
    np.testing.assert_array_equal(sparse_matmul(x, w, "8:16", backend=require_backend(name)), kept @ w)


@pytest.mark.parametrize("name", ["numpy", *OTHER_BACKENDS])
def test_n_equal_m_is_the_dense_product(name):
    x, w = codes((4, 30), "any", 3), codes((30, 7), "any", 4)
    dense = x.astype(np.int32) @ w.astype(np.int32)
    np.testing.assert_array_equal(sparse_matmul(x, w, "4:4", backend=require_backend(name)), dense)


def test_largest_reduction_without_bias():
    features = 133_144
    x, w = np.full((1, features), 127, dtype=np.int8), np.full((features, 1), 127, dtype=np.int8)
    assert sparse_matmul(x, w, "1:1").item() == features * 127**2
    with pytest.raises(AccelSimError, match=r"133145 features .* may overflow the INT32 accumulator"):
        sparse_matmul(np.zeros((1, features + 1), dtype=np.int8), np.zeros((features + 1, 1), dtype=np.int8), "2:4")


@pytest.mark.parametrize("sign", [-1, 1])
def test_bias_counts_against_overflow(sign):
    room = 2**31 - 1 - 4 * 127**2
    x, w = np.full((1, 4), 127, dtype=np.int8), np.full((4, 1), 127 * sign, dtype=np.int8)
    fits = np.array([room * sign], dtype=np.int32)
    assert sparse_matmul(x, w, "4:4", bias=fits).item() == sign * (2**31 - 1)
    with pytest.raises(AccelSimError, match="overflow"):
        sparse_matmul(x, w, "4:4", bias=fits + np.int32(sign))


@pytest.mark.parametrize(
    ("w", "bias", "message"),
    [
        (np.zeros((4, 2), dtype=np.float32), None, "w: got float32"),
        (np.zeros((5, 2), dtype=np.int8), None, "w has 5 features"),
        (np.full((4, 2), -128, dtype=np.int8), None, "feature 0, output 0.* is -128"),
        (np.zeros((4, 2), dtype=np.int8), np.zeros(2), "bias: got float64"),
        (np.zeros((4, 2), dtype=np.int8), np.zeros(3, dtype=np.int32), "bias: got int32"),
    ],
)
def test_refused(w, bias, message):
    with pytest.raises(AccelSimError, match=message):
        sparse_matmul(np.zeros((1, 4), dtype=np.int8), w, "2:4", bias=bias)


@pytest.mark.parametrize("name", ["numpy", *OTHER_BACKENDS])
def test_axes_of_length_one_may_have_any_stride(name):
    x, w = codes((16,), "any", 1)[None], codes((16,), "any", 2)[:, None]  # NumPy gives the new axes the stride 0
    expected = (np.where(select(x, "2:4"), x, 0).astype(np.int32) @ w).item()
    assert [sparse_matmul(x, w, "2:4", backend=require_backend(name)).item() for _ in range(5)] == [expected] * 5


def test_read_only_and_strided_inputs():
    x, w = codes((6, 40), "any", 5)[::2, ::2], codes((9, 20), "any", 6).T
    x.flags.writeable = w.flags.writeable = False
    np.testing.assert_array_equal(sparse_matmul(x, w, "2:4", backend="numba"), sparse_matmul(x, w, "2:4"))
