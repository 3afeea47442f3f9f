"""Predicted neurons in a live model: what they leave out, where, and how well it is told."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from capture_helpers import PROMPT, tiny_model  # noqa: E402

import accel_sim  # noqa: E402
from accel_sim.capture.relu_form import ReluForm, apply_form  # noqa: E402
from accel_sim.errors import AccelSimError  # noqa: E402
from accel_sim.evaluation.predictions import mean_quality  # noqa: E402
from accel_sim.sparsify.contextual.metrics import PredictorQuality  # noqa: E402
from accel_sim.sparsify.live import sparsifier_of  # noqa: E402
from accel_sim.sparsify.neurons import gated_ffns  # noqa: E402
from accel_sim.sparsify.recipe import Recipe, recipe_from_mapping  # noqa: E402

IDS = torch.tensor([PROMPT])
CALIBRATION = torch.tensor([PROMPT, PROMPT[::-1], PROMPT[3:] + PROMPT[:3], PROMPT[5:] + PROMPT[:5]])


def relu_model(name: str = "llama", activation: str = "relu"):
    model = tiny_model(name)
    apply_form(model, ReluForm(activation))
    return model


def recipe(phase: str = "both", default: dict | None = None, **neurons) -> Recipe:
    rule = {"projections": ["gate_proj"], "phase": phase, "neurons": neurons}
    return recipe_from_mapping("test", {"default": default or {}, "rules": [rule]})


def logits(model, ids=IDS, **given):
    with torch.no_grad():
        return model(input_ids=ids, **given).logits


@pytest.mark.parametrize("activation", ["relu", "drelu"])
@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_an_oracle_of_the_true_mask_changes_nothing(name, activation):
    """What a ReLU makes zero anyway may as well not be computed."""
    model = relu_model(name, activation)
    before = logits(model)
    after = logits(accel_sim.sparsify(model, recipe(kind="oracle", sparsity=0.01), CALIBRATION))
    assert torch.allclose(after, before, atol=1e-6)
    quality = sparsifier_of(model).products["model.layers.0.mlp.gate_proj"].predictor.fitted
    assert quality.predicted_sparsity > 0.3


def test_what_is_predicted_dead_does_not_reach_down_proj():
    model = relu_model()
    accel_sim.sparsify(model, recipe(kind="svd", rank=4, sparsity=0.8, bias="const"), CALIBRATION)
    predictor = sparsifier_of(model).products["model.layers.0.mlp.gate_proj"].predictor.fitted.predictor
    mlp, seen = model.model.layers[0].mlp, {}
    mlp.register_forward_pre_hook(lambda _, args: seen.update(x=args[0][0]))
    mlp.down_proj.register_forward_pre_hook(lambda _, args: seen.update(products=args[0][0]))
    logits(model)
    alive = predictor.predict(seen["x"])
    expected = gated_ffns(model)["model.layers.0.mlp.gate_proj"]().products(seen["x"]) * alive
    assert 0 < alive.sum() < alive.numel() / 2
    assert torch.allclose(seen["products"], expected, atol=1e-6)


def test_a_classifier_is_trained_while_the_model_runs_without_gradients():
    model = relu_model()
    with torch.no_grad():
        accel_sim.sparsify(model, recipe(kind="trained", rank=4, sparsity=0.5), CALIBRATION)
    predictor = sparsifier_of(model).products["model.layers.0.mlp.gate_proj"].predictor.fitted.predictor
    assert predictor.rank == 4 and not predictor.up.requires_grad
    assert torch.isfinite(logits(model)).all()


def test_decode_alone_leaves_the_prompt_dense():
    model = relu_model()
    dense = logits(model)
    with torch.no_grad():
        cache = model(input_ids=IDS, use_cache=True).past_key_values
        dense_step = model(input_ids=IDS[:, :1], past_key_values=cache).logits
    accel_sim.sparsify(model, recipe("decode", kind="svd", rank=2, sparsity=0.9), CALIBRATION)
    assert torch.equal(logits(model), dense)
    with torch.no_grad():
        cache = model(input_ids=IDS, use_cache=True).past_key_values
        step = model(input_ids=IDS[:, :1], past_key_values=cache).logits
    assert not torch.allclose(step, dense_step)


def test_predictors_go_together_with_patterns():
    model = relu_model()
    pruned = logits(accel_sim.sparsify(model, recipe_from_mapping("test", {"default": {"pattern": "2:4"}})))
    both = recipe(default={"pattern": "2:4"}, kind="svd", rank=4, sparsity=0.8)
    assert not torch.allclose(logits(accel_sim.sparsify(model, both, CALIBRATION)), pruned)
    perfect = recipe(default={"pattern": "2:4"}, kind="oracle", sparsity=0.01)
    accel_sim.sparsify(model, perfect, CALIBRATION)
    treated = sparsifier_of(model).products
    assert treated["model.layers.0.mlp.gate_proj"].treatment.prunes()
    assert treated["model.layers.0.mlp.up_proj"].predictor is None


def test_a_recipe_with_predictors_is_written_and_read_again():
    written = recipe(kind="svd", rank=4, sparsity=0.8, bias="const", default={"pattern": "2:4"})
    again = recipe_from_mapping("test", written.as_mapping())
    assert again == written and again.rules[0].treatment.neurons.rank == 4


def test_quality_is_that_of_the_gate_on_what_it_reads():
    model = relu_model()
    accel_sim.sparsify(model, recipe(kind="oracle", sparsity=0.01), CALIBRATION)
    sparsifier = sparsifier_of(model)
    sparsifier.predictions = {}
    logits(model)
    found = sparsifier.predictions
    assert list(found) == [f"model.layers.{layer}.mlp.gate_proj" for layer in range(3)]
    quality = found["model.layers.0.mlp.gate_proj"][0]
    assert (quality.recall, quality.precision, quality.roc_auc) == (1, 1, 1)
    assert quality.gate_sparsity == quality.predicted_sparsity == quality.realised_sparsity > 0.3
    assert quality.output_error == 0


def test_means_leave_out_what_is_not_known():
    one = PredictorQuality(0.5, None, 0.25, 0.0, 0.5, 0.5, 1.0)
    other = PredictorQuality(1.0, None, None, 0.5, 0.5, 0.75, 0.0)
    assert mean_quality([one, other]) == PredictorQuality(0.75, None, 0.25, 0.25, 0.5, 0.625, 0.5)


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"default": {"neurons": {"kind": "oracle"}}}, "self_attn.q_proj is not the gate of a gated FFN"),
        ({"rules": [{"projections": ["up_proj"], "neurons": {"kind": "oracle"}}]}, "up_proj is not the gate"),
    ],
)
def test_only_gates_have_neurons_to_predict(given, problem):
    with pytest.raises(AccelSimError, match=f"recipe test: neurons: .*{problem}.*; expected gate_proj"):
        accel_sim.sparsify(relu_model(), recipe_from_mapping("test", given), CALIBRATION)


def test_predictors_need_calibration_and_known_keys():
    with pytest.raises(AccelSimError, match="recipe test: neurons: needs calibration text"):
        accel_sim.sparsify(relu_model(), recipe(kind="oracle"))
    with pytest.raises(AccelSimError, match=r"recipe test: rules\[0\].neurons: rank: kind svd needs one"):
        recipe(kind="svd")
    with pytest.raises(AccelSimError, match="no gated MLP"):
        rule = {"projections": ["c_fc"], "neurons": {"kind": "oracle"}}
        accel_sim.sparsify(tiny_model("gpt2"), recipe_from_mapping("test", {"rules": [rule]}), CALIBRATION)
