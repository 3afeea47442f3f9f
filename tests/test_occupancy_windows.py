"""Window times: the definition by hand, compiled loops equal to it, and what must hold of any machine."""

import subprocess
import sys

import numpy as np
import pytest
from functional_inputs import all_codes, codes, patterns, seeds
from hypothesis import given
from hypothesis import strategies as st

from accel_sim import AccelSimError, Pattern
from accel_sim.functional import kernels as functional_kernels
from accel_sim.occupancy import elastic_windows, kernels, reference, unstructured_windows
from accel_sim.pattern import HierarchicalPattern

counts = st.integers(1, 9) | st.sampled_from([16, 32, 1000])
elastic_machines = st.fixed_dictionaries({name: counts for name in ("rows", "slices", "elastic_lanes", "sync_window")})
unstructured_machines = st.fixed_dictionaries(
    {"rows": counts, "lanes": counts, "sync_window": counts, "banks": st.none() | counts}
)
sparse_codes = st.builds(
    lambda x, share, seed: (x * (np.random.default_rng(seed).random(x.shape) >= share)).astype(np.int8),
    all_codes,
    st.sampled_from([0.0, 0.3, 0.9]),
    seeds,
)
"""The functional tests' nasty codes (one token, ragged ends, ties, ±127, all zero), with more zeros."""


def assert_equal(got, expected):
    for name in ("cycles", "busy", "nonzeros"):
        array = getattr(got, name)
        assert array.dtype == np.int64, name
        np.testing.assert_array_equal(array, getattr(expected, name), name)


def row_of_groups(*nonzeros: int, m: int) -> list[int]:
    """A token whose groups of m have so many non-zeros each, at the end of the group."""
    return [code for z in nonzeros for code in [0] * (m - z) + [5] * z]


# The definition, by hand


def test_elastic_with_a_pencil():
    """2:4, two rows of two slices, windows of three groups: groups 0, 2 go to slice 0, group 1 to slice 1."""
    x = np.array(
        [
            row_of_groups(0, 1, 4, 2, 0, m=4),  # cycles 1, 1, 2 | 2, 1: slices 3 and 1 | 2 and 1
            row_of_groups(0, 0, 0, 0, 0, m=4),  # cycles 1, 1, 1 | 1, 1: slices 2 and 1 | 1 and 1
            row_of_groups(4, 4, 4, 4, 4, m=4),  # cycles 2, 2, 2 | 2, 2: slices 4 and 2 | 2 and 2
        ],
        dtype=np.int8,
    )
    got = elastic_windows(x, "2:4", rows=2, slices=2, elastic_lanes=1, sync_window=3)
    assert got.cycles.tolist() == [[3, 2], [4, 2]]
    assert got.busy.tolist() == [[3 + 1 + 2 + 1, 2 + 1 + 1 + 1], [6, 4]]
    assert got.nonzeros.tolist() == [[3, 2], [6, 4]]


def test_a_slice_of_two_lanes_takes_two_nonzeros_a_cycle():
    x = np.array([row_of_groups(5, 4, 1, 0, m=8)], dtype=np.int8)
    got = elastic_windows(x, "8:8", rows=1, slices=1, elastic_lanes=2, sync_window=1)
    assert got.cycles.tolist() == [[3, 2, 1, 1]]


def test_dealing_starts_again_in_every_window():
    """Two slices, windows of three groups: were the deal to go on, group 3 would join slice 1."""
    x = np.array([row_of_groups(4, 1, 4, 4, 1, 4, m=4)], dtype=np.int8)
    got = elastic_windows(x, "4:4", rows=1, slices=2, elastic_lanes=1, sync_window=3)
    assert got.cycles.tolist() == [[8, 8]]


def test_a_padded_group_counts_its_real_elements():
    x = np.ones((1, 10), dtype=np.int8)
    got = elastic_windows(x, "4:8", rows=1, slices=2, elastic_lanes=1, sync_window=2)
    assert (got.cycles.tolist(), got.busy.tolist(), got.nonzeros.tolist()) == ([[4]], [[6]], [[6]])


def test_unstructured_with_a_pencil():
    """Four lanes, 2:4, windows of three groups: five non-zeros take two cycles, none at all takes one."""
    x = np.array([row_of_groups(1, 4, 3, 0, m=4), row_of_groups(0, 0, 0, 1, m=4)], dtype=np.int8)
    got = unstructured_windows(x, "2:4", rows=2, lanes=4, sync_window=3, banks=None)
    assert got.cycles.tolist() == [[2, 1]]
    assert got.busy.tolist() == [[3, 2]]
    assert got.nonzeros.tolist() == [[5, 1]]


def test_the_fullest_bank_is_waited_for():
    """Positions 0, 2 and 4 of a window of eight lie in bank 0 of two; banks count from each window's start."""
    x = np.array([[1, 0, 1, 0, 1, 0, 0, 0, 0, 1, 1, 0]], dtype=np.int8)
    got = unstructured_windows(x, "4:4", rows=1, lanes=8, sync_window=2, banks=2)
    assert got.cycles.tolist() == [[3, 1]]


def test_banks_hold_what_selection_keeps():
    """1:2 in two banks. Keeping positions 0 and 3 takes a cycle; without the 3 it keeps 1 and 3, both in bank 1."""
    cycles = [
        unstructured_windows(
            np.array([row], dtype=np.int8), "1:2", rows=1, lanes=2, sync_window=2, banks=2
        ).cycles.tolist()
        for row in ([3, 2, 0, 5], [0, 2, 0, 5])
    ]
    assert cycles == [[[1]], [[2]]]


# The compiled loops are the definition


@given(sparse_codes, patterns(), elastic_machines)
def test_elastic_kernel_is_the_reference(x, text, machine):
    expected = reference.elastic_windows(x, Pattern(text), **machine)
    assert_equal(elastic_windows(x, text, **machine), expected)


@given(sparse_codes, patterns(), unstructured_machines)
def test_unstructured_kernel_is_the_reference(x, text, machine):
    expected = reference.unstructured_windows(x, Pattern(text), **machine)
    assert_equal(unstructured_windows(x, text, **machine), expected)


@pytest.mark.parametrize("text", ["1:1", "2:2", "2:3", "2:4", "4:8", "5:9", "8:16", "16:16", "40:64"])
def test_kernels_are_the_reference_over_many_tokens(text):
    """Rows reuse one buffer, so later ones must not see what earlier ones left in the padding."""
    x = codes((67, 1003), "ties", seed=1)
    elastic = {"rows": 16, "slices": 4, "elastic_lanes": 2, "sync_window": 6}
    assert_equal(elastic_windows(x, text, **elastic), reference.elastic_windows(x, Pattern(text), **elastic))
    for banks in (None, 7):
        flat = {"rows": 16, "lanes": 8, "sync_window": 6, "banks": banks}
        assert_equal(unstructured_windows(x, text, **flat), reference.unstructured_windows(x, Pattern(text), **flat))


def test_threads_do_not_change_a_number(monkeypatch):
    x = codes((67, 200), "ties", seed=2)
    elastic = {"rows": 8, "slices": 4, "elastic_lanes": 1, "sync_window": 4}
    flat = {"rows": 8, "lanes": 4, "sync_window": 4}

    def times():
        yield elastic_windows(x, "8:16", **elastic)
        for banks in (None, 7):
            yield unstructured_windows(x, "8:16", **flat, banks=banks)

    alone = list(times())
    monkeypatch.setattr(kernels, "SHARED_FROM", 0)
    for threads in (1, 2, 5, 64):
        monkeypatch.setattr(functional_kernels.config, "NUMBA_NUM_THREADS", threads)
        for got, expected in zip(times(), alone, strict=True):
            assert_equal(got, expected)


def test_columns_of_a_larger_matrix():
    x = codes((20, 64), "ties", seed=3)
    machine = {"rows": 8, "slices": 4, "elastic_lanes": 1, "sync_window": 4}
    assert_equal(
        elastic_windows(x[::2, 16:48], "2:4", **machine), elastic_windows(x[::2, 16:48].copy(), "2:4", **machine)
    )


def test_no_tokens_make_no_panels():
    x = np.zeros((0, 40), dtype=np.int8)
    assert elastic_windows(x, "2:4", rows=8, slices=4, elastic_lanes=1, sync_window=4).cycles.shape == (0, 3)
    assert unstructured_windows(x, "2:4", rows=8, lanes=4, sync_window=4, banks=4).cycles.shape == (0, 3)


# What holds of any machine


@given(sparse_codes, patterns(), elastic_machines)
def test_elastic_bounds(x, text, machine):
    got = elastic_windows(x, text, **machine)
    slices = machine["rows"] * machine["slices"]
    assert (got.cycles * slices * machine["elastic_lanes"] >= got.nonzeros).all()
    assert (got.cycles >= 1).all()
    assert (got.busy <= slices * got.cycles).all()
    assert got.busy.sum() >= x.shape[0] * Pattern(text).groups(x.shape[1])  # even an empty group takes a cycle


@given(sparse_codes, patterns(), unstructured_machines)
def test_unstructured_bounds(x, text, machine):
    got = unstructured_windows(x, text, **machine)
    assert (got.cycles * machine["rows"] * machine["lanes"] >= got.nonzeros).all()
    assert (got.cycles >= 1).all()
    assert (got.busy <= machine["rows"] * got.cycles).all()


@given(sparse_codes, patterns())
def test_nonzeros_are_those_of_the_mask(x, text):
    kept = np.count_nonzero(reference.kept_nonzeros(x, Pattern(text)))
    assert elastic_windows(x, text, rows=3, slices=2, elastic_lanes=1, sync_window=5).nonzeros.sum() == kept
    assert unstructured_windows(x, text, rows=3, lanes=2, sync_window=5, banks=None).nonzeros.sum() == kept


@pytest.mark.parametrize("text", ["2:4", "4:8", "8:16", "16:32", "16:16"])
def test_without_zeros_elastic_keeps_the_fixed_rate(text):
    """16 slices of a lane do as much as 16 lanes that take N slots of every group: sync_window·N/16 cycles a window."""
    x = codes((40, 64 * Pattern(text).m), "largest", seed=4)
    got = elastic_windows(x, text, rows=32, slices=16, elastic_lanes=1, sync_window=32)
    assert (got.cycles == 32 * Pattern(text).n // 16).all()
    assert (got.busy[0] == 32 * 16 * got.cycles[0]).all()  # nobody waits


@given(sparse_codes, patterns(), elastic_machines, unstructured_machines, seeds)
def test_more_zeros_never_take_more_cycles(x, text, elastic, unstructured, seed):
    """With banks only where nothing is selected: elsewhere a zero may let a value of a fuller bank in."""
    fewer = (x * (np.random.default_rng(seed).random(x.shape) < 0.7)).astype(np.int8)
    if not Pattern(text).keeps_all:
        unstructured = unstructured | {"banks": None}
    for windows, machine in ((elastic_windows, elastic), (unstructured_windows, unstructured)):
        before, after = windows(x, text, **machine), windows(fewer, text, **machine)
        assert (after.cycles <= before.cycles).all()
        assert (after.busy <= before.busy).all()
        assert (after.nonzeros <= before.nonzeros).all()


@given(sparse_codes, patterns(), counts, counts, counts)
def test_enough_banks_are_no_banks(x, text, rows, lanes, sync_window):
    machine = {"rows": rows, "lanes": lanes, "sync_window": sync_window}
    unlimited = unstructured_windows(x, text, **machine, banks=None)
    assert_equal(unstructured_windows(x, text, **machine, banks=sync_window * Pattern(text).m), unlimited)


@given(sparse_codes, patterns(), counts, counts)
def test_a_single_bank_gives_one_weight_a_cycle(x, text, lanes, sync_window):
    got = unstructured_windows(x, text, rows=1, lanes=lanes, sync_window=sync_window, banks=1)
    np.testing.assert_array_equal(got.cycles, np.maximum(1, got.nonzeros))


# What is refused


MACHINES = {
    elastic_windows: {"rows": 2, "slices": 2, "elastic_lanes": 1, "sync_window": 2},
    unstructured_windows: {"rows": 2, "lanes": 2, "sync_window": 2, "banks": 2},
}


@pytest.mark.parametrize("windows", MACHINES)
def test_two_levels_are_refused(windows):
    with pytest.raises(AccelSimError, match=r"1:2 of 2:4: .*one level, such as 2:8"):
        windows(np.zeros((2, 8), dtype=np.int8), HierarchicalPattern("1:2 of 2:4"), **MACHINES[windows])


@pytest.mark.parametrize("windows", MACHINES)
@pytest.mark.parametrize("bad", [0, -1, 1.5, "2"])
def test_counts_are_at_least_one(windows, bad):
    for name in MACHINES[windows]:
        with pytest.raises(AccelSimError, match=f"^{name}: got .* expected a whole number of at least 1"):
            windows(np.zeros((2, 8), dtype=np.int8), "2:4", **MACHINES[windows] | {name: bad})


@pytest.mark.parametrize("windows", MACHINES)
def test_codes_are_int8(windows):
    with pytest.raises(AccelSimError, match="x: got int16"):
        windows(np.zeros((2, 8), dtype=np.int16), "2:4", **MACHINES[windows])


def test_importing_needs_no_compiler():
    script = "import sys, accel_sim.occupancy; sys.exit(bool({'numba', 'torch'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
