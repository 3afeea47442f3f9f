"""Statistics without masks: the same sums that masks give, whatever the number of threads."""

import os
import subprocess
import sys

import numpy as np
import pytest
from functional_inputs import STYLES, all_codes, all_patterns, codes, factors_for, seeds
from hypothesis import given

from accel_sim import AccelSimError
from accel_sim.functional import kernels, output_loss, pruning_statistics, select, statistics, zero_statistics


def scales_for(tokens: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.001, 2, tokens).astype(np.float32)


def assert_integer_sums(x: np.ndarray, text: str, mask: np.ndarray) -> None:
    """Hold the statistics at scales of 1, where float64 is exact, to what the reference's mask leaves."""
    squares = x.astype(np.int64) ** 2
    expected = (squares[~mask].sum(), squares.sum(), np.count_nonzero(x[mask]), np.count_nonzero(x == 0), x.size)
    got = pruning_statistics(x, np.ones(x.shape[0], dtype=np.float32), text)
    assert (got.squared_error, got.squared_norm, got.kept_nonzeros, got.zeros, got.elements) == expected
    zeros = zero_statistics(x, text)
    assert (zeros.kept_nonzeros, zeros.zeros, zeros.elements) == expected[2:]


@given(all_codes, all_patterns())
def test_integer_sums_equal_the_reference(x, text):
    assert_integer_sums(x, text, select(x, text))


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize(
    "text", ["1:1", "2:4", "3:4", "5:9", "8:16", "6:24", "16:32", "32:64", "1:2 of 4:8", "2:3 of 3:5"]
)
@pytest.mark.parametrize("shape", [(1, 1), (1, 7000), (300, 64), (1500, 5), (70, 331)])
def test_more_groups_than_lanes_and_ragged_ends(style, text, shape):
    x = codes(shape, style, 3)
    assert_integer_sums(x, text, select(x, text, backend="numba"))


def test_no_tokens():
    x = np.zeros((0, 9), dtype=np.int8)
    for text in ("2:4", "5:9", "4:4", "1:2 of 2:4"):
        assert_integer_sums(x, text, np.zeros((0, 9), dtype=bool))


def test_largest_squares_of_a_token_fit():
    x = codes((1, 64 * 1500), "largest", 0)
    got = pruning_statistics(x, np.ones(1, dtype=np.float32), "32:64")
    assert got.squared_norm == 96_000 * 127**2
    assert got.squared_error == 48_000 * 127**2


@given(all_codes, all_patterns(), seeds)
def test_sums_are_those_of_the_mask(x, text, seed):
    scales, factors = scales_for(x.shape[0], seed), factors_for(x.shape[1], seed)
    got = pruning_statistics(x, scales, text, factors=factors)
    mask = select(x, text, factors=factors)
    dense = x.astype(np.float64) * scales[:, None].astype(np.float64)
    assert got.squared_norm == pytest.approx((dense**2).sum())
    assert got.squared_error == pytest.approx((dense[~mask] ** 2).sum())
    assert got.kept_nonzeros == np.count_nonzero(x[mask])
    assert got.zeros == np.count_nonzero(x == 0)
    assert got.elements == x.size


@given(all_codes, all_patterns(), seeds)
def test_output_loss_is_that_of_the_products(x, text, seed):
    scales, factors = scales_for(x.shape[0], seed), factors_for(x.shape[1], seed)
    w, weight_scales = codes((x.shape[1], 7), "any", seed), scales_for(7, seed + 1)
    error, norm = output_loss(x, scales, w, weight_scales, text, factors=factors)
    dense_x = x * scales[:, None].astype(np.float64)
    dense_w = w * weight_scales.astype(np.float64)
    kept = np.where(select(x, text, factors=factors), dense_x, 0)
    assert norm == pytest.approx(((dense_x @ dense_w) ** 2).sum())
    assert error == pytest.approx((((dense_x - kept) @ dense_w) ** 2).sum(), abs=1e-9 * norm)


def test_threads_do_not_change_a_bit(monkeypatch):
    monkeypatch.setattr(statistics, "_BYTES_TO_COUNT", 1)
    monkeypatch.setattr(statistics, "_BYTES_TO_PRUNE", 1)
    x, w = codes((37, 200), "any", 0), codes((200, 30), "any", 1)
    scales, weight_scales = scales_for(37, 0), scales_for(30, 1)
    results = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(kernels.config, "NUMBA_NUM_THREADS", threads)
        sums = [pruning_statistics(x, scales, text) for text in ("8:16", "1:2 of 4:8")]
        loss = output_loss(x, scales, w, weight_scales, "8:16")
        results.append((*sums, loss, zero_statistics(x, "8:16")))
    assert results[0] == results[1] == results[2]


def test_shared_rows_come_back_in_order(monkeypatch):
    monkeypatch.setattr(kernels.config, "NUMBA_NUM_THREADS", 3)
    parts = [(part.start, part.stop) for part in kernels.over_rows(lambda part: part, 10)]
    assert parts == [(0, 3), (3, 6), (6, 10)]
    assert kernels.over_rows(lambda part: part, 10, least=6) == [slice(0, 10)]
    assert kernels.over_rows(lambda part: part, 0) == [slice(0, 0)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_starts_threads_of_its_own():
    script = (
        "import os, sys\n"
        "from accel_sim.functional import kernels\n"
        "kernels.config.NUMBA_NUM_THREADS = 2\n"
        "share = lambda: kernels.over_rows(lambda part: part.stop, 4)\n"
        "assert share() == [2, 4]\n"
        "child = os.fork()\n"
        "if not child: os._exit(0 if share() == [2, 4] else 1)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def test_a_mistake_in_one_thread_is_raised(monkeypatch):
    monkeypatch.setattr(kernels.config, "NUMBA_NUM_THREADS", 2)
    done = []

    def fails_late(part):
        if part.start:
            raise ValueError("the second half")
        done.append(part)

    with pytest.raises(ValueError, match="the second half"):
        kernels.over_rows(fails_late, 2)
    assert done == [slice(0, 1)]


def test_nothing_is_lost_when_all_is_kept():
    x = codes((3, 10), "any", 0)
    assert pruning_statistics(x, scales_for(3, 0), "4:4").loss == 0
    assert output_loss(x, scales_for(3, 0), codes((10, 4), "any", 1), scales_for(4, 1), "4:4")[0] == 0


def test_all_zero_site():
    got = pruning_statistics(np.zeros((2, 8), dtype=np.int8), np.ones(2, dtype=np.float32), "2:4")
    assert (got.loss, got.kept_nonzeros, got.zeros) == (0.0, 0, 16)


def test_zeros_of_a_code_that_is_refused():
    with pytest.raises(AccelSimError, match=r"token 0, feature 2.* is -128"):
        zero_statistics(np.array([[0, 0, -128, 0]], dtype=np.int8), "2:4")


def test_refused():
    with pytest.raises(AccelSimError, match="scales: got"):
        pruning_statistics(np.zeros((2, 8), dtype=np.int8), np.ones(3, dtype=np.float32), "2:4")
