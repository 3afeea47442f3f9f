"""Decoder blocks chosen by a short text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel_sim.errors import AccelSimError
from accel_sim.trace.layers import ranges, select_layers


def test_layers_are_named_by_indices_and_ranges():
    assert select_layers("0-2,7,2-3", range(8)) == (0, 1, 2, 3, 7)


def test_without_a_text_all_that_are_there():
    assert select_layers(None, [15, 0, 29]) == (0, 15, 29)


@given(st.sets(st.integers(0, 60), min_size=1))
def test_ranges_are_read_back(layers):
    assert select_layers(ranges(layers), range(61)) == tuple(sorted(layers))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected indices and ranges such as 0-5,29"),
        ("a-b", "--layers a-b: expected indices and ranges"),
        ("1,", "expected indices and ranges"),
        ("-1", "expected indices and ranges"),
        ("5-3", "--layers 5-3: a range goes from its lower to its higher end"),
        ("0,3", "--layers 3: no layer 3; there are 0-1,5"),
        ("0-999999999", "--layers 0-999999999: no layer 2"),  # without listing a billion layers first
        ("9" * 30, "expected indices and ranges"),
    ],
)
def test_what_names_no_layers(text, says):
    with pytest.raises(AccelSimError) as caught:
        select_layers(text, [0, 1, 5])
    assert says in str(caught.value)
