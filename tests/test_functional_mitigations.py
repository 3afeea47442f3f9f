"""Mitigations on codes: against plain integers, against the same in floats, and against the circuits."""

from fractions import Fraction

import numpy as np
import pytest
from functional_inputs import all_codes, codes, factors_for, patterns, seeds
from hypothesis import given
from hypothesis import strategies as st

from accel_sim import AccelSimError
from accel_sim.functional import (
    dequantize,
    rank_one,
    select,
    shift,
    sparse_matmul,
    token_means,
    token_medians,
    treated_outputs,
    variance_scales,
)

SHIFTS = ("none", "median", "mean", "one", "token", "feature")
FLOAT32 = 2.0**-24
"""Half the distance from 1 to the next float32: what one rounding is off by at most."""


def eta_for(name: str, x: np.ndarray, seed: int = 0):
    """What `treated_outputs` takes as a shift; by its name, or one, or several."""
    draw = np.random.default_rng(seed)
    made = {
        "one": lambda: int(draw.integers(-127, 128)),
        "token": lambda: draw.integers(-127, 128, (x.shape[0], 1)).astype(np.int8),
        "feature": lambda: draw.integers(-127, 128, x.shape[1]).astype(np.int8),
    }
    return made[name]() if name in made else name


def as_codes(eta, x: np.ndarray) -> np.ndarray:
    """The same as whole numbers that broadcast over x."""
    if isinstance(eta, str):
        eta = {"none": lambda x: 0, "median": token_medians, "mean": token_means}[eta](x)
    return np.asarray(eta, dtype=np.int64)


def weights_for(x: np.ndarray, outputs: int = 7, seed: int = 1) -> tuple[np.ndarray, ...]:
    """Scales [T], weight codes [K, F], weight scales [F]."""
    draw = np.random.default_rng(seed)
    scales = draw.uniform(0.001, 2, x.shape[0]).astype(np.float32)
    w = draw.integers(-127, 128, (x.shape[1], outputs)).astype(np.int8)
    return scales, w, draw.uniform(1e-4, 1e-2, outputs).astype(np.float32)


@given(all_codes)
def test_means_and_medians_are_those_of_exact_arithmetic(x):
    for row, mean, median in zip(x.tolist(), token_means(x)[:, 0], token_medians(x)[:, 0], strict=True):
        assert mean == round(Fraction(sum(row), len(row)))  # Python rounds halves to even
        assert median == sorted(row)[(len(row) - 1) // 2]


def test_medians_are_those_of_torch():
    torch = pytest.importorskip("torch")
    for features in (1, 2, 9, 64):
        x = codes((20, features), "any", features)
        assert np.array_equal(token_medians(x), torch.tensor(x).median(dim=1, keepdim=True).values.numpy())


def test_a_shift_saturates():
    x = np.array([[127, -127, 5], [-1, 0, 1]], np.int8)
    assert shift(x, -1).tolist() == [[127, -126, 6], [0, 1, 2]]
    assert shift(x, np.array([[100], [-127]], np.int8)).tolist() == [[27, -127, -95], [126, 127, 127]]
    assert shift(x, np.array([127, -127, 0], np.int8)).tolist() == [[0, 0, 5], [-127, 127, 1]]


@given(st.integers(1, 5), st.integers(1, 60), st.sampled_from(SHIFTS[1:]), seeds)
def test_dense_products_come_back_to_the_integer_where_nothing_saturates(tokens, features, name, seed):
    x = codes((tokens, features), "any", seed) // 2
    eta = eta_for(name, x, seed)
    eta = as_codes(eta, x).astype(np.int8) // 2
    _, w, _ = weights_for(x)
    acc = sparse_matmul(shift(x, eta), w, "4:4")
    assert np.array_equal(rank_one(acc, eta, w), x.astype(np.int64) @ w)


@given(all_codes, patterns(), seeds, st.sampled_from(SHIFTS), st.booleans())
def test_outputs_are_those_of_floats(x, pattern, seed, name, variance):
    scales, w, w_scales = weights_for(x, seed=seed)
    factors, eta = factors_for(x.shape[1], seed), eta_for(name, x, seed)
    bias = np.random.default_rng(seed).standard_normal(7).astype(np.float32)
    got = treated_outputs(x, scales, w, w_scales, pattern, factors=factors, shift=eta, variance=variance, bias=bias)

    x_scale = scales.astype(np.float64)[:, None]
    floats, weight = x * x_scale, w * w_scales.astype(np.float64)
    moved = np.broadcast_to(as_codes(eta, x), x.shape) * x_scale
    shifted = np.clip(floats - moved, -127 * x_scale, 127 * x_scale)
    kept = np.where(select(np.rint(shifted / x_scale).astype(np.int8), pattern, factors=factors), shifted, 0)
    nu = np.ones((x.shape[0], 1))
    if variance and x.shape[1] > 1:
        before, after = shifted.var(axis=1, ddof=1), kept.var(axis=1, ddof=1)
        varies = (before > 1e-12 * x_scale[:, 0] ** 2) & (after > 1e-12 * x_scale[:, 0] ** 2)
        nu[varies, 0] = np.sqrt(before[varies] / after[varies])
    expected = nu * (kept @ weight) + moved @ weight + bias
    # ν, two scales, their product, the sum as float32, the product, and two additions: each a rounding of a part.
    size = nu * (np.abs(kept) @ np.abs(weight)) + np.abs(moved) @ np.abs(weight) + np.abs(bias)
    assert (np.abs(got - expected) <= 8 * FLOAT32 * size + 1e-12).all()
    assert got.dtype == np.float32


@pytest.mark.parametrize("backend", ["numba", "torch"])
@pytest.mark.parametrize("name", SHIFTS)
@pytest.mark.parametrize("variance", [False, True])
def test_backends_return_the_same_bits(backend, name, variance):
    if backend == "torch":
        pytest.importorskip("torch")
    x = codes((30, 100), "any", 4)
    scales, w, w_scales = weights_for(x)
    of = [
        treated_outputs(x, scales, w, w_scales, "8:16", shift=eta_for(name, x), variance=variance, backend=b)
        for b in ("numpy", backend)
    ]
    assert np.array_equal(of[0].view(np.uint32), of[1].view(np.uint32))


def test_without_mitigation_they_are_the_datapath():
    x = codes((9, 40), "any", 1)
    scales, w, w_scales = weights_for(x)
    factors = factors_for(40, 1)
    plain = dequantize(sparse_matmul(x, w, "4:8", factors=factors), scales, w_scales)
    assert np.array_equal(treated_outputs(x, scales, w, w_scales, "4:8", factors=factors), plain)


def test_a_dense_token_has_a_variance_scale_of_one():
    x = codes((9, 40), "any", 1)
    assert (variance_scales(x, np.ones(x.shape, bool)) == 1).all()


def test_variance_scales_are_those_of_unbiased_variances():
    x = codes((50, 96), "any", 2)
    mask = select(x, "2:4")
    after = np.where(mask, x, 0).var(axis=1, ddof=1)
    assert variance_scales(x, mask) == pytest.approx(np.sqrt(x.var(axis=1, ddof=1) / after), rel=2 * FLOAT32)


def test_a_token_that_does_not_vary_is_left_alone():
    x = np.array([[0, 0, 0, 0], [5, 5, 5, 5], [0, 9, 0, 0]], np.int8)
    mask = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [1, 0, 1, 0]], bool)
    assert variance_scales(x, mask).tolist() == [1, 1, 1]
    assert np.isfinite(treated_outputs(x, np.ones(3, np.float32), np.eye(4, dtype=np.int8), np.ones(4), "2:4")).all()


def test_variance_scales_the_product_but_not_the_shift():
    x = codes((6, 32), "any", 3)
    scales, w, w_scales = weights_for(x)
    eta = token_medians(x)
    nu = variance_scales(shift(x, eta), select(shift(x, eta), "2:4"))
    acc = sparse_matmul(shift(x, eta), w, "2:4")
    back = dequantize(rank_one(np.zeros_like(acc), eta, w), scales, w_scales)
    got = treated_outputs(x, scales, w, w_scales, "2:4", shift="median", variance=True)
    assert np.array_equal(got, dequantize(acc, scales * nu, w_scales) + back)


def test_sums_that_leave_int32_are_refused_by_place():
    w = np.full((10, 2), 127, np.int8)
    acc = np.array([[0, 0], [0, 2**31 - 1 - 126 * 1270]], np.int32)
    assert rank_one(acc, 126, w)[1, 1] == 2**31 - 1
    with pytest.raises(AccelSimError, match="token 1, output 1 is 2147484917"):
        rank_one(acc, 127, w)
    with pytest.raises(AccelSimError, match="token 1, output 1 is -2147484917"):
        rank_one(-acc, -127, w)


def test_the_circuits_return_the_same_integers():
    pytest.importorskip("amaranth", reason="pip install 'accel_sim[rtl]'")
    from accel_sim.rtl.epilogue import RankOneEpilogue, TokenShift
    from accel_sim.rtl.simulation import run

    x = codes((12, 16), "any", 6)
    eta = token_medians(x)
    eta[:4, 0] = (127, -127, 0, 64)
    _, w, _ = weights_for(x, outputs=5)
    shifted = run(TokenShift(16), {"values": x, "shift": eta[:, 0]})["shifted"]
    assert np.array_equal(shifted, shift(x, eta))
    acc = sparse_matmul(shift(x, eta), w, "8:16")
    inputs = {
        "accumulator": acc.ravel(),
        "shift": np.repeat(eta[:, 0], 5),
        "column_sum": np.tile(w.sum(axis=0, dtype=np.int64), 12),
    }
    assert np.array_equal(run(RankOneEpilogue(), inputs)["corrected"], rank_one(acc, eta, w).ravel())


def test_the_circuit_scales_a_token_as_the_variance_scale_does():
    pytest.importorskip("amaranth", reason="pip install 'accel_sim[rtl]'")
    from accel_sim.functional.fixed_point import multipliers
    from accel_sim.rtl.epilogue import TokenScale
    from accel_sim.rtl.simulation import run

    x = codes((40, 64), "any", 8)
    scales, _, _ = weights_for(x)
    nu = variance_scales(x, select(x, "2:4"))
    token, scale = (multipliers(values, np.ones(1, np.float32), 1.0) for values in (scales, nu))
    inputs = {
        "mantissa": token.token_mantissa,
        "exponent": token.token_exponent,
        "scale_mantissa": scale.token_mantissa,
        "scale_exponent": scale.token_exponent,
    }
    outputs = run(TokenScale(), inputs)
    scaled = outputs["scaled_mantissa"] * 2.0 ** (outputs["scaled_exponent"] - 31.0)
    assert scaled == pytest.approx((scales * nu).astype(np.float64), rel=2 * FLOAT32)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda x, w: shift(x, 128), "128 is not a code"),
        (lambda x, w: shift(x, np.full((3, 1), -128, np.int8)), "-128 is not a code"),
        (lambda x, w: shift(x, 0.5), "got float64 [], expected one whole number"),
        (lambda x, w: shift(x, np.zeros(3, np.int8)), "got int8 [3], expected one whole number, int8 [3, 1]"),
        (lambda x, w: shift(x, np.zeros(4, np.int64)), "got int64 [4]"),
        (lambda x, w: shift(x.astype(np.int16), 0), "x: got int16"),
        (lambda x, w: rank_one(np.zeros((3, 2)), 1, w), "acc: got float64"),
        (lambda x, w: rank_one(np.zeros((3, 9), np.int32), 1, w), "w has 2 outputs (columns), acc has 9"),
        (lambda x, w: variance_scales(x, np.ones((3, 4))), "mask: got float64"),
        (lambda x, w: variance_scales(x, np.ones((3, 5), bool)), "mask is [3, 5], codes are [3, 4]"),
        (lambda x, w: treated_outputs(x, np.ones(3), w, np.ones(2), "2:4", shift="modal"), "shift 'modal': expected"),
        (lambda x, w: treated_outputs(x, np.zeros(3), w, np.ones(2), "2:4"), "scales[token 0] is 0.0"),
    ],
)
def test_refused(call, says):
    with pytest.raises(AccelSimError) as refused:
        call(np.ones((3, 4), np.int8), np.ones((4, 2), np.int8))
    assert says in str(refused.value)
