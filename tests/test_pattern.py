"""N:M patterns: spelling, limits, and what their metadata cost."""

import pytest

from accel_sim import AccelSimError, Pattern


def test_spelling():
    pattern = Pattern(" 8:16 ")
    assert (pattern.n, pattern.m, str(pattern)) == (8, 16, "8:16")
    assert pattern == Pattern("8:16") and hash(pattern) == hash(Pattern("8:16"))


@pytest.mark.parametrize("text", ["", "8", "8/16", "8:16:32", "-2:4", "2.0:4", "0:4", "5:4", "33:65"])
def test_refused(text):
    with pytest.raises(AccelSimError, match="N"):
        Pattern(text)


def test_not_text():
    with pytest.raises(AccelSimError, match="expected N:M"):
        Pattern(8)


@pytest.mark.parametrize(
    ("text", "bitmap", "index", "enumerative"),
    [("2:4", 1, 1, 0.75), ("4:8", 1, 1.5, 0.875), ("8:16", 1, 2, 0.875), ("16:32", 1, 2.5, 0.9375)],
)
def test_bits_per_dense_element(text, bitmap, index, enumerative):
    pattern = Pattern(text)
    assert pattern.metadata_bits_per_element("bitmap") == bitmap
    assert pattern.metadata_bits_per_element("index") == index
    assert pattern.metadata_bits_per_element("enumerative") == enumerative


def test_unknown_encoding():
    with pytest.raises(AccelSimError, match="bitmap, index, enumerative"):
        Pattern("2:4").metadata_bits("huffman")


def test_groups_and_density():
    assert Pattern("8:16").groups(16) == 1
    assert Pattern("8:16").groups(17) == 2
    assert Pattern("3:4").density == 0.75
    assert Pattern("4:4").keeps_all and not Pattern("3:4").keeps_all
