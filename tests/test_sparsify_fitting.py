"""What is fitted from calibration: smoothing scales, rotations, low-rank factors, shifts and output corrections."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from accel_sim.errors import AccelSimError  # noqa: E402
from accel_sim.pattern import Pattern  # noqa: E402
from accel_sim.sparsify.learned import fit_output, learn_shift  # noqa: E402
from accel_sim.sparsify.low_rank import fitted_factors, svd_factors  # noqa: E402
from accel_sim.sparsify.recipe import Smoothing  # noqa: E402
from accel_sim.sparsify.rotation import principal_axes, right_singular_vectors  # noqa: E402
from accel_sim.sparsify.smoothing import smoothing_scales  # noqa: E402
from accel_sim.sparsify.torch_selection import prune_tensor  # noqa: E402

FEATURES, OUTPUTS = 32, 24
ALPHAS = (0.0, 0.1, 0.5, 0.85, 1.0)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def activations(tokens: int = 512, features: int = FEATURES, seed: int = 0) -> torch.Tensor:
    """Correlated, with a mean and with features of very different range, as a layer's inputs are."""
    mixed = normal(tokens, features, seed=seed) @ normal(features, features, seed=100) / features**0.5
    return (mixed + normal(features, seed=101)) * torch.logspace(-1, 1, features)


def prune(x: torch.Tensor) -> torch.Tensor:
    return prune_tensor(x, Pattern("8:16"))


# Smoothing


@pytest.mark.parametrize("inverted", [False, True])
@pytest.mark.parametrize("alpha", ALPHAS)
def test_smoothing_leaves_the_product_as_it_is(alpha, inverted):
    x, weight = activations(), normal(OUTPUTS, FEATURES, seed=1)
    scales = smoothing_scales(x.abs().amax(0), [weight], Smoothing(alpha=alpha, inverted=inverted))
    expected = x.double() @ weight.double().T
    smoothed = (x.double() / scales.double()) @ (weight.double() * scales.double()).T
    assert (smoothed - expected).norm() <= 1e-6 * expected.norm()


def test_the_scales_are_those_of_the_formula():
    weights = [torch.tensor([[0.5, -2.0], [0.1, 0.2]]), torch.tensor([[-0.7, 1.0]])]
    scales = smoothing_scales(torch.tensor([9.0, 4.0]), weights, Smoothing(alpha=0.25))
    assert scales.tolist() == pytest.approx([9**0.25 / 0.7**0.75, 4**0.25 / 2**0.75])


def test_alpha_moves_range_from_activations_to_weights():
    """At 1 every feature's activations reach 1, at 0 its weights do."""
    x, weight = activations(), normal(OUTPUTS, FEATURES, seed=1)
    all_of_it = smoothing_scales(x.abs().amax(0), [weight], Smoothing(alpha=1.0))
    none_of_it = smoothing_scales(x.abs().amax(0), [weight], Smoothing(alpha=0.0))
    assert torch.allclose((x / all_of_it).abs().amax(0), torch.ones(FEATURES))
    assert torch.allclose((weight * none_of_it).abs().amax(0), torch.ones(FEATURES))


def test_at_one_half_activations_and_weights_have_equal_range():
    """The per-channel smoothing of arXiv 2509.22166."""
    x, weight = activations(), normal(OUTPUTS, FEATURES, seed=1)
    scales = smoothing_scales(x.abs().amax(0), [weight], Smoothing(alpha=0.5))
    assert torch.allclose((x / scales).abs().amax(0), (weight * scales).abs().amax(0))


@pytest.mark.parametrize("alpha", [0.1, 0.5])
def test_inverted_scales_expand_the_activations_range(alpha):
    """Outstanding-sparse widens what SmoothQuant narrows: outliers stand out further from the other features."""
    x, weight = activations(), normal(OUTPUTS, FEATURES, seed=1)
    weight = weight / weight.abs().amax(0)
    largest = x.abs().amax(0)
    plain = smoothing_scales(largest, [weight], Smoothing(alpha=alpha))
    inverted = smoothing_scales(largest, [weight], Smoothing(alpha=alpha, inverted=True))
    assert torch.allclose(plain * inverted, torch.ones(FEATURES))

    def outliers(activation: torch.Tensor) -> float:
        reach = activation.abs().amax(0)
        return float(reach.max() / reach.median())

    assert outliers(x / inverted) == pytest.approx(outliers(x) ** (1 + alpha), rel=1e-4)
    assert outliers(x / plain) == pytest.approx(outliers(x) ** (1 - alpha), rel=1e-4)
    assert (x / inverted).abs().max() > x.abs().max() > (x / plain).abs().max()


@pytest.mark.parametrize("inverted", [False, True])
def test_a_feature_that_says_nothing_keeps_its_range(inverted):
    largest = torch.tensor([0.0, 3.0, 2.0])
    weight = torch.tensor([[1.0, 0.0, 2.0]])
    scales = smoothing_scales(largest, [weight], Smoothing(alpha=0.1, inverted=inverted))
    assert scales[:2].tolist() == [1, 1] and scales[2] != 1


def test_tiny_ranges_are_clamped_as_published():
    scales = smoothing_scales(torch.tensor([1e-9]), [torch.tensor([[1e-8]])], Smoothing(alpha=0.5))
    assert scales.item() == pytest.approx(1.0)


def test_smoothing_refuses_what_does_not_fit():
    with pytest.raises(AccelSimError, match=r"smoothing: weights \[3, 5\] and \[4\] maxima"):
        smoothing_scales(torch.ones(4), [torch.ones(3, 5)], Smoothing())
    with pytest.raises(AccelSimError, match="weights none"):
        smoothing_scales(torch.ones(4), [], Smoothing())
    with pytest.raises(AccelSimError, match="not finite"):
        smoothing_scales(torch.tensor([1.0, float("inf")]), [torch.ones(3, 2)], Smoothing())


# Rotation


def off_diagonal(matrix: torch.Tensor) -> float:
    """Largest entry off the diagonal, relative to the largest on it."""
    return float((matrix - torch.diag(matrix.diagonal())).abs().max() / matrix.diagonal().abs().max())


@pytest.mark.parametrize("tokens", [1, 10, 512])
def test_principal_axes_are_an_orthogonal_basis(tokens):
    basis = principal_axes(activations(tokens)).double()
    assert torch.allclose(basis.T @ basis, torch.eye(FEATURES, dtype=torch.double), atol=1e-6)


def test_principal_axes_part_the_variance():
    x = activations().double()
    rotated = x @ principal_axes(x.float()).double()
    assert off_diagonal(torch.cov(rotated.T)) < 1e-5


@pytest.mark.parametrize("size", [2, 4, 8, 16, 32])
def test_every_group_has_axes_of_all_sizes(size):
    """One of each M-th part of the axes, by variance."""
    x = activations(features=128).double()
    variances = (x @ principal_axes(x.float()).double()).var(0)
    ranks = variances.argsort(descending=True).argsort()
    parts = ranks.view(-1, size) // (128 // size)
    assert torch.equal(parts.sort(1).values, torch.arange(size).expand(128 // size, size))


@pytest.mark.parametrize("features", [96, 576])
@pytest.mark.parametrize("size", [4, 16, 32])
def test_groups_are_alike_where_the_number_of_axes_is_no_power_of_two(features, size):
    """The i-th largest axis of any group is about as large, by rank, as the i-th of any other."""
    # Features are their own axes here, the first one the largest.
    sizes = torch.diag(torch.arange(features, 0, -1.0))
    x = torch.cat([sizes, -sizes])
    ranks = principal_axes(x).abs().argmax(0)
    groups = ranks.view(-1, size).sort(1).values
    assert (groups.amax(0) - groups.amin(0) <= 2 * features // size).all()


@pytest.mark.parametrize("features", [1, 3, 24, 100])
def test_all_axes_are_there_whatever_their_number(features):
    basis = principal_axes(activations(200, features))
    assert torch.allclose(basis.T @ basis, torch.eye(features), atol=1e-5)


def test_the_mean_is_no_axis():
    """Two features; all variance lies along the second, all of the mean along the first."""
    x = torch.stack([torch.full((100,), 50.0), normal(100)], dim=1)
    assert torch.allclose(principal_axes(x)[:, 0], torch.tensor([0.0, 1.0]), atol=1e-6)


@pytest.mark.parametrize("outputs", [8, FEATURES, 80])
def test_right_singular_vectors_make_the_weights_columns_orthogonal(outputs):
    weight = normal(outputs, FEATURES, seed=3)
    basis = right_singular_vectors(weight).double()
    assert torch.allclose(basis.T @ basis, torch.eye(FEATURES, dtype=torch.double), atol=1e-6)
    rotated = weight.double() @ basis
    assert off_diagonal(rotated.T @ rotated) < 1e-6
    norms = rotated.norm(dim=0)
    norms = norms.sort(descending=True).values
    assert torch.allclose(norms[: min(weight.shape)], torch.linalg.svdvals(weight.double()), rtol=1e-5)
    assert (norms[outputs:] < 1e-5).all()


def test_axes_have_one_sign():
    x = activations()
    for basis in (principal_axes(x), right_singular_vectors(x)):
        assert (basis.gather(0, basis.abs().argmax(0, keepdim=True)) > 0).all()
    assert torch.equal(right_singular_vectors(-x), right_singular_vectors(x))


def test_selection_in_principal_axes_keeps_more_of_correlated_activations():
    """Activations near a plane of half the dimensions: N:M in their own axes loses little of them."""
    x = normal(1024, 32) @ normal(32, 64, seed=1) + 0.1 * normal(1024, 64, seed=2)
    basis = principal_axes(x[:512])
    unseen = x[512:]
    kept = prune(unseen @ basis) @ basis.T
    assert (unseen - kept).norm() < 0.5 * (unseen - prune(unseen)).norm()


def test_rotations_refuse_what_is_not_finite_and_no_tokens():
    with pytest.raises(AccelSimError, match="not finite"):
        principal_axes(torch.full((3, 4), float("nan")))
    with pytest.raises(AccelSimError, match=r"activations \[0, 4\]"):
        principal_axes(torch.ones(0, 4))
    with pytest.raises(AccelSimError, match="not finite"):
        right_singular_vectors(torch.full((3, 4), float("inf")))


# Low rank


@pytest.mark.parametrize("outputs", [12, FEATURES, 80])
def test_at_full_rank_the_factors_are_the_weight(outputs):
    """So a product whose dropped elements go through them is the dense one."""
    x, weight = activations(), normal(outputs, FEATURES, seed=4)
    dropped = x - prune(x)
    full = min(weight.shape)
    for down, up in (svd_factors(weight, full), fitted_factors(weight, dropped, full)):
        assert down.shape == (FEATURES, full) and up.shape == (full, outputs)
        assert torch.allclose(down @ up, weight.T, atol=1e-4)
        assert torch.allclose(prune(x) @ weight.T + (dropped @ down) @ up, x @ weight.T, atol=1e-2, rtol=1e-4)


@pytest.mark.parametrize("rank", [1, 5, 20])
def test_the_svd_leaves_exactly_the_smaller_singular_values(rank):
    weight = normal(OUTPUTS, FEATURES, seed=4)
    down, up = svd_factors(weight, rank)
    left = float((weight.T - down @ up).norm())
    assert left == pytest.approx(float(torch.linalg.svdvals(weight)[rank:].norm()), rel=1e-5)


@pytest.mark.parametrize("rank", [1, 5, 16])
def test_fitted_factors_have_the_least_error_there_is(rank):
    """By Eckart and Young no rank-r product can leave less of D·Wᵀ than its own smaller singular values."""
    weight = normal(OUTPUTS, FEATURES, seed=4)
    x = activations(20_000)
    dropped = x - prune(x)
    outputs = dropped.double() @ weight.double().T
    down, up = fitted_factors(weight, dropped, rank)
    least = torch.linalg.svdvals(outputs)[rank:].norm()
    error = (outputs - dropped.double() @ down.double() @ up.double()).norm()
    plain_down, plain_up = svd_factors(weight, rank)
    plain = (outputs - dropped.double() @ plain_down.double() @ plain_up.double()).norm()
    assert least * (1 - 1e-6) <= error <= least * 1.005
    assert error < 0.95 * plain


@pytest.mark.parametrize("tokens", [4, 40, 200])
def test_few_tokens_are_no_excuse_for_wild_factors(tokens):
    """There is nothing to learn from these beyond the weight itself; factors must not be fitted to their noise."""
    weight = normal(OUTPUTS, FEATURES, seed=4)
    plain_down, plain_up = svd_factors(weight, 12)
    down, up = fitted_factors(weight, normal(tokens, FEATURES), 12)
    unseen = normal(2000, FEATURES, seed=1)
    error, plain = ((unseen @ (weight.T - a @ b)).norm() for a, b in ((down, up), (plain_down, plain_up)))
    assert error < 1.03 * plain


def test_where_nothing_is_dropped_the_factors_are_the_svd():
    weight = normal(OUTPUTS, FEATURES, seed=4)
    for one, other in zip(fitted_factors(weight, torch.zeros(10, FEATURES), 3), svd_factors(weight, 3), strict=True):
        assert torch.equal(one, other)


def test_low_rank_refuses_what_cannot_be():
    weight = normal(OUTPUTS, FEATURES)
    for rank in (0, OUTPUTS + 1):
        with pytest.raises(AccelSimError, match=rf"rank {rank} of a weight \[24, 32\]; expected from 1 to 24"):
            svd_factors(weight, rank)
        with pytest.raises(AccelSimError, match="expected from 1 to 24"):
            fitted_factors(weight, torch.ones(4, FEATURES), rank)
    with pytest.raises(AccelSimError, match=r"dropped \[4, 31\] for a weight \[24, 32\]"):
        fitted_factors(weight, torch.ones(4, 31), 2)
    with pytest.raises(AccelSimError, match="not finite"):
        fitted_factors(weight, torch.full((4, FEATURES), float("nan")), 2)


# Fits to the dense outputs


def test_the_output_fit_is_the_optimum():
    """Its error has no slope, in scale or shift, and numpy's own least squares finds the same."""
    dense, sparse = normal(200, 6, seed=5).double() + 1, normal(200, 6, seed=6).double() + 3
    dense += 0.7 * sparse
    scale, shift = fit_output(dense, sparse, "scale_and_shift")
    for output in range(6):
        design = torch.stack([sparse[:, output], torch.ones(200, dtype=torch.double)], dim=1)
        slope, offset = torch.linalg.lstsq(design, dense[:, output]).solution
        assert scale[output] + 1 == pytest.approx(float(slope), rel=1e-5)
        assert shift[output] == pytest.approx(float(offset), rel=1e-4)
    scale, shift = fit_output(dense, sparse, "shift")
    assert not scale.any() and torch.allclose(shift.double(), (dense - sparse).mean(0))


def test_more_freedom_fits_better_and_equal_outputs_need_no_fit():
    x, weight = activations(), normal(OUTPUTS, FEATURES, seed=1)
    dense, sparse = x @ weight.T, prune(x) @ weight.T
    errors = [float((dense - sparse).norm())]
    for kind in ("shift", "scale_and_shift"):
        scale, shift = fit_output(dense, sparse, kind)
        errors.append(float((dense - sparse * (1 + scale) - shift).norm()))
    assert errors[0] > errors[1] > errors[2]
    scale, shift = fit_output(dense, dense, "scale_and_shift")
    assert scale.abs().max() < 1e-6 and shift.abs().max() < 1e-4


def test_an_output_that_never_varies_keeps_its_scale():
    dense = torch.tensor([[1.0], [2.0], [3.0]])
    scale, shift = fit_output(dense, torch.full((3, 1), 5.0), "scale_and_shift")
    assert scale.item() == 0 and shift.item() == -3


def test_the_output_fit_refuses_what_cannot_be():
    with pytest.raises(AccelSimError, match=r"dense \[3, 2\], sparse \[3, 4\]"):
        fit_output(torch.ones(3, 2), torch.ones(3, 4), "shift")
    with pytest.raises(AccelSimError, match="not finite"):
        fit_output(torch.full((3, 2), float("nan")), torch.ones(3, 2), "shift")


def shifted_error(x: torch.Tensor, weight: torch.Tensor, eta: torch.Tensor | float) -> float:
    return float(((prune(x - eta) + eta - x) @ weight.T).norm())


@pytest.mark.parametrize("seed", range(3))
def test_a_learned_shift_beats_none_and_the_means_on_tokens_it_has_not_seen(seed):
    """Skewed features: the mean is not where most tokens are."""
    x, weight = (activations(1536, 64, seed=seed) / 8).sinh(), normal(OUTPUTS, 64, seed=7)
    eta = learn_shift(x[:1024], weight, prune)
    errors = [shifted_error(x[1024:], weight, one) for one in (0.0, x[:1024].mean(0), eta)]
    assert errors[2] < 0.98 * min(errors[:2])


def test_learning_starts_where_the_error_is_less():
    """Features that are mostly zero: their means would be worse than no shift at all."""
    x, weight = activations(1536, 64).relu(), normal(OUTPUTS, 64, seed=7)
    eta = learn_shift(x[:1024], weight, prune)
    errors = [shifted_error(x[1024:], weight, one) for one in (eta, 0.0, x[:1024].mean(0))]
    assert errors[0] < 0.95 * errors[1] and errors[1] < errors[2]


@pytest.mark.parametrize("rate", [0.03, 1e3])
def test_a_learned_shift_is_never_worse_than_none_where_it_was_learned(rate):
    """Neither where nothing can be gained, nor where the steps are far too long."""
    weight = normal(OUTPUTS, FEATURES, seed=7)
    for x in (normal(64, FEATURES), activations(64), torch.zeros(64, FEATURES)):
        assert shifted_error(x, weight, learn_shift(x, weight, prune, rate=rate)) <= shifted_error(x, weight, 0.0)


def test_the_first_step_of_learning_goes_down_the_slope_of_the_error():
    """By finite differences, with what is kept held fast."""
    x, weight = activations(64).double(), normal(OUTPUTS, FEATURES, seed=7).double()
    mean = x.mean(0)
    kept = prune(x - mean) != 0

    def error(eta: torch.Tensor) -> torch.Tensor:
        return (torch.where(kept, 0.0, x - eta) @ weight.T).square().sum()

    slope = torch.autograd.functional.jacobian(error, mean)
    learned = learn_shift(x.float(), weight.float(), prune, epochs=1, rows=64, rate=1e-3).double()
    moved = learned - mean
    # AdamW's first step has the sign of the gradient and the length of the rate, in each feature's own units.
    assert torch.equal(moved.sign(), -slope.sign())
    unit = x.std(0, correction=0)
    assert torch.allclose(moved.abs() / unit, torch.full((FEATURES,), 1e-3, dtype=torch.double), rtol=0.05)


def test_learning_is_repeatable():
    x, weight = activations(), normal(OUTPUTS, FEATURES, seed=7)
    first = learn_shift(x, weight, prune, seed=1)
    assert torch.equal(first, learn_shift(x, weight, prune, seed=1))
    assert not torch.equal(first, learn_shift(x, weight, prune, seed=2))


def test_learning_refuses_what_cannot_be():
    with pytest.raises(AccelSimError, match=r"activations \[4, 3\], weight \[2, 5\]"):
        learn_shift(torch.ones(4, 3), torch.ones(2, 5), prune)
    with pytest.raises(AccelSimError, match="not finite"):
        learn_shift(torch.full((4, 16), float("inf")), torch.ones(2, 16), prune)
