"""Statistics of a site, against counting by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from accel_sim import shipped
from accel_sim.errors import AccelSimError
from accel_sim.trace import Trace
from accel_sim.trace.statistics import kept_overlap, site_statistics, trace_statistics

CODES = arrays(np.int8, array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(-127, 127))


@given(CODES)
def test_magnitudes_count_every_code_once(codes):
    found = site_statistics(codes)
    expected = [int((np.abs(codes.astype(int)) == value).sum()) for value in range(128)]
    assert found.magnitudes.tolist() == expected
    assert found.zero_fraction == pytest.approx((codes == 0).mean())
    assert found.zero_fraction_per_token == pytest.approx((codes == 0).mean(axis=1))


@given(CODES, st.integers(1, 33))
def test_groups_are_aligned_and_the_last_one_may_be_short(codes, group):
    counts = [0] * (group + 1)
    for row in codes:
        for start in range(0, len(row), group):
            counts[int(np.count_nonzero(row[start : start + group]))] += 1
    assert site_statistics(codes, (group,)).group_nonzeros[group].tolist() == counts


def test_groups_that_a_pattern_leaves_whole():
    found = site_statistics(np.array([[1, 0, 0, 2, 1, 1, 1, 0]], np.int8), (4,))
    assert found.groups_within(2, 4) == 0.5 and found.groups_within(3, 4) == 1.0 and found.groups_within(1, 4) == 0.0


def test_nothing_to_count_is_an_error():
    with pytest.raises(AccelSimError, match="nothing to count"):
        site_statistics(np.zeros((0, 4), np.int8))


def test_overlap_is_the_mean_jaccard_index_of_neighbours():
    mask = np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]], bool)
    assert kept_overlap(mask) == pytest.approx((1 + 1 / 3 + 0 + 1) / 4)


@given(arrays(bool, (6, 19)))
def test_overlap_agrees_with_sets(mask):
    kept = [set(np.flatnonzero(row)) for row in mask]
    pairs = list(pairwise(kept))
    expected = [len(a & b) / len(a | b) if a | b else 1.0 for a, b in pairs]
    assert kept_overlap(mask) == pytest.approx(np.mean(expected))


def test_tokens_of_different_sequences_are_no_neighbours():
    mask = np.array([[1, 0], [1, 0], [0, 1]], bool)
    assert kept_overlap(mask, np.array([0, 0, 1])) == 1.0
    with pytest.raises(AccelSimError, match="no neighbours"):
        kept_overlap(mask, np.array([0, 1, 2]))


def test_the_shipped_trace_has_the_zeros_that_quantisation_makes():
    """Measured shares of zeros in SmolLM2: some percent, and nearly half at the input of the last down_proj."""
    found = trace_statistics(Trace.open(shipped.folder("traces") / "smollm2-135m"))
    assert 0.01 < found["layers.15.self_attn.o_proj"].zero_fraction < 0.1
    assert 0.3 < found["layers.29.mlp.down_proj"].zero_fraction < 0.6
