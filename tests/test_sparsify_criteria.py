"""Criteria: the published formulas, and the identities between them."""

import numpy as np
import pytest

from accel_sim import AccelSimError
from accel_sim.pattern import Pattern
from accel_sim.sparsify.criteria import (
    LARGEST_WITHOUT_SAMPLE,
    clact_factors,
    clact_running_factors,
    column_squares,
    standardised,
    weight_factors,
)
from accel_sim.sparsify.kept import Unstructured
from accel_sim.sparsify.selection import keep_reference, prune

EVERYWHERE = [Pattern("2:4"), Pattern("8:16"), Pattern("16:32"), Unstructured(0.5, "token")]


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape)


def activations(tokens: int, features: int, seed: int = 1) -> np.ndarray:
    """Columns of different size, as a language model's are."""
    return (normal(tokens, features, seed=seed) * np.exp(normal(features, seed=seed + 1))).astype(np.float32)


def weight(outputs: int, features: int, seed: int = 3) -> np.ndarray:
    return (normal(outputs, features, seed=seed) * np.exp(normal(features, seed=seed + 1)) + 0.02).astype(np.float32)


def test_norms_by_hand():
    w = np.array([[3, 0, 1], [4, 0, 1]], np.float32)
    assert weight_factors("wina", w) == pytest.approx([5, 0, np.sqrt(2)])
    assert weight_factors("amber", w) == pytest.approx([5 / np.sqrt(2), 0, 1])  # the column of zeros is not the least
    assert weight_factors("weight_variance", w) == pytest.approx([0.25, 0, 0])
    assert weight_factors("amber", np.zeros((2, 3))).tolist() == [0, 0, 0]


@pytest.mark.parametrize("outputs", [8, 40, 100])
def test_r_sparse_is_the_norm_of_the_rows_of_v_sigma(outputs):
    w = weight(outputs, 40)
    _, sigma, v_transposed = np.linalg.svd(w.astype(np.float64), full_matrices=False)
    rows = np.linalg.norm(v_transposed.T * sigma, axis=1)
    assert weight_factors("r_sparse", w) == pytest.approx(rows, rel=1e-12)


@pytest.mark.parametrize("kept", EVERYWHERE, ids=str)
def test_dividing_by_the_smallest_norm_changes_no_selection(kept):
    x, w = activations(50, 96), weight(64, 96)
    plain, divided = weight_factors("wina", w), weight_factors("amber", w)
    assert divided.min() == 1
    assert np.array_equal(keep_reference(np.abs(x) * plain, kept), keep_reference(np.abs(x) * divided, kept))
    assert np.array_equal(prune(x, kept, plain), prune(x, kept, divided))


def published_clact(x: np.ndarray) -> np.ndarray:
    """arXiv 2509.22166 eq. 4 word by word: |X_ij| / √Σ_k X_ik² · √Σ_p X_pj²."""
    scores = np.empty(x.shape)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            scores[i, j] = abs(x[i, j]) / np.sqrt((x[i] ** 2).sum()) * np.sqrt((x[:, j] ** 2).sum())
    return scores


@pytest.mark.parametrize("kept", EVERYWHERE, ids=str)
def test_clact_selects_as_published_without_the_norm_of_the_token(kept):
    x = activations(20, 96)
    published = keep_reference(published_clact(x.astype(np.float64)), kept)
    assert np.array_equal(prune(x, kept, clact_factors(x)) != 0, published)
    assert not np.array_equal(prune(x, kept) != 0, published)  # magnitude alone does not


@pytest.mark.parametrize("kept", EVERYWHERE, ids=str)
def test_clact_of_one_token_is_magnitude(kept):
    x = activations(1, 960)
    assert np.array_equal(prune(x, kept, clact_factors(x)), prune(x, kept))
    assert np.array_equal(prune(x, kept, clact_running_factors(x)), prune(x, kept))


def test_clact_counts_only_the_tokens_that_are_marked():
    x = activations(12, 32)
    counted = np.arange(12) >= 5
    assert clact_factors(x, counted) == pytest.approx(np.linalg.norm(x[5:].astype(np.float64), axis=0), rel=1e-12)
    running = clact_running_factors(x, tokens=counted)
    assert (running[:5] == 0).all()
    assert running[5:] == pytest.approx(clact_running_factors(x[5:]), rel=1e-12)


def test_running_norms_see_no_later_token():
    x = activations(12, 32)
    other = x.copy()
    other[7:] *= 100
    running, changed = clact_running_factors(x), clact_running_factors(other)
    assert np.array_equal(running[:7], changed[:7])
    assert not np.array_equal(running[7], changed[7])
    assert running[-1] == pytest.approx(clact_factors(x), rel=1e-12)
    assert running[4] == pytest.approx(clact_factors(x[:5]), rel=1e-12)


def test_running_norms_go_on_where_they_stopped():
    x = activations(12, 32)
    first, second = x[:5], x[5:]
    following = clact_running_factors(second, column_squares(first))
    assert following == pytest.approx(clact_running_factors(x)[5:], rel=1e-12)
    assert column_squares(first) + column_squares(second) == pytest.approx(column_squares(x), rel=1e-12)


def with_outliers() -> np.ndarray:
    """400 entries 1 … 400 in random places, of which two at either end lie outside the percentiles."""
    return np.random.default_rng(5).permutation(np.arange(1.0, 401)).reshape(20, 20)


def test_standardised_by_what_is_not_an_outlier():
    w = with_outliers()
    low, high = np.quantile(w, 0.005), np.quantile(w, 0.995)
    inside = (w > 2.5) & (w < 398.5)
    assert np.array_equal(inside, (w >= low) & (w <= high))
    mean, deviation = w[inside].mean(), w[inside].std()
    keep, zero, clip = (standardised(w, outliers) for outliers in ("keep", "zero", "clip"))
    for result in (keep, zero, clip):
        assert result[inside] == pytest.approx((w[inside] - mean) / deviation)
    assert keep[~inside] == pytest.approx((w[~inside] - mean) / deviation)
    assert (zero[~inside] == 0).all()
    assert np.sort(clip[~inside]) == pytest.approx((np.array([low, low, high, high]) - mean) / deviation)


@pytest.mark.parametrize("outliers", ["keep", "zero", "clip"])
def test_robust_factors_are_the_norms_of_the_standardised_columns(outliers):
    w = with_outliers()
    norms = np.linalg.norm(standardised(w, outliers), axis=0)
    assert weight_factors("amber_robust", w, outliers) == pytest.approx(norms / norms.min(), rel=1e-12)


def test_robust_norm_in_closed_form():
    w = weight(300, 64).astype(np.float64)
    inside = (w >= np.quantile(w, 0.005)) & (w <= np.quantile(w, 0.995))
    mean, variance = w[inside].mean(), w[inside].var()
    squares = ((w**2).sum(axis=0) - 2 * mean * w.sum(axis=0) + 300 * mean**2) / variance
    assert weight_factors("amber_robust", w) == pytest.approx(np.sqrt(squares / squares.min()), rel=1e-9)


def test_a_large_weight_is_sampled_the_same_way_every_time():
    w = weight(1000, 160)
    assert w.size > LARGEST_WITHOUT_SAMPLE
    factors = weight_factors("amber_robust", w, "zero")
    assert np.array_equal(factors, weight_factors("amber_robust", w.copy(), "zero"))
    share = (standardised(w, "zero") == 0).mean()
    assert share == pytest.approx(0.01, abs=0.002)  # four standard errors of two such percentiles of 50,000
    assert not np.array_equal(standardised(w, "zero"), standardised(w, "zero", seed=1))


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: weight_factors("magnitude", np.ones((2, 3))), "weights make those of amber, amber_robust"),
        (lambda: weight_factors("wina", np.ones(3)), r"weight: got \[3\], expected \[output, feature\]"),
        (lambda: weight_factors("wina", np.ones((3, 0))), r"got \[3, 0\]"),
        (lambda: weight_factors("amber", [[1, 2], [3, np.nan]]), r"weight\[output 1, feature 1\] is nan"),
        (lambda: weight_factors("amber_robust", normal(9, 9), "drop"), "'drop': expected one of keep, zero, clip"),
        (lambda: weight_factors("amber_robust", np.full((9, 9), 0.5)), "are 0.5, and cannot be standardised"),
        (lambda: clact_factors([[1, np.inf]]), r"activations\[token 0, feature 1\] is inf"),
        (lambda: clact_factors(np.ones((2, 3)), np.ones(3, bool)), r"got bool \[3\], expected bool \[2\]"),
        (lambda: clact_factors(np.ones((2, 3)), np.ones(2)), "got float64"),
        (lambda: clact_running_factors(np.ones((2, 3)), np.ones(2)), r"got \[2\], expected \[3\]"),
        (lambda: clact_running_factors(np.ones((2, 3)), [1, -1, 1]), "numbers of at least 0"),
    ],
)
def test_refused(call, says):
    with pytest.raises(AccelSimError, match=says):
        call()
