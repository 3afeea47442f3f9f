"""Elastic front ends, cycle by cycle against the occupancy model, and two-level selectors against the reference."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="pip install 'accel_sim[rtl]'")

from amaranth.hdl import Module
from amaranth.sim import Simulator
from rtl_groups import adversarial_codes, factors_like, operand_inputs, padded_counts, reference_groups
from rtl_operands import assert_refused

from accel_sim.functional.backends import backend
from accel_sim.functional.numpy_backend import slots
from accel_sim.occupancy import elastic_windows
from accel_sim.pattern import ENCODINGS, HierarchicalPattern, Pattern
from accel_sim.rtl.simulation import run
from accel_sim.rtl.skipping import ElasticFrontEnd, HierarchicalSelector
from accel_sim.rtl.top_n import TOP_N_KINDS

TWO_LEVELS = ("1:2 of 4:8", "2:4 of 2:4", "1:4 of 2:4", "2:3 of 3:5", "2:2 of 4:8", "1:2 of 8:8", "1:1 of 2:4")


class Panel:
    """Codes int8 [rows, K] on one front end a row, which are released when all of them are done.

    After `run`: the cycles of each window, and the products (row, window, group, position, value) that came out.
    `stalls(cycle)` says when no input has anything to offer.
    """

    def __init__(self, codes, pattern, lanes, elastic_lanes, sync_window, stalls=lambda cycle: False):
        self.pattern, self.sync_window, self.stalls = pattern, sync_window, stalls
        self.values, positions = slots(codes, kept_mask(codes, pattern), pattern)
        self.bitmaps = np.bitwise_or.reduce(1 << positions, axis=2)
        self.rows, self.groups = self.bitmaps.shape
        self.fronts = [ElasticFrontEnd(pattern, lanes, elastic_lanes, sync_window) for _ in range(self.rows)]
        self.slices, self.picks = self.fronts[0].slices, self.fronts[0].picks
        self.window_cycles: list[int] = []
        self.products: set[tuple[int, int, int, int, int]] = set()

    def run(self) -> Panel:
        top = Module()
        top.submodules += self.fronts
        simulation = Simulator(top)
        simulation.add_clock(1e-6)
        simulation.add_testbench(self._bench)
        simulation.run()
        return self

    async def _bench(self, context) -> None:
        window, opened, cycle = -1, 0, 0
        given = np.zeros((self.rows, self.slices), dtype=int)
        while True:
            release = all(context.get(front.done) for front in self.fronts)
            self._collect(context, window)  # what comes out now was taken before the release
            if release:
                self.window_cycles.append(cycle - opened)
                window, opened = window + 1, cycle
                given[:] = 0
            first = window * self.sync_window
            if first >= self.groups:
                del self.window_cycles[0]  # before the first window
                return
            self._offer(context, first, given, release, self.stalls(cycle))
            for row, front in enumerate(self.fronts):
                given[row] += [context.get(front.ready[s]) & context.get(front.valid[s]) for s in range(self.slices)]
            await context.tick()
            cycle += 1
            assert cycle < 100 * self.groups, "the window never ends"

    def _offer(self, context, first, given, release, stalled) -> None:
        in_window = min(self.sync_window, self.groups - first)
        for row, front in enumerate(self.fronts):
            context.set(front.release, release)
            context.set(front.window_groups, in_window)
            for part in range(self.slices):
                group = int(given[row, part]) * self.slices + part
                context.set(front.valid[part], group < in_window and not stalled)
                if group < in_window:
                    if not self.pattern.keeps_all:
                        context.set(front.metadata[part], int(self.bitmaps[row, first + group]))
                    for slot in range(self.pattern.n):
                        value = int(self.values[row, first + group, slot])
                        context.set(front.kept[part * self.pattern.n + slot], value)

    def _collect(self, context, window) -> None:
        for row, front in enumerate(self.fronts):
            for lane in range(self.slices * self.picks):
                value, part = context.get(front.values[lane]), lane // self.picks
                if not context.get(front.active[lane]):
                    assert value == 0
                    continue
                group = window * self.sync_window + context.get(front.groups[part]) * self.slices + part
                product = (row, window, group, context.get(front.positions[lane]), value)
                assert product not in self.products
                self.products.add(product)


def kept_mask(codes: np.ndarray, pattern: Pattern) -> np.ndarray:
    return backend("numpy").select(codes, pattern, np.ones(codes.shape[1], dtype=np.uint8))


def sparse_codes(rows: int, features: int, zeros: float, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    codes = draw.integers(-127, 128, (rows, features))
    return np.where(draw.random((rows, features)) < zeros, 0, codes).astype(np.int8)


ELASTIC = [
    # pattern, lanes, elastic_lanes, sync_window, features
    ("2:4", 2, 1, 4, 40),
    ("2:4", 4, 2, 4, 36),
    ("2:4", 3, 1, 4, 60),  # slices do not divide the window
    ("2:4", 4, 1, 2, 20),  # two slices never have work
    ("4:8", 4, 2, 4, 100),  # short last window, and a padded group
    ("4:8", 6, 3, 3, 64),
    ("4:8", 4, 4, 2, 64),
    ("4:8", 8, 8, 3, 64),  # more lanes than slots
    ("8:16", 4, 1, 8, 160),
    ("4:4", 4, 2, 4, 48),  # N = M: every non-zero is kept
    ("1:4", 2, 1, 1, 24),
]


@pytest.mark.parametrize("zeros", [0.3, 0.9])
@pytest.mark.parametrize("text, lanes, elastic_lanes, sync_window, features", ELASTIC)
def test_elastic_windows_take_the_cycles_of_the_occupancy_model(
    text, lanes, elastic_lanes, sync_window, features, zeros
):
    pattern, rows = Pattern(text), 2
    codes = sparse_codes(rows, features, zeros, seed=features + lanes)
    expected = elastic_windows(
        codes, pattern, rows=rows, slices=lanes // elastic_lanes, elastic_lanes=elastic_lanes, sync_window=sync_window
    )
    dealt = Panel(codes, pattern, lanes, elastic_lanes, sync_window).run()
    assert dealt.window_cycles == expected.cycles[0].tolist()
    assert dealt.products == kept_products(codes, pattern, sync_window)
    assert len(dealt.products) == expected.nonzeros.sum()


def test_an_input_that_stalls_delays_a_window_and_loses_nothing():
    pattern = Pattern("4:8")
    codes = sparse_codes(2, 128, 0.5, seed=3)
    freely = Panel(codes, pattern, 4, 2, 4).run()
    stalled = Panel(codes, pattern, 4, 2, 4, stalls=lambda cycle: cycle % 3 > 0).run()
    assert stalled.products == freely.products == kept_products(codes, pattern, 4)
    assert sum(stalled.window_cycles) > sum(freely.window_cycles)


def kept_products(codes: np.ndarray, pattern: Pattern, sync_window: int) -> set[tuple[int, int, int, int, int]]:
    kept = kept_mask(codes, pattern) & (codes != 0)
    return {
        (
            int(row),
            int(feature) // pattern.m // sync_window,
            int(feature) // pattern.m,
            int(feature) % pattern.m,
            int(codes[row, feature]),
        )
        for row, feature in np.argwhere(kept)
    }


@pytest.mark.parametrize("lanes, elastic_lanes, sync_window", [(4, 3, 2), (0, 1, 1), (4, 0, 1), (4, 1, 0)])
def test_a_front_end_that_cannot_be_is_refused(lanes, elastic_lanes, sync_window):
    assert_refused(
        lambda: ElasticFrontEnd(Pattern("2:4"), lanes, elastic_lanes, sync_window), "multiple of elastic_lanes"
    )


@pytest.mark.parametrize("channel_factors", [False, True])
@pytest.mark.parametrize("text", TWO_LEVELS)
def test_two_level_selectors_return_the_references_bits(text, channel_factors):
    for pipelined, encoding in ((False, "index"), (True, "bitmap")):
        check_two_levels(HierarchicalPattern(text), "rank", encoding, channel_factors, pipelined)


@pytest.mark.parametrize("kind", ["sort", "cascade", "radix"])
def test_two_level_selectors_of_other_kinds(kind):
    check_two_levels(HierarchicalPattern("2:4 of 2:4"), kind, "enumerative", True, True)


@pytest.mark.slow
@pytest.mark.parametrize("text", [*TWO_LEVELS, "3:4 of 8:16"])
def test_two_level_selectors_of_every_kind_and_encoding(text):
    for kind, encoding, pipelined in product(TOP_N_KINDS, ENCODINGS, (False, True)):
        check_two_levels(HierarchicalPattern(text), kind, encoding, True, pipelined)


def check_two_levels(pattern, kind, encoding, channel_factors, pipelined):
    codes = adversarial_codes(6, pattern.m, seed=pattern.m)
    valid = padded_counts(len(codes), pattern.m, seed=1)
    factors = factors_like(codes, channel_factors, seed=2)
    unit = HierarchicalSelector(pattern, kind, encoding, channel_factors, pipelined)
    inputs = operand_inputs(unit, codes, valid, factors)
    got = run(unit, inputs, cycles=len(codes) + unit.latency)
    expected = reference_groups(codes, factors, valid, pattern, encoding)
    for port, wanted in expected.items():
        if port in got:
            np.testing.assert_array_equal(got[port][unit.latency :], wanted, err_msg=port)


def test_a_two_level_selector_needs_two_levels():
    assert_refused(lambda: HierarchicalSelector(Pattern("2:4")), "two levels")
