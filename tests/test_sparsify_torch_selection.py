"""Selection of tensors: the compiled form and the one of tensor operations, both the reference to the bit."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_sparsify_selection import STYLES, TEXTS, all_floats, all_kept, factors_for, floats, same_bits, threshold_for

from accel_sim import AccelSimError
from accel_sim.pattern import Pattern
from accel_sim.sparsify.kept import parse_kept
from accel_sim.sparsify.selection import keep_reference, prune

torch = pytest.importorskip("torch")
from accel_sim.sparsify.torch_selection import (  # noqa: E402
    keep_by_tensor_operations,
    keep_tensor,
    prune_tensor,
    token_medians,
)

DEVICES = ("cpu", pytest.param("cuda", marks=pytest.mark.gpu))


@given(all_floats, all_kept(), st.integers(0, 99))
def test_both_forms_are_the_reference(x, kept, seed):
    factors, threshold = factors_for(x.shape, seed), threshold_for(kept)
    scores = np.abs(x) * (np.float32(1) if factors is None else factors)
    mask = keep_reference(scores, kept, threshold)
    assert np.array_equal(keep_tensor(torch.tensor(scores), kept, threshold).numpy(), mask)
    assert np.array_equal(keep_by_tensor_operations(torch.tensor(scores), kept, threshold).numpy(), mask)
    got = prune_tensor(torch.tensor(x), kept, None if factors is None else torch.tensor(factors), threshold)
    assert same_bits(got.numpy(), prune(x, kept, factors, threshold))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("text", [*TEXTS, "threshold 50%"])
def test_on_a_device(device, style, text):
    x, kept = floats((33, 331), style, 5), parse_kept(text) or Pattern(text)
    threshold = threshold_for(kept)
    for seed in range(3):
        factors = factors_for(x.shape, seed)
        expected = prune(x, kept, factors, threshold)
        weights = None if factors is None else torch.tensor(factors, device=device)
        assert same_bits(prune_tensor(torch.tensor(x, device=device), kept, weights, threshold).cpu().numpy(), expected)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_float_types_keep_their_values(device, dtype):
    x = torch.tensor(floats((20, 100), "normal", 1), device=device).to(dtype)
    factors = torch.rand(100, generator=torch.Generator().manual_seed(0)).to(device, dtype)
    scores = x.to(torch.float32).abs() * factors.to(torch.float32)
    mask = torch.from_numpy(keep_reference(scores.cpu().numpy(), Pattern("8:16"))).to(device)
    pruned = prune_tensor(x, Pattern("8:16"), factors)
    assert pruned.dtype == dtype
    assert torch.equal(pruned, torch.where(mask, x, torch.zeros_like(x)))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("features", [1, 2, 9, 100])
def test_medians_are_those_of_torch(device, dtype, features):
    x = torch.tensor(floats((20, features), "normal", features), device=device).to(dtype)
    found = token_medians(x)
    assert found.dtype == dtype
    assert torch.equal(found, x.median(dim=1, keepdim=True).values)


def test_gradients_pass_through_what_stays():
    x = torch.tensor(floats((6, 32), "normal", 2), requires_grad=True)
    pruned = prune_tensor(x, Pattern("2:4"))
    (pruned * torch.arange(32)).sum().backward()
    assert torch.equal(x.grad, (pruned != 0) * torch.arange(32.0))
    with torch.no_grad():
        assert torch.equal(prune_tensor(x, Pattern("2:4")), pruned.detach())


def test_the_input_is_left_alone_and_views_are_taken():
    x = torch.tensor(floats((40, 64), "normal", 4))
    before = x.clone()
    for view in (x, x[::2], x.T):
        assert same_bits(prune_tensor(view, Pattern("8:16")).numpy(), prune(view.numpy().copy(), Pattern("8:16")))
    assert torch.equal(x, before)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
def test_bad_scores_are_refused_by_place(bad):
    scores = torch.ones(3, 8)
    scores[2, 5] = bad
    for call in (keep_tensor, keep_by_tensor_operations):
        with pytest.raises(AccelSimError, match="token 2, feature 5"):
            call(scores, Pattern("2:4"))


def test_other_shapes_and_types_are_refused():
    for bad in (torch.ones(8), torch.ones(2, 0), torch.ones(2, 8, dtype=torch.int32)):
        for call in (prune_tensor, keep_tensor, keep_by_tensor_operations):
            with pytest.raises(AccelSimError, match="expected floats"):
                call(bad, Pattern("2:4"))
    with pytest.raises(AccelSimError, match="takes none"):
        keep_by_tensor_operations(torch.ones(2, 8), Pattern("2:4"), 1.0)
