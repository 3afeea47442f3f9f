"""Fitted predictors in the unit's arithmetic."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from accel_sim.errors import AccelSimError  # noqa: E402
from accel_sim.quantize import quantize_tokens  # noqa: E402
from accel_sim.sparsify.contextual import PredictorOptions  # noqa: E402
from accel_sim.sparsify.contextual.fit import Fitted  # noqa: E402
from accel_sim.sparsify.contextual.machine import FittedNeurons, Int8Predictor  # noqa: E402
from accel_sim.sparsify.contextual.predictor import LowRankPredictor, SignBitPredictor  # noqa: E402
from accel_sim.sparsify.contextual.storage import StoredPredictors, write_predictors  # noqa: E402


@pytest.fixture
def predictor() -> LowRankPredictor:
    random = torch.Generator().manual_seed(0)
    down, up = torch.randn((6, 40), generator=random), torch.randn((90, 6), generator=random)
    return LowRankPredictor(down, up, torch.randn(90, generator=random))


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((50, 40)).astype(np.float32)


def by_hand(predictor: LowRankPredictor, codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """The same in plain integers and float32, one rounding at a time."""

    def quantised(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        scale = (np.abs(rows).max(axis=1) / np.float32(127)).astype(np.float32)
        return np.round(rows / scale[:, None]).clip(-127, 127).astype(np.int64), scale

    down, down_scales = quantised(predictor.down.numpy())
    up, up_scales = quantised(predictor.up.numpy())
    between = (codes.astype(np.int64) @ down.T).astype(np.float32) * (scales[:, None] * down_scales)
    codes, scales = quantised(between)
    return (codes @ up.T).astype(np.float32) * (scales[:, None] * up_scales) + predictor.bias.numpy() > 0


def test_int8_prediction_is_the_functional_modes_and_near_the_floats(predictor, x):
    codes, scales = quantize_tokens(x)
    found = Int8Predictor.of(predictor).predict(codes, scales)
    assert found.shape == (50, 90) and found.dtype == np.bool_
    assert np.array_equal(found, by_hand(predictor, codes, scales))
    floats = predictor.predict(torch.from_numpy(x)).numpy()
    assert 0 < np.mean(found != floats) < 0.03


def stored(predictor, kind: str, **options) -> StoredPredictors:
    fitted = Fitted(predictor, PredictorOptions(kind=kind, **options), 0.5, 0.6, 0.5)
    return StoredPredictors("some model", "f" * 64, {"text": "0" * 64}, {3: fitted})


def test_a_folder_answers_for_its_layers(predictor, x, tmp_path):
    write_predictors(tmp_path, stored(predictor, "svd", rank=6))
    neurons = FittedNeurons(tmp_path)
    codes, scales = quantize_tokens(x)
    assert neurons.ranks == {3: 6} and "some model" in neurons.source
    assert np.array_equal(neurons.predicted(3, codes, scales), by_hand(predictor, codes, scales))


def test_the_unit_runs_no_sign_bits(tmp_path):
    signs = SignBitPredictor(torch.ones((4, 3)), torch.zeros(4))
    write_predictors(tmp_path, stored(signs, "sign_bit"))
    with pytest.raises(AccelSimError, match="layer 3: kind sign_bit is not run by the unit"):
        FittedNeurons(tmp_path)
