"""Selection: the N highest scores of each group, ties to the lower feature, padding never preferred."""

import numpy as np
import pytest
from functional_inputs import OTHER_BACKENDS, all_codes, all_patterns, factors_for, require_backend, seeds
from hypothesis import given
from hypothesis import strategies as st

from accel_sim import AccelSimError, Pattern
from accel_sim.functional import hardware_factors, select
from accel_sim.pattern import HierarchicalPattern, parse_pattern


def select_by_sorting(x: np.ndarray, pattern: Pattern, factors: np.ndarray | None) -> np.ndarray:
    """The definition in plain Python integers: sort each group by (highest score, lowest feature)."""
    two_levels = isinstance(pattern, HierarchicalPattern)
    inner, outer = (pattern.inner, pattern.outer) if two_levels else (pattern, Pattern("1:1"))
    mask = np.zeros(x.shape, dtype=bool)
    for token, row in enumerate(x.tolist()):
        scores = [abs(q) * (1 if factors is None else int(factors[k])) for k, q in enumerate(row)]
        kept = [
            sorted(range(first, min(first + inner.m, len(row))), key=lambda k: (-scores[k], k))[: inner.n]
            for first in range(0, len(row), inner.m)
        ]
        for first in range(0, len(kept), outer.m):
            strongest = sorted(kept[first : first + outer.m], key=lambda group: -sum(scores[k] for k in group))
            for group in strongest[: outer.n]:  # sorted() is stable: ties stay in ascending order
                mask[token, group] = True
    return mask


@given(all_codes, all_patterns(), seeds)
def test_reference_is_the_definition(x, text, seed):
    factors = factors_for(x.shape[1], seed)
    np.testing.assert_array_equal(select(x, text, factors=factors), select_by_sorting(x, parse_pattern(text), factors))


@pytest.mark.parametrize("name", OTHER_BACKENDS)
@given(x=all_codes, text=all_patterns(), seed=seeds)
def test_backend_equals_reference(name, x, text, seed):
    factors = factors_for(x.shape[1], seed)
    expected = select(x, text, factors=factors)
    np.testing.assert_array_equal(select(x, text, factors=factors, backend=require_backend(name)), expected)


@pytest.mark.parametrize("name", OTHER_BACKENDS)
def test_backend_equals_reference_over_many_groups(name):
    x = (
        np.random.default_rng(0).normal(0, 20, (37, 2100)).astype(np.int8)
    )  # more groups than one block, and a ragged end
    for text in ("2:4", "8:16", "5:9", "16:32", "1:2 of 4:8", "3:4 of 8:16"):
        np.testing.assert_array_equal(select(x, text, backend=require_backend(name)), select(x, text))


def test_ties_go_to_the_lower_feature():
    x = np.array([[3, -3, 3, 3, 0, 0, 0, 0]], dtype=np.int8)
    assert select(x, "2:4").tolist() == [[True, True, False, False, True, True, False, False]]


def test_padding_is_never_preferred():
    x = np.array([[5, 4, 3, 2, 0, 0]], dtype=np.int8)  # the second group has two features
    assert select(x, "3:4")[0, 4:].tolist() == [True, True]
    assert select(x, "1:4")[0, 4:].tolist() == [True, False]


def test_factors_weigh_the_score():
    x = np.array([[10, 9, 1, 127]], dtype=np.int8)
    factors = np.array([1, 2, 255, 1], dtype=np.uint8)
    assert select(x, "2:4", factors=factors).tolist() == [[False, False, True, True]]


@given(st.lists(st.floats(0, 1e30), min_size=1, max_size=20))
def test_hardware_factors_use_the_whole_range(factors):
    made = hardware_factors(factors)
    assert made.dtype == np.uint8 and made.min() >= 1
    assert made[np.argmax(factors)] == (255 if max(factors) > 0 else 1)


def test_hardware_factors_round_half_to_even():
    assert hardware_factors([510, 1, 3, 5, 0]).tolist() == [255, 1, 2, 2, 1]  # 0.5, 1.5 and 2.5; the least is 1


def test_hardware_factors_of_any_size():
    ratios = np.array([1.0, 0.5, 3 / 255, 1 / 1024])
    for largest in (5e-324 * 2**10, 1e-300, 1.0, 1.7e308):
        assert hardware_factors(ratios * largest).tolist() == [255, 128, 3, 1]


@pytest.mark.parametrize("factors", [[1.0, np.nan], [1.0, -1.0], [np.inf, 1.0], [], [[1.0]]])
def test_hardware_factors_refused(factors):
    with pytest.raises(AccelSimError, match="factors"):
        hardware_factors(factors)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((2, 4), dtype=np.int16), "x: got int16"),
        (np.zeros(4, dtype=np.int8), "x: got int8"),
        (np.zeros((2, 0), dtype=np.int8), "x: got int8"),
        (np.array([[0, 1], [2, -128]], dtype=np.int8), "token 1, feature 1.* is -128"),
    ],
)
def test_activations_refused(x, message):
    with pytest.raises(AccelSimError, match=message):
        select(x, "2:4")


@pytest.mark.parametrize("factors", [np.ones(4), np.ones(3, dtype=np.uint8)])
def test_factors_refused(factors):
    with pytest.raises(AccelSimError, match=r"factors: got .* expected uint8 \[4\]"):
        select(np.zeros((1, 4), dtype=np.int8), "2:4", factors=factors)


def test_no_tokens():
    assert select(np.zeros((0, 9), dtype=np.int8), "2:4").shape == (0, 9)
