"""From a gated model to a ReLU one: the activation, the refit, the loss, zeros, and the training that goes on."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from capture_helpers import tiny_model  # noqa: E402
from evaluation_helpers import byte_model, byte_tokenizer, words  # noqa: E402
from torch import nn  # noqa: E402

from accel_sim.capture.gated_mlps import gated_mlps  # noqa: E402
from accel_sim.capture.load import LoadedModel, load_model  # noqa: E402
from accel_sim.capture.options import CaptureOptions  # noqa: E402
from accel_sim.capture.relu_form import ReluForm, apply_form  # noqa: E402
from accel_sim.errors import AccelSimError  # noqa: E402
from accel_sim.reluify import ReluifySettings, distil, read_label, reluify_model  # noqa: E402
from accel_sim.reluify.checkpoint import CHECKPOINT_NAME  # noqa: E402
from accel_sim.reluify.distil import Distillation, rate_factor, risen  # noqa: E402
from accel_sim.reluify.loss import Head, divergence  # noqa: E402
from accel_sim.reluify.models import pair_of, swap  # noqa: E402
from accel_sim.reluify.refit import RIDGE, refit, ridge_fit  # noqa: E402
from accel_sim.reluify.run import Observer  # noqa: E402
from accel_sim.reluify.text import TrainingText  # noqa: E402
from accel_sim.reluify.windows import cut_training  # noqa: E402
from accel_sim.reluify.zeros import counted_zeros  # noqa: E402

GATED = ["llama", "qwen2", "gemma3"]
TEXT = TrainingText({"a": (words(7, 300),), "b": (words(8, 100),)}, ())
WINDOW = 32


def settings(**changes) -> ReluifySettings:
    few = {"tokens": 12 * WINDOW, "window": WINDOW, "refit_tokens": 8 * WINDOW, "evaluation_tokens": WINDOW}
    return ReluifySettings(**(few | {"learning_rate": 1e-2} | changes))


def loaded(name: str = "llama", **changes) -> LoadedModel:
    return LoadedModel(byte_model(name, **changes), byte_tokenizer(), name, None)


def options(out, dtype: str = "float32") -> CaptureOptions:
    return CaptureOptions(out=out, device="cpu", compute_dtype=dtype)


def some_ids(sequences: int = 4, vocabulary: int = 40) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).integers(3, vocabulary, (sequences, 24)))


def a_pair(name: str = "llama", form: ReluForm | None = None):
    """A teacher, and a student that is swapped already."""
    pair = pair_of(tiny_model(name), torch.float32)
    swap(pair, form or ReluForm())
    return pair


# -- the form


@pytest.mark.parametrize("name", GATED)
@pytest.mark.parametrize("form", [ReluForm(), ReluForm(threshold=0.3), ReluForm("drelu"), ReluForm("drelu", 0.3)])
def test_the_ffn_computes_its_form(name, form):
    pair = a_pair(name, form)
    mlp = pair.mlps[1]
    x = torch.randn(5, mlp.gate_proj.in_features, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        gate, up = mlp.gate_proj(x), nn.functional.linear(x, mlp.up_proj.weight, mlp.up_proj.bias)
        gate = torch.where(gate > form.threshold, gate, 0)
        if form.activation == "drelu":
            up = torch.where(up > 0, up, 0)
        assert torch.equal(mlp(x), mlp.down_proj(gate * up))


@pytest.mark.parametrize("name", GATED)
def test_only_ffn_weights_learn(name):
    pair = a_pair(name)
    assert len(pair.trained) == 3 * len(pair.mlps)
    assert all(key.rpartition(".")[0].endswith(("gate_proj", "up_proj", "down_proj")) for key in pair.trained)


def test_biases_of_the_ffn_learn_too_and_are_refitted():
    pair = pair_of(tiny_model("llama", mlp_bias=True), torch.float32)
    swap(pair, ReluForm())
    assert len(pair.trained) == 6 * len(pair.mlps)
    before = pair.mlps[0].down_proj.bias.detach().clone()
    refit(pair, some_ids())
    assert not torch.equal(pair.mlps[0].down_proj.bias, before)


# -- the refit


@pytest.mark.parametrize("with_bias", [False, True])
def test_the_ridge_fit_is_the_least_squares_of_numpy(with_bias):
    random = np.random.default_rng(0)
    features = np.maximum(random.normal(size=(200, 7)), 0).astype(np.float32)
    target = random.normal(size=(200, 3)).astype(np.float32) + 2
    penalty = RIDGE * (features.astype(float) ** 2).sum(0).mean()
    # ‖A·W − y‖² + λ‖W‖² is the least squares of A with √λ·I under it.
    columns = np.hstack([features, np.ones((200, 1))]) if with_bias else features
    under = np.eye(7, columns.shape[1]) * np.sqrt(penalty)
    expected = np.linalg.lstsq(np.vstack([columns, under]), np.vstack([target, np.zeros((7, 3))]), rcond=None)[0].T
    weight, bias = ridge_fit(torch.from_numpy(features), torch.from_numpy(target), with_bias)
    np.testing.assert_allclose(weight, expected[:, :7], atol=1e-4)
    assert (bias is None) == (not with_bias)
    if with_bias:
        np.testing.assert_allclose(bias, expected[:, 7], atol=1e-4)


def test_a_layer_whose_gates_are_all_shut_gets_weights_of_zero():
    weight, _ = ridge_fit(torch.zeros(10, 4), torch.ones(10, 2))
    assert torch.equal(weight, torch.zeros(2, 4))


@pytest.mark.parametrize("name", GATED)
def test_the_refit_is_that_of_each_layer_by_hand_on_the_students_own_states(name):
    pair, by_hand = a_pair(name), a_pair(name)
    found = refit(pair, some_ids())
    assert [one.layer for one in found] == [0, 1, 2]
    assert all(one.after < one.before for one in found)
    teachers = tuple(gated_mlps(by_hand.teacher).values())
    for layer, mlp in enumerate(by_hand.mlps):  # a pass of the whole model a layer
        seen = []
        handle = mlp.register_forward_pre_hook(lambda _, args, seen=seen: seen.append(args[0].flatten(0, 1)))
        with torch.no_grad():
            by_hand.student(input_ids=some_ids())
            handle.remove()
            up = mlp.up_proj(seen[0])
            weight, _ = ridge_fit(mlp.act_fn(mlp.gate_proj(seen[0])) * up, teachers[layer](seen[0]))
            mlp.down_proj.weight.copy_(weight)
        torch.testing.assert_close(pair.mlps[layer].down_proj.weight, weight, atol=1e-4, rtol=1e-3)


# -- the loss


@pytest.mark.parametrize("name", GATED)
def test_the_divergence_and_its_gradient_are_autograds(name):
    pair, ids = a_pair(name), some_ids()
    head, output = Head(pair.teacher), Head(pair.student).output(ids)
    states = output.last_hidden_state.detach().requires_grad_()
    with torch.no_grad():
        teacher = head.output(ids)
        p = pair.teacher(input_ids=ids).logits.log_softmax(-1)
    q = head.logits(ids, states, type(output)).log_softmax(-1)
    expected = (p.exp() * (p - q)).sum(-1).mean()
    expected.backward()
    loss, gradient = divergence(head, ids, teacher, states)
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)
    torch.testing.assert_close(gradient, states.grad, atol=1e-6, rtol=1e-4)


def test_stretches_of_tokens_give_the_same_divergence(monkeypatch):
    pair, ids = a_pair(), some_ids()
    head = Head(pair.teacher)
    with torch.no_grad():
        teacher, student = head.output(ids), Head(pair.student).output(ids).last_hidden_state
    whole = divergence(head, ids, teacher, student)
    monkeypatch.setattr("accel_sim.reluify.loss._ROWS", {"cpu": 7})
    parts = divergence(head, ids, teacher, student)
    assert parts[0] == pytest.approx(whole[0], rel=1e-5)
    torch.testing.assert_close(parts[1], whole[1])


def test_a_student_that_is_its_teacher_has_nothing_to_learn():
    pair, ids = pair_of(tiny_model("llama"), torch.float32), some_ids()
    head = Head(pair.teacher)
    with torch.no_grad():
        teacher, student = head.output(ids), Head(pair.student).output(ids).last_hidden_state
    loss, gradient = divergence(head, ids, teacher, student)
    assert loss == pytest.approx(0, abs=1e-6)
    assert float(gradient.abs().max()) < 1e-6


# -- zeros


def test_zeros_are_counted_as_by_hand():
    model = tiny_model("llama", num_hidden_layers=1, hidden_size=2, intermediate_size=3, num_attention_heads=1,
                       num_key_value_heads=1, head_dim=2)  # fmt: skip
    apply_form(model, ReluForm())
    (mlp,) = gated_mlps(model).values()
    with torch.no_grad():
        mlp.gate_proj.weight.copy_(torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]]))
        mlp.up_proj.weight.copy_(torch.tensor([[0.0, 1.0], [1.0, 1.0], [1.0, 1.0]]))
        with counted_zeros(model) as (gate, down):
            mlp(torch.tensor([[1.0, 0.0]]))  # gates 1, −1, 0; up 0, 1, 1
            mlp(torch.tensor([[-2.0, 3.0]]))  # gates −2, 2, 0; up 3, 1, 1
        mlp(torch.tensor([[1.0, 0.0]]))  # behind the block nothing counts
    assert (gate.zeros, gate.elements) == ([4], [6])  # −1, 0; −2, 0
    assert (down.zeros, down.elements) == ([5], [6])  # and the up that is 0
    assert gate.shares == (4 / 6,)


# -- the schedule


def test_the_rate_rises_then_falls_to_nothing_and_the_penalty_rises_to_stay():
    assert rate_factor(0, 0.0) == pytest.approx(0.1)
    assert rate_factor(50, 0.5) == pytest.approx(0.5)
    assert rate_factor(100, 1.0) == pytest.approx(0)
    assert [risen(fraction) for fraction in (0, 0.375, 0.75, 1)] == pytest.approx([0, 0.5, 1, 1])


def test_what_comes_first_ends_the_training():
    both = settings(tokens=10 * WINDOW, minutes=1.0)
    assert both.progress(5, 15.0) == 0.5
    assert both.progress(5, 45.0) == 0.75
    assert both.progress(5, 90.0) == both.progress(11, 0.0) == 1


def test_windows_are_each_there_once_and_kinds_take_turns():
    text = TrainingText({"a": (words(7, 300), words(9, 20)), "b": (words(8, 50),)}, ())
    cut = cut_training(byte_tokenizer(), text, WINDOW, seed=3)
    assert len({row.tobytes() for row in cut.token_ids}) == len(cut.token_ids) == sum(cut.by_kind.values())
    plain = [bytes(byte_tokenizer().decode(row), "utf-8") for row in cut.token_ids]
    of_b = words(8, 50).encode()
    assert [row in of_b for row in plain[:6]] == [False, True] * 3  # b lasts for some turns
    again = cut_training(byte_tokenizer(), text, WINDOW, seed=3)
    other = cut_training(byte_tokenizer(), text, WINDOW, seed=4)
    assert cut.sha256 == again.sha256 != other.sha256


# -- the training


@pytest.mark.parametrize("name", GATED)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_gated_model_becomes_a_relu_model_that_transformers_loads(name, dtype, tmp_path):
    import transformers

    label = reluify_model(loaded(name), options(tmp_path / "relu", dtype), settings(), TEXT)
    states = [label.swapped, label.refitted, label.distilled]
    assert all(0.2 < share < 0.8 for state in states for share in state.gate_zeros)
    assert set(label.dense.kl.values()) == {0.0}
    assert not any(label.dense.gate_zeros)
    assert label.tokens == 12 * WINDOW and label.finished
    assert [sample.tokens for sample in label.curve][:3] == [0, WINDOW, 2 * WINDOW]
    assert label.curve[-1].tokens == label.tokens
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "relu")
    assert all(isinstance(mlp.act_fn, nn.ReLU) for mlp in gated_mlps(model).values())
    by_us = load_model(CaptureOptions(out=tmp_path, model=str(tmp_path / "relu"), device="cpu"))
    assert by_us.tokenizer("ab")["input_ids"] == byte_tokenizer()("ab")["input_ids"]
    with torch.no_grad():
        ids = some_ids()
        assert torch.equal(model(input_ids=ids).logits, by_us.model(input_ids=ids).logits)
    assert read_label(tmp_path / "relu") == label
    assert not (tmp_path / "relu" / CHECKPOINT_NAME).exists()
    assert {each.name for each in (tmp_path / "relu").iterdir()} >= {"reluified.md", "reluified.png", "config.json"}


def test_learning_brings_the_student_closer_to_its_teacher(tmp_path):
    label = reluify_model(loaded(), options(tmp_path), settings(tokens=60 * WINDOW), TEXT)
    losses = [sample.loss for sample in label.curve[1:]]
    assert np.mean(losses[-4:]) < 0.7 * np.mean(losses[:2])


def test_the_penalty_makes_gates_smaller(tmp_path):
    many = {"tokens": 60 * WINDOW}
    plain = reluify_model(loaded(), options(tmp_path / "plain"), settings(**many), TEXT)
    sparse = reluify_model(loaded(), options(tmp_path / "sparse"), settings(**many, l1=10.0), TEXT)
    assert sparse.distilled.mean_gate_zeros > plain.distilled.mean_gate_zeros + 0.03
    assert sparse.refitted == plain.refitted


@pytest.mark.parametrize("form", [ReluForm("drelu"), ReluForm(threshold=0.5)])
def test_what_a_configuration_cannot_say_is_applied_from_the_label(form, tmp_path):
    import transformers

    student = loaded()
    label = reluify_model(student, options(tmp_path / "m"), settings(form=form), TEXT)
    assert (label.form.activation, label.form.threshold) == (form.activation, form.threshold)
    ours = load_model(CaptureOptions(out=tmp_path, model=str(tmp_path / "m"), device="cpu")).model
    plain = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "m")
    with torch.no_grad():
        ids = some_ids()
        wanted = student.model(input_ids=ids).logits
        assert torch.equal(ours(input_ids=ids).logits, wanted)
        assert not torch.equal(plain(input_ids=ids).logits, wanted)


class _Stop(Exception):
    pass


def _stopping_at(tokens: int) -> Observer:
    def stop(done: int, loss: float, fraction: float) -> None:
        if done >= tokens:
            raise _Stop

    return Observer(on_step=stop)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_an_interrupted_training_goes_on_to_the_very_same_weights(dtype, tmp_path):
    changes = {"tokens": 20 * WINDOW, "l1": 0.5}
    whole = reluify_model(loaded("qwen2"), options(tmp_path / "whole", dtype), settings(**changes), TEXT)
    for stop in (5, 13):
        with pytest.raises(_Stop):
            reluify_model(
                loaded("qwen2"), options(tmp_path / "parts", dtype), settings(**changes), TEXT,
                _stopping_at(stop * WINDOW), checkpoint_seconds=0.0,
            )  # fmt: skip
        assert (tmp_path / "parts" / CHECKPOINT_NAME).exists()
        assert not (tmp_path / "parts" / "config.json").exists()
    parts = reluify_model(loaded("qwen2"), options(tmp_path / "parts", dtype), settings(**changes), TEXT)
    assert (tmp_path / "parts/model.safetensors").read_bytes() == (tmp_path / "whole/model.safetensors").read_bytes()
    timeless = {"seconds", "curve"}
    assert parts.model_dump(exclude=timeless) == whole.model_dump(exclude=timeless)
    assert [s.measured for s in parts.curve] == [s.measured for s in whole.curve]
    assert [s.loss for s in parts.curve] == [s.loss for s in whole.curve]


def test_a_checkpoint_is_exported_while_the_training_may_go_on(tmp_path):
    with pytest.raises(_Stop):
        reluify_model(
            loaded(), options(tmp_path / "run"), settings(), TEXT, _stopping_at(5 * WINDOW), checkpoint_seconds=0.0
        )
    before = (tmp_path / "run" / CHECKPOINT_NAME).read_bytes()
    label = reluify_model(loaded(), options(tmp_path / "run"), settings(), TEXT, export=tmp_path / "now")
    assert (tmp_path / "run" / CHECKPOINT_NAME).read_bytes() == before
    assert not label.finished and label.tokens == 4 * WINDOW  # the fifth step was not kept
    assert read_label(tmp_path / "now") == label
    assert "to go on" in (tmp_path / "now/reluified.md").read_text()
    with pytest.raises(AccelSimError, match=r"now: holds a model exported after \d+ tokens"):
        reluify_model(loaded(), options(tmp_path / "now"), settings(), TEXT)
    assert load_model(CaptureOptions(out=tmp_path, model=str(tmp_path / "now"), device="cpu")).model.config


def test_a_finished_training_is_not_done_again_and_no_other_takes_its_folder(tmp_path, monkeypatch):
    label = reluify_model(loaded(), options(tmp_path), settings(), TEXT)
    monkeypatch.setattr(distil.Distillation, "_step", None)  # would fail
    assert reluify_model(loaded(), options(tmp_path), settings(), TEXT) == label
    with pytest.raises(AccelSimError, match="other settings; name another folder"):
        reluify_model(loaded(), options(tmp_path), settings(seed=1), TEXT)


def test_an_unfinished_training_of_other_settings_is_not_gone_on_with(tmp_path):
    with pytest.raises(_Stop):
        reluify_model(loaded(), options(tmp_path), settings(), TEXT, _stopping_at(WINDOW), checkpoint_seconds=0.0)
    with pytest.raises(AccelSimError, match="another model, text, recipe or setting"):
        reluify_model(loaded(), options(tmp_path), settings(learning_rate=1e-3), TEXT)
    (tmp_path / CHECKPOINT_NAME).write_bytes(b"no checkpoint")
    with pytest.raises(AccelSimError, match="not a checkpoint"):
        reluify_model(loaded(), options(tmp_path), settings(), TEXT)


def test_the_text_ends_the_training_too():
    pair, short = a_pair(), settings(tokens=None, minutes=60.0, window=24)
    distillation = Distillation(pair, short, some_ids(3))
    steps = []
    distillation._sample = lambda measure: None
    distillation.progress = distillation.progress.model_copy(update={"curve": (None,) * 99})
    distillation.run(lambda: None, lambda: None, lambda tokens, loss, fraction: steps.append(fraction))
    assert steps == pytest.approx([1 / 3, 2 / 3, 1])


def test_a_loss_that_is_not_finite_ends_the_training():
    pair = a_pair()
    with torch.no_grad():
        pair.mlps[0].down_proj.weight.fill_(float("nan"))
    with pytest.raises(AccelSimError, match="not finite; try a lower --learning-rate"):
        Distillation(pair, settings(window=24), some_ids())._step()


# -- what is refused


@pytest.mark.parametrize("name", ["gpt2", "mixtral"])
def test_a_model_without_gated_ffns_is_refused(name):
    with pytest.raises(AccelSimError, match=r"layer 0 has no gated MLP; expected one, with .* gate_proj"):
        pair_of(tiny_model(name), torch.float32)


def test_a_relu_model_is_refused():
    with pytest.raises(AccelSimError, match="layer 0 has a ReLU in its gate already"):
        pair_of(tiny_model("llama", hidden_act="relu"), torch.float32)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": None}, "--tokens or --minutes: expected at least one"),
        ({"tokens": 0}, "--tokens 0: expected a whole number from 1"),
        ({"minutes": 0.0}, "--minutes 0: expected a number above 0"),
        ({"minutes": float("nan")}, "--minutes nan"),
        ({"learning_rate": -1.0}, "--learning-rate -1"),
        ({"l1": -0.5}, "--l1 -0.5: expected a number from 0"),
        ({"window": 1}, "--window 1: expected a whole number from 2"),
        ({"batch": 0}, "--batch 0"),
        ({"refit_tokens": -1}, "--refit-tokens -1"),
        ({"evaluation_tokens": 0}, "--evaluation-tokens 0"),
    ],
)
def test_settings_that_cannot_be_are_refused(changes, message):
    with pytest.raises(AccelSimError, match=message):
        settings(**changes)


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (("silu", 0.0), "--activation silu: expected one of relu, drelu"),
        (("relu", -0.1), "--threshold -0.1: expected a number from 0"),
        (("relu", float("nan")), "--threshold nan"),
    ],
)
def test_forms_that_cannot_be_are_refused(form, message):
    with pytest.raises(AccelSimError, match=message):
        ReluForm(*form)


def test_text_that_is_too_short_is_refused(tmp_path):
    with pytest.raises(AccelSimError, match=r"has 13 windows of 32 tokens; refit and one step need 21"):
        short = TrainingText({"a": (words(7, 20),)}, ())
        reluify_model(loaded(), options(tmp_path), settings(refit_tokens=20 * WINDOW), short)
    with pytest.raises(AccelSimError, match="--window 32: the training text is shorter than one window"):
        reluify_model(loaded(), options(tmp_path), settings(), TrainingText({"a": ("short",)}, ()))


def test_a_type_that_gradients_leave_is_refused(tmp_path):
    with pytest.raises(AccelSimError, match="--dtype float16: gradients leave its range"):
        reluify_model(loaded(), options(tmp_path, "float16"), settings(), TEXT)


def test_a_model_of_quantised_weights_is_refused():
    model = tiny_model("llama")
    codes = nn.Parameter(torch.zeros(24, 16, dtype=torch.int8), requires_grad=False)
    model.model.layers[1].mlp.gate_proj.weight = codes
    with pytest.raises(AccelSimError, match=r"layers.1.mlp.gate_proj.weight is quantised"):
        pair_of(model, torch.float32)


def test_a_model_that_comes_from_a_gguf_file_can_be_saved(tmp_path):
    """transformers refuses to save one, though its weights are plain."""
    import transformers

    quantiser = pytest.importorskip("transformers.quantizers.quantizer_gguf")
    from_file = loaded()
    from_file.model.hf_quantizer = quantiser.GgufHfQuantizer(transformers.GgufConfig())
    from_file.model.is_quantized = True
    with pytest.raises(ValueError, match="not serializable"):
        from_file.model.save_pretrained(tmp_path / "refused")
    label = reluify_model(from_file, options(tmp_path / "made"), settings(), TEXT)
    assert read_label(tmp_path / "made") == label
