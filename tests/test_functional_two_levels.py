"""Two-level patterns: worked by hand, and where ties, zeros and ragged ends decide."""

import numpy as np
import pytest
from functional_inputs import OTHER_BACKENDS, TWO_LEVELS, require_backend

from accel_sim import Pattern
from accel_sim.encoding import row_bytes
from accel_sim.functional import compress, decompress, select, sparse_matmul
from accel_sim.functional.site_summary import summarize
from accel_sim.pattern import parse_pattern
from accel_sim.trace import Projection, Site
from accel_sim.trace.synthetic_trace import write_synthetic_trace

EVERYWHERE = pytest.mark.parametrize("name", ["numpy", *OTHER_BACKENDS])


def kept(x: list[int], text: str, name: str = "numpy") -> list[int]:
    """The features of one token that are kept."""
    mask = select(np.array([x], dtype=np.int8), text, backend=require_backend(name))
    return np.flatnonzero(mask[0]).tolist()


@EVERYWHERE
def test_worked_by_hand(name):
    # 1:2 of 2:4. Inner groups keep {-9, 8} and {7, 7}: sums 17 and 14, so the first one stays. Then {1, 0} and {0, -3}:
    # 1 and 3, so the second one stays.
    x = np.array([[1, -9, 8, 2, 7, 0, 7, 6, 1, 0, 0, 0, 0, 0, 0, -3]], dtype=np.int8)
    mask = select(x, "1:2 of 2:4", backend=require_backend(name))
    assert np.flatnonzero(mask).tolist() == [1, 2, 12, 15]
    stored = compress(x, mask, "1:2 of 2:4", "bitmap", backend=name)
    assert stored.values.tolist() == [[[-9, 8], [0, -3]]]
    # least-significant bit first: outer 01, inner 0110; outer 10, inner 1001
    assert stored.metadata.tolist() == [[0b10_0110_01, 0b1001]]
    # the inner group's index in one bit, then the slots' positions in two each: 0; 1, 2; 1; 0, 3
    assert compress(x, mask, "1:2 of 2:4", "index", backend=name).metadata.tolist() == [[0b00_1_10_01_0, 0b11]]
    # C(0, 1) = 0 in one bit, C(1, 1) + C(2, 2) = 2 in three; C(1, 1) = 1, then C(0, 1) + C(3, 2) = 3
    assert compress(x, mask, "1:2 of 2:4", "enumerative", backend=name).metadata.tolist() == [[0b011_1_010_0]]
    weights = np.arange(16, dtype=np.int8)[:, None]
    assert sparse_matmul(x, weights, "1:2 of 2:4", backend=name).item() == -9 * 1 + 8 * 2 - 3 * 15


@EVERYWHERE
def test_ties_go_to_the_lower_feature_and_to_the_lower_inner_group(name):
    assert kept([5, -5, 5, 5, 5, 5, 5, 5], "1:2 of 2:4", name) == [0, 1]
    assert kept([9, 1, 0, 0, 5, -5, 0, 0, 4, 6, 0, 0], "2:3 of 2:4", name) == [0, 1, 4, 5]  # all sums are 10


@EVERYWHERE
def test_only_what_an_inner_group_keeps_counts_for_it(name):
    assert kept([6, 6, 6, 6, 7, 7, 0, 0], "1:2 of 2:4", name) == [4, 5]  # 12 against 14, though 24 against 14 in all


@EVERYWHERE
def test_signs_do_not_cancel(name):
    assert kept([127, -127, 0, 0, 100, 100, 0, 0], "1:2 of 2:4", name) == [0, 1]


@EVERYWHERE
@pytest.mark.parametrize("text", TWO_LEVELS)
def test_sums_do_not_saturate(name, text):
    pattern = parse_pattern(text)
    x = np.full((1, pattern.m), -127, dtype=np.int8)
    x[0, 0] = -126  # the first inner group is the weakest by one, unless it can do without its first feature
    groups = np.flatnonzero(select(x, text, backend=require_backend(name))[0]) // pattern.inner.m
    weakest_is_out = pattern.outer.n < pattern.outer.m and pattern.inner.keeps_all
    assert sorted(set(groups.tolist())) == [i + weakest_is_out for i in range(pattern.outer.n)]


@EVERYWHERE
def test_all_zeros_keep_the_lowest(name):
    assert kept([0] * 16, "1:2 of 2:4", name) == [0, 1, 8, 9]


@EVERYWHERE
def test_padding_is_never_preferred(name):
    # the last outer group has one feature: its inner group wins against the one that is all padding, even as a zero
    assert kept([0] * 8 + [0], "1:2 of 2:4", name) == [0, 1, 8]
    # … but it has to be the strongest of the real ones
    assert kept([1, 1, 0, 0, 2], "1:2 of 2:4", name) == [0, 1]
    assert kept([1, 1, 0, 0, 3], "1:2 of 2:4", name) == [4]


@EVERYWHERE
def test_missing_inner_groups_are_filled_with_the_lowest_padding(name):
    x = np.array([[5]], dtype=np.int8)  # one feature; 2:4 of 2:4 has four slots, in two inner groups
    stored = compress(x, select(x, "2:4 of 2:4"), "2:4 of 2:4", backend=require_backend(name))
    assert stored.values.tolist() == [[[5, 0, 0, 0]]]
    assert stored.metadata.tolist() == [[0b0011_0011, 0b0011]]  # outer 0011, inner 0011 twice
    np.testing.assert_array_equal(decompress(stored, backend=name), x)


@EVERYWHERE
def test_a_mask_without_anything_is_filled_with_the_lowest(name):
    x = np.full((1, 8), 7, dtype=np.int8)
    stored = compress(x, np.zeros((1, 8), dtype=bool), "1:2 of 2:4", backend=require_backend(name))
    assert stored.values.tolist() == [[[0, 0]]] and stored.metadata.tolist() == [[0b0011_01]]


@EVERYWHERE
def test_an_inner_group_that_is_partly_padding_is_no_padding(name):
    x = np.full((1, 5), 7, dtype=np.int8)  # the second inner group has one feature
    stored = compress(x, np.zeros((1, 5), dtype=bool), "1:2 of 2:4", backend=require_backend(name))
    assert stored.metadata.tolist() == [[0b0011_01]]  # the first one, as if there were no padding
    stored = compress(x, np.array([[False] * 4 + [True]]), "1:2 of 2:4", backend=name)
    assert stored.values.tolist() == [[[7, 0]]] and stored.metadata.tolist() == [[0b0011_10]]


@EVERYWHERE
@pytest.mark.parametrize(
    ("two_levels", "one_level"), [("2:2 of 4:8", "4:8"), ("1:1 of 3:5", "3:5"), ("3:4 of 1:1", "3:4")]
)
def test_a_level_that_prunes_nothing_leaves_the_other(name, two_levels, one_level):
    x = np.random.default_rng(0).integers(-4, 5, (7, 83)).astype(np.int8)
    np.testing.assert_array_equal(select(x, two_levels, backend=require_backend(name)), select(x, one_level))


@EVERYWHERE
def test_weights_of_features_enter_the_sums(name):
    x = np.array([[1, 1, 0, 0, 2, 0, 0, 0]], dtype=np.int8)
    factors = np.array([1, 1, 1, 1, 1, 1, 1, 1], dtype=np.uint8)
    assert select(x, "1:2 of 2:4", factors=factors, backend=require_backend(name))[0, :2].all()
    factors[4] = 2
    assert select(x, "1:2 of 2:4", factors=factors, backend=name)[0, 4:6].all()


def test_metadata_bytes_are_what_the_pattern_promises():
    pattern = parse_pattern("3:4 of 8:16")
    x = np.random.default_rng(0).integers(-127, 128, (3, 640)).astype(np.int8)
    for encoding, bits in (("bitmap", 4 + 3 * 16), ("index", 3 * 2 + 3 * 32), ("enumerative", 2 + 3 * 14)):
        stored = compress(x, select(x, pattern), pattern, encoding)
        assert stored.metadata.shape == (3, row_bytes(10, pattern, encoding)) == (3, -(-10 * bits // 8))


def test_half_of_half_keeps_a_quarter():
    x = np.random.default_rng(0).integers(-127, 128, (5, 160)).astype(np.int8)
    assert select(x, "1:2 of 4:8").mean() == 0.25 == parse_pattern("1:2 of 4:8").density
    assert select(x, Pattern("4:16")).mean() == 0.25


def test_groups_that_a_trace_keeps_whole_are_those_that_lose_nothing(tmp_path):
    projections = (Projection(name="down.0", features=36, outputs=3),)
    site = Site(name="down", layer=0, features=36, tokens=9, projections=projections)
    trace = write_synthetic_trace(tmp_path / "t", [site])
    codes = trace.codes("down")
    for text in ("1:2 of 4:8", "2:2 of 4:8", "4:8"):
        pattern = parse_pattern(text)
        lost = np.pad(np.where(select(codes, text), 0, codes), ((0, 0), (0, -36 % pattern.m)))
        found = summarize(trace, "down", trace.sites, pattern)
        assert found.whole_groups == pytest.approx((lost.reshape(9, -1, pattern.m) == 0).all(axis=2).mean())
