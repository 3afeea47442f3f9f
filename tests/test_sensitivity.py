"""Sensitivities of tiny models: what is measured, what is reused, and the recipes that follow."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from capture_helpers import PROMPT, loaded_model, tiny_model  # noqa: E402

from accel_sim.errors import AccelSimError  # noqa: E402
from accel_sim.evaluation.journal import Journal  # noqa: E402
from accel_sim.evaluation.sensitivity import Divergences, Treated, relative_errors  # noqa: E402
from accel_sim.evaluation.sensitivity_study import Amount, measure_sensitivities  # noqa: E402
from accel_sim.evaluation.skipping import recipe_text  # noqa: E402
from accel_sim.sparsify import load_recipe  # noqa: E402
from accel_sim.sparsify.live import remove, sparsify  # noqa: E402
from accel_sim.sparsify.recipe import recipe_from_mapping  # noqa: E402

SEQUENCES = torch.tensor([PROMPT, PROMPT[::-1]])


def _recipe(pattern="2:4", rules=()):
    return recipe_from_mapping("everywhere", {"default": {"pattern": pattern}, "rules": list(rules)})


def _only(name):
    """The recipe that prunes one projection of one layer."""
    layer, _, path = name.partition("layers.")[2].partition(".")
    rule = {"projections": path, "layers": layer, "pattern": "2:4"}
    return recipe_from_mapping("one", {"default": {}, "rules": [rule]})


def _logits(model, sequence):
    with torch.no_grad():
        return model(input_ids=sequence[None], use_cache=False).logits[0]


def test_error_is_that_of_the_outputs_of_each_projection_by_itself():
    """Held against the definition, through the modules' own inputs."""
    model = tiny_model("llama")
    errors = relative_errors(Treated(model, _recipe()), SEQUENCES)
    assert len(errors) == 3 * 7
    for name in ("model.layers.0.self_attn.k_proj", "model.layers.2.mlp.down_proj"):
        module, inputs = model.get_submodule(name), []
        hook = module.register_forward_hook(lambda module, args, output, inputs=inputs: inputs.append(args[0][0]))
        for sequence in SEQUENCES:
            _logits(model, sequence)
        hook.remove()
        x = torch.cat(inputs)
        kept = x.abs().reshape(len(x), -1, 4).topk(2, dim=2).indices
        pruned = x * torch.zeros(len(x), x.shape[1] // 4, 4).scatter_(2, kept, 1).reshape(x.shape)
        y, sparse = (rows @ module.weight.detach().T for rows in (x, pruned))
        assert errors[name] == pytest.approx(float((y - sparse).norm() / y.norm()), rel=1e-5)


def test_the_model_stays_dense_and_is_left_as_it_was():
    model = tiny_model("llama")
    before = _logits(model, SEQUENCES[0])
    treated = Treated(model, _recipe())
    relative_errors(treated, SEQUENCES)
    Divergences(treated, SEQUENCES[0]).of(treated.targets[0])
    assert torch.equal(before, _logits(model, SEQUENCES[0]))
    assert all("forward" not in block.__dict__ for block in model.model.layers)


@pytest.mark.parametrize("name", ["llama", "qwen2", "gemma3"])
def test_divergence_is_that_of_the_model_with_one_projection_sparsified(name):
    model = tiny_model(name)
    treated = Treated(model, _recipe())
    measured = Divergences(treated, SEQUENCES[0])
    assert measured.reuses_prefix
    dense = torch.log_softmax(_logits(model, SEQUENCES[0]), dim=-1)
    for target in (treated.targets[1], treated.targets[9], treated.targets[-1]):
        sparsify(model, _only(target.name))
        sparse = torch.log_softmax(_logits(model, SEQUENCES[0]), dim=-1)
        remove(model)
        expected = (dense.exp() * (dense - sparse)).sum(dim=-1).mean()
        assert measured.of(target) == pytest.approx(float(expected), rel=1e-4, abs=1e-7)
        assert float(expected) > 0


def test_without_the_prefix_the_divergence_is_the_same():
    treated = Treated(tiny_model("llama"), _recipe())
    measured = Divergences(treated, SEQUENCES[0])
    reused = [measured.of(target) for target in treated.targets]
    measured.reuses_prefix = False
    assert [measured.of(target) for target in treated.targets] == reused


def test_a_prefix_that_does_not_hold_is_not_used():
    """A model whose blocks hand on more than they return."""
    model = tiny_model("llama")
    calls = []
    last = model.model.layers[-1].forward
    model.model.layers[-1].forward = lambda *args, **kwargs: last(*args, **kwargs) + len(calls)
    for block in model.model.layers[:-1]:
        block.register_forward_pre_hook(lambda *_: calls.append(1))
    assert not Divergences(Treated(model, _recipe()), SEQUENCES[0]).reuses_prefix


def test_experts_of_a_block_are_one_projection():
    treated = Treated(loaded_model("mixtral").model, _recipe())
    errors = relative_errors(treated, SEQUENCES)
    stacked = [target for target in treated.targets if ".*." in target.name]
    assert stacked and all(errors[target.name] > 0 for target in stacked)
    # A token goes through two of the five experts.
    by_name = {target.name: target for target in treated.targets}
    down = next(target for target in stacked if target.name.endswith("down_proj"))
    assert down.macs == 2 * 16 * 24
    assert not any("gate" in name.rpartition(".")[2] and "experts" not in name for name in by_name), "a router"


def _study(model, recipe, **more):
    return measure_sensitivities(model, "tiny", recipe, SEQUENCES, **more)


@pytest.mark.parametrize("method", ["greedy", "knapsack", "amber"])
def test_the_recipe_that_follows_sparsifies_what_was_chosen_and_can_be_read(tmp_path, method):
    model = tiny_model("llama")
    study = _study(model, _recipe())
    pruned = study.choose(method, "error", 0.45)
    file = tmp_path / "narrow.yaml"
    file.write_text(recipe_text(study.recipe_for(pruned, "narrow", "what: of a test")), encoding="utf-8")
    recipe = load_recipe(file)
    found = {each.projection for each in study.sensitivities if recipe.treatment(each.projection, each.layer).prunes()}
    assert found == pruned
    assert 0.45 <= study.covered(pruned) < 1
    assert recipe.description == "what: of a test"
    assert len(sparsify(model, recipe)._accel_sim_sparsifier.products) == len(pruned)


def test_rules_of_the_recipe_itself_hold_on(tmp_path):
    """What it never sparsified is no candidate, and what prepares no sparsity stays where it is left dense."""
    rules = [{"projections": "up_proj", "pattern": "dense"}, {"projections": "q_proj", "precision": "w8a8"}]
    model = tiny_model("llama")
    study = _study(model, _recipe(rules=rules))
    assert not any(each.projection.endswith("up_proj") for each in study.sensitivities)
    assert study.reach == pytest.approx(1 - 16 * 24 / (3 * 16 * 24 + 2 * 16 * 16 + 2 * 16 * 8))
    recipe = study.recipe_for(frozenset(), "none", "")
    treatment = recipe.treatment("model.layers.0.self_attn.q_proj", 0)
    assert not treatment.prunes() and treatment.precision == "w8a8"
    with pytest.raises(AccelSimError, match="covers at most"):
        study.choose("knapsack", "error", 0.99)


def test_a_journal_is_gone_on_with_and_tells_other_findings_apart(tmp_path, monkeypatch):
    model, recipe = tiny_model("llama"), _recipe()
    path = tmp_path / "journal"
    with pytest.raises(AccelSimError, match=r"0 of 21 divergences measured; the same command goes on"):
        _study(model, recipe, amount=Amount(True, 1, seconds=-1), journal=Journal(path, {"a": 1}))
    whole = _study(model, recipe, amount=Amount(True), journal=Journal(path, {"a": 1}))
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:8]) + '\n["diverg')  # a run that was killed while it wrote
    measured = []
    of = Divergences.of
    monkeypatch.setattr(Divergences, "of", lambda self, target: measured.append(target.name) or of(self, target))
    again = _study(model, recipe, amount=Amount(True), journal=Journal(path, {"a": 1}))
    assert again.sensitivities == whole.sensitivities
    assert len(measured) == 21 - (8 - 2)
    with pytest.raises(AccelSimError, match="holds findings of another"):
        Journal(path, {"a": 2})
    path.write_text("nonsense")
    with pytest.raises(AccelSimError, match="not a journal"):
        Journal(path, {"a": 1})


def test_a_recipe_that_sparsifies_nothing_says_so():
    with pytest.raises(AccelSimError, match="everywhere: sparsifies no projection of tiny"):
        _study(tiny_model("llama"), _recipe("dense"))
