"""Complete selectors return the reference's values, bitmaps and metadata, on made and on captured codes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="pip install 'accel_sim[rtl]'")

from rtl_gates import evaluate
from rtl_groups import adversarial_codes, factors_like, operand_inputs, padded_counts, reference_groups
from rtl_operands import assert_refused, real_operands, require_simulator

from accel_sim.pattern import ENCODINGS, HierarchicalPattern, Pattern
from accel_sim.rtl.selector import FlexibleSelector, Selector
from accel_sim.rtl.simulation import run
from accel_sim.rtl.top_n import TOP_N_KINDS

PATTERNS = ("1:4", "2:4", "3:4", "4:8", "3:5", "4:4")


def check_selector(unit: Selector, codes: np.ndarray, simulator: str = "amaranth") -> None:
    """Every output of the selector on groups [groups, M], every second one padded by some amount."""
    valid = padded_counts(len(codes), unit.pattern.m, seed=1)
    factors = factors_like(codes, unit.channel_factors, seed=2)
    inputs = operand_inputs(unit, codes, valid, factors)
    got = run(unit, inputs, simulator, cycles=len(codes) + unit.latency)
    for port, wanted in reference_groups(codes, factors, valid, unit.pattern, unit.encoding).items():
        if port in got:  # of N = M an enumerative code has no bits
            np.testing.assert_array_equal(got[port][unit.latency :], wanted, err_msg=port)


@pytest.mark.parametrize("kind", TOP_N_KINDS)
@pytest.mark.parametrize("text", PATTERNS)
def test_selectors_return_the_references_bits(text, kind):
    codes = adversarial_codes(8, Pattern(text).m, seed=4)
    for encoding, channel_factors, pipelined in (("bitmap", False, True), ("index", True, False)):
        check_selector(Selector(Pattern(text), kind, encoding, channel_factors, pipelined), codes)


def test_padding_of_zeros_needs_no_mask():
    for channel_factors in (False, True):
        unit = Selector(Pattern("4:8"), "rank", "bitmap", channel_factors, masked_padding=False)
        check_selector(unit, adversarial_codes(8, 8, seed=4))


def test_eight_of_sixteen_returns_the_references_bits():
    check_selector(Selector(Pattern("8:16"), "rank", "bitmap", True, True), adversarial_codes(8, 16, seed=5))


@pytest.mark.slow
@pytest.mark.parametrize("kind", TOP_N_KINDS)
@pytest.mark.parametrize("text", [*PATTERNS, "8:16", "1:1"])
def test_selectors_of_every_kind_and_encoding(text, kind):
    codes = adversarial_codes(20, Pattern(text).m, seed=6)
    for encoding, channel_factors, pipelined in product(ENCODINGS, (False, True), (False, True)):
        check_selector(Selector(Pattern(text), kind, encoding, channel_factors, pipelined), codes)


@pytest.mark.parametrize("kind", TOP_N_KINDS)
def test_two_of_four_for_all_magnitudes_of_three_bits(kind):
    """All magnitudes and all signs of 0 … 7, 50,625 groups: kept values, bitmap and code."""
    codes = np.array(list(product(range(-7, 8), repeat=4)))
    best = np.sort(np.argsort(-np.abs(codes), axis=1, kind="stable")[:, :2], axis=1)
    packed = ((codes & 255) << 8 * np.arange(4)).sum(axis=1)
    unit = Selector(Pattern("2:4"), kind, "enumerative")
    got = evaluate(unit, {"values": packed, "valid_count": np.full(len(codes), 4)})
    kept = np.take_along_axis(codes, best, axis=1) & 255
    assert (got["kept"] == kept[:, 0] + (kept[:, 1] << 8)).all()
    assert (got["bitmap"] == (1 << best).sum(axis=1)).all()
    assert (got["metadata"] == best[:, 0] + best[:, 1] * (best[:, 1] - 1) // 2).all()


@pytest.mark.parametrize("text", ["2:4", "8:16"])
def test_captured_codes_on_the_emitted_verilog(text):
    pattern = Pattern(text)
    codes = real_operands(4, 160, 1)[0].reshape(-1, pattern.m)
    check_selector(Selector(pattern, pipelined=True), codes, require_simulator("icarus"))


def test_a_group_without_real_elements_keeps_its_lowest_positions():
    got = run(Selector(Pattern("2:4")), {"values": np.zeros((1, 4), dtype=int), "valid_count": np.array([0])})
    assert got["bitmap"].tolist() == [0b0011]


FLEXIBLE = [
    ("2:4", "4:8", "8:16"),
    ("8:16", "2:4"),
    ("1:4", "3:12"),
    ("2:4", "3:6", "6:12"),  # neither of the smaller ones divides the other
]


@pytest.mark.parametrize("channel_factors, pipelined", [(False, True), (True, False)])
@pytest.mark.parametrize("texts", FLEXIBLE)
def test_a_flexible_selector_is_each_of_its_patterns_in_turn(texts, channel_factors, pipelined):
    check_flexible(texts, channel_factors, pipelined, windows=8)


@pytest.mark.slow
@pytest.mark.parametrize("channel_factors, pipelined", list(product((False, True), repeat=2)))
def test_sixteen_of_thirty_two_serves_all_smaller_ones(channel_factors, pipelined):
    check_flexible(("2:4", "4:8", "8:16", "16:32"), channel_factors, pipelined, windows=25)


def check_flexible(texts, channel_factors, pipelined, windows):
    """The mode changes from one window to the next at random."""
    patterns = [Pattern(text) for text in texts]
    unit = FlexibleSelector(patterns, channel_factors, pipelined)
    codes = adversarial_codes(windows, unit.pattern.m, seed=7)
    valid = padded_counts(len(codes), unit.pattern.m, seed=8)
    factors = factors_like(codes, channel_factors, seed=9)
    modes = np.random.default_rng(10).integers(0, len(patterns), len(codes))
    inputs = {"mode": modes} | operand_inputs(unit, codes, valid, factors)
    got = run(unit, inputs, cycles=len(codes) + unit.latency)
    for mode, pattern in enumerate(patterns):
        here = np.flatnonzero(modes == mode)
        groups = unit.pattern.m // pattern.m
        real = np.clip(valid[here, None] - pattern.m * np.arange(groups), 0, pattern.m).ravel()
        expected = reference_groups(
            codes[here].reshape(-1, pattern.m), factors[here].reshape(-1, pattern.m), real, pattern, "bitmap"
        )
        kept = expected["kept"].reshape(len(here), unit.pattern.n)
        bitmaps = (expected["bitmap"].reshape(len(here), groups) << pattern.m * np.arange(groups)).sum(axis=1)
        np.testing.assert_array_equal(got["kept"][unit.latency + here], kept, err_msg=str(pattern))
        np.testing.assert_array_equal(got["bitmap"][unit.latency + here], bitmaps, err_msg=str(pattern))


def test_what_cannot_be_built_is_refused():
    assert_refused(lambda: Selector(Pattern("2:4"), "bubble"), "kind 'bubble'")
    assert_refused(lambda: Selector(Pattern("2:4"), metadata="csr"), "metadata encoding 'csr'")
    assert_refused(lambda: Selector(HierarchicalPattern("1:2 of 2:4")), "one level")
    for texts in ((), ("2:4",), ("2:4", "2:4"), ("2:4", "2:8"), ("4:8", "6:12"), ("4:4", "8:8")):
        assert_refused(lambda texts=texts: FlexibleSelector([Pattern(text) for text in texts]), "of one density")
