"""Measures of a predictor: exact ROC-AUC, recall, precision, sparsity and the error of the layer's output."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from accel_sim.errors import AccelSimError  # noqa: E402
from accel_sim.sparsify.contextual.ffn import GatedFfn  # noqa: E402
from accel_sim.sparsify.contextual.metrics import (  # noqa: E402
    measure,
    output_error,
    precision,
    recall,
    roc_auc,
    sparsity,
)
from accel_sim.sparsify.contextual.predictor import LowRankPredictor  # noqa: E402


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), max_size=30))
def test_roc_auc_is_the_share_of_pairs_in_order(pairs):
    """Against all pairs one by one, few scores, so that many tie."""
    scores, active = np.array([s for s, _ in pairs], np.float32), np.array([a for _, a in pairs], bool)
    found = roc_auc(scores, active)
    if not active.any() or active.all():
        assert found is None
        return
    wins = [(a > i) + 0.5 * (a == i) for a in scores[active] for i in scores[~active]]
    assert found == sum(wins) / len(wins)


def test_roc_auc_of_perfect_reversed_and_constant_scores():
    active = np.array([[True, False], [False, True]])
    assert roc_auc(active.astype(np.float32), active) == 1
    assert roc_auc(-active.astype(np.float32), active) == 0
    assert roc_auc(np.zeros((2, 2), np.float32), active) == 0.5


def test_roc_auc_only_sees_the_order():
    random = np.random.default_rng(0)
    scores, active = random.normal(size=(50, 20)), random.random((50, 20)) < 0.2
    assert roc_auc(scores, active) == roc_auc(np.exp(scores), active)


def test_recall_precision_and_sparsity():
    predicted = torch.tensor([[True, True, False, False]])
    realised = torch.tensor([[True, False, True, True]])
    assert (recall(predicted, realised), precision(predicted, realised)) == (1 / 3, 1 / 2)
    assert (sparsity(predicted), sparsity(realised), sparsity(predicted & realised)) == (0.5, 0.25, 0.75)
    none = torch.zeros(1, 4, dtype=torch.bool)
    assert (recall(predicted, none), precision(none, realised)) == (None, None)


def layer() -> GatedFfn:
    """Two neurons that pass a positive feature on, each its own."""
    return GatedFfn(torch.eye(2), torch.ones(2, 2), torch.eye(2), "relu")


def test_the_error_is_relative_to_the_dense_output():
    x = torch.tensor([[3.0, 4.0]])  # outputs 7·3 and 7·4
    assert output_error(layer(), x, torch.tensor([[True, False]])) == pytest.approx(4 / 5)
    assert output_error(layer(), x, torch.tensor([[True, True]])) == 0
    assert output_error(layer(), -x, torch.tensor([[False, False]])) == 0
    cancelling = GatedFfn(torch.ones(2, 1), torch.ones(2, 1), torch.tensor([[1.0, -1.0]]), "relu")
    assert output_error(cancelling, torch.ones(1, 1), torch.tensor([[True, False]])) == float("inf")


def test_all_measures_of_a_layer():
    """The first neuron is predicted always, the second never."""
    predictor = LowRankPredictor(torch.zeros(1, 2), torch.zeros(2, 1), torch.tensor([1.0, -1.0]))
    found = measure(predictor, layer(), torch.tensor([[3.0, 4.0], [-1.0, -1.0], [-1.0, 2.0], [1.0, -1.0]]))
    assert found.roc_auc == 0.5
    assert (found.recall, found.precision) == (1 / 2, 1 / 2)  # active: both, none, the second, the first
    assert (found.gate_sparsity, found.predicted_sparsity, found.realised_sparsity) == (1 / 2, 1 / 2, 3 / 4)
    # Outputs (21, 28), none, (0, 2), none: the fourth token's up half is 0.
    assert found.output_error == pytest.approx(((28**2 + 2**2) / (21**2 + 28**2 + 2**2)) ** 0.5)


def test_what_cannot_be_measured_is_named():
    predictor = LowRankPredictor(torch.zeros(1, 2), torch.zeros(2, 1), torch.zeros(2))
    with pytest.raises(AccelSimError, match="at least one token"):
        measure(predictor, layer(), torch.zeros(0, 2))
    with pytest.raises(AccelSimError, match="\\[2\\] of activity \\[3\\]"):
        roc_auc(np.zeros(2), np.zeros(3, bool))
    with pytest.raises(AccelSimError, match="not finite"):
        roc_auc(np.array([np.nan, 1.0]), np.array([True, False]))
