"""Smoothing folded into parameters: what can be folded is found without names, and the model computes the same."""

from __future__ import annotations

import weakref

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from capture_helpers import PROMPT, tiny_model  # noqa: E402

from accel_sim.capture.load import run_experts_one_by_one  # noqa: E402
from accel_sim.capture.products import ProductWatcher  # noqa: E402
from accel_sim.capture.projections import decoder_blocks, find_projections  # noqa: E402
from accel_sim.errors import AccelSimError  # noqa: E402
from accel_sim.sparsify.folding import fold_smoothing  # noqa: E402
from accel_sim.sparsify.provenance import watch_provenance  # noqa: E402

IDS = torch.tensor([PROMPT])

# Last names of the projections that a fold reaches, by model. Attention's own output never comes from a norm, GPT-2 and
# NeoX have no gate, and experts read tokens that were gathered from the norm's output. (Of DeepSeek the first block has
# no experts; Llama 4's shared expert has a gate, but shares its norm.)
FOLDED = {
    "llama": {"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "down_proj"},
    "qwen2": {"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "down_proj"},
    "gemma3": {"q_proj", "k_proj", "v_proj", "gate_proj", "up_proj", "down_proj"},
    "gpt2": {"c_attn", "c_fc"},
    "neox": {"query_key_value", "dense_h_to_4h"},
    "mixtral": {"q_proj", "k_proj", "v_proj"},
    "llama4": {"q_proj", "k_proj", "v_proj", "down_proj"},
    "deepseek_v3": {
        "q_a_proj",
        "q_b_proj",
        "kv_a_proj_with_mqa",
        "kv_b_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    },
}


def model_of(name: str, **changes):
    model = tiny_model(name, **changes)
    run_experts_one_by_one(model)
    return model


def inputs_and_logits(model) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """What each projection reads, and what the model makes of it all."""
    inputs: dict[str, torch.Tensor] = {}
    parameters = find_projections(model, decoder_blocks(model))

    def keep(product) -> None:
        inputs[product.name] = product.activation.detach().clone()

    with torch.no_grad(), ProductWatcher(parameters, keep):
        logits = model(input_ids=IDS, use_cache=False).logits
    return inputs, logits


def scales_for(model, seed: int = 0) -> dict[str, torch.Tensor]:
    """Random scales from 1/4 to 4, one vector for all projections that read the same."""
    inputs, _ = inputs_and_logits(model)
    random = torch.Generator().manual_seed(seed)
    known: list[tuple[torch.Tensor, torch.Tensor]] = []
    scales = {}
    for name, x in inputs.items():
        same = [s for other, s in known if other.shape == x.shape and torch.equal(other, x)]
        if not same:
            same = [4 ** (2 * torch.rand(x.shape[-1], generator=random) - 1)]
            known.append((x, same[0]))
        scales[name] = same[0]
    return scales


def state(model) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


@pytest.mark.parametrize("name", sorted(FOLDED))
def test_what_can_be_folded_is_and_nothing_else_changes(name):
    model = model_of(name)
    before, scales = state(model), scales_for(model)
    inputs, logits = inputs_and_logits(model)
    folded = fold_smoothing(model, scales)
    assert {each.rpartition(".")[2] for each in folded.names} == FOLDED[name]
    assert set(folded.names) | set(folded.left) == set(scales) and not set(folded.names) & set(folded.left)
    new_inputs, new_logits = inputs_and_logits(model)
    assert (new_logits - logits).norm() <= 1e-4 * logits.norm()
    for each, x in inputs.items():
        expected = x / scales[each] if each in folded.names else x
        assert (new_inputs[each] - expected).norm() <= 1e-4 * expected.norm(), each
    folded.undo()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["llama", "gemma3", "gpt2"])
def test_weights_become_those_that_smoothing_asks_for(name):
    model = model_of(name)
    scales = scales_for(model)
    parameters = {each.path(): each.tensor for each in find_projections(model, decoder_blocks(model))}
    before = {path: tensor.detach().clone() for path, tensor in parameters.items()}
    folded = fold_smoothing(model, scales)
    for path in folded.names:
        expected = before[path] * (scales[path][:, None] if name == "gpt2" else scales[path])
        if path.endswith("up_proj"):  # its outputs make up the input of down_proj
            expected = expected / scales[path.replace("up_proj", "down_proj")][:, None]
        assert torch.allclose(parameters[path], expected, rtol=1e-5)
    for path in folded.left:
        assert torch.equal(parameters[path], before[path])


def test_every_projection_that_stays_says_why():
    model = model_of("mixtral")
    left = fold_smoothing(model, scales_for(model)).left
    reasons = {name.rpartition(".")[2]: reason for name, reason in left.items()}
    assert "neither from a norm" in reasons["o_proj"]
    assert reasons["gate"] == "its input is also read by zeros_like"
    assert "neither from a norm" in reasons["gate_up_proj"] and "neither factor" in reasons["down_proj"]


def test_all_readers_of_an_input_must_agree():
    model = model_of("llama")
    scales, before = scales_for(model), state(model)
    block = "model.layers.1."
    without = {name: s for name, s in scales.items() if name != block + "self_attn.v_proj"}
    folded = fold_smoothing(model, without)
    assert folded.left[block + "self_attn.q_proj"] == f"its input is also read by {block}self_attn.v_proj"
    assert block + "mlp.up_proj" in folded.names and "model.layers.0.self_attn.q_proj" in folded.names
    folded.undo()
    other = scales | {block + "mlp.gate_proj": 2 * scales[block + "mlp.gate_proj"]}
    folded = fold_smoothing(model, other)
    assert folded.left[block + "mlp.up_proj"] == "projections that share its input have other scales"
    assert block + "mlp.down_proj" in folded.names
    folded.undo()
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_norm_that_feeds_the_residual_stream_is_left_alone():
    """BERT's order of norm and sum, which some decoders have: the norm's output goes on as the residual."""
    config = transformers.OPTConfig(
        vocab_size=40, hidden_size=16, ffn_dim=24, num_hidden_layers=2, num_attention_heads=4, word_embed_proj_dim=16,
        max_position_embeddings=64, do_layer_norm_before=False, pad_token_id=0, bos_token_id=1, eos_token_id=2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.OPTForCausalLM(config).eval()
    folded = fold_smoothing(model, scales_for(model))
    assert not folded.names
    assert folded.left["model.decoder.layers.0.fc1"].startswith("its input is also read by")


@pytest.mark.parametrize("where", ["down_proj", "up_proj"])
def test_a_gated_product_that_something_else_reads_is_left_alone(where):
    """The product itself, or the factor that would be divided."""
    model = model_of("llama")
    sums = []
    module = model.model.layers[1].mlp.get_submodule(where)
    if where == "down_proj":
        module.register_forward_pre_hook(lambda module, args: sums.append(args[0].sum()))
    else:
        module.register_forward_hook(lambda module, args, output: sums.append(output.sum()))
    folded = fold_smoothing(model, scales_for(model))
    reason = folded.left["model.layers.1.mlp.down_proj"]
    assert reason == "its input is also read by sum" if where == "down_proj" else reason.startswith("neither factor")
    assert "model.layers.0.mlp.down_proj" in folded.names


def test_a_shared_norm_is_left_alone():
    model = model_of("llama")
    layers = model.model.layers
    layers[1].input_layernorm.weight = layers[0].input_layernorm.weight
    folded = fold_smoothing(model, scales_for(model))
    for layer in (0, 1):
        assert folded.left[f"model.layers.{layer}.self_attn.q_proj"] == (
            "a parameter that would change is shared or computed"
        )
    assert "model.layers.2.self_attn.q_proj" in folded.names


def test_16_bit_models_fold_to_their_own_precision():
    model = model_of("llama").bfloat16()
    _, logits = inputs_and_logits(model)
    folded = fold_smoothing(model, scales_for(model))
    assert {each.rpartition(".")[2] for each in folded.names} == FOLDED["llama"]
    assert next(model.parameters()).dtype == torch.bfloat16
    _, new_logits = inputs_and_logits(model)
    assert (new_logits - logits).float().norm() <= 0.05 * logits.float().norm()


def test_a_fold_that_would_change_the_model_is_undone():
    """Hooks stand for code that reads a norm's output where no function of torch shows it."""
    model = model_of("llama")
    before, scales = state(model), scales_for(model)
    block = model.model.layers[0]
    seen = []
    block.input_layernorm.register_forward_hook(lambda module, args, output: seen.append(float(output.numpy().max())))
    block.register_forward_hook(lambda module, args, output: output * (1 + 10 * seen[-1] * torch.arange(16)))
    with pytest.raises(AccelSimError, match=r"folding: logits would change by .*; the model was left as it was"):
        fold_smoothing(model, scales)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_what_cannot_be_scales_is_refused():
    model = model_of("llama")
    with pytest.raises(
        AccelSimError, match=r"folding: model\.norm: no projection of the model, which has model\.layers\.0"
    ):
        fold_smoothing(model, {"model.norm": torch.ones(16)})
    name = "model.layers.0.mlp.down_proj"
    for s in (torch.ones(17), torch.ones(1, 24), torch.zeros(24), torch.full((24,), float("nan")), -torch.ones(24)):
        with pytest.raises(AccelSimError, match="expected 24 positive numbers"):
            fold_smoothing(model, {name: s})


def test_both_factors_of_a_product_live_as_long_as_the_forward_pass():
    """Otherwise a later tensor could lie where the activation function's output lay, and be taken for it."""
    model = model_of("llama")
    layers, outputs, alive = model.model.layers, [], []
    for layer in layers:
        layer.mlp.act_fn.register_forward_hook(lambda _, __, output: outputs.append(weakref.ref(output)))
    model.lm_head.register_forward_hook(lambda *_: alive.extend(each() is not None for each in outputs))
    watch_provenance(model, find_projections(model, decoder_blocks(model)), IDS)
    assert alive == [True] * len(layers)
