"""Recipes on a tiny model: what is measured, what an interrupted evaluation goes on from, and what is written."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from evaluation_helpers import byte_model, byte_tokenizer, corpora, settings, words  # noqa: E402

from accel_sim import sparsify  # noqa: E402
from accel_sim.capture.text import Text  # noqa: E402
from accel_sim.errors import AccelSimError  # noqa: E402
from accel_sim.evaluation import Corpora, Evaluator, evaluate, paired, read_evaluations  # noqa: E402
from accel_sim.evaluation import run as evaluation_run  # noqa: E402
from accel_sim.evaluation.dense import window_logits  # noqa: E402
from accel_sim.evaluation.output import Provenance, markdown, write_json  # noqa: E402
from accel_sim.sparsify.recipe import recipe_from_mapping  # noqa: E402

KINDS = ["letters", "others", "all"]


def recipe(name: str, **treatment):
    return recipe_from_mapping(name, {"default": treatment})


NOTHING, HALF, QUARTER = recipe("nothing"), recipe("half", pattern="2:4"), recipe("quarter", pattern="1:4")


@pytest.fixture(scope="module")
def model():
    return byte_model()


def evaluator(model, **arguments) -> Evaluator:
    return Evaluator(model, byte_tokenizer(), **({"corpora": corpora(), "settings": settings()} | arguments))


def test_the_dense_model_then_every_recipe_on_every_kind_and_on_all(model):
    found = evaluate(model, byte_tokenizer(), [HALF, QUARTER], corpora(), settings())
    assert [each.recipe for each in found] == ["dense"] * 3 + ["half"] * 3 + ["quarter"] * 3
    assert [each.text_kind for each in found] == KINDS * 3
    assert [each.tokens for each in found[:3]] == [62, 62, 124]
    dense, half, quarter = found[2], found[5], found[8]
    assert dense.kl == 0 and dense.top1_agreement == 1 and dense.over_dense == 0 and dense.greedy_agreement == 1
    assert 0 < half.kl < quarter.kl and quarter.top1_agreement < half.top1_agreement < 1
    assert half.over_dense == pytest.approx(half.perplexity / dense.perplexity - 1)


def test_perplexity_is_that_of_the_models_own_loss(model):
    one = evaluator(model)
    found = {each.text_kind: each for each in one.dense()}
    losses = []
    for window in one.cuts.windows:
        ids = torch.from_numpy(window.token_ids)[None]
        with torch.no_grad():
            losses.append(float(model(input_ids=ids, labels=ids).loss))
    assert found["letters"].perplexity == pytest.approx(torch.tensor(losses[:2]).mean().exp().item(), rel=1e-5)
    assert found["all"].perplexity == pytest.approx(torch.tensor(losses).mean().exp().item(), rel=1e-5)


def test_a_recipe_that_does_nothing_is_the_dense_model(model):
    one = evaluator(model)
    dense, nothing = one.dense()[2], one.evaluate(NOTHING)[2]
    assert nothing.perplexity == dense.perplexity and nothing.greedy_agreement == 1 and nothing.top1_agreement == 1
    assert nothing.kl == 0 and paired(nothing, dense).mean == 0


def test_the_model_is_given_back_dense(model):
    ids = torch.arange(20)
    before = window_logits(model, ids)
    evaluator(model).evaluate(HALF)
    assert torch.equal(window_logits(model, ids), before)


def test_a_step_that_fails_gives_the_model_back_dense(model, monkeypatch):
    ids = torch.arange(20)
    before = window_logits(model, ids)
    monkeypatch.setattr(evaluation_run, "compare_logits", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluator(model).evaluate(HALF)
    assert torch.equal(window_logits(model, ids), before)


def test_a_sparsified_model_is_refused(model):
    sparsify(model, HALF)
    try:
        with pytest.raises(AccelSimError, match="the model is sparsified: expected it dense"):
            evaluator(model)
    finally:
        sparsify.remove(model)


def test_what_needs_it_is_calibrated_and_the_rest_is_not(model, monkeypatch):
    given = {}

    def watched(model, recipe, calibration=None):
        given[recipe.name] = calibration
        return sparsify(model, recipe, calibration=calibration)

    watched.remove = sparsify.remove
    monkeypatch.setattr(evaluation_run, "sparsify", watched)
    one = evaluator(model)
    one.evaluate(HALF)
    one.evaluate(recipe("threshold", pattern="threshold 50%"))
    assert given["half"] is None and given["threshold"].tolist() == one.cuts.calibration_ids.tolist()


def test_codes_that_select_otherwise_are_counted(model):
    one = evaluator(model, settings=settings(generation=False))
    floats = one.evaluate(recipe("floats", pattern="2:4", precision="w8a8"))
    codes = one.evaluate(recipe("codes", pattern="2:4", precision="w8a8", score="codes"))
    assert floats[2].codes_selected_differently is None
    assert [0 < each.codes_selected_differently < 0.1 for each in codes] == [True] * 3
    assert codes[2].greedy_agreement is None


def test_logits_that_are_not_finite_are_an_error():
    broken = byte_model()
    with torch.no_grad():
        broken.model.norm.weight.fill_(float("inf"))
    with pytest.raises(AccelSimError, match=r"the dense model: window 0 \(letters\): the logits are not finite"):
        evaluator(broken).dense()


def test_windows_and_greedy_text_must_fit_into_the_models_positions(model):
    with pytest.raises(AccelSimError, match="--window 128: the model has 64 positions"):
        evaluator(model, settings=settings(window=128, tokens=128, calibration_tokens=128))
    with pytest.raises(AccelSimError, match=r"greedy text of 68 tokens .*: the model has 64 positions"):
        evaluator(model, settings=settings(new_tokens=60))


def test_a_kind_of_text_does_not_depend_on_the_others(model):
    alone = Corpora({"others": corpora().evaluation["others"]}, corpora().calibration)
    (one, _), both = evaluator(model, corpora=alone).dense(), evaluator(model).dense()
    assert one.perplexity == both[1].perplexity and one.perplexity_ci == both[1].perplexity_ci


class Stop(Exception):
    """Stands for a killed process."""


def stops_after(steps: int):
    def on_step(what: str) -> None:
        nonlocal steps
        if steps == 0:
            raise Stop
        steps -= 1

    return on_step


@pytest.mark.parametrize("steps", [2, 5, 7, 9])
def test_an_interrupted_evaluation_goes_on_where_it_stopped(model, tmp_path, steps):
    expected = evaluator(model)
    expected = expected.dense() + expected.evaluate(HALF)
    path = tmp_path / "evaluation.journal"
    with pytest.raises(Stop):
        stopped = evaluator(model, journal=path, on_step=stops_after(steps))
        stopped.dense()
        stopped.evaluate(HALF)
    kept = path.read_text(encoding="utf-8").splitlines()
    again = evaluator(model, journal=path)
    assert again.dense() + again.evaluate(HALF) == expected
    assert path.read_text(encoding="utf-8").splitlines()[: len(kept)] == kept
    assert len(path.read_text(encoding="utf-8").splitlines()) == 1 + 2 * again.steps


def test_a_finished_recipe_is_not_run_again(model, tmp_path, monkeypatch):
    path = tmp_path / "evaluation.journal"
    first = evaluator(model, journal=path)
    expected = first.dense() + first.evaluate(HALF)
    for name in ("window_logits", "continue_greedily", "sparsify"):
        monkeypatch.setattr(evaluation_run, name, lambda *_, **__: pytest.fail("runs the model"))
    again = evaluator(model, journal=path)
    renamed = replace(HALF, name="other name")
    assert again.dense() + again.evaluate(HALF) == expected
    assert [each.recipe for each in again.evaluate(renamed)] == ["other name"] * 3


def test_the_bootstrap_and_greedy_text_can_change_and_the_windows_stay(model, tmp_path):
    path = tmp_path / "evaluation.journal"
    first = evaluator(model, journal=path, settings=settings(generation=False))
    first.dense()
    lines = len(path.read_text(encoding="utf-8").splitlines())
    found = evaluator(model, journal=path, settings=settings(seed=5)).dense()
    assert len(path.read_text(encoding="utf-8").splitlines()) == lines + 1 and found[2].greedy_agreement == 1


def test_findings_of_another_model_or_text_are_refused(model, tmp_path):
    path = tmp_path / "evaluation.journal"
    evaluator(model, journal=path, settings=settings(block=4))  # which found nothing, and is in nobody's way
    evaluator(model, journal=path).dense()
    other = byte_model()
    with torch.no_grad():
        other.model.layers[1].mlp.up_proj.weight.mul_(1.01)
    changed = Corpora({**corpora().evaluation, "others": Text("others.txt", words(9))}, corpora().calibration)
    recalibrated = Corpora(corpora().evaluation, (Text("new.txt", words(10)),))
    for arguments in (
        {"model": other},
        {"model": model, "corpora": changed},
        {"model": model, "corpora": recalibrated},
        {"model": model, "settings": settings(block=8)},
    ):
        with pytest.raises(AccelSimError, match="holds findings of another model, text, recipe or setting"):
            evaluator(**arguments, journal=path)


def test_two_recipes_of_one_name_are_told_apart_by_what_they_do(model, tmp_path):
    path = tmp_path / "evaluation.journal"
    one = evaluator(model, journal=path)
    assert one.evaluate(HALF)[2].kl < one.evaluate(replace(QUARTER, name="half"))[2].kl


def test_every_step_is_announced(model):
    announced = []
    one = evaluator(model, on_step=announced.append)
    one.dense()
    one.evaluate(HALF)
    assert len(announced) == 2 * one.steps
    assert announced[-1] == "half: greedy text" and announced[0] == "dense: letters"


@pytest.fixture
def found(model):
    one = evaluator(model)
    evaluations = one.dense() + one.evaluate(HALF)
    return evaluations, Provenance("tiny", one.fingerprint, "float32", "cpu", one.settings, one.cuts, one.notes)


def test_what_is_written_can_be_read_back(found, tmp_path):
    evaluations, provenance = found
    write_json(evaluations, provenance, tmp_path / "evaluation.json")
    rows = json.loads((tmp_path / "evaluation.json").read_text(encoding="utf-8"))
    assert [(row["recipe"], row["text_kind"]) for row in rows] == [
        (one, kind) for one in ("dense", "half") for kind in KINDS
    ]
    assert rows[3]["perplexity"] == pytest.approx(evaluations[3].perplexity, rel=1e-6)
    assert rows[0]["calibration_sha256"] == provenance.cuts.calibration_sha256
    again = read_evaluations(tmp_path / "evaluation.json")
    assert [each.text_sha256 for each in again] == [each.text_sha256 for each in evaluations]
    assert paired(again[5], again[2]).mean == pytest.approx(paired(evaluations[5], evaluations[2]).mean, rel=1e-4)


@pytest.mark.parametrize("content", ["{}", "[1]", '[{"recipe": "half"}]', "nothing"])
def test_what_is_no_evaluation_is_refused(tmp_path, content):
    path = tmp_path / "other.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(AccelSimError, match=r"other\.json: expected evaluations as accel-sim evaluate writes them"):
        read_evaluations(path)


def test_the_table_says_what_was_found_and_how(found):
    evaluations, provenance = found
    text = markdown(evaluations, provenance)
    header, _, dense, half, *_ = (line for line in text.splitlines() if line.startswith("|"))
    assert [cell.strip() for cell in header.split("|")[1:3]] == ["recipe", "perplexity"]
    assert half.split("|")[2].strip() == f"{evaluations[5].perplexity:,.2f}" and "+0.0%" in dense
    assert "2 × 32 tokens of letters and others each" in text and "bootstrap of 200 resamples" in text
    for digest in (provenance.cuts.sha256("letters"), provenance.cuts.calibration_sha256):
        assert digest in text
    assert "greedy text: share of 6 new tokens" in text and "seed 0" in text
