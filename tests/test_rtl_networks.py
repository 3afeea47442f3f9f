"""Operand multiplexers route what the metadata say, and all kinds of top-N circuit keep the same elements."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="pip install 'accel_sim[rtl]'")

from amaranth.hdl import Module
from amaranth.lib import wiring
from rtl_gates import evaluate, proven_equal
from rtl_operands import assert_refused, require_simulator
from test_rtl_metadata import all_codes, all_positions

from accel_sim.pattern import ENCODINGS, HierarchicalPattern, Pattern
from accel_sim.rtl.metadata import MetadataDecoder
from accel_sim.rtl.metadata_port import MetadataPortComponent
from accel_sim.rtl.operand_select import OPERAND_MUXES, OperandSelect
from accel_sim.rtl.scores import FactoredMagnitudes, Magnitudes
from accel_sim.rtl.simulation import run
from accel_sim.rtl.sorting import selection_network, sorting_network
from accel_sim.rtl.top_n import TOP_N_KINDS, TopN

PATTERNS = ("1:4", "2:4", "3:4", "2:8", "4:8", "3:5", "5:7", "8:16")


class DecodedSelect(MetadataPortComponent):
    """A decoder and the multiplexers that it steers: metadata, window → selected."""

    def __init__(self, pattern, metadata, operand_mux, bits):
        self.decoder = MetadataDecoder(pattern, metadata, operand_mux)
        self.select = OperandSelect(pattern, operand_mux, bits)
        ports = {
            "window": self.select.signature.members["window"],
            "selected": self.select.signature.members["selected"],
        }
        super().__init__({"metadata": wiring.In(pattern.metadata_bits(metadata)), **ports})

    def elaborate(self, platform):
        m = Module()
        m.submodules += [self.decoder, self.select]
        m.d.comb += [
            self.decoder.metadata.eq(self.metadata),
            self.select.lines.eq(self.decoder.lines),
            self.select.window.eq(self.window),
            self.selected.eq(self.select.selected),
        ]
        return m


@pytest.mark.parametrize("operand_mux", OPERAND_MUXES)
@pytest.mark.parametrize("text", PATTERNS)
def test_every_mask_selects_the_operands_it_names(text, operand_mux):
    """All masks (8:16: some), operands drawn; each of the encodings in turn steers the multiplexers."""
    pattern, draw = Pattern(text), np.random.default_rng(3)
    masks = np.arange(len(all_positions(text)))
    masks = draw.choice(masks, 70, replace=False) if len(masks) > 70 else masks
    windows = draw.integers(-128, 128, (len(masks), pattern.m))
    wanted = np.take_along_axis(windows, all_positions(text)[masks], axis=1)
    for encoding in ENCODINGS:
        unit = DecodedSelect(pattern, encoding, operand_mux, 8)
        inputs = {"metadata": all_codes(text, encoding)[masks], "window": windows}
        np.testing.assert_array_equal(run(unit, inputs)["selected"], wanted, err_msg=encoding)


def test_words_may_be_wider_and_nothing_hot_selects_nothing():
    window = np.array([[2**39, -(2**39), 5, -5]] * 3)
    unit = OperandSelect(Pattern("2:4"), "onehot", bits=41)
    got = run(unit, {"window": window, "lines": np.array([[1, 1], [4, 4], [0, 0]])})["selected"]
    assert got.tolist() == [[2**39, -(2**39)], [5, -5], [0, 0]]


def reference_bitmaps(scores: np.ndarray, n: int) -> np.ndarray:
    """Bitmaps [cases] of the n highest of scores [cases, M], ties to the lower position."""
    best = np.argsort(-scores.astype(np.int64), axis=1, kind="stable")[:, :n]
    return (1 << best.astype(object)).sum(axis=1)


def adversarial_scores(bits: int, m: int) -> np.ndarray:
    """Scores [cases, M]: any, many ties, extremes only, neighbours, all equal, ascending, descending."""
    draw, top = np.random.default_rng(bits), 2**bits - 1
    ramp = np.linspace(0, top, m).round().astype(np.int64)
    return np.concatenate(
        [
            draw.integers(0, top + 1, (15, m)),
            draw.integers(0, 3, (15, m)),
            draw.choice([0, top], (15, m)),
            draw.integers(top // 2, top // 2 + 2, (10, m)),
            [np.zeros(m, dtype=int), np.full(m, top), ramp, ramp[::-1], np.arange(m), np.arange(m)[::-1]],
        ]
    )


@pytest.mark.parametrize("kind", TOP_N_KINDS)
@pytest.mark.parametrize("text", [*PATTERNS[:-1], "1:2", "1:1", "4:4"])
def test_every_kind_keeps_the_highest_and_of_ties_the_lower(text, kind):
    pattern = Pattern(text)
    for bits, pipelined in ((8, True), (16, False)):
        scores = adversarial_scores(bits, pattern.m)
        unit = TopN(pattern, kind, bits, pipelined)
        got = run(unit, {"scores": scores}, cycles=len(scores) + unit.latency)["bitmap"]
        assert got[unit.latency :].tolist() == reference_bitmaps(scores, pattern.n).tolist(), (bits, pipelined)


@pytest.mark.slow
@pytest.mark.parametrize("kind", TOP_N_KINDS)
@pytest.mark.parametrize("text", ["8:16", "4:16", "8:32", "16:32"])
def test_every_kind_of_large_groups(text, kind):
    test_every_kind_keeps_the_highest_and_of_ties_the_lower(text, kind)


@pytest.mark.parametrize("kind", TOP_N_KINDS)
def test_two_of_four_for_all_scores_of_three_bits(kind):
    scores = np.array(list(product(range(8), repeat=4)))
    packed = (scores << 3 * np.arange(4)).sum(axis=1)
    got = evaluate(TopN(Pattern("2:4"), kind, 3), {"scores": packed})["bitmap"]
    assert (got == reference_bitmaps(scores, 2)).all()


@pytest.mark.parametrize("kind", ["sort", "cascade", "radix"])
@pytest.mark.parametrize("text, bits", [("1:4", 8), ("2:4", 8), ("3:4", 8), ("2:4", 16)])
def test_kinds_are_proven_equal_for_all_scores(text, bits, kind):
    pattern = Pattern(text)
    assert proven_equal(TopN(pattern, "rank", bits), TopN(pattern, kind, bits))


def test_a_proof_can_fail():
    one, other = TopN(Pattern("2:4"), "rank"), TopN(Pattern("3:4"), "rank")
    assert not proven_equal(one, other)


@pytest.mark.parametrize("kind", TOP_N_KINDS)
def test_eight_of_sixteen_at_once(kind):
    scores = np.concatenate([adversarial_scores(8, 16), np.random.default_rng(5).integers(0, 256, (2000, 16))])
    packed = (scores.astype(object) << 8 * np.arange(16)).sum(axis=1)
    got = evaluate(TopN(Pattern("8:16"), kind), {"scores": packed})["bitmap"]
    assert (got == reference_bitmaps(scores, 8)).all()


@pytest.mark.slow
@pytest.mark.parametrize("kind, bits", [("sort", 3), ("cascade", 3), ("radix", 3), ("radix", 8)])
def test_kinds_are_proven_equal_for_four_of_eight(kind, bits):
    """Rank, sort and cascade only compare scores, and eight scores have at most eight different values: three bits say
    all there is to say about them. Radix looks at the bits, so it is proven for eight as well."""
    assert proven_equal(TopN(Pattern("4:8"), "rank", bits), TopN(Pattern("4:8"), kind, bits))


@pytest.mark.parametrize("n, m", [(1, 4), (2, 4), (3, 4), (2, 8), (4, 8), (3, 5), (5, 7), (6, 12), (4, 16)])
def test_selection_networks_separate_all_zeros_and_ones(n, m):
    """Right for every input of zeros and ones means right for every input; and no wire is used twice in a layer."""
    wires = np.array(list(product([False, True], repeat=m))).T
    for layer in selection_network(n, m):
        assert len({wire for pair in layer for wire in pair}) == 2 * len(layer)
        for low, high in layer:
            wires[low], wires[high] = wires[low] & wires[high], wires[low] | wires[high]
    others, kept = wires[: m - n], wires[m - n :]
    assert (others.any(axis=0) <= kept.all(axis=0)).all()


def test_networks_have_batchers_sizes():
    assert [sum(map(len, sorting_network(m))) for m in (2, 4, 8, 16, 32)] == [1, 5, 19, 63, 191]
    assert [sum(map(len, selection_network(m // 2, m))) for m in (4, 8, 16, 32)] == [4, 14, 46, 142]


def test_scores_of_every_code_and_factor():
    codes = np.arange(-127, 128)
    assert run(Magnitudes(1), {"values": codes[:, None]})["scores"][:, 0].tolist() == np.abs(codes).tolist()
    values, factors = (grid.ravel() for grid in np.meshgrid(codes, np.arange(256)))
    packed = {"values": values & 255, "factors": factors}
    assert (evaluate(FactoredMagnitudes(1), packed)["scores"] == np.abs(values) * factors).all()


@pytest.mark.parametrize("simulator", ["icarus", pytest.param("verilator", marks=pytest.mark.slow)])
def test_the_emitted_verilog_of_a_pipelined_circuit_keeps_the_same(simulator):
    pattern, scores = Pattern("4:8"), adversarial_scores(8, 8)
    for kind in TOP_N_KINDS:
        unit = TopN(pattern, kind, pipelined=True)
        cycles = len(scores) + unit.latency
        got = run(unit, {"scores": scores}, require_simulator(simulator), cycles)["bitmap"]
        assert got[unit.latency :].tolist() == reference_bitmaps(scores, 4).tolist()


def test_what_cannot_be_built_is_refused():
    assert_refused(lambda: OperandSelect(Pattern("2:4"), "crossbar"), "operand_mux 'crossbar'")
    assert_refused(lambda: OperandSelect(Pattern("2:4"), "full", bits=0), "bits: got 0")
    assert_refused(lambda: OperandSelect(HierarchicalPattern("1:2 of 2:4"), "full"), "one level")
    assert_refused(lambda: TopN(Pattern("2:4"), "bubble"), "kind 'bubble'")
    assert_refused(lambda: TopN(Pattern("2:4"), "rank", score_bits=0), "score_bits: got 0")
    assert_refused(lambda: Magnitudes(0), "count: got 0")
