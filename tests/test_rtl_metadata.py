"""Decoders and encoders are `accel_sim.encoding` for every code word, and no selection is steered wrongly by one."""

from __future__ import annotations

from functools import cache
from itertools import combinations

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="pip install 'accel_sim[rtl]'")

from amaranth.hdl import Value
from rtl_gates import evaluate
from rtl_operands import assert_refused

from accel_sim.encoding import encode
from accel_sim.pattern import ENCODINGS, HierarchicalPattern, Pattern
from accel_sim.rtl.metadata import (
    BitmapToEnumerative,
    BitmapToIndex,
    BitmapToOffset,
    BitmapToOneHot,
    EnumerativeToBitmap,
    IndexToOffset,
    IndexToOneHot,
    MetadataDecoder,
    MetadataEncoder,
)
from accel_sim.rtl.operand_select import OPERAND_MUXES, lines_per_slot
from accel_sim.rtl.simulation import run

UP_TO_EIGHT = [f"{n}:{m}" for m in range(1, 9) for n in range(1, m + 1)]


@cache
def all_positions(text: str) -> np.ndarray:
    """Positions [C(M, N), N] of every mask of the pattern."""
    pattern = Pattern(text)
    return np.array(list(combinations(range(pattern.m), pattern.n)))


@cache
def all_codes(text: str, encoding: str) -> np.ndarray:
    """Metadata [C(M, N)] of every mask, as the reference encodes it."""
    positions = all_positions(text)
    packed = encode(positions[:, None], Pattern(text), encoding)
    return np.array([int.from_bytes(row.tobytes(), "little") for row in packed], dtype=object)


def expected_lines(text: str, operand_mux: str) -> np.ndarray:
    """Select lines [C(M, N)] of every mask, all slots as one number."""
    pattern, positions = Pattern(text), all_positions(text)
    offsets = positions - np.arange(pattern.n)
    lines = {"full": positions, "restricted": offsets, "onehot": 1 << offsets}[operand_mux].astype(object)
    return (lines << np.arange(pattern.n) * lines_per_slot(pattern, operand_mux)).sum(axis=1)


def output(unit, port: str, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """One output [cases], a vector as one number: simulated, or where that would take long evaluated as gates."""
    if len(next(iter(inputs.values()))) > 200:
        return evaluate(unit, inputs)[port]
    values = run(unit, inputs)[port].astype(object)
    width = Value.cast(getattr(unit, port)).shape().width
    return (
        values if values.ndim == 1 else (values << np.arange(values.shape[1]) * (width // values.shape[1])).sum(axis=1)
    )


def check_every_mask(text: str) -> None:
    pattern = Pattern(text)
    for encoding in ENCODINGS:
        codes = all_codes(text, encoding)
        if pattern.metadata_bits(encoding) == 0:
            continue
        for operand_mux in OPERAND_MUXES:
            if lines_per_slot(pattern, operand_mux):
                lines = output(MetadataDecoder(pattern, encoding, operand_mux), "lines", {"metadata": codes})
                assert (lines == expected_lines(text, operand_mux)).all(), (encoding, operand_mux)
        metadata = output(MetadataEncoder(pattern, encoding), "metadata", {"bitmap": all_codes(text, "bitmap")})
        assert (metadata == codes).all(), encoding


@pytest.mark.parametrize("text", ["1:4", "2:4", "3:4", "2:8", "4:8", "7:8", "3:5", "4:4", "8:16"])
def test_every_mask_decodes_and_encodes_as_the_reference_says(text):
    check_every_mask(text)


@pytest.mark.slow
@pytest.mark.parametrize("text", [*UP_TO_EIGHT, "4:16"])
def test_every_mask_of_every_small_pattern(text):
    check_every_mask(text)


@pytest.mark.slow
@pytest.mark.parametrize("text", ["8:32", "16:32", "31:64"])
def test_large_patterns_on_random_masks(text):
    pattern, draw = Pattern(text), np.random.default_rng(1)
    positions = np.sort(draw.permuted(np.tile(np.arange(pattern.m), (200, 1)), axis=1)[:, : pattern.n], axis=1)
    edges = [np.arange(pattern.n), np.arange(pattern.m - pattern.n, pattern.m)]
    positions = np.concatenate([positions, edges])
    codes = {}
    for encoding in ENCODINGS:
        packed = encode(positions[:, None], pattern, encoding)
        codes[encoding] = np.array([int.from_bytes(row.tobytes(), "little") for row in packed], dtype=object)
    lines = (positions.astype(object) << np.arange(pattern.n) * (pattern.m - 1).bit_length()).sum(axis=1)
    for encoding in ENCODINGS:
        assert (
            evaluate(MetadataDecoder(pattern, encoding, "full"), {"metadata": codes[encoding]})["lines"] == lines
        ).all()
        made = evaluate(MetadataEncoder(pattern, encoding), {"bitmap": codes["bitmap"]})["metadata"]
        assert (made == codes[encoding]).all()


def test_the_parts_have_the_ports_they_are_said_to_have():
    """Once through the simulator, vectors as vectors: everything else here looks at gates."""
    text, pattern = "2:4", Pattern("2:4")
    positions, bitmaps = all_positions(text), all_codes(text, "bitmap")
    offsets, ranks = positions - np.arange(2), all_codes(text, "enumerative")
    for part, name, given, port, wanted in (
        (BitmapToOneHot, "bitmap", bitmaps, "lines", 1 << offsets),
        (BitmapToOffset, "bitmap", bitmaps, "lines", offsets),
        (BitmapToIndex, "bitmap", bitmaps, "lines", positions),
        (BitmapToEnumerative, "bitmap", bitmaps, "code", ranks),
        (EnumerativeToBitmap, "code", ranks, "bitmap", bitmaps),
        (IndexToOneHot, "index", positions, "lines", 1 << offsets),
        (IndexToOffset, "index", positions, "lines", offsets),
    ):
        np.testing.assert_array_equal(run(part(pattern), {name: given})[port], wanted, err_msg=part.__name__)


def test_bitmaps_of_smaller_groups_decode_as_one_larger_bitmap():
    """Four groups of 2:4 side by side are a group of 8:16, so one decoder serves both."""
    draw = np.random.default_rng(2)
    small = all_positions("2:4")[draw.integers(0, 6, (100, 4))]
    positions = (small + 4 * np.arange(4)[:, None]).reshape(100, 8)
    bitmaps = (1 << positions).sum(axis=1)
    lines = run(BitmapToIndex(Pattern("8:16")), {"bitmap": bitmaps})["lines"]
    np.testing.assert_array_equal(lines, positions)


def test_what_cannot_be_built_is_refused():
    assert_refused(lambda: MetadataDecoder(Pattern("2:4"), "csr", "onehot"), "metadata encoding 'csr'")
    assert_refused(lambda: MetadataEncoder(Pattern("2:4"), "csr"), "metadata encoding 'csr'")
    assert_refused(lambda: MetadataDecoder(Pattern("2:4"), "bitmap", "crossbar"), "operand_mux 'crossbar'")
    assert_refused(lambda: BitmapToOneHot(HierarchicalPattern("1:2 of 2:4")), "one level")
