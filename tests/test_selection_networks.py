"""Networks that select: right for every input, by the zero-one principle."""

from itertools import product

import numpy as np
import pytest

from accel_sim.functional.networks import selection_network, sorting_network


def run(network, columns: np.ndarray) -> np.ndarray:
    """What wires [M, ·] hold after the compare-exchanges."""
    wires = columns.copy()
    for low, high in network:
        wires[low], wires[high] = np.minimum(wires[low], wires[high]), np.maximum(wires[low], wires[high])
    return wires


def zeros_and_ones(wires: int) -> np.ndarray:
    """Every column of zeros and ones: a network that is right for these is right for all inputs (Knuth, 5.3.4)."""
    return np.array(list(product((0, 1), repeat=wires)), dtype=np.uint8).T


@pytest.mark.parametrize("wires", range(1, 13))
def test_every_size_is_sorted(wires):
    inputs = zeros_and_ones(wires)
    np.testing.assert_array_equal(run(sorting_network(wires), inputs), np.sort(inputs, axis=0))


@pytest.mark.parametrize("wires", range(1, 13))
def test_the_largest_end_on_the_last_wires(wires):
    inputs = zeros_and_ones(wires)
    for n in range(1, wires + 1):
        got = run(selection_network(n, wires), inputs)
        np.testing.assert_array_equal(got[wires - n :].sum(axis=0), np.sort(inputs, axis=0)[wires - n :].sum(axis=0))


@pytest.mark.parametrize(("n", "m"), [(8, 16), (16, 32), (32, 64), (31, 64), (1, 33), (64, 64)])
def test_wide_groups(n, m):
    inputs = np.random.default_rng(0).integers(0, 128, (m, 500))
    got = run(selection_network(n, m), inputs)
    np.testing.assert_array_equal(np.sort(got[m - n :], axis=0), np.sort(inputs, axis=0)[m - n :])
    np.testing.assert_array_equal(np.sort(got, axis=0), np.sort(inputs, axis=0))


def test_halves_take_fewer_exchanges_than_sorting():
    assert [len(selection_network(m // 2, m)) for m in (4, 8, 16, 32)] == [4, 14, 46, 142]
    assert [len(sorting_network(m)) for m in (4, 8, 16, 32)] == [5, 19, 63, 191]
