"""Greedy calibration: the compiled one equals the reference, and is optimal where theory says so."""

from __future__ import annotations

from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from accel_sim.errors import AccelSimError
from accel_sim.sparsify.contextual.greedy_reference import reference_thresholds
from accel_sim.sparsify.contextual.monotonicity import kendall_tau_b, monotonicity
from accel_sim.sparsify.contextual.thresholds import const_threshold, greedy_thresholds, needed_samples

NASTY = {
    "one sample": ([[1.0]], [[2.0]]),
    "one token": ([[1.0, -1.0, 0.0]], [[2.0, 0.0, 1.0]]),
    "one neuron": ([[3.0], [1.0], [2.0], [2.0]], [[0.0], [1.0], [0.0], [4.0]]),
    "no importance": (np.arange(12).reshape(4, 3), np.zeros((4, 3))),
    "one score": (np.ones((5, 3)), np.arange(15).reshape(5, 3)),
    "one dead neuron": ([[1.0, 2.0], [3.0, 4.0], [0.0, 0.5]], [[0.0, 1.0], [0.0, 2.0], [0.0, 0.0]]),
    "zeros of both signs": ([[0.0, -0.0], [-0.0, 0.0], [1.0, -1.0]], [[1.0, 2.0], [0.0, 0.0], [1.0, 0.0]]),
    "least and largest": ([[1e-45, 3e38], [-3e38, -1e-45], [0.0, 0.0]], [[1e-45, 3e38], [3e38, 0.0], [1.0, 1.0]]),
    "equal costs": (np.arange(20).reshape(5, 4), np.ones((5, 4))),
    "costly first": (np.arange(12).reshape(6, 2), [[9.0, 9.0]] + [[0.0, 0.0]] * 5),
}
LIMITS = [
    (None, 1.0, 1.0, True),
    (2, 1.0, 1.0, True),
    (256, 0.95, 0.01, False),
    (3, 0.4, 0.3, True),
    (4, 0.0, 0.0, False),
]


def floats(values) -> np.ndarray:
    return np.asarray(values, np.float32)


def random_layer(tokens: int, neurons: int, seed: int, levels: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores of ReLU gates seen through noise, and their importance; of few `levels` if given, so that scores tie."""
    random = np.random.default_rng(seed)
    gates = random.normal(size=(tokens, neurons)) * random.lognormal(size=neurons)
    scores = gates + random.normal(size=gates.shape)
    scores = np.round(scores * levels) / levels if levels else scores
    return floats(scores), floats(np.maximum(gates, 0) ** 2)


def predicted(scores: np.ndarray, thresholds: np.ndarray) -> float:
    return float((scores <= thresholds).mean())


def lost(scores: np.ndarray, importance: np.ndarray, thresholds: np.ndarray) -> float:
    return float(importance[scores <= thresholds].sum(dtype=np.float64))


def check_equal(scores, importance, target, bins, cap, off, spare) -> None:
    found = greedy_thresholds(scores, importance, target, bins, cap, off, spare)
    tokens, neurons = scores.shape
    limits = needed_samples(target, scores.size), min(bins or tokens, tokens), int(cap * tokens), int(off * neurons)
    expected = reference_thresholds(scores, importance, *limits, spare)
    assert found.values.dtype == np.float32
    assert np.array_equal(found.values.view(np.int32), expected.view(np.int32))
    assert found.predicted_sparsity == predicted(scores, found.values)
    total = importance.sum(dtype=np.float64)
    assert found.lost == pytest.approx(lost(scores, importance, found.values) / total if total else 0, rel=1e-9)
    everywhere = (scores <= found.values).all(axis=0) & importance.any(axis=0)
    assert found.turned_off == everywhere.sum()


# The compiled one and the reference


@pytest.mark.parametrize("limits", LIMITS, ids=str)
@pytest.mark.parametrize("target", [0.0, 0.25, 0.5, 0.99, 1.0])
@pytest.mark.parametrize("name", NASTY)
def test_compiled_and_reference_agree_on_nasty_input(name, target, limits):
    scores, importance = map(floats, NASTY[name])
    check_equal(scores, importance, target, *limits)


@pytest.mark.parametrize("limits", LIMITS, ids=str)
@pytest.mark.parametrize("levels", [0, 1, 4])
def test_compiled_and_reference_agree_on_a_layer(levels, limits):
    check_equal(*random_layer(300, 40, seed=levels, levels=levels), 0.6, *limits)


SMALL = st.tuples(st.integers(1, 12), st.integers(1, 5))


@settings(max_examples=150)
@given(data=st.data(), shape=SMALL, target=st.floats(0, 1), cap=st.floats(0, 1), off=st.floats(0, 1))
def test_compiled_and_reference_agree(data, shape, target, cap, off):
    numbers = st.floats(-4, 4, width=32) | st.sampled_from([0.0, -1.0, 1.0])
    scores = data.draw(arrays(np.float32, shape, elements=numbers))
    importance = data.draw(arrays(np.float32, shape, elements=st.sampled_from([0.0, 1.0]) | st.floats(0, 4, width=32)))
    bins = data.draw(st.none() | st.integers(1, 14))
    check_equal(scores, importance, target, bins, cap, off, data.draw(st.booleans()))


# What is guaranteed


@settings(max_examples=100)
@given(data=st.data(), shape=SMALL, target=st.floats(0, 1), bins=st.none() | st.integers(1, 14))
def test_without_limits_the_target_is_met_by_less_than_a_step(data, shape, target, bins):
    tokens, neurons = shape
    order = data.draw(st.permutations(range(tokens * neurons)))
    scores = floats(order).reshape(shape)  # no ties, and nothing is free
    found = greedy_thresholds(scores, np.ones(shape, np.float32), target, bins)
    inactive, needed = np.count_nonzero(scores <= found.values), needed_samples(target, scores.size)
    assert needed <= inactive < needed + -(-tokens // min(bins or tokens, tokens))


@pytest.mark.parametrize("target", [0.0, 0.2, 0.5])
def test_what_costs_nothing_is_all_taken_even_beyond_the_target(target):
    scores = floats(np.arange(10)[:, None] + np.zeros(3))
    importance = floats(np.repeat([[0.0], [1.0]], [7, 3], axis=0) * np.ones(3))
    found = greedy_thresholds(scores, importance, target)
    assert found.predicted_sparsity == 0.7
    assert found.lost == 0
    assert found.values.tolist() == [6, 6, 6]


def test_the_first_sample_that_costs_is_not_part_of_the_free_prefix():
    """Printed, the initial threshold is that sample's own score, which would lose it for nothing."""
    scores, importance = floats([[0.0], [1.0], [2.0]]), floats([[0.0], [5.0], [1.0]])
    found = greedy_thresholds(scores, importance, 1 / 3)
    assert (found.values.tolist(), found.lost) == ([0], 0)


def test_equal_scores_go_together():
    scores, importance = floats([[1.0], [1.0], [1.0], [2.0]]), floats([[0.0], [0.0], [1.0], [1.0]])
    assert greedy_thresholds(scores, importance, 0.0).predicted_sparsity == 0  # one of the equal ones costs
    assert greedy_thresholds(scores, importance, 0.25).predicted_sparsity == 0.75


def test_a_neuron_inactive_for_no_sample_stays_active_at_its_least_score():
    scores = floats([[1.0, 1.0], [2.0, 2.0]])
    found = greedy_thresholds(scores, floats([[1.0, 9.0], [1.0, 9.0]]), 0.5)
    assert not (scores <= found.values)[:, 1].any()
    assert found.values[1] == np.nextafter(np.float32(1), np.float32(0))


def test_the_initial_cap_leaves_a_dead_neuron_on():
    scores, importance = floats(np.arange(20)[:, None]), np.zeros((20, 1), np.float32)
    assert greedy_thresholds(scores, importance, 0.1, initial_cap=0.5).predicted_sparsity == 0.5
    assert greedy_thresholds(scores, importance, 0.1).predicted_sparsity == 1


def test_at_the_limit_of_neurons_turned_off_calibration_spares_or_stops():
    """One cheap neuron of four goes altogether; a limit of none spares its last sample, and stopping ends there."""
    scores = floats(np.arange(8)[:, None] + np.zeros(4))
    importance = floats(np.arange(1, 9)[:, None] * [0.1, 1, 1, 1])
    free = greedy_thresholds(scores, importance, 0.5)
    assert (free.turned_off, free.predicted_sparsity) == (1, 0.5)
    spared = greedy_thresholds(scores, importance, 0.5, turned_off=0.0)
    assert (spared.turned_off, spared.predicted_sparsity) == (0, 0.5)
    stopped = greedy_thresholds(scores, importance, 0.5, turned_off=0.0, spare=False)
    assert (stopped.turned_off, stopped.predicted_sparsity) == (1, 0.25)


def test_a_neuron_that_matters_for_no_token_does_not_count_as_turned_off():
    scores = floats(np.arange(8)[:, None] + np.zeros(2))
    importance = floats(np.ones((8, 2)) * [0, 1])
    found = greedy_thresholds(scores, importance, 0.75, turned_off=0.0, spare=False)
    assert (found.turned_off, found.predicted_sparsity) == (0, 0.75)


# Optimality


def least_cost(scores: np.ndarray, importance: np.ndarray, needed: int) -> float:
    """Of all thresholds of all neurons."""
    tokens, neurons = scores.shape
    costs = np.zeros((tokens + 1, neurons))
    costs[1:] = np.take_along_axis(importance, scores.argsort(axis=0), axis=0).cumsum(axis=0, dtype=np.float64)
    counts = product(range(tokens + 1), repeat=neurons)
    return min(costs[list(each), range(neurons)].sum() for each in counts if sum(each) >= needed)


@settings(max_examples=60)
@given(data=st.data(), shape=st.tuples(st.integers(1, 6), st.integers(1, 3)), target=st.floats(0, 1))
def test_greedy_is_optimal_where_marginal_costs_ascend(data, shape, target):
    """Theorem A.15. Whole numbers, so that sums are exact."""
    scores = floats(data.draw(st.permutations(range(shape[0] * shape[1])))).reshape(shape)
    costs = np.sort(data.draw(arrays(np.int64, shape, elements=st.integers(0, 5))), axis=0)
    importance = floats(np.take_along_axis(costs, scores.argsort(axis=0).argsort(axis=0), axis=0))
    found = greedy_thresholds(scores, importance, target)
    assert lost(scores, importance, found.values) == least_cost(scores, importance, needed_samples(target, scores.size))


def test_greedy_is_not_optimal_where_they_do_not():
    """A first sample that costs 3 hides three that cost nothing; the other neuron's four cost 1 each."""
    scores = floats(np.arange(4)[:, None] + np.zeros(2))
    importance = floats([[3, 1], [0, 1], [0, 1], [0, 1]])
    found = greedy_thresholds(scores, importance, 0.5)
    assert lost(scores, importance, found.values) == 4
    assert least_cost(scores, importance, 4) == 3
    coarse = greedy_thresholds(scores, importance, 0.5, bins=1)  # larger steps see further
    assert lost(scores, importance, coarse.values) == 3
    assert monotonicity(scores, importance) < 0


def test_neurons_of_their_own_threshold_lose_less_than_one_for_all():
    scores, importance = random_layer(400, 30, seed=7)
    for target in (0.4, 0.6, 0.8):
        own = greedy_thresholds(scores, importance, target)
        shared = const_threshold(scores, target)
        assert predicted(scores, shared) == pytest.approx(own.predicted_sparsity, abs=1e-3)
        assert lost(scores, importance, own.values) < lost(scores, importance, shared)


def test_more_sparsity_never_costs_less():
    scores, importance = random_layer(200, 20, seed=3)
    found = [greedy_thresholds(scores, importance, target, bins=32) for target in np.linspace(0, 1, 21)]
    assert all(a.lost <= b.lost and (a.values <= b.values).all() for a, b in pairwise(found))


# One quantile


@given(data=st.data(), shape=SMALL, target=st.floats(0, 1))
def test_const_is_the_least_threshold_that_meets_the_target(data, shape, target):
    scores = data.draw(arrays(np.float32, shape, elements=st.floats(-4, 4, width=32)))
    threshold = const_threshold(scores, target)
    assert predicted(scores, threshold) >= target
    lower = scores[scores < threshold]
    assert not lower.size or predicted(scores, lower.max()) < target


@given(target=st.floats(0, 1), samples=st.integers(1, 10**9))
def test_the_needed_samples_are_the_least_that_reach_the_share(target, samples):
    needed = needed_samples(target, samples)
    assert needed / samples >= target
    assert needed == 0 or (needed - 1) / samples < target


# How nearly marginal costs ascend


@given(st.lists(st.integers(-3, 3), min_size=2, max_size=12))
def test_tau_is_that_of_its_definition(values):
    signs = [np.sign(b - a) for i, a in enumerate(values) for b in values[i + 1 :]]
    found = kendall_tau_b(np.array(values, float))
    if not any(signs):
        assert np.isnan(found)
    else:
        assert found == pytest.approx(sum(signs) / np.sqrt(len(signs) * np.count_nonzero(signs)))


def test_monotonicity_of_ascending_descending_and_equal_costs():
    scores = floats(np.arange(50)[:, None] + np.zeros(2))
    ascending = floats(np.arange(50)[:, None] * [1, 2])
    assert monotonicity(scores, ascending) == pytest.approx(1)
    assert monotonicity(-scores, ascending) == pytest.approx(-1)
    assert monotonicity(scores, np.ones_like(scores)) is None


# What cannot be


@pytest.mark.parametrize(
    ("scores", "importance", "target", "message"),
    [
        (np.zeros((0, 3)), np.zeros((0, 3)), 0.5, "at least one sample"),
        (np.zeros(3), np.zeros(3), 0.5, "expected \\[T, D\\]"),
        (np.zeros((2, 3)), np.zeros((2, 4)), 0.5, "importance \\[2, 4\\]"),
        ([[np.nan]], [[1.0]], 0.5, "scores that are not finite"),
        ([[1.0]], [[np.inf]], 0.5, "not finite"),
        ([[1.0]], [[-1.0]], 0.5, "negative"),
        ([[1.0]], [[1.0]], 1.5, "target 1.5"),
        ([[1.0]], [[1.0]], float("nan"), "target nan"),
    ],
)
def test_impossible_input_is_named(scores, importance, target, message):
    with pytest.raises(AccelSimError, match=message):
        greedy_thresholds(floats(scores), floats(importance), target)


def test_impossible_limits_are_named():
    for limits in ({"bins": 0}, {"initial_cap": 1.5}, {"turned_off": -0.1}):
        with pytest.raises(AccelSimError, match=next(iter(limits))):
            greedy_thresholds(floats([[1.0]]), floats([[1.0]]), 0.5, **limits)
