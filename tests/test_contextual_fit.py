"""Predictors fitted to a synthetic ReGLU layer: what each step is worth, what is promised, and the extremes."""

from __future__ import annotations

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from torch.nn import functional  # noqa: E402

from accel_sim.errors import AccelSimError  # noqa: E402
from accel_sim.sparsify.contextual import PredictorOptions  # noqa: E402
from accel_sim.sparsify.contextual.ffn import GatedFfn  # noqa: E402
from accel_sim.sparsify.contextual.fit import fit_predictor  # noqa: E402
from accel_sim.sparsify.contextual.importance import gate_sparsity, importance  # noqa: E402
from accel_sim.sparsify.contextual.metrics import measure, output_error, sparsity  # noqa: E402
from accel_sim.sparsify.contextual.predictor import (  # noqa: E402
    LowRankPredictor,
    OraclePredictor,
    SignBitPredictor,
    sign_bits,
)

HIDDEN, NEURONS, TOKENS = 48, 128, 800


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def layer(activation="relu", seed: int = 1, bias: bool = False) -> GatedFfn:
    """Neurons of very different size, as in a trained layer, most of them rarely active with a bias."""
    size = torch.exp(0.7 * normal(2, NEURONS, 1, seed=seed))
    gate = size[0] * normal(NEURONS, HIDDEN, seed=seed + 1) / HIDDEN**0.5
    up, down = normal(NEURONS, HIDDEN, seed=seed + 2), normal(HIDDEN, NEURONS, seed=seed + 3) * size[1].T
    gate_bias = -gate.norm(dim=1) * normal(NEURONS, seed=seed + 4).abs() / 8 if bias else None
    return GatedFfn(gate, up, down, activation, gate_bias=gate_bias)


def activations(tokens: int = TOKENS, seed: int = 50) -> torch.Tensor:
    """Correlated: a tenth of the directions carries most of it."""
    axes = torch.linalg.qr(normal(HIDDEN, HIDDEN, seed=100)).Q
    return normal(tokens, HIDDEN, seed=seed) * torch.logspace(0.5, -1.5, HIDDEN) @ axes


# The layer


def test_a_gated_ffn_is_what_it_says():
    ffn, x = layer(bias=True), activations(5)
    ffn = replace(ffn, up_bias=normal(NEURONS), down_bias=normal(HIDDEN))
    gate = torch.relu(x @ ffn.gate.T + ffn.gate_bias)
    product = gate * (x @ ffn.up.T + ffn.up_bias)
    assert torch.allclose(ffn.products(x), product, rtol=1e-4, atol=1e-5)
    assert torch.allclose(ffn.dense(x), product @ ffn.down.T + ffn.down_bias, rtol=1e-4, atol=1e-3)
    mask = normal(5, NEURONS) > 0
    assert torch.allclose(ffn.masked(x, mask), (product * mask) @ ffn.down.T + ffn.down_bias, rtol=1e-4, atol=1e-3)
    assert torch.equal(ffn.realised(x), gate > 1e-8)


def test_a_gate_of_1e_8_is_zero():
    ffn = GatedFfn(torch.tensor([[1e-8], [1.1e-8], [-1.0]]), torch.ones(3, 1), torch.ones(1, 3), "relu")
    assert ffn.realised(torch.ones(1, 1)).tolist() == [[False, True, False]]


def test_drelu_is_active_where_both_halves_are():
    ffn, x = layer("drelu"), activations()
    gate, up = torch.relu(x @ ffn.gate.T), torch.relu(x @ ffn.up.T)
    assert torch.allclose(ffn.products(x), gate * up, rtol=1e-4, atol=1e-5)
    assert torch.equal(ffn.realised(x), ffn.products(x) > 0)
    assert torch.equal(ffn.open_gates(x), ffn.gate_activations(x) > 1e-8)
    assert sparsity(ffn.realised(x)) > gate_sparsity(ffn, x) == sparsity(ffn.open_gates(x))


@pytest.mark.parametrize("activation", ["silu", "gelu", "gelu_tanh", functional.silu])
def test_smooth_activations_hardly_ever_are_zero(activation):
    ffn, x = layer(activation), activations(50)
    assert sparsity(ffn.realised(x)) < 0.1  # negative gates count


def test_importance_is_the_norm_of_what_is_left_out():
    ffn, x = layer(), activations(6)
    without = torch.ones(6, NEURONS, dtype=torch.bool)
    without[:, 7] = False
    difference = (ffn.dense(x).double() - ffn.masked(x, without).double()).square().sum(dim=1)
    assert torch.allclose(importance(ffn, x, "full")[:, 7].double(), difference, rtol=1e-3, atol=1e-3)
    assert torch.allclose(importance(ffn, x, "gate_up"), ffn.products(x) ** 2)
    assert torch.allclose(importance(ffn, x, "gate"), ffn.gate_activations(x) ** 2)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"up": torch.ones(3, 2)}, "up float32 \\[3, 2\\]; expected float32 \\[128, 48\\]"),
        ({"down": torch.ones(NEURONS, HIDDEN)}, "down"),
        ({"gate": torch.ones(NEURONS, HIDDEN).half()}, "gate float16"),
        ({"gate": torch.ones(3)}, "gate \\[3\\]; expected \\[D, d\\]"),
        ({"gate_bias": torch.ones(3)}, "gate_bias"),
        ({"up": torch.full((NEURONS, HIDDEN), torch.nan)}, "up: values that are not finite"),
        ({"activation": "relux"}, "activation 'relux'; expected relu, drelu"),
    ],
)
def test_weights_that_do_not_fit_are_named(changed, message):
    with pytest.raises(AccelSimError, match=message):
        replace(layer(), **changed)


# What each step is worth


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("activation", ["relu", "drelu"])
def test_whitening_helps_and_calibrated_biases_help_more(activation, bias):
    """The order of the paper's Table 3, at one predicted sparsity, on tokens that nothing was fitted on."""
    ffn, x, fresh = layer(activation, bias=bias), activations(), activations(seed=51)
    steps = [{"whitening": False, "bias": "const"}, {"bias": "const"}, {}]
    made = [PredictorOptions(rank=6, sparsity=0.4, **step) for step in steps]
    naive, whitened, biased = [measure(fit_predictor(each, ffn, x).predictor, ffn, fresh) for each in made]
    for quality in (naive, whitened, biased):
        assert quality.predicted_sparsity == pytest.approx(0.4, abs=0.02)
    assert biased.output_error < 0.7 * whitened.output_error < 0.7 * 0.7 * naive.output_error
    assert whitened.roc_auc > naive.roc_auc + 0.05
    assert whitened.recall > naive.recall


def test_more_rank_is_a_better_predictor():
    ffn, x, fresh = layer(), activations(), activations(seed=51)
    found = [
        measure(fit_predictor(PredictorOptions(rank=rank), ffn, x).predictor, ffn, fresh) for rank in (2, 6, 16, HIDDEN)
    ]
    assert [each.roc_auc for each in found] == sorted(each.roc_auc for each in found)
    assert [each.output_error for each in found] == sorted((each.output_error for each in found), reverse=True)


def test_the_full_importance_loses_least_of_the_output():
    ffn, x = layer(), activations()
    found = {}
    for kind in ("gate", "gate_up", "full"):
        options = PredictorOptions(rank=6, sparsity=0.5, importance=kind)
        found[kind] = measure(fit_predictor(options, ffn, x).predictor, ffn, activations(seed=51)).output_error
    assert found["full"] < found["gate_up"] < found["gate"]


def test_no_predictor_beats_the_oracle():
    ffn, x, fresh = layer(), activations(), activations(seed=51)
    oracle = measure(fit_predictor(PredictorOptions(kind="oracle", sparsity=0.8), ffn, x).predictor, ffn, fresh)
    assert oracle.predicted_sparsity == oracle.realised_sparsity == pytest.approx(0.8, abs=0.02)
    assert oracle.precision == 1
    for options in ({"rank": HIDDEN}, {"rank": 6}, {"kind": "sign_bit"}):
        other = measure(fit_predictor(PredictorOptions(sparsity=0.8, **options), ffn, x).predictor, ffn, fresh)
        assert other.output_error > oracle.output_error


# What is promised


@pytest.mark.parametrize("options", [{"rank": 6}, {"rank": 6, "bias": "const"}, {"kind": "sign_bit"}], ids=str)
@pytest.mark.parametrize("target", [0.05, 0.5, 0.9])
def test_the_target_is_met_on_the_calibration(options, target):
    """Signs have few scores, so that a step of theirs is several samples."""
    fitted = fit_predictor(PredictorOptions(sparsity=target, turned_off=1, **options), layer(), activations())
    assert fitted.target == target
    slack = 0.02 if options.get("kind") else 0.005
    assert target <= fitted.predicted_sparsity
    assert fitted.predicted_sparsity <= target + slack or fitted.lost == 0  # more only where it costs nothing


def test_a_relative_target_is_of_the_gates_own_sparsity():
    ffn, x = layer(bias=True), activations()
    measured = gate_sparsity(ffn, x)
    assert 0.5 < measured < 0.6
    fitted = fit_predictor(PredictorOptions(rank=6, sparsity=0.5, relative=True), ffn, x)
    assert (fitted.measured_gate_sparsity, fitted.target) == (measured, 0.5 * measured)
    assert fitted.predicted_sparsity == pytest.approx(0.5 * measured, abs=0.005)


def test_without_biases_the_scores_decide():
    ffn, x = layer(bias=True), activations()
    fitted = fit_predictor(PredictorOptions(rank=HIDDEN, bias="none"), ffn, x)
    assert fitted.target is None
    assert torch.equal(fitted.predictor.bias, ffn.gate_bias)
    assert float((fitted.predictor.predict(x) == ffn.realised(x)).float().mean()) > 0.999
    trained = fit_predictor(PredictorOptions(kind="trained", rank=6, bias="none"), ffn, x)
    assert torch.equal(trained.predictor.bias, torch.zeros(NEURONS))
    assert measure(trained.predictor, ffn, activations(seed=51)).roc_auc > 0.75


def test_signs_without_biases_are_the_majority():
    ffn, x = layer(), activations(20)
    predictor = fit_predictor(PredictorOptions(kind="sign_bit", bias="none"), ffn, x).predictor
    agree = ((x[:, None, :] < 0) == (ffn.gate[None] < 0)).sum(dim=2)
    assert torch.equal(predictor.scores(x).long(), agree - (HIDDEN - agree))
    assert torch.equal(predictor.predict(x), agree >= HIDDEN - agree)


def test_zero_counts_as_positive_and_negative_zero_as_negative():
    assert sign_bits(torch.tensor([0.0, -0.0, 1.0, -1.0])).tolist() == [1, -1, 1, -1]


def test_full_rank_predicts_every_gate_at_its_own_sparsity():
    """Every pair that is active is predicted where the target leaves room for it."""
    ffn, x, fresh = layer(bias=True), activations(), activations(seed=51)
    quality = measure(fit_predictor(PredictorOptions(rank=HIDDEN, sparsity=0.3), ffn, x).predictor, ffn, fresh)
    assert quality.roc_auc > 0.8
    assert quality.recall > 0.99
    assert quality.output_error < 1e-3


def test_the_oracle_is_the_true_mask_up_to_the_gates_own_sparsity():
    ffn, x = layer(bias=True), activations()
    fitted = fit_predictor(PredictorOptions(kind="oracle", sparsity=0.5), ffn, x)
    assert fitted.predictor.floor == 0
    assert torch.equal(fitted.predictor.predict(x), ffn.realised(x))
    assert output_error(ffn, x, fitted.predictor.predict(x)) == 0
    above = fit_predictor(PredictorOptions(kind="oracle", sparsity=0.95), ffn, x)
    assert above.predictor.floor > 0
    assert above.predicted_sparsity == pytest.approx(0.95, abs=1e-4)


def test_the_halves_are_drawn_by_the_seed_and_one_gives_the_scores():
    ffn, x = layer(), activations()
    options = PredictorOptions(rank=6)
    first, again, other = (fit_predictor(options, ffn, x, seed=seed).predictor for seed in (1, 1, 2))
    assert torch.equal(first.bias, again.bias) and torch.equal(first.up, again.up)
    assert not torch.equal(first.up, other.up)
    order = torch.randperm(TOKENS, generator=torch.Generator().manual_seed(1))
    changed = x.clone()
    changed[order[TOKENS // 2 :]] *= torch.linspace(0.1, 10, HIDDEN)
    one_half = fit_predictor(options, ffn, changed, seed=1).predictor
    assert torch.equal(one_half.up, first.up) and not torch.equal(one_half.bias, first.bias)


def test_what_is_fitted_is_told():
    fitted = fit_predictor(PredictorOptions(rank=6), layer(), activations())
    assert 0.1 < fitted.monotone < 1
    assert 0 < fitted.lost < 0.05
    assert fitted.turned_off <= 0.01 * NEURONS
    assert fitted.ridge == 0
    assert fit_predictor(PredictorOptions(rank=6), layer(), activations(20)).ridge > 0
    const = fit_predictor(PredictorOptions(rank=6, bias="const", whitening=False), layer(), activations())
    assert (const.monotone, const.lost, const.turned_off, const.ridge) == (None, None, None, None)


# Extremes


@pytest.mark.parametrize(
    "kind", [{"rank": 1}, {"kind": "sign_bit"}, {"kind": "oracle"}, {"kind": "trained", "rank": 1}]
)
def test_few_tokens_are_enough_to_run(kind):
    """Two, or four where a part of one half is held back."""
    few = 4 if kind.get("kind") == "trained" else 2
    for tokens in (few, few + 1):
        fitted = fit_predictor(PredictorOptions(**kind), layer(), activations(tokens))
        assert fitted.predictor.predict(activations(4)).shape == (4, NEURONS)
    with pytest.raises(AccelSimError, match="at least two tokens"):
        fit_predictor(PredictorOptions(**kind), layer(), activations(few - 1))


def test_one_neuron_one_feature():
    ffn = GatedFfn(torch.ones(1, 1), torch.ones(1, 1), torch.ones(1, 1), "relu")
    fitted = fit_predictor(PredictorOptions(rank=1, sparsity=0.3), ffn, torch.linspace(-1, 1, 80)[:, None])
    quality = measure(fitted.predictor, ffn, torch.linspace(-1, 1, 101)[:, None])
    assert quality.roc_auc == 1 and quality.recall == 1


def test_a_layer_that_is_never_active_is_predicted_so():
    ffn = replace(layer(), gate_bias=torch.full((NEURONS,), -1e3))
    fitted = fit_predictor(PredictorOptions(rank=6), ffn, activations())
    assert (fitted.measured_gate_sparsity, fitted.monotone, fitted.lost) == (1, None, 0)
    assert fitted.predicted_sparsity == pytest.approx(0.95, abs=0.01)
    quality = measure(fitted.predictor, ffn, activations(seed=51))
    assert (quality.recall, quality.roc_auc, quality.output_error) == (None, None, 0)


def test_a_smooth_gate_has_no_sparsity_to_aim_at():
    fitted = fit_predictor(PredictorOptions(rank=6, relative=True), layer("silu"), activations())
    assert fitted.target < 1e-3
    assert fitted.predicted_sparsity < 0.005


@pytest.mark.parametrize(
    ("x", "rank", "message"),
    [
        (activations(1), 6, "at least two tokens"),
        (normal(5, HIDDEN + 1), 6, "\\[5, 49\\]; expected \\[n, 48\\]"),
        (torch.full((5, HIDDEN), torch.inf), 6, "not finite"),
        (activations(5), HIDDEN + 1, "rank 49 of a gate \\[128, 48\\]"),
    ],
)
def test_calibration_that_cannot_be_used_is_named(x, rank, message):
    with pytest.raises(AccelSimError, match=message):
        fit_predictor(PredictorOptions(rank=rank), layer(), x)


# Predictors at work


def test_the_step_is_strict():
    predictor = LowRankPredictor(torch.ones(1, 1), torch.ones(3, 1), torch.tensor([-1.0, -0.5, -1.5]))
    assert predictor.predict(torch.ones(1, 1)).tolist() == [[False, True, False]]


def test_bytes_that_a_token_reads():
    """The paper's LLaMA2-7B: 2.86 % of the FFN, 7.7 MB a layer in 16 bits (256 · (4096 + 11008) + 11008 numbers)."""
    predictor = LowRankPredictor(torch.zeros(256, 4096), torch.zeros(11008, 256), torch.zeros(11008))
    assert predictor.rank == 256
    assert predictor.weights_bytes() == 2 * (256 * (4096 + 11008) + 11008)
    assert predictor.weights_bytes(8) == predictor.weights_bytes() // 2
    signs = SignBitPredictor(torch.ones(11008, 4096), torch.zeros(11008))
    assert signs.weights_bytes() == 11008 * 4096 // 8 + 2 * 11008
    oracle = OraclePredictor(layer(), "full", 0.0)
    assert (signs.rank, oracle.rank, oracle.weights_bytes()) == (None, None, 0)


@pytest.mark.parametrize("kind", [{"rank": 6}, {"kind": "sign_bit"}, {"kind": "oracle", "sparsity": 0.9}])
def test_moved_to_a_device_it_predicts_the_same(kind):
    predictor, x = fit_predictor(PredictorOptions(**kind), layer(bias=True), activations()).predictor, activations(9)
    assert torch.equal(predictor.to("cpu").predict(x), predictor.predict(x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LowRankPredictor(torch.ones(2, 3), torch.ones(4, 1), torch.ones(4)), "expected \\[r, d\\]"),
        (lambda: LowRankPredictor(torch.ones(2, 3), torch.ones(4, 2), torch.ones(3)), "expected \\[r, d\\]"),
        (lambda: LowRankPredictor(torch.ones(2, 3), torch.ones(4, 2).half(), torch.ones(4)), "float16"),
        (lambda: LowRankPredictor(torch.ones(1, 1), torch.ones(1, 1), torch.tensor([torch.inf])), "finite"),
        (lambda: SignBitPredictor(torch.zeros(4, 2), torch.ones(4)), "signs other than 1 and -1"),
        (lambda: SignBitPredictor(torch.ones(4, 2), torch.ones(2)), "expected \\[D, d\\], \\[D\\]"),
    ],
)
def test_tensors_that_do_not_fit_are_named(make, message):
    with pytest.raises(AccelSimError, match=message):
        make()
