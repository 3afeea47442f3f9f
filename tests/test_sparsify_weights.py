"""Static sparsity of the weights: which go, and what SparseGPT does to those that stay."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from accel_sim.errors import AccelSimError  # noqa: E402
from accel_sim.sparsify.recipe import WeightPruning  # noqa: E402
from accel_sim.sparsify.weight_pruning import DAMPENING, prune_weight  # noqa: E402

OUTPUTS, FEATURES = 24, 288
CRITERIA = ("magnitude", "wanda", "sparsegpt")
PATTERNS = ("2:4", "8:16", "16:32", "3:6", "unstructured 50%", "unstructured 30%")


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def correlated(tokens: int = 1024, features: int = FEATURES, seed: int = 0) -> torch.Tensor:
    mixed = normal(tokens, features, seed=seed) @ normal(features, features, seed=100) / features**0.5
    return mixed * torch.logspace(-1, 1, features)[torch.randperm(features, generator=torch.manual_seed(3))]


def pruned(weight: torch.Tensor, criterion: str, pattern: str, x: torch.Tensor | None = None) -> torch.Tensor:
    return prune_weight(weight, WeightPruning(pattern=pattern, criterion=criterion), x)


def error(x: torch.Tensor, weight: torch.Tensor, changed: torch.Tensor) -> float:
    return float((x.double() @ (weight - changed).double().T).norm())


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("criterion", CRITERIA)
def test_as_many_weights_stay_as_the_pattern_says(criterion, pattern):
    """288 features are no multiple of 128 or of 5·32: blocks and groups end where they should."""
    weight = normal(OUTPUTS, FEATURES)
    result = pruned(weight, criterion, pattern, correlated())
    stays = result != 0
    if ":" in pattern:
        n, m = map(int, pattern.split(":"))
        assert (stays.view(OUTPUTS, -1, m).sum(2) == n).all()
    else:
        share = 1 - float(pattern.split()[1].rstrip("%")) / 100
        if criterion == "sparsegpt":
            assert int(stays.sum()) == round(share * weight.numel())
        else:
            assert (stays.sum(1) == round(share * FEATURES)).all()
    if criterion != "sparsegpt":
        assert torch.equal(result, torch.where(stays, weight, 0))


def test_magnitude_and_wanda_keep_what_scores_highest():
    weight = torch.tensor([[1.0, -4.0, 3.0, 2.0], [0.5, 0.1, -0.2, 0.3]])
    x = torch.tensor([[10.0, 0.0, 1.0, 2.0], [10.0, 1.0, 0.0, -3.0]])
    assert pruned(weight, "magnitude", "2:4").tolist() == [[0, -4, 3, 0], [0.5, 0, 0, torch.tensor(0.3).item()]]
    # |W|·‖X_j‖ of the first output: 14.1, 4, 3, 7.2.
    assert pruned(weight, "wanda", "2:4", x)[0].tolist() == [1, 0, 0, 2]
    assert pruned(weight, "wanda", "unstructured 75%", x).tolist() == [[1, 0, 0, 0], [0.5, 0, 0, 0]]


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("pattern", ["2:4", "unstructured 50%"])
def test_ties_go_to_the_lower_feature(criterion, pattern):
    """Equal weights under uncorrelated inputs of one size."""
    result = pruned(torch.ones(3, 4), criterion, pattern, 2 * torch.eye(4))
    assert (result != 0).tolist() == [[True, True, False, False]] * 3


def test_a_last_group_that_is_cut_short_keeps_up_to_n():
    weight = normal(5, 10)
    for criterion in CRITERIA:
        stays = pruned(weight, criterion, "2:4", correlated(64, 10)) != 0
        assert (stays[:, 8:]).all() and (stays[:, :8].view(5, 2, 4).sum(2) == 2).all()


@pytest.mark.parametrize("pattern", PATTERNS)
def test_each_criterion_knows_more_and_errs_less(pattern):
    x, weight = correlated(), normal(OUTPUTS, FEATURES)
    errors = [error(x, weight, pruned(weight, criterion, pattern, x)) for criterion in CRITERIA]
    assert errors[0] > errors[1] > errors[2]


def best_update(x: torch.Tensor, weight: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
    """One output's weights [K] of least dampened error on x that are zero wherever `kept` [K] is not."""
    hessian = x.double().T @ x.double()
    hessian += DAMPENING * hessian.diagonal().mean() * torch.eye(len(hessian), dtype=torch.double)
    result = torch.zeros_like(weight, dtype=torch.double)
    result[kept] = torch.linalg.solve(hessian[kept][:, kept], hessian[kept] @ weight.double())
    return result


def test_one_weight_removed_is_the_optimal_brain_surgeon():
    """With 3:4 and four features: brute force over which weight goes and what the others then do best."""
    for seed in range(20):
        x, weight = correlated(32, 4, seed=seed), normal(1, 4, seed=seed)
        kept = (pruned(weight, "sparsegpt", "3:4", x) != 0)[0]
        hessian = x.double().T @ x.double()
        hessian += DAMPENING * hessian.diagonal().mean() * torch.eye(4, dtype=torch.double)
        # SparseGPT's saliency is for weights from the left, with those before them already settled: eq. 3 with the
        # inverse of the trailing block.
        saliency = [float(weight[0, j].double() ** 2 / torch.linalg.inv(hessian[j:, j:])[0, 0]) for j in range(4)]
        assert (~kept).nonzero().item() == min(range(4), key=saliency.__getitem__)
        # What comes later is updated as the surgeon would, given that what came before stays as it is.
        removed = (~kept).nonzero().item()
        trailing = torch.linalg.inv(hessian[removed:, removed:])
        expected = weight[0].double().clone()
        expected[removed:] -= weight[0, removed].double() / trailing[0, 0] * trailing[0]
        assert torch.allclose(pruned(weight, "sparsegpt", "3:4", x)[0].double(), expected, atol=1e-5)


def test_the_first_weight_removed_is_made_good_as_well_as_can_be():
    """All later weights may change, so their update is the least-squares optimum."""
    x, weight = correlated(64, 8), normal(6, 8)
    weight[:, 0] = 1e-3  # goes first, in every output
    result = pruned(weight, "sparsegpt", "7:8", x)
    for output in range(6):
        kept = torch.arange(8) > 0
        assert not result[output, 0]
        expected = best_update(x, weight[output], kept)
        assert torch.allclose(result[output].double(), expected, atol=1e-6)


def test_sparse_gpt_follows_the_published_loop():
    """Algorithm 1 without blocks: every update reaches all later features at once, in float64."""
    x, weight = correlated(512, 160), normal(7, 160)
    hessian = x.double().T @ x.double()
    hessian += DAMPENING * hessian.diagonal().mean() * torch.eye(160, dtype=torch.double)
    factor = torch.linalg.cholesky(torch.linalg.inv(hessian), upper=True)
    left = weight.double().clone()
    for feature in range(160):
        if feature % 16 == 0:
            group = slice(feature, feature + 16)
            saliency = left[:, group] ** 2 / factor.diagonal()[group] ** 2
            goes = torch.zeros_like(saliency, dtype=torch.bool).scatter_(1, saliency.argsort(1)[:, :8], True)
        gone = torch.where(goes[:, feature % 16], left[:, feature], 0)
        left[:, feature:] -= torch.outer(gone / factor[feature, feature], factor[feature, feature:])
        left[:, feature] = torch.where(goes[:, feature % 16], 0, left[:, feature])
    assert torch.allclose(pruned(weight, "sparsegpt", "8:16", x).double(), left, atol=1e-4)


def test_features_that_are_never_seen_go_first():
    x, weight = correlated(256, 32), normal(4, 32)
    x[:, ::4] = 0
    for criterion in ("wanda", "sparsegpt"):
        for pattern in ("2:4", "unstructured 50%"):
            assert not pruned(weight, criterion, pattern, x)[:, ::4].any()


def test_the_weight_itself_stays_as_it_was():
    weight = torch.nn.Parameter(normal(4, 32).bfloat16())
    before = weight.detach().clone()
    for criterion in CRITERIA:
        result = pruned(weight, criterion, "2:4", correlated(64, 32))
        assert result.dtype == torch.bfloat16 and not result.requires_grad
        assert torch.equal(weight, before)


def test_what_cannot_be_is_refused():
    weight = normal(4, 32)
    with pytest.raises(AccelSimError, match="wanda: needs activations of calibration text"):
        pruned(weight, "wanda", "2:4")
    with pytest.raises(AccelSimError, match=r"sparsegpt: activations \[3, 31\] for a weight \[4, 32\]"):
        pruned(weight, "sparsegpt", "2:4", torch.ones(3, 31))
    with pytest.raises(AccelSimError, match="sparsegpt: activations that are not finite"):
        pruned(weight, "sparsegpt", "2:4", torch.full((3, 32), float("nan")))
    weight[0, 0] = float("inf")
    with pytest.raises(AccelSimError, match=r"magnitude: weight \[4, 32\]; expected finite values"):
        pruned(weight, "magnitude", "2:4")
