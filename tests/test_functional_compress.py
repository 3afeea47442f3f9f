"""Compression: exactly N slots a group, packed metadata, and back."""

import numpy as np
import pytest
from functional_inputs import OTHER_BACKENDS, all_codes, all_patterns, require_backend, seeds
from hypothesis import given
from hypothesis import strategies as st

from accel_sim import AccelSimError, Pattern
from accel_sim.functional import Compressed, compress, decompress, select
from accel_sim.pattern import ENCODINGS, parse_pattern

encodings = st.sampled_from(ENCODINGS)


@given(all_codes, all_patterns(), encodings)
def test_round_trip_keeps_what_was_selected(x, text, encoding):
    mask = select(x, text)
    compressed = compress(x, mask, text, encoding)
    pattern = parse_pattern(text)
    assert compressed.values.shape == (x.shape[0], pattern.groups(x.shape[1]), pattern.n)
    np.testing.assert_array_equal(decompress(compressed), np.where(mask, x, 0))


@pytest.mark.parametrize("name", OTHER_BACKENDS)
@given(x=all_codes, text=all_patterns(), encoding=encodings, seed=seeds)
def test_backend_equals_reference(name, x, text, encoding, seed):
    mask = select(x, text)
    if seed % 2:
        mask &= np.random.default_rng(seed).random(x.shape) < 0.7  # fewer than N kept
    expected = compress(x, mask, text, encoding)
    got = compress(x, mask, text, encoding, backend=require_backend(name))
    np.testing.assert_array_equal(got.values, expected.values)
    np.testing.assert_array_equal(got.metadata, expected.metadata)
    np.testing.assert_array_equal(decompress(got, backend=name), np.where(mask, x, 0))


def test_kept_values_stay_in_ascending_feature_order():
    x = np.array([[1, -9, 8, 2, 0, 7, 0, 3]], dtype=np.int8)
    compressed = compress(x, select(x, "2:4"), "2:4", "index")
    assert compressed.values.tolist() == [[[-9, 8], [7, 3]]]
    assert compressed.metadata.tolist() == [[0b11_01_10_01]]


def test_missing_slots_take_the_lowest_padding():
    x = np.array([[4, 3, 2, 1, 9]], dtype=np.int8)  # the second group: one feature and three of padding
    compressed = compress(x, select(x, "3:4"), "3:4")
    assert compressed.values.tolist() == [[[4, 3, 2], [9, 0, 0]]]
    assert compressed.metadata.tolist() == [[0b0111_0111]]


def test_a_mask_that_keeps_fewer_fills_up_with_zeros():
    x = np.array([[4, 3, 2, 1]], dtype=np.int8)
    compressed = compress(x, np.array([[False, False, True, False]]), "2:4")
    assert compressed.values.tolist() == [[[0, 2]]]
    assert compressed.metadata.tolist() == [[0b0101]]


def test_a_mask_that_keeps_more_is_refused():
    mask = np.array([[True, True, False, False], [True, True, True, False]])
    with pytest.raises(AccelSimError, match="mask keeps 3 of token 1, group 0: 2:4 has 2 slots"):
        compress(np.zeros((2, 4), dtype=np.int8), mask, "2:4")


def test_a_mask_of_two_levels_that_keeps_more_is_refused():
    x = np.zeros((2, 8), dtype=np.int8)
    mask = np.array([[True, True, False, False, False, False, False, False], [False] * 5 + [True] * 3])
    with pytest.raises(AccelSimError, match="mask keeps 3 of token 1, inner group 1: 1:2 of 2:4 has 2 slots"):
        compress(x, mask, "1:2 of 2:4")
    mask[1, :6] = [True, False, False, False, False, False]
    with pytest.raises(AccelSimError, match="mask keeps 2 inner groups of token 1, group 0: 1:2 of 2:4 has 1 slots"):
        compress(x, mask, "1:2 of 2:4")


@pytest.mark.parametrize("mask", [np.ones((1, 4), dtype=np.uint8), np.ones((1, 3), dtype=bool)])
def test_masks_refused(mask):
    with pytest.raises(AccelSimError, match="mask"):
        compress(np.zeros((1, 4), dtype=np.int8), mask, "4:4")


@pytest.mark.parametrize("name", ["numpy", *OTHER_BACKENDS])
@pytest.mark.parametrize(("encoding", "byte"), [("bitmap", 0b0111), ("index", 0b01_01), ("enumerative", 6)])
def test_damaged_metadata_is_refused(name, encoding, byte):
    x = np.array([[4, 3, 2, 1], [4, 3, 2, 1]], dtype=np.int8)
    compressed = compress(x, select(x, "2:4"), "2:4", encoding)
    compressed.metadata[1, 0] = byte
    with pytest.raises(AccelSimError, match=f"{encoding} metadata of token 1, group 0 is no code word"):
        decompress(compressed, backend=require_backend(name))


@pytest.mark.parametrize("name", ["numpy", *OTHER_BACKENDS])
@pytest.mark.parametrize(
    ("encoding", "byte"),
    [
        ("bitmap", 0b0011_11),  # both inner groups
        ("bitmap", 0b0111_10),  # three features of the upper one
        ("index", 0b00_01_1),
        ("enumerative", 0b110_0),
    ],
)
def test_damaged_metadata_of_either_level_is_refused(name, encoding, byte):
    x = np.array([[4, 3, 2, 1, 0, 0, 0, 0], [4, 3, 2, 1, 0, 0, 0, 0]], dtype=np.int8)
    compressed = compress(x, select(x, "1:2 of 2:4"), "1:2 of 2:4", encoding)
    compressed.metadata[1, 0] = byte
    with pytest.raises(AccelSimError, match=f"{encoding} metadata of token 1, group 0 is no code word of 1:2 of 2:4"):
        decompress(compressed, backend=require_backend(name))


def test_parts_that_do_not_fit_together_are_refused():
    values, metadata = np.zeros((1, 2, 2), dtype=np.int8), np.zeros((1, 1), dtype=np.uint8)
    Compressed(values, metadata, (1, 8), Pattern("2:4"), "bitmap")
    with pytest.raises(AccelSimError, match="compressed values: got int8"):
        Compressed(values, metadata, (1, 9), Pattern("2:4"), "bitmap")


def test_bytes_are_what_the_encoding_promises():
    x = np.random.default_rng(0).integers(-127, 128, (3, 64)).astype(np.int8)
    for encoding in ENCODINGS:
        compressed = compress(x, select(x, "8:16"), "8:16", encoding)
        assert compressed.metadata.nbytes * 8 == 3 * 64 * Pattern("8:16").metadata_bits_per_element(encoding)
        assert compressed.nbytes == 3 * 32 + compressed.metadata.nbytes
