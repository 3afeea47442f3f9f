"""Statistics without masks: the same sums that masks give, whatever the number of threads."""

import numpy as np
import pytest
from functional_inputs import all_codes, all_patterns, codes, factors_for, seeds
from hypothesis import given

from accel_sim import AccelSimError
from accel_sim.functional import kernels, output_loss, pruning_statistics, select


def scales_for(tokens: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.001, 2, tokens).astype(np.float32)


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
    x, w = codes((37, 200), "any", 0), codes((200, 30), "any", 1)
    scales, weight_scales = scales_for(37, 0), scales_for(30, 1)
    results = []
    for threads in (1, 2, 5):
        monkeypatch.setattr(kernels.config, "NUMBA_NUM_THREADS", threads)
        results.append((pruning_statistics(x, scales, "8:16"), output_loss(x, scales, w, weight_scales, "8:16")))
    assert results[0] == results[1] == results[2]


def test_nothing_is_lost_when_all_is_kept():
    x = codes((3, 10), "any", 0)
    assert pruning_statistics(x, scales_for(3, 0), "4:4").loss == 0
    assert output_loss(x, scales_for(3, 0), codes((10, 4), "any", 1), scales_for(4, 1), "4:4")[0] == 0


def test_all_zero_site():
    got = pruning_statistics(np.zeros((2, 8), dtype=np.int8), np.ones(2, dtype=np.float32), "2:4")
    assert (got.loss, got.kept_nonzeros, got.zeros) == (0.0, 0, 16)


def test_refused():
    with pytest.raises(AccelSimError, match="scales: got"):
        pruning_statistics(np.zeros((2, 8), dtype=np.int8), np.ones(3, dtype=np.float32), "2:4")
