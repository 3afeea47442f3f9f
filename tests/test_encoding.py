"""The metadata codecs: every mask there and back, the packing to the bit, and what is no code word."""

from itertools import combinations, product
from math import comb

import numpy as np
import pytest

from accel_sim.encoding import decode, encode, row_bytes
from accel_sim.errors import AccelSimError
from accel_sim.pattern import ENCODINGS, Pattern, parse_pattern


def all_positions(pattern: Pattern) -> np.ndarray:
    """Every way to keep N of M, as one token row of C(M, N) groups: [1, C, N]."""
    return np.array(list(combinations(range(pattern.m), pattern.n)))[None]


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("text", ["2:4", "4:8", "8:16", "1:4", "3:4", "7:16", "4:4", "1:1"])
def test_every_mask_round_trips(text, encoding):
    pattern = Pattern(text)
    positions = all_positions(pattern)
    assert positions.shape[1] == comb(pattern.m, pattern.n)
    packed = encode(positions, pattern, encoding)
    assert packed.shape == (1, row_bytes(positions.shape[1], pattern, encoding))
    np.testing.assert_array_equal(decode(packed, positions.shape[1], pattern, encoding), positions)


@pytest.mark.parametrize("text", ["2:4", "4:8"])
def test_every_sequence_of_two_groups_round_trips(text):
    pattern = Pattern(text)
    single = all_positions(pattern)[0]
    pairs = np.stack([np.repeat(single, len(single), axis=0), np.tile(single, (len(single), 1))], axis=1)
    for encoding in ENCODINGS:
        np.testing.assert_array_equal(decode(encode(pairs, pattern, encoding), 2, pattern, encoding), pairs)


@pytest.mark.parametrize("text", ["2:4", "4:8", "8:16"])
def test_enumerative_ranks_are_exactly_0_to_count(text):
    pattern = Pattern(text)
    bits = pattern.metadata_bits("enumerative")
    rows = encode(all_positions(pattern).swapaxes(0, 1), pattern, "enumerative")  # one group a row: one rank a row
    ranks = sum(rows[:, byte].astype(int) << 8 * byte for byte in range(rows.shape[1]))
    assert sorted(ranks) == list(range(comb(pattern.m, pattern.n)))
    assert int(max(ranks)).bit_length() == bits


@pytest.mark.parametrize("text", ["16:32", "32:64", "31:64", "1:64", "64:64"])
def test_wide_groups_round_trip(text):
    pattern = Pattern(text)
    draw = np.random.default_rng(0)
    drawn = [np.sort(draw.permutation(pattern.m)[: pattern.n]) for _ in range(200)]
    lowest, highest = np.arange(pattern.n), np.arange(pattern.m - pattern.n, pattern.m)
    positions = np.array([lowest, highest, *drawn])[None]
    for encoding in ENCODINGS:
        packed = encode(positions, pattern, encoding)
        np.testing.assert_array_equal(decode(packed, positions.shape[1], pattern, encoding), positions)


def test_enumerative_extremes_of_16_32():
    pattern = Pattern("16:32")
    highest = np.arange(16, 32)[None, None]
    packed = encode(highest, pattern, "enumerative")
    assert int.from_bytes(packed[0].tobytes(), "little") == comb(32, 16) - 1


def test_packing_is_least_significant_bit_first():
    positions = np.array([[[0, 1], [1, 3]]])  # two groups of 2:4
    pattern = Pattern("2:4")
    assert encode(positions, pattern, "bitmap").tolist() == [[0b1010_0011]]
    assert encode(positions, pattern, "index").tolist() == [[0b11_01_01_00]]
    # C(0,1) + C(1,2) = 0, then C(1,1) + C(3,2) = 4, in three bits each
    assert encode(positions, pattern, "enumerative").tolist() == [[0b100_000]]


def test_each_token_row_starts_on_a_byte():
    positions = np.array([[[2, 3]], [[0, 2]]])  # one group of 2:4 in each of two rows: four bits, then padding
    assert encode(positions, Pattern("2:4"), "bitmap").tolist() == [[0b1100], [0b0101]]


@pytest.mark.parametrize(
    ("encoding", "metadata"),
    [
        ("bitmap", [[0b0111]]),  # three ones
        ("bitmap", [[0b0001]]),
        ("index", [[0b01_01]]),  # twice the same
        ("index", [[0b00_01]]),  # descending
        ("enumerative", [[6]]),  # ranks of 2:4 end at 5
    ],
)
def test_no_code_word(encoding, metadata):
    with pytest.raises(AccelSimError, match="token 0, group 0 is no code word of 2:4"):
        decode(np.array(metadata, dtype=np.uint8), 1, Pattern("2:4"), encoding)


def test_unknown_encoding():
    with pytest.raises(AccelSimError, match="expected one of bitmap"):
        encode(np.array([[[0, 1]]]), Pattern("2:4"), "huffman")


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("text", ["1:2 of 2:4", "2:4 of 1:2", "2:3 of 3:5", "1:1 of 2:4", "2:2 of 4:4", "3:3 of 1:1"])
def test_every_mask_of_two_levels_round_trips(text, encoding):
    pattern = parse_pattern(text)
    within = list(combinations(range(pattern.inner.m), pattern.inner.n))
    groups = [
        [group * pattern.inner.m + p for group, kept in zip(chosen, inner, strict=True) for p in kept]
        for chosen in combinations(range(pattern.outer.m), pattern.outer.n)
        for inner in product(within, repeat=pattern.outer.n)
    ]
    positions = np.array(groups)[None]
    packed = encode(positions, pattern, encoding)
    assert packed.shape == (1, row_bytes(len(groups), pattern, encoding))
    np.testing.assert_array_equal(decode(packed, len(groups), pattern, encoding), positions)


def test_the_outer_field_comes_before_the_inner_ones():
    positions = np.array([[[4, 7, 8, 9]]])  # 2:4 of 2:4: inner groups 1 and 2, in them 0, 3 and 0, 1
    pattern = parse_pattern("2:4 of 2:4")
    assert encode(positions, pattern, "bitmap").tolist() == [[0b1001_0110, 0b0011]]
    assert encode(positions, pattern, "index").tolist() == [[0b11_00_10_01, 0b01_00]]
    # C(1, 1) + C(2, 2) = 2, C(0, 1) + C(3, 2) = 3, C(0, 1) + C(1, 2) = 0, in three bits each
    assert encode(positions, pattern, "enumerative").tolist() == [[0b011_010, 0]]


@pytest.mark.parametrize(
    ("encoding", "metadata"),
    [
        ("bitmap", [0b0011_0111, 0b0011]),  # three inner groups
        ("bitmap", [0b0011_0011, 0b0001]),  # one feature in the second one
        ("index", [0b01_00_01_01, 0b01_00]),  # the same inner group twice
        ("enumerative", [0b000_110, 0]),  # ranks of 2:4 end at 5
    ],
)
def test_no_code_word_at_either_level(encoding, metadata):
    with pytest.raises(AccelSimError, match="token 0, group 0 is no code word of 2:4 of 2:4"):
        decode(np.array([metadata], dtype=np.uint8), 1, parse_pattern("2:4 of 2:4"), encoding)
