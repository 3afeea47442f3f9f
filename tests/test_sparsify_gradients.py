"""The gradient criterion's factors are the gradients that torch finds by other means."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from capture_helpers import MODELS, PROMPT, VOCABULARY, tiny_model  # noqa: E402

from accel_sim.capture.load import run_experts_one_by_one  # noqa: E402
from accel_sim.capture.projections import decoder_blocks, find_projections  # noqa: E402
from accel_sim.errors import AccelSimError  # noqa: E402
from accel_sim.sparsify.gradients import gradient_factors  # noqa: E402

IDS = torch.tensor([PROMPT, [VOCABULARY - 1 - token for token in PROMPT]])


def parameters_of(model):
    return find_projections(model, decoder_blocks(model))


@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma3"])
def test_they_are_the_inputs_gradients_summed_over_tokens(name):
    """By torch's own backward hooks, which see dL/dX of each nn.Linear."""
    model = tiny_model(name)
    sums: dict[str, torch.Tensor] = {}

    def watch(path: str):
        def add(_, grad_input, __):
            sums[path] = sums.get(path, 0) + grad_input[0].sum((0, 1))

        return add

    parameters = parameters_of(model)
    paths = {each.path() for each in parameters}
    handles = [
        module.register_full_backward_hook(watch(path)) for path, module in model.named_modules() if path in paths
    ]
    logits = model(input_ids=IDS).logits
    loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), IDS[:, 1:].flatten(), reduction="sum")
    loss.backward()
    for handle in handles:
        handle.remove()
    factors = gradient_factors(model, IDS, parameters)
    assert set(factors) == paths
    for path in paths:
        assert torch.allclose(factors[path], sums[path].abs(), rtol=1e-3, atol=1e-4 * float(sums[path].abs().max()))


def test_they_are_the_slope_of_the_loss():
    """By finite differences: a step of one feature of GPT-2's Conv1D in all tokens."""
    model = tiny_model("gpt2").double()
    parameters = parameters_of(model)
    factors = gradient_factors(model, IDS, parameters)
    path = "transformer.h.1.mlp.c_fc"
    module = model.get_submodule(path)

    def loss(step: float) -> float:
        nudge = torch.zeros(16, dtype=torch.double)
        nudge[5] = step
        handle = module.register_forward_pre_hook(lambda _, args: (args[0] + nudge,))
        with torch.no_grad():
            logits = model(input_ids=IDS).logits
        handle.remove()
        return float(
            torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), IDS[:, 1:].flatten(), reduction="sum")
        )

    slope = (loss(1e-5) - loss(-1e-5)) / 2e-5
    assert float(factors[path][5]) == pytest.approx(abs(slope), rel=1e-4)


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_that_can_be_captured_has_them(name):
    model = tiny_model(name)
    run_experts_one_by_one(model)
    parameters = parameters_of(model)
    factors = gradient_factors(model, IDS, parameters)
    for parameter in parameters:
        paths = [parameter.path(expert) for expert in range(parameter.experts or 0)] or [parameter.path()]
        assert any(path in factors for path in paths), parameter.name
    assert all(factor.shape in ((16,), (24,), (12,), (8,), (64,)) for factor in factors.values())
    assert sum(float(factor.sum()) for factor in factors.values()) > 0


def test_the_model_stays_as_it_was():
    model = tiny_model("llama")
    frozen = next(model.parameters()).requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.no_grad():
        gradient_factors(model, IDS, parameters_of(model))
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not frozen.requires_grad and sum(not each.requires_grad for each in model.parameters()) == 1
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_one_token_has_no_next_one():
    model = tiny_model("llama")
    with pytest.raises(AccelSimError, match=r"gradients: tokens \[2, 1\]"):
        gradient_factors(model, IDS[:, :1], parameters_of(model))
