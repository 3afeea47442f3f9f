"""Capture of tiny random models of many kinds: everything linear is seen, and what is stored is what was fed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from capture_helpers import MODELS, PROMPT, loaded_model, options, prompts  # noqa: E402

from accel_sim.capture.projections import decoder_blocks  # noqa: E402
from accel_sim.capture.run import record  # noqa: E402
from accel_sim.errors import AccelSimError  # noqa: E402
from accel_sim.trace import Trace  # noqa: E402

EXPERT_MODELS = ("mixtral", "qwen3_moe", "gpt_oss")


def captured(name: str, out: Path, **changes) -> tuple[transformers.PreTrainedModel, Trace]:
    loaded = loaded_model(name)
    record(loaded, prompts(changes.get("sequences", 1), changes.get("tokens", len(PROMPT))), options(out, **changes))
    return loaded.model, Trace.open(out)


def module_outputs(model: transformers.PreTrainedModel, kinds: tuple[type, ...]) -> dict[str, np.ndarray]:
    """What every module of `kinds` inside the decoder blocks gives for the prompt, by the ordinary forward hooks."""
    outputs: dict[str, np.ndarray] = {}
    inside = f"{decoder_blocks(model).path}."
    handles = [
        module.register_forward_hook(
            lambda _, __, y, name=name: outputs.update({name: y.detach().reshape(-1, y.shape[-1]).numpy().copy()})
        )
        for name, module in model.named_modules()
        if type(module) in kinds and name.startswith(inside)
    ]
    with torch.no_grad():
        model(input_ids=torch.tensor([PROMPT]))
    for handle in handles:
        handle.remove()
    return outputs


@pytest.mark.parametrize("name", MODELS)
def test_all_linear_products_are_seen(tmp_path, name):
    _, trace = captured(name, tmp_path / "t")
    coverage = trace.manifest.coverage
    assert coverage.captured_macs == coverage.expected_macs > 0 and coverage.missing == ()
    total = sum(site.tokens * site.features * each.outputs for site in trace.sites for each in site.projections)
    assert total == coverage.captured_macs


@pytest.mark.parametrize("name", MODELS)
def test_stored_activations_times_the_models_weights_give_the_modules_outputs(tmp_path, name):
    model, trace = captured(name, tmp_path / "t", dtype="float32")
    modules = dict(model.named_modules())
    expected = module_outputs(model, (torch.nn.Linear, transformers.pytorch_utils.Conv1D))
    found = {each.name: site for site in trace.sites for each in site.projections if site.expert is None}
    assert expected and set(expected) <= set(found)
    for path, output in expected.items():
        weight = modules[path].weight.detach().numpy()
        weight = weight if isinstance(modules[path], transformers.pytorch_utils.Conv1D) else weight.T
        bias = modules[path].bias.detach().numpy() if modules[path].bias is not None else 0
        np.testing.assert_allclose(trace.values(found[path].name) @ weight + bias, output, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_stored_weights_and_biases_are_those_of_the_model(tmp_path, name):
    model, trace = captured(name, tmp_path / "t", weights=True)
    parameters = dict(model.named_parameters())
    for site in trace.sites:
        for each in site.projections:
            weight = trace.weight(each.name)
            assert weight.codes.shape == (site.features, each.outputs)
            expected = parameters[each.parameter].detach()
            expected = (expected if site.expert is None else expected[site.expert]).numpy()
            expected = expected.T if each.parameter_layout == "outputs_features" else expected
            np.testing.assert_allclose(weight.codes * weight.scales, expected, atol=weight.scales.max() * 0.51)
            assert (weight.bias is not None) == each.has_bias
            if each.has_bias:
                bias = parameters[each.bias].detach()
                np.testing.assert_array_equal(weight.bias, bias if site.expert is None else bias[site.expert])


@pytest.mark.parametrize(
    ("name", "grouped"),
    [
        ("llama", {"q_proj+k_proj+v_proj", "o_proj", "gate_proj+up_proj", "down_proj"}),
        ("gemma3", {"q_proj+k_proj+v_proj", "o_proj", "gate_proj+up_proj", "down_proj"}),
        ("gpt2", {"attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"}),
        ("neox", {"query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h"}),
    ],
)
def test_projections_fed_by_one_tensor_are_one_site(tmp_path, name, grouped):
    _, trace = captured(name, tmp_path / "t", layers="1")
    assert len(trace.sites) == len(grouped)
    assert all(any(site.name.endswith(end) for site in trace.sites) for end in grouped)


def test_biases_are_noted(tmp_path):
    _, trace = captured("qwen2", tmp_path / "t")
    biases = {each.name.rpartition(".")[2]: each.bias for each in (p for s in trace.sites[:4] for p in s.projections)}
    assert biases["q_proj"] == "model.layers.0.self_attn.q_proj.bias" and biases["o_proj"] is None


def test_parallel_blocks_with_two_norms_keep_their_sites_apart(tmp_path):
    """In GPT-NeoX attention and feed-forward run side by side, but behind norms of their own."""
    _, trace = captured("neox", tmp_path / "t", layers="0")
    assert [len(site.projections) for site in trace.sites] == [1, 1, 1, 1]


@pytest.mark.parametrize("name", EXPERT_MODELS)
def test_experts_hold_the_rows_of_the_tokens_routed_to_them(tmp_path, name):
    """Checked against the router's own choice, and against the input of the experts' module."""
    loaded = loaded_model(name)
    seen = []
    experts = next(module for path, module in loaded.model.named_modules() if path.endswith("layers.0.mlp.experts"))
    experts.register_forward_pre_hook(
        lambda _, args, kwargs: seen.append([*args, *kwargs.values()][:2]), with_kwargs=True
    )
    record(loaded, prompts(1, len(PROMPT)), options(tmp_path / "t", dtype="float32"))
    (hidden, chosen), *_ = seen
    trace = Trace.open(tmp_path / "t")
    hidden = hidden.reshape(-1, hidden.shape[-1]).numpy()
    chosen = chosen.reshape(len(hidden), -1).numpy()
    sites = [s for s in trace.sites if s.layer == 0 and s.expert is not None and "gate_up" in s.name]
    assert sorted(site.expert for site in sites) == sorted(set(chosen.ravel()))
    for site in sites:
        positions = trace.positions(site.name)
        assert sorted(positions) == np.flatnonzero((chosen == site.expert).any(axis=1)).tolist()
        np.testing.assert_array_equal(trace.values(site.name), hidden[positions])
        down = site.name.replace("gate_up_proj", "down_proj")
        np.testing.assert_array_equal(trace.positions(down), positions)


def test_experts_products_add_up_to_the_modules_output(tmp_path):
    """What the experts hold, multiplied out by hand and weighted by the router, is what the block computes."""
    loaded = loaded_model("mixtral")
    seen = {}
    experts = loaded.model.model.layers[0].mlp.experts
    experts.register_forward_hook(lambda _, args, output: seen.update(args=args, output=output))
    record(loaded, prompts(1, len(PROMPT)), options(tmp_path / "t", dtype="float32"))
    trace = Trace.open(tmp_path / "t")
    _, chosen, shares = (each.numpy() for each in seen["args"])
    total = np.zeros_like(seen["output"].numpy())
    for site in trace.sites:
        if site.layer == 0 and site.expert is not None and "down_proj" in site.name:
            positions = trace.positions(site.name)
            product = trace.values(site.name) @ experts.down_proj[site.expert].detach().numpy().T
            share = (shares * (chosen == site.expert)).sum(axis=1)[positions]
            np.add.at(total, positions, product * share[:, None])
    np.testing.assert_allclose(total, seen["output"].numpy(), atol=1e-5)


def test_experts_that_get_every_token_keep_them_in_their_own_order(tmp_path):
    """With all experts chosen for all tokens, an expert's rows are as many as the chunk's, but not in its order."""
    loaded = loaded_model("mixtral", num_local_experts=2)
    seen = []
    loaded.model.model.layers[0].mlp.experts.register_forward_pre_hook(lambda _, args: seen.append(args[0].numpy()))
    record(loaded, prompts(1, len(PROMPT)), options(tmp_path / "t", dtype="float32"))
    trace = Trace.open(tmp_path / "t")
    sites = [site for site in trace.sites if site.layer == 0 and site.expert is not None and "gate_up" in site.name]
    orders = [trace.positions(site.name) for site in sites]
    assert any((np.diff(order) < 0).any() for order in orders)
    for site, order in zip(sites, orders, strict=True):
        np.testing.assert_array_equal(trace.values(site.name), seen[0][order])


def test_experts_in_one_batched_product_hold_the_tokens_routed_to_them(tmp_path):
    """Llama 4 gives every expert every token, those of others as zeros: only its own count."""
    loaded = loaded_model("llama4")
    seen = {}
    mlp = loaded.model.model.layers[0].feed_forward
    mlp.router.register_forward_hook(lambda _, __, output: seen.update(scores=output[0].numpy()))
    mlp.register_forward_pre_hook(lambda _, args: seen.update(hidden=args[0].reshape(-1, 16).numpy()))
    record(loaded, prompts(1, len(PROMPT)), options(tmp_path / "t", dtype="float32"))
    trace = Trace.open(tmp_path / "t")
    sites = [site for site in trace.sites if site.layer == 0 and site.expert is not None and "gate_up" in site.name]
    assert sum(site.tokens for site in sites) == 2 * len(PROMPT)
    for site in sites:
        share = seen["scores"][:, site.expert]
        positions = np.flatnonzero(share)
        assert trace.positions(site.name).tolist() == positions.tolist()
        np.testing.assert_array_equal(trace.values(site.name), (seen["hidden"] * share[:, None])[positions])


def test_the_lm_head_is_captured_when_asked(tmp_path):
    model, trace = captured("llama", tmp_path / "t", lm_head=True, weights=True)
    site = trace.sites[-1]
    assert (site.name, site.layer) == ("lm_head", None)
    assert trace.weight("lm_head").codes.shape == (model.config.hidden_size, model.config.vocab_size)


@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_a_tensor_that_the_model_changes_afterwards_is_stored_as_it_was(tmp_path, dtype):
    _, before = captured("llama", tmp_path / "before", dtype=dtype)
    loaded = loaded_model("llama")
    for layer in loaded.model.model.layers:
        layer.mlp.down_proj.register_forward_hook(lambda _, args, output: (args[0].zero_(), output)[1])
    record(loaded, prompts(1, len(PROMPT)), options(tmp_path / "t", dtype=dtype))
    trace = Trace.open(tmp_path / "t")
    for site in before.sites:
        np.testing.assert_array_equal(trace.values(site.name), before.values(site.name))


def test_a_tensor_changed_between_two_projections_makes_two_sites(tmp_path):
    """The same memory is not the same activation."""
    loaded = loaded_model("llama")
    for layer in loaded.model.model.layers:
        layer.mlp.gate_proj.register_forward_hook(lambda _, args, output: (args[0].mul_(2), output)[1])
    record(loaded, prompts(1, len(PROMPT)), options(tmp_path / "t", dtype="float32", layers="0"))
    trace = Trace.open(tmp_path / "t")
    gate, up = (trace.values(f"layers.0.mlp.{name}_proj") for name in ("gate", "up"))
    np.testing.assert_array_equal(2 * gate, up)


def test_layers_and_sites_can_be_chosen(tmp_path):
    _, trace = captured("llama", tmp_path / "t", layers="0,2", sites=("down_proj", "*.q_proj"))
    names = [site.name for site in trace.sites]
    assert names == [f"layers.{layer}.{site}" for layer in (0, 2) for site in ("self_attn.q_proj", "mlp.down_proj")]
    assert trace.manifest.layers == (0, 2) and trace.manifest.coverage.fraction == 1


def test_what_the_model_does_not_have_is_an_error(tmp_path):
    with pytest.raises(AccelSimError, match="--layers 7: no layer 7; there are 0-2"):
        captured("llama", tmp_path / "t", layers="7")
    with pytest.raises(AccelSimError, match="no projection matches; the model has q_proj"):
        captured("llama", tmp_path / "t", sites=("nothing",))


def test_a_product_that_is_not_seen_is_named(tmp_path):
    """A projection computed by element-wise multiplication and sums is invisible, and must not pass as complete."""
    loaded = loaded_model("llama")
    module = loaded.model.model.layers[1].mlp.down_proj
    module.forward = lambda x: (x[..., None, :] * module.weight).sum(-1)
    with pytest.raises(AccelSimError, match=r"captured \d\d\.\d\d%.*seen: model\.layers\.1\.mlp\.down_proj\.weight;"):
        record(loaded, prompts(1, len(PROMPT)), options(tmp_path / "t"))
    with pytest.raises(AccelSimError, match="unfinished"):
        Trace.open(tmp_path / "t")
    manifest = record(loaded, prompts(1, len(PROMPT)), options(tmp_path / "t", force=True, allow_partial=True))
    assert manifest.coverage.missing == ("model.layers.1.mlp.down_proj.weight",) and manifest.coverage.fraction < 1


def test_a_product_that_is_seen_for_some_tokens_only_is_named(tmp_path):
    loaded = loaded_model("llama")
    module = loaded.model.model.layers[1].mlp.down_proj

    def forward(x):
        return torch.cat([module.weight.new_zeros(1, 2, 16), torch.nn.functional.linear(x[:, 2:], module.weight)], 1)

    module.forward = forward
    with pytest.raises(AccelSimError, match=r"not, or not wholly, seen: model\.layers\.1\.mlp\.down_proj\.weight;"):
        record(loaded, prompts(1, len(PROMPT)), options(tmp_path / "t"))


def test_a_product_with_a_part_of_a_weight_is_not_taken_for_all_of_it(tmp_path):
    loaded = loaded_model("llama")
    module = loaded.model.model.layers[1].mlp.down_proj

    def forward(x):
        first = torch.nn.functional.linear(x, module.weight[:10])
        return torch.cat([first, (x[..., None, :] * module.weight[10:]).sum(-1)], -1)

    module.forward = forward
    manifest = record(loaded, prompts(1, len(PROMPT)), options(tmp_path / "t", allow_partial=True))
    assert manifest.coverage.missing == ("model.layers.1.mlp.down_proj.weight",)
    assert "layers.1.mlp.down_proj" not in {site.name for site in manifest.sites}


def test_a_weight_that_is_used_more_often_does_not_make_up_for_one_that_is_not_seen(tmp_path):
    loaded = loaded_model("llama")
    often, unseen = (loaded.model.model.layers[layer].mlp.down_proj for layer in (0, 1))
    linear = torch.nn.functional.linear
    often.forward = lambda x: linear(x, often.weight) + linear(2 * x, often.weight)
    unseen.forward = lambda x: (x[..., None, :] * unseen.weight).sum(-1)
    manifest = record(loaded, prompts(1, len(PROMPT)), options(tmp_path / "t", allow_partial=True))
    assert manifest.coverage.missing == ("model.layers.1.mlp.down_proj.weight",) and manifest.coverage.fraction < 1
    (site,) = (site for site in manifest.sites if site.name == "layers.0.mlp.down_proj")
    assert site.tokens == 2 * len(PROMPT)


def test_a_product_that_is_computed_twice_is_one_projection(tmp_path):
    loaded = loaded_model("llama")
    module = loaded.model.model.layers[1].mlp.down_proj
    linear = torch.nn.functional.linear
    module.forward = lambda x: (linear(x, module.weight) + linear(x, module.weight)) / 2
    manifest = record(loaded, prompts(1, len(PROMPT)), options(tmp_path / "t", weights=True))
    assert manifest.coverage.fraction == 1
    trace = Trace.open(tmp_path / "t")
    (site,) = (site for site in trace.sites if site.name.startswith("layers.1.mlp.down_proj"))
    assert site.name == "layers.1.mlp.down_proj" and len(site.projections) == 1
    for each in trace.sites:
        for projection in each.projections:
            assert trace.weight(projection.name).codes.shape == (projection.features, projection.outputs)


def test_an_activation_that_is_not_finite_is_named(tmp_path):
    loaded = loaded_model("llama")
    with torch.no_grad():
        loaded.model.model.embed_tokens.weight[PROMPT[4]] = torch.nan
    with pytest.raises(AccelSimError, match=r"layers\.0\.self_attn\.q_proj: token 4, feature 0 is nan"):
        record(loaded, prompts(1, len(PROMPT)), options(tmp_path / "t"))
    with pytest.raises(AccelSimError, match="unfinished"):
        Trace.open(tmp_path / "t")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_float_types_keep_what_they_can(tmp_path, dtype):
    _, exact = captured("llama", tmp_path / "exact", dtype="float32")
    _, trace = captured("llama", tmp_path / "t", dtype=dtype)
    relative = {"float16": 2**-11, "bfloat16": 2**-8, "float32": 0}[dtype]
    for site in trace.sites:
        assert site.dtype == dtype
        np.testing.assert_allclose(trace.values(site.name), exact.values(site.name), rtol=relative, atol=1e-7)


def test_a_value_that_float16_cannot_hold_is_named(tmp_path):
    loaded = loaded_model("llama")
    with torch.no_grad():
        loaded.model.model.layers[0].input_layernorm.weight.fill_(1e6)
    with pytest.raises(AccelSimError, match="no finite float16"):
        record(loaded, prompts(1, len(PROMPT)), options(tmp_path / "t", dtype="float16"))
