"""Activations drawn from a stated distribution."""

import numpy as np
import pytest

from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern
from accel_sim.trace.synthetic import (
    DISTRIBUTIONS,
    HeavyTailed,
    distribution_named,
    draw_site,
    pruning_errors,
)

PATTERNS = ("2:4", "4:8", "8:16", "16:32")


def pruning_error(x: np.ndarray, pattern: str) -> float:
    lost, energy = pruning_errors(x, Pattern(pattern)).sum(axis=0)
    return lost / energy


# Monte-Carlo values for independent draws; N:M keeps the N largest of M by magnitude, on floats.
@pytest.mark.parametrize(
    ("name", "expected"),
    [("gaussian", (0.132, 0.103, 0.088, 0.079)), ("laplace", (0.080, 0.056, 0.045, 0.039))],
)
def test_pruning_errors_of_the_named_distributions_are_the_known_ones(name, expected):
    x = draw_site(DISTRIBUTIONS[name], "site", rows=1000, features=4096, seed=7)
    for pattern, error in zip(PATTERNS, expected, strict=True):
        assert pruning_error(x, pattern) == pytest.approx(error, abs=0.001)


def test_pruning_error_of_one_uniform_pair_is_its_closed_form():
    # |x| uniform on 0 … 1: of two, the smaller has E[min²] = 1/6 and both together 2/3, so 1:2 loses a quarter.
    x = np.random.default_rng(0).random((1000, 2000))
    assert pruning_error(x, "1:2") == pytest.approx(0.25, abs=0.001)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
def test_larger_groups_lose_less(name):
    x = draw_site(DISTRIBUTIONS[name], "site", rows=64, features=1024)
    errors = [pruning_error(x, pattern) for pattern in PATTERNS]
    assert errors == sorted(errors, reverse=True)


def test_nothing_is_lost_when_all_are_kept():
    x = draw_site(DISTRIBUTIONS["gaussian"], "site", rows=3, features=50)
    assert pruning_errors(x, Pattern("8:8"))[:, 0].tolist() == [0, 0, 0]


def test_padding_is_pruned_before_any_real_element():
    x = np.array([[3.0, 1.0, 2.0, 5.0, 4.0, 7.0]])  # the second group holds two elements and two paddings
    assert pruning_errors(x, Pattern("2:4")).tolist() == [[1 + 4, 9 + 1 + 4 + 25 + 16 + 49]]


def test_a_draw_depends_on_seed_and_site_and_on_nothing_else():
    gaussian = DISTRIBUTIONS["gaussian"]
    first = draw_site(gaussian, "a", 4, 8, seed=1)
    draw_site(gaussian, "b", 100, 8, seed=1)
    assert np.array_equal(first, draw_site(gaussian, "a", 4, 8, seed=1))
    assert not np.array_equal(first, draw_site(gaussian, "b", 4, 8, seed=1))
    assert not np.array_equal(first, draw_site(gaussian, "a", 4, 8, seed=2))


def test_outlier_channels_are_the_same_in_every_token():
    x = draw_site(HeavyTailed(outlier_share=0.01, outlier_scale=100.0), "site", rows=500, features=400)
    typical = np.median(np.abs(x), axis=0)
    assert (typical > 20 * np.median(typical)).sum() == 4


def test_a_narrow_site_still_has_an_outlier_channel():
    assert HeavyTailed().outlier_channels(64) == 1
    assert HeavyTailed(outlier_share=0).outlier_channels(64) == 0


def test_an_unknown_distribution_is_refused_with_the_known_ones():
    with pytest.raises(AccelSimError, match=r"'cauchy': expected one of gaussian, laplace, heavy_tailed"):
        distribution_named("cauchy")


@pytest.mark.parametrize("wrong", [{"degrees_of_freedom": 2}, {"outlier_share": 1.5}, {"outlier_scale": 0.5}])
def test_a_parameter_out_of_range_is_refused_by_name(wrong):
    with pytest.raises(AccelSimError, match=next(iter(wrong))):
        HeavyTailed(**wrong)
