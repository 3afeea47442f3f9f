"""Low-rank scores: whitening, truncation-aware and naive SVD, and the trained classifier."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from accel_sim.errors import AccelSimError  # noqa: E402
from accel_sim.sparsify.contextual.metrics import roc_auc  # noqa: E402
from accel_sim.sparsify.contextual.svd import low_rank  # noqa: E402
from accel_sim.sparsify.contextual.trained import train_low_rank  # noqa: E402
from accel_sim.sparsify.contextual.whitening import whitening_factor  # noqa: E402

HIDDEN, NEURONS, TOKENS = 24, 40, 300


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def activations(tokens: int = TOKENS, seed: int = 0) -> torch.Tensor:
    """Correlated: a few directions carry most, as in a language model."""
    return normal(tokens, HIDDEN, seed=seed) * torch.logspace(0, -2, HIDDEN) @ normal(HIDDEN, HIDDEN, seed=100)


def gate(seed: int = 1) -> torch.Tensor:
    return normal(NEURONS, HIDDEN, seed=seed) / HIDDEN**0.5


def error(weight: torch.Tensor, factors: tuple[torch.Tensor, torch.Tensor], x: torch.Tensor) -> float:
    """‖W·X − A·B·X‖_F."""
    up, down = factors
    return float(((weight.double() - up.double() @ down.double()) @ x.double().mT).norm())


# Whitening


def test_the_factor_is_the_gram_matrix_root():
    x = activations().double()
    factor = whitening_factor(x)
    assert factor.ridge == 0
    assert torch.equal(factor.lower, factor.lower.tril())
    assert torch.allclose(factor.lower @ factor.lower.mT, x.mT @ x, rtol=1e-12, atol=0)
    white = torch.linalg.solve_triangular(factor.lower, x.mT, upper=False)
    assert torch.allclose(white @ white.mT, torch.eye(HIDDEN, dtype=torch.double), atol=1e-8)


@pytest.mark.parametrize("unit", [1e-6, 1.0, 1e6])
@pytest.mark.parametrize("tokens", [1, HIDDEN // 2])
def test_fewer_tokens_than_features_need_a_ridge_in_their_own_unit(tokens, unit):
    x = unit * activations(tokens)
    factor, gram = whitening_factor(x), x.double().mT @ x.double()
    assert 0 < factor.ridge <= 1.1e-6 * float(gram.diagonal().mean())
    assert torch.allclose(factor.lower @ factor.lower.mT, gram + factor.ridge * torch.eye(HIDDEN), rtol=1e-9)


def test_activations_that_are_all_zero_prefer_no_direction():
    factor = whitening_factor(torch.zeros(5, HIDDEN))
    assert torch.equal(factor.lower, factor.lower[0, 0] * torch.eye(HIDDEN, dtype=torch.double))


@pytest.mark.parametrize("x", [torch.zeros(0, 4), torch.zeros(4), torch.full((2, 2), torch.nan)])
def test_whitening_names_what_it_cannot_use(x):
    with pytest.raises(AccelSimError, match="whitening: activations"):
        whitening_factor(x)


# Truncation


@pytest.mark.parametrize("rank", [1, 5, HIDDEN - 1])
def test_the_error_is_the_least_of_any_rank(rank):
    """√(Σ of squared singular values beyond the rank) of W·S, which is what Eckart and Young leave of W·X."""
    x, weight = activations(), gate()
    found = error(weight, low_rank(weight, rank, whitening_factor(x).lower), x)
    tail = torch.linalg.svdvals(weight.double() @ x.double().mT)[rank:].norm()
    whitened = torch.linalg.svdvals(weight.double() @ whitening_factor(x).lower)[rank:].norm()
    assert float(whitened) == pytest.approx(float(tail), rel=1e-6)
    assert found == pytest.approx(float(tail), rel=1e-4)


@pytest.mark.parametrize("rank", [1, 5, HIDDEN])
def test_the_product_is_that_of_the_printed_algorithm(rank):
    x, weight = activations().double(), gate().double()
    lower = whitening_factor(x).lower
    left, values, right = torch.linalg.svd(weight @ lower, full_matrices=False)
    a = left[:, :rank] * values[:rank]
    b = torch.linalg.solve_triangular(lower, right[:rank], upper=False, left=False)
    up, down = low_rank(weight, rank, lower)
    assert torch.allclose(up.double() @ down.double(), a @ b, atol=1e-6)


@pytest.mark.parametrize("rank", range(1, HIDDEN + 1))
def test_whitening_is_never_worse_on_its_own_calibration(rank):
    x, weight = activations(), gate()
    naive, whitened = (
        error(weight, low_rank(weight, rank), x),
        error(weight, low_rank(weight, rank, whitening_factor(x).lower), x),
    )
    assert whitened <= naive + 1e-5
    assert rank == HIDDEN or whitened < 0.9 * naive


@pytest.mark.parametrize("shape", [(NEURONS, HIDDEN), (HIDDEN, HIDDEN), (10, HIDDEN)])
@pytest.mark.parametrize("tokens", [3, TOKENS])
def test_full_rank_is_the_gate_itself(shape, tokens):
    """Even where the calibration saw a few directions only."""
    weight, x = gate()[: shape[0]], activations()
    for factor in (None, whitening_factor(activations(tokens, seed=5)).lower):
        up, down = low_rank(weight, min(weight.shape), factor)
        assert (up.dtype, down.dtype) == (torch.float32, torch.float32)
        assert torch.allclose(x @ down.mT @ up.mT, x @ weight.mT, atol=1e-5)


def test_white_activations_make_whitening_the_naive_svd():
    weight = gate()
    naive, whitened = low_rank(weight, 6), low_rank(weight, 6, 3 * torch.eye(HIDDEN))
    assert torch.allclose(naive[0] @ naive[1], whitened[0] @ whitened[1], atol=1e-6)


@pytest.mark.parametrize(
    ("weight", "rank", "factor", "message"),
    [
        (gate(), 0, None, "rank 0 of a gate \\[40, 24\\]; expected from 1 to 24"),
        (gate(), 25, None, "expected from 1 to 24"),
        (gate(), 4, torch.eye(3), "whitening factor \\[3, 3\\]; expected \\[24, 24\\]"),
        (gate()[0], 1, None, "expected \\[D, d\\]"),
        (torch.full((3, 2), torch.inf), 1, None, "not finite"),
    ],
)
def test_low_rank_names_what_it_cannot_use(weight, rank, factor, message):
    with pytest.raises(AccelSimError, match=message):
        low_rank(weight, rank, factor)


# Training


def activity(x: torch.Tensor) -> torch.Tensor:
    """Of a gate that a few directions decide, so that a low rank can tell it."""
    return x @ normal(HIDDEN, 3, seed=7) @ normal(3, NEURONS, seed=8) > 0


def test_training_learns_which_neurons_are_active():
    x, fresh = activations(1500), activations(500, seed=9)
    up, down = train_low_rank(x, activity(x), 3, seed=1)
    assert (up.shape, down.shape) == ((NEURONS, 3), (3, HIDDEN))
    scores = fresh @ down.mT @ up.mT
    assert roc_auc(scores.numpy(), activity(fresh).numpy()) > 0.98
    assert float(((scores > 0) == activity(fresh)).float().mean()) > 0.93
    naive_up, naive_down = low_rank(gate(), 3)  # of a gate that has nothing to do with it
    assert roc_auc((fresh @ naive_down.mT @ naive_up.mT).numpy(), activity(fresh).numpy()) < 0.7


def test_training_is_reproducible_and_keeps_the_best_epoch():
    x = activations(200)
    first, again, other = (train_low_rank(x, activity(x), 4, seed=seed, epochs=3) for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    noise = normal(200, NEURONS, seed=3) > 0  # nothing to learn: later epochs fit the noise, and are not kept
    brief, long = (train_low_rank(x, noise, 20, epochs=epochs, patience=epochs, rate=0.03) for epochs in (12, 30))
    assert all(torch.equal(a, b) for a, b in zip(brief, long, strict=True))


def test_training_does_not_mind_features_of_very_different_size():
    x = activations(1000)
    size = torch.logspace(-4, 4, HIDDEN)
    plain, scaled = train_low_rank(x, activity(x), 3), train_low_rank(x * size, activity(x), 3)
    assert torch.allclose(x @ plain[1].mT @ plain[0].mT, x * size @ scaled[1].mT @ scaled[0].mT, atol=0.5, rtol=0.1)


@pytest.mark.parametrize(
    ("x", "active", "rank", "message"),
    [
        (activations(1), activity(activations(1)), 2, "at least two tokens"),
        (activations(5), activity(activations(4)), 2, "\\[5, 24\\], active \\[4, 40\\]"),
        (activations(5), activity(activations(5)), 25, "rank 25; expected from 1 to 24"),
        (torch.full((5, 2), torch.nan), torch.ones(5, 3, dtype=torch.bool), 1, "not finite"),
    ],
)
def test_training_names_what_it_cannot_use(x, active, rank, message):
    with pytest.raises(AccelSimError, match=message):
        train_low_rank(x, active, rank)
