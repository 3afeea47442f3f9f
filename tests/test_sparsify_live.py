"""A live model under a recipe gives what the recipe says, and is itself again afterwards."""

from __future__ import annotations

import copy

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from capture_helpers import MODELS, PROMPT, tiny_model  # noqa: E402

import accel_sim  # noqa: E402
from accel_sim import functional  # noqa: E402
from accel_sim.errors import AccelSimError  # noqa: E402
from accel_sim.quantize import quantize_tokens, quantize_weight  # noqa: E402
from accel_sim.sparsify.context import Context, Selections  # noqa: E402
from accel_sim.sparsify.criteria import clact_factors, clact_running_factors, weight_factors  # noqa: E402
from accel_sim.sparsify.live import sparsifier_of  # noqa: E402
from accel_sim.sparsify.recipe import load_recipe, recipe_from_mapping, shipped_recipes  # noqa: E402
from accel_sim.sparsify.selection import keep_reference  # noqa: E402

IDS = torch.tensor([PROMPT])
CALIBRATION = torch.tensor([PROMPT, PROMPT[::-1], PROMPT[3:] + PROMPT[:3], PROMPT[5:] + PROMPT[:5]])


def model_of(name: str):
    return tiny_model(name)


def recipe(**treatment):
    return recipe_from_mapping("test", {"default": treatment})


def logits(model, ids=IDS, **given):
    with torch.no_grad():
        return model(input_ids=ids, **given).logits


def layer_product(model, name: str, x: np.ndarray, **treatment):
    """What one projection of the sparsified model makes of its input x [T, K], which is swapped for the real one."""
    accel_sim.sparsify(model, recipe(**treatment), CALIBRATION)
    module = model.get_submodule(name)
    seen = {}
    swap = module.register_forward_pre_hook(lambda _, args: (torch.from_numpy(x)[None],))
    look = module.register_forward_hook(lambda _, __, y: seen.update(y=y[0].numpy()))
    logits(model, torch.ones((1, len(x)), dtype=torch.int64))
    swap.remove()
    look.remove()
    return seen["y"]


def plain(x, w, bias, n, m, factors=None, eta=0.0, variance=False):
    """The papers' formulas in float64 as they are printed: nothing folded, nothing of rank one."""
    x, w = x.astype(np.float64), w.astype(np.float64)
    shifted = x - eta
    scores = np.abs(shifted.astype(np.float32)) * (1 if factors is None else factors.astype(np.float32))
    mask = keep_reference(scores.astype(np.float32), accel_sim.Pattern(f"{n}:{m}"))
    kept = np.where(mask, shifted, 0)
    nu = np.sqrt(shifted.var(axis=1, ddof=1) / kept.var(axis=1, ddof=1))[:, None] if variance else 1.0
    return (nu * kept + eta) @ w.T + bias


@pytest.fixture
def x():
    return np.random.default_rng(0).standard_t(4, (7, 16)).astype(np.float32)


@pytest.mark.parametrize("name", MODELS)
def test_dense_recipe_changes_no_bit_and_removal_gives_the_model_back(name):
    model = model_of(name)
    before = logits(model)
    assert torch.equal(logits(accel_sim.sparsify(model, "dense")), before)
    sparse = logits(accel_sim.sparsify(model, recipe(pattern="2:4")))
    assert not torch.allclose(sparse, before)
    assert torch.equal(logits(accel_sim.sparsify.remove(model)), before)
    assert sparsifier_of(model) is None


@pytest.mark.parametrize("name", MODELS)
def test_every_linear_projection_of_every_architecture_is_treated(name):
    """Zero out all inputs of all linear projections: nothing but biases and the residual stream may be left."""
    model = model_of(name)
    accel_sim.sparsify(model, recipe(pattern="1:2"))
    treated = sparsifier_of(model).products
    from accel_sim.capture.projections import decoder_blocks, find_projections

    for parameter in find_projections(model, decoder_blocks(model)):
        router = parameter.path().endswith((".gate", ".router"))
        names = [parameter.path(expert) for expert in range(parameter.experts or 0)] or [parameter.path()]
        assert all((one in treated) != router for one in names)


def test_nothing_kept_but_biases_remain():
    """A projection whose inputs are all zero gives its bias, whatever is pruned."""
    model = model_of("qwen2")
    name = "model.layers.0.self_attn.q_proj"
    y = layer_product(model, name, np.zeros((3, 16), np.float32), pattern="2:4", variance=True, shift="median")
    assert np.array_equal(y, np.tile(model.get_submodule(name).bias.detach().numpy(), (3, 1)))


@pytest.mark.parametrize(
    ("treatment", "settings"),
    [
        ({}, {}),
        ({"criterion": "amber"}, {"criterion": "amber"}),
        ({"criterion": "amber_robust"}, {"criterion": "amber_robust"}),
        ({"shift": "median"}, {"eta": "median"}),
        ({"shift": "mean"}, {"eta": "mean"}),
        ({"variance": True}, {"variance": True}),
        ({"shift": "mean", "variance": True}, {"eta": "mean", "variance": True}),
        ({"shift": "median", "criterion": "amber"}, {"eta": "median", "criterion": "amber"}),
    ],
)
def test_products_follow_the_papers_formulas(x, treatment, settings):
    model = model_of("qwen2")
    name = "model.layers.1.self_attn.q_proj"
    module = model.get_submodule(name)
    w, bias = module.weight.detach().numpy(), module.bias.detach().numpy()
    eta = settings.get("eta", 0.0)
    if eta == "median":
        eta = np.sort(x, axis=1)[:, 7:8]  # the lower of the two in the middle
    elif eta == "mean":
        eta = x.mean(axis=1, keepdims=True)
    criterion = settings.get("criterion")
    factors = weight_factors(criterion, w) if criterion else None
    expected = plain(x, w, bias, 2, 4, factors, eta, settings.get("variance", False))
    assert np.allclose(layer_product(model, name, x, pattern="2:4", **treatment), expected, atol=2e-5)


def test_shift_with_everything_kept_is_dense(x):
    """D-PTS with a mask of all ones: η comes back exactly where it was taken away."""
    model = model_of("qwen2")
    name = "model.layers.1.mlp.up_proj"
    w = model.get_submodule(name).weight.detach().numpy()
    for shift in ("median", "mean", "static", "static_vector"):
        y = layer_product(model, name, x, pattern="unstructured 0.001%", shift=shift)
        assert np.allclose(y, x @ w.T, atol=1e-5)


def test_variance_of_all_kept_is_one(x):
    y = layer_product(model_of("llama"), "model.layers.1.mlp.up_proj", x, pattern="unstructured 0.001%", variance=True)
    w = model_of("llama").get_submodule("model.layers.1.mlp.up_proj").weight.detach().numpy()
    assert np.allclose(y, x @ w.T, atol=1e-5)


def test_full_rank_gives_back_what_was_dropped(x):
    model = model_of("llama")
    name = "model.layers.0.mlp.up_proj"
    w = model.get_submodule(name).weight.detach().numpy()
    rules = [{"projections": "k_proj", "pattern": "dense"}, {"projections": "v_proj", "pattern": "dense"}]
    given = {"pattern": "1:4", "low_rank": {"rank": 16}}
    accel_sim.sparsify(model, recipe_from_mapping("t", {"default": given, "rules": rules}))
    product = sparsifier_of(model).products[name]
    context = Context("prefill", 1, len(x))
    with torch.no_grad():
        y = product.multiply(product.prepare(torch.from_numpy(x), context), None, context)
    assert np.allclose(y.numpy(), x @ w.T, atol=1e-4)


@pytest.mark.parametrize("treatment", [{"smoothing": {"alpha": 0.5}}, {"smoothing": {"alpha": 0.1, "inverted": True}}])
@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma3", "gpt2", "mixtral"])
def test_smoothing_and_rotation_leave_the_dense_model_as_it_is(name, treatment):
    model = model_of(name)
    before = logits(model)
    assert torch.allclose(logits(accel_sim.sparsify(model, recipe(**treatment), CALIBRATION)), before, atol=1e-3)
    rotated = accel_sim.sparsify(model, recipe(rotation="activations"), CALIBRATION)
    assert torch.allclose(logits(rotated), before, atol=1e-3)


@pytest.mark.parametrize("pattern", ["2:4", "8:16", "3:5"])
@pytest.mark.parametrize("criterion", ["magnitude", "amber_robust"])
def test_codes_give_the_bits_of_the_functional_mode(x, pattern, criterion):
    model = model_of("qwen2")
    name = "model.layers.0.self_attn.v_proj"
    w = model.get_submodule(name).weight.detach().numpy()
    bias = model.get_submodule(name).bias.detach().numpy()
    codes, scales = quantize_tokens(x)
    weight_codes, weight_scales = quantize_weight(w)
    factors = None if criterion == "magnitude" else functional.hardware_factors(weight_factors(criterion, w))
    sums = functional.sparse_matmul(codes, weight_codes, pattern, factors=factors)
    expected = functional.dequantize(sums, scales, weight_scales, bias)
    y = layer_product(model, name, x, pattern=pattern, criterion=criterion, precision="w8a8", score="codes")
    assert np.array_equal(y, expected)


@pytest.mark.parametrize("variance", [False, True])
@pytest.mark.parametrize("shift", ["none", "median", "mean"])
def test_mitigated_codes_are_the_functional_modes(x, shift, variance):
    model = model_of("qwen2")
    name = "model.layers.0.self_attn.v_proj"
    module = model.get_submodule(name)
    codes, scales = quantize_tokens(x)
    weight_codes, weight_scales = quantize_weight(module.weight.detach().numpy())
    bias = module.bias.detach().numpy()
    expected = functional.treated_outputs(
        codes, scales, weight_codes, weight_scales, "2:4", shift=shift, variance=variance, bias=bias
    )
    treatment = {"shift": shift, "variance": variance, "precision": "w8a8", "score": "codes"}
    assert np.allclose(layer_product(model, name, x, pattern="2:4", **treatment), expected, rtol=1e-5, atol=1e-5)


def test_long_reductions_of_codes_are_exact():
    from accel_sim.sparsify.arithmetic import exact_product

    codes = np.full((2, 5000), 127)
    codes[1, ::2] = -126
    weights = np.full((3, 5000), 127)
    weights[2, ::3] = -127
    exact = codes.astype(np.int64) @ weights.T.astype(np.int64)
    got = exact_product(torch.from_numpy(codes).float(), torch.from_numpy(weights).float())
    assert np.array_equal(got.numpy(), exact)


def test_one_static_scale_saturates_what_calibration_did_not_see(x):
    model = model_of("llama")
    name = "model.layers.0.mlp.gate_proj"
    given = {"precision": "w8a8", "activation_scale": "tensor"}
    y = layer_product(model, name, 1e6 * x, **given)
    assert np.isfinite(y).all() and np.abs(y).max() < 1e4


def test_prefill_recipes_leave_decode_dense():
    model = model_of("llama")
    with torch.no_grad():
        cached = model(input_ids=IDS, use_cache=True).past_key_values

    def step():
        return logits(model, torch.tensor([[7]]), past_key_values=copy.deepcopy(cached), use_cache=True)

    dense = step()
    for phase, same in (("prefill", True), ("decode", False), ("both", False)):
        accel_sim.sparsify(model, recipe(pattern="1:4", phase=phase))
        assert torch.equal(step(), dense) is same
        prompt = logits(model)
        accel_sim.sparsify.remove(model)
        assert torch.equal(prompt, logits(model)) is (phase == "decode")


def test_generation_runs_sparsified():
    model = model_of("llama")
    accel_sim.sparsify(model, recipe(pattern="1:4"))
    made = model.generate(IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=8, do_sample=False)
    ids = IDS
    for _ in range(8):  # without a cache, every step a prefill: magnitude knows no neighbours, so it is the same
        ids = torch.cat([ids, logits(model, ids)[:, -1].argmax(-1, keepdim=True)], dim=1)
        if ids[0, -1] == model.generation_config.eos_token_id:
            break
    assert torch.equal(made[0], ids[0])


@pytest.mark.parametrize("criterion", ["clact", "clact_running"])
def test_padding_enters_no_column_norm(criterion):
    model = model_of("llama")
    accel_sim.sparsify(model, recipe(pattern="2:4", criterion=criterion))
    alone = logits(model)
    padded = torch.cat([torch.zeros((1, 5), dtype=torch.int64), IDS], dim=1)
    other = torch.full_like(padded, 3)
    mask = torch.ones((2, padded.shape[1]), dtype=torch.int64)
    mask[0, :5] = 0
    positions = (mask.cumsum(1) - 1).clamp_min(0)
    both = logits(model, torch.cat([padded, other]), attention_mask=mask, position_ids=positions)
    assert torch.allclose(both[0, 5:], alone[0], atol=1e-4)


def test_running_norms_go_on_from_the_cache():
    model = model_of("llama")
    accel_sim.sparsify(model, recipe(pattern="2:4", criterion="clact_running"))
    whole = logits(model)
    with torch.no_grad():
        first = model(input_ids=IDS[:, :6], use_cache=True)
        rest = [first.logits]
        for token in IDS[0, 6:]:
            step = model(input_ids=token[None, None], past_key_values=first.past_key_values, use_cache=True)
            rest.append(step.logits)
    assert torch.allclose(torch.cat(rest, dim=1), whole, atol=1e-4)


def test_clact_of_one_token_is_magnitude():
    model = model_of("llama")
    one = IDS[:, :1]
    by_magnitude = logits(accel_sim.sparsify(model, recipe(pattern="2:4")), one)
    # Its factor is |x_j| itself, so scores are squares: the same order.
    assert torch.equal(logits(accel_sim.sparsify(model, recipe(pattern="2:4", criterion="clact")), one), by_magnitude)


@pytest.mark.parametrize("output", ["shift", "scale_and_shift"])
def test_outputs_are_corrected_before_the_bias(output):
    """What is fitted to the product without its bias must not scale the bias."""
    model = model_of("qwen2")
    name = "model.layers.0.self_attn.q_proj"
    accel_sim.sparsify(model, recipe(pattern="1:4", output=output), CALIBRATION)
    product = sparsifier_of(model).products[name]
    rows, bias = torch.randn((9, 16), generator=torch.Generator().manual_seed(0)), torch.full((16,), 100.0)
    context = Context("prefill", 1, len(rows))
    with torch.no_grad():
        pruned = product.prepare(rows, context)
        without, with_bias = (product.multiply(pruned, each, context) for each in (None, bias))
    assert torch.allclose(with_bias - 100, without, atol=1e-4)


@pytest.mark.parametrize("running", [False, True])
def test_column_norms_are_those_of_the_criterion(running):
    x = torch.randn((2 * 6, 5), generator=torch.Generator().manual_seed(0))
    real = torch.ones((2, 6), dtype=torch.bool)
    real[0, :2] = False
    found = Context("prefill", 2, 6, real).column_norms(x, running, "q").numpy()
    for sequence, rows in enumerate((slice(0, 6), slice(6, 12))):
        counted = real[sequence].numpy()
        expected = (clact_running_factors if running else clact_factors)(x[rows].numpy(), tokens=counted)
        assert np.allclose(found[rows], np.broadcast_to(expected, (6, 5)), rtol=1e-5)


def test_clact_on_codes_takes_the_norms_of_what_the_codes_mean(x):
    """Tokens have scales of their own, so squares of codes are no squares of activations."""
    model, name = model_of("qwen2"), "model.layers.0.self_attn.v_proj"
    x = x * np.logspace(0, 3, len(x), dtype=np.float32)[:, None]
    module = model.get_submodule(name)
    codes, scales = quantize_tokens(x)
    weight_codes, weight_scales = quantize_weight(module.weight.detach().numpy())
    factors = functional.hardware_factors(clact_factors(codes * scales[:, None]))
    sums = functional.sparse_matmul(codes, weight_codes, "2:4", factors=factors)
    expected = functional.dequantize(sums, scales, weight_scales, module.bias.detach().numpy())
    got = layer_product(model, name, x, pattern="2:4", criterion="clact", precision="w8a8", score="codes")
    assert np.array_equal(got, expected)


def test_codes_that_are_the_floats_select_the_same():
    model = model_of("llama")
    accel_sim.sparsify(model, recipe(pattern="2:4", shift="median", precision="w8a8", score="codes"))
    x = np.random.default_rng(0).integers(-60, 60, (20, 16)).astype(np.float32)
    x[:, 3] = 127  # so that every scale is one
    context = Context("prefill", 1, 20, selections=Selections())
    sparsifier_of(model).products["model.layers.0.self_attn.q_proj"].prepare(torch.from_numpy(x), context)
    assert context.selections.elements > x.size / 2  # those that are not zero after the shift
    assert context.selections.differing == 0


def test_codes_and_floats_are_compared():
    model = model_of("llama")
    accel_sim.sparsify(model, recipe(pattern="2:4", precision="w8a8", score="codes"))
    counted = sparsifier_of(model).selections = Selections()
    logits(model)
    assert counted.elements > 2000 and 0 < counted.differing < 0.1 * counted.elements


@pytest.mark.parametrize("name", ["llama", "gpt2", "mixtral"])
@pytest.mark.parametrize("shipped", ["w8a8_smooth", "wanda_2x4", "sparsegpt_2x4", "threshold_50"])
def test_shipped_recipes_run_on_other_architectures(name, shipped):
    model = model_of(name)
    ids = torch.randint(0, 40, (16, 32), generator=torch.Generator().manual_seed(0))
    assert logits(accel_sim.sparsify(model, shipped, ids)).isfinite().all()


@pytest.mark.parametrize("shift", ["none", "median", "mean", "static"])
def test_a_threshold_is_that_of_the_shifted_scores(shift):
    model = model_of("llama")
    accel_sim.sparsify(model, recipe(pattern="threshold 50%", criterion="amber", shift=shift), CALIBRATION)
    name, x = "model.layers.0.self_attn.q_proj", model.model.embed_tokens(CALIBRATION)
    rows = model.model.layers[0].input_layernorm(x).reshape(-1, x.shape[-1]).detach()
    kept = sparsifier_of(model).products[name].prepare(rows, Context("prefill", *CALIBRATION.shape)).kept
    assert float((kept == 0).double().mean()) == pytest.approx(0.5, abs=1.5 / kept.numel() + (shift == "median") / 32)


@pytest.mark.parametrize("name", [name for name in shipped_recipes() if "-" not in name])  # others are one model's
def test_every_shipped_recipe_runs_on_a_llama(name):
    model = model_of("llama")
    dense = logits(model)
    sparse = logits(accel_sim.sparsify(model, load_recipe(name), CALIBRATION))
    assert sparse.isfinite().all()
    assert torch.equal(sparse, dense) is (name == "dense")


@pytest.mark.parametrize(
    ("treatment", "message"),
    [
        ({"smoothing": {"alpha": 0.5}}, "recipe test: smoothing: needs calibration text"),
        ({"pattern": "threshold 50%"}, "recipe test: pattern: threshold: needs calibration text"),
        ({"pattern": "2:4", "shift": "static"}, "recipe test: shift: static: needs calibration text"),
    ],
)
def test_what_must_be_fitted_asks_for_text(treatment, message):
    model = model_of("llama")
    with pytest.raises(AccelSimError, match=message):
        accel_sim.sparsify(model, recipe(**treatment))
    assert sparsifier_of(model) is None


def test_a_rule_that_matches_nothing_is_refused():
    wrong = recipe_from_mapping("wrong", {"rules": [{"projections": "query", "pattern": "2:4"}]})
    with pytest.raises(AccelSimError, match=r"recipe wrong: rules\[0\]: projections query: none in LlamaForCausalLM"):
        accel_sim.sparsify(model_of("llama"), wrong)


def test_an_error_in_the_forward_pass_leaves_no_trace():
    model = model_of("llama")
    accel_sim.sparsify(model, recipe(pattern="1:4"))
    sparse = logits(model)
    with pytest.raises(IndexError):
        logits(model, torch.tensor([[10_000]]))
    assert torch.equal(logits(model), sparse)
    assert torch.equal(logits(accel_sim.sparsify.remove(model)), logits(model_of("llama")))
