"""A live model that decodes with an executor: the dense model's tokens, prefill untouched, nothing left behind."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from capture_helpers import PROMPT, tiny_model  # noqa: E402

import accel_sim  # noqa: E402
from accel_sim import AccelSimError  # noqa: E402
from accel_sim.executors import LowRank  # noqa: E402
from accel_sim.executors.live import attach  # noqa: E402

IDS = torch.tensor([PROMPT])
D = 24


@pytest.fixture
def model():
    return relu_model()


def relu_model(**changes):
    return tiny_model("llama", hidden_act="relu", **changes)


def generate(model, new=8, batch=1):
    ids = torch.cat([IDS.roll(shift, 1) for shift in range(batch)])
    return model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=new, min_new_tokens=new)


def step(model, batch=1, **inputs):
    """Logits [B, V] of one decode step behind the prompt."""
    with torch.no_grad():
        past = model(input_ids=IDS.expand(batch, -1), use_cache=True).past_key_values
        return model(input_ids=torch.arange(3, 3 + batch)[:, None], past_key_values=past, **inputs).logits[:, -1]


class Everything:
    """Says that no neuron may be skipped."""

    def __init__(self):
        self.calls = 0

    def predict(self, x):
        self.calls += 1
        return torch.ones(x.shape[0], D, dtype=torch.bool)


class Nothing:
    def predict(self, x):
        return torch.zeros(x.shape[0], D, dtype=torch.bool)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("executor", ["numba", "gather", "masked_dense"])
def test_what_is_generated_stays_and_rows_are_skipped(model, executor, batch):
    dense, logits = generate(model, batch=batch), step(model, batch)
    with attach(model, executor=executor) as attached:
        assert torch.equal(generate(model, batch=batch), dense)
        fetched = attached.fetched
        assert torch.allclose(step(model, batch), logits, rtol=1e-4, atol=1e-4)
    assert fetched.steps == 3 * 7  # layers × decode steps; the first new token comes out of the prefill
    assert fetched.gate == fetched.dense == fetched.steps * D
    if executor == "masked_dense":
        assert fetched.up == fetched.dense
    else:
        assert 0 < fetched.down <= fetched.up < fetched.dense
    assert torch.equal(step(model, batch), logits)


@pytest.mark.parametrize("pipeline", ["sequential", "parallel"])
def test_prefill_is_dense_whatever_predictors_say_even_of_one_token(model, pipeline):
    with torch.no_grad():
        whole, one = (model(input_ids=ids, use_cache=True).logits for ids in (IDS, IDS[:, :1]))
        with attach(model, [Nothing()] * 3, pipeline=pipeline) as attached:
            assert torch.equal(model(input_ids=IDS, use_cache=True).logits, whole)
            assert torch.equal(model(input_ids=IDS[:, :1], use_cache=True).logits, one)
            assert torch.equal(model(IDS).logits, whole)
            assert attached.fetched.steps == 0
            skipped = step(model)
            assert attached.fetched.steps == 3 and attached.fetched.gate == 0
    assert not torch.allclose(skipped, step(model), atol=1e-2)


@pytest.mark.parametrize("executor", ["numba", "gather", "masked_dense"])
@pytest.mark.parametrize("pipeline", ["sequential", "parallel"])
def test_every_layer_asks_its_own_predictor(model, executor, pipeline):
    predictors = [Everything(), Everything(), Nothing()]
    logits = step(model)
    with attach(model, predictors, executor, pipeline) as attached:
        two_layers = step(model)
        assert attached.fetched.gate == 2 * D or executor == "masked_dense"
    assert [each.calls for each in predictors[:2]] == [1, 1]
    model.model.layers[2].mlp.forward = torch.zeros_like  # what a layer without any neuron computes
    try:
        with torch.no_grad():
            past = step_cache(model)
            expected = model(input_ids=torch.tensor([[3]]), past_key_values=past).logits[:, -1]
    finally:
        del model.model.layers[2].mlp.forward
    assert torch.allclose(two_layers, expected, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(two_layers, logits, atol=1e-2)


def step_cache(model):
    """The cache of a dense prefill, whatever the last layer's MLP is now: it feeds no later key or value."""
    return model(input_ids=IDS, use_cache=True).past_key_values


@pytest.mark.parametrize("executor", ["numba", "gather", "masked_dense"])
def test_low_rank_predictors_are_taken_by_their_arrays(model, executor):
    draw = np.random.default_rng(0)

    class Thin:
        down = torch.from_numpy(draw.standard_normal((4, 16)).astype(np.float32))
        up = torch.from_numpy(draw.standard_normal((D, 4)).astype(np.float32))
        bias = torch.zeros(D)

        def predict(self, x):
            return x @ self.down.T @ self.up.T + self.bias > 0

    class OnlyPredicts:
        predict = Thin().predict

    results = []
    for predictor in (Thin(), LowRank.of(Thin.down.numpy(), Thin.up.numpy(), Thin.bias.numpy()), OnlyPredicts()):
        with attach(model, [predictor] * 3, executor) as attached:
            results.append((step(model), attached.fetched))
    for logits, fetched in results[1:]:
        assert torch.allclose(logits, results[0][0], rtol=1e-4, atol=1e-4)
        assert fetched == results[0][1]
    assert executor == "masked_dense" or 0 < fetched.gate < fetched.dense


@pytest.mark.parametrize("executor", ["numba", "gather"])
def test_bfloat16_models_stay_in_bfloat16(model, executor):
    model = model.bfloat16()
    logits = step(model)
    with attach(model, executor=executor):
        found = step(model)
    assert found.dtype == torch.bfloat16
    assert torch.allclose(found, logits, rtol=0.05, atol=0.05 * float(logits.abs().max()))


def test_int8_is_near(model):
    logits = step(model)
    with attach(model, weights="int8") as attached:
        found = step(model)
        assert attached.fetched.up < attached.fetched.dense
    assert 0 < float((found - logits).abs().max()) < 0.1 * float(logits.abs().max())


def test_a_threshold_and_a_relu_on_up_are_seen(model):
    for mlp in (layer.mlp for layer in model.model.layers):
        mlp.act_fn = torch.nn.Threshold(0.5, 0.0)
        mlp.up_proj.register_forward_hook(lambda module, args, output: output.relu())
    logits = step(model)
    with attach(model) as attached:
        assert torch.allclose(step(model), logits, rtol=1e-4, atol=1e-4)
        assert attached.fetched.down < attached.fetched.up < attached.fetched.dense


def test_biases_are_kept():
    model = relu_model(mlp_bias=True)
    logits = step(model)
    for executor in ("numba", "gather"):
        with attach(model, executor=executor):
            assert torch.allclose(step(model), logits, rtol=1e-4, atol=1e-4)


def test_removing_twice_does_nothing_and_another_forward_comes_back(model):
    mlp = model.model.layers[0].mlp
    hooked = mlp.forward
    mlp.forward = lambda x: hooked(x)
    mine = mlp.forward
    attached = attach(model)
    assert attached.remove() is model is attached.remove()
    assert mlp.forward is mine and "forward" not in vars(model.model.layers[1].mlp)
    attach(model).remove()


def test_models_that_cannot_skip_are_refused_by_name():
    for name, message in (
        ("llama", r"model.layers.0.mlp: the activation SiLU\w* is no ReLU"),
        ("gpt2", r"layer 0 has no gated MLP; expected one, with the linear layers gate_proj, up_proj, down_proj"),
        ("mixtral", r"layer 0 has no gated MLP"),
    ):
        with pytest.raises(AccelSimError, match=message):
            attach(tiny_model(name))


def test_an_mlp_that_computes_something_else_is_refused(model):
    mlp = model.model.layers[1].mlp
    mlp.down_proj.register_forward_hook(lambda module, args, output: 2 * output)
    with pytest.raises(AccelSimError, match=r"model.layers.1.mlp: LlamaMLP computes something else"):
        attach(model)
    assert not hasattr(model.model.layers[0].mlp, "_accel_sim_executors")
    assert "forward" not in vars(model.model.layers[0].mlp)


def test_what_does_not_go_together_is_refused(model):
    for arguments, message in (
        ({"executor": "cuda"}, "executor 'cuda'"),
        ({"pipeline": "both"}, "pipeline 'both'"),
        ({"pipeline": "parallel"}, "'parallel' needs predictors"),
        ({"predictors": [Nothing()]}, "got 1 predictors, the model has 3 layers"),
        ({"weights": "int4"}, "weights 'int4': expected stored or int8"),
        ({"weights": "int8", "executor": "gather"}, "executor 'gather' has no INT8 form"),
    ):
        with pytest.raises(AccelSimError, match=message):
            attach(model, **arguments)
    with attach(model), pytest.raises(AccelSimError, match="an executor already"):
        attach(model)
    accel_sim.sparsify(model, "naive_8x16")
    with pytest.raises(AccelSimError, match="runs a recipe"):
        attach(model)
    accel_sim.sparsify.remove(model)
