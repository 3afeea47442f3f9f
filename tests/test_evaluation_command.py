"""The `evaluate` command, from a model's folder to its files, the benchmarks it hands on, and what it refuses."""

from __future__ import annotations

import json
import sys
import types

import pytest
import typer
from typer.testing import CliRunner

torch = pytest.importorskip("torch")

from evaluation_helpers import byte_model, byte_tokenizer, corpora, settings, words  # noqa: E402

from accel_sim.cli.evaluate import evaluate  # noqa: E402
from accel_sim.errors import AccelSimError  # noqa: E402
from accel_sim.evaluation import Evaluator, read_evaluations  # noqa: E402
from accel_sim.evaluation import tasks as evaluation_tasks  # noqa: E402
from accel_sim.evaluation.tasks import TaskSettings, run_task  # noqa: E402
from accel_sim.sparsify import load_recipe  # noqa: E402
from accel_sim.sparsify.live import sparsifier_of  # noqa: E402

APP = typer.Typer()
APP.command()(evaluate)
GRID = "patterns: ['2:4', '4:8']\nvariants:\n  naive: {}\n  kept: {variance: true}\n"


def run(*arguments: object) -> str:
    """The command's standard output. Raises what the command raises."""
    result = CliRunner().invoke(APP, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With a model of 128 positions, texts and a grid."""
    folder = tmp_path_factory.mktemp("inputs")
    byte_model(max_position_embeddings=128).save_pretrained(folder / "tiny")
    byte_tokenizer().save_pretrained(folder / "tiny")
    for number, name in enumerate(("a", "b", "c")):
        (folder / f"{name}.txt").write_text(words(number, 20), encoding="utf-8")
    (folder / "grid.yaml").write_text(GRID, encoding="utf-8")
    return folder


def options(folder) -> list[object]:
    return [
        "--model", folder / "tiny", "--device", "cpu", "--text", f"one={folder / 'a.txt'}",
        "--text", f"two={folder / 'b.txt'}", "--calibration", folder / "c.txt",
        "--tokens", 256, "--window", 128, "--calibration-tokens", 128,
    ]  # fmt: skip


def test_recipes_and_grids_become_a_table_and_files(folder, tmp_path):
    arguments = [*options(folder), "--recipe", "naive_8x16", "--grid", folder / "grid.yaml", "--out", tmp_path / "e"]
    printed = run(*arguments, "--json", tmp_path / "out.json")
    names = ["dense", "naive_8x16", "naive 2:4", "naive 4:8", "kept 2:4", "kept 4:8"]
    rows = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert [(row["recipe"], row["text_kind"]) for row in rows] == [
        (name, kind) for name in names for kind in ("one", "two", "all")
    ]
    assert all(row["model"] == "tiny" and 0 <= row["greedy_agreement"] <= 1 for row in rows)
    assert (tmp_path / "e" / "evaluation.json").read_text(encoding="utf-8") == (tmp_path / "out.json").read_text(
        "utf-8"
    )
    table = (tmp_path / "e" / "evaluation.md").read_text(encoding="utf-8")
    for name in names:
        assert name in printed and f"| {name} |" in table
    assert f"wrote {tmp_path / 'e' / 'evaluation.json'}" in printed and "2 × 128 tokens" in printed
    again = run(*arguments, "--recipe", "naive_2x4")
    assert "naive_2x4" in again
    assert read_evaluations(tmp_path / "e" / "evaluation.json")[:6] == read_evaluations(tmp_path / "out.json")[:6]


def test_the_recipe_that_does_nothing_is_the_dense_row(folder, tmp_path):
    run(*options(folder), "--recipe", "dense", "--recipe", "naive_2x4", "--no-generation", "--out", tmp_path)
    found = read_evaluations(tmp_path / "evaluation.json")
    assert [each.recipe for each in found] == ["dense"] * 3 + ["naive_2x4"] * 3
    assert found[0].greedy_agreement is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to evaluate: name --recipe or --grid; shipped: amber_16x32"),
        (["--recipe", "nothing_such"], "recipe nothing_such: no such file; shipped"),
        (["--recipe", "naive_2x4", "--tokens", "100"], "--tokens 100: expected a multiple of --window 512"),
        (["--recipe", "naive_2x4", "--text", "prose"], "--text prose: expected KIND=FILE"),
        (["--recipe", "naive_2x4", "--dtype", "int4"], "dtype int4: expected one of auto"),
        (["--recipe", "naive_2x4", "--tasks-limit", "3"], "--tasks-limit 3: needs --tasks"),
        (["--recipe", "naive_2x4", "--json", "."], "--json .: is a folder"),
    ],
)
def test_what_it_refuses_before_anything_is_loaded(arguments, message, monkeypatch):
    monkeypatch.setattr("accel_sim.capture.load.load_model", lambda *_: pytest.fail("loads the model"))
    with pytest.raises(AccelSimError, match=message):
        run(*arguments)


def test_two_recipes_of_one_name_are_refused(tmp_path):
    (tmp_path / "naive_8x16.yaml").write_text("default: {pattern: '4:8'}\n", encoding="utf-8")
    with pytest.raises(AccelSimError, match="recipe naive_8x16: two of that name"):
        run("--recipe", "naive_8x16", "--recipe", tmp_path / "naive_8x16.yaml")


@pytest.fixture
def harness(monkeypatch):
    """A stand-in for lm-eval: its metric is the first logit, so it tells what the model was."""
    calls = []

    class HFLM:
        def __init__(self, pretrained, tokenizer, batch_size):
            assert batch_size == 1
            self.model, self.tokenizer = pretrained, tokenizer

        def loglikelihood(self, requests, disable_tqdm=False):
            assert disable_tqdm
            ids = self.tokenizer(requests, return_tensors="pt")["input_ids"]
            with torch.no_grad():
                return float(self.model(input_ids=ids).logits[0, -1, 0])

        loglikelihood_rolling = generate_until = loglikelihood

    class TaskManager:
        def __init__(self, include_path=None):
            self.include_path = include_path

    def simple_evaluate(model, tasks, task_manager, limit, log_samples):
        (task,) = tasks
        if task == "unknown":
            raise KeyError("no task of that name")
        calls.append((task, sparsifier_of(model.model) is not None, limit, task_manager.include_path))
        logit = model.loglikelihood("some text")
        metrics = {
            "alias": task,
            "acc,none": logit,
            "acc_stderr,none": 0.5,
            "em,strict": 1.0,
            "em_stderr,strict": "N/A",
        }
        return {"results": {task: metrics}}

    for name, content in (
        ("lm_eval", {}),
        ("lm_eval.evaluator", {"simple_evaluate": simple_evaluate}),
        ("lm_eval.models", {}),
        ("lm_eval.models.huggingface", {"HFLM": HFLM}),
        ("lm_eval.tasks", {"TaskManager": TaskManager}),
    ):
        module = types.ModuleType(name)
        module.__spec__ = types.SimpleNamespace(name=name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return calls


def test_benchmarks_get_the_dense_model_and_then_the_sparsified_one(harness, tmp_path):
    model, journal = byte_model(), tmp_path / "journal"
    arguments = (model, byte_tokenizer(), corpora(), settings(generation=False), TaskSettings(("piqa", "boolq")))
    one = Evaluator(*arguments, journal=journal)
    dense, sparse = one.dense(), one.evaluate(load_recipe("naive_2x4"))
    assert [call[:2] for call in harness] == [("piqa", False), ("boolq", False), ("piqa", True), ("boolq", True)]
    assert dense[-1].tasks["piqa"].keys() == {"acc", "acc_stderr", "em strict"} and dense[0].tasks is None
    assert dense[-1].tasks["piqa"]["acc"] != sparse[-1].tasks["piqa"]["acc"]
    again = Evaluator(*arguments, journal=journal)
    assert again.evaluate(load_recipe("naive_2x4")) == sparse and len(harness) == 4


def test_a_limit_and_a_folder_of_ones_own_tasks_are_handed_on(harness, tmp_path):
    (tmp_path / "mine.yaml").write_text("task: mine\n", encoding="utf-8")
    run_task(byte_model(), byte_tokenizer(), "mine", TaskSettings(("mine",), tmp_path, 7))
    assert harness == [("mine", False, 7, str(tmp_path))]
    before = TaskSettings(("mine",), tmp_path, 7).key
    (tmp_path / "mine.yaml").write_text("task: mine\nnum_fewshot: 3\n", encoding="utf-8")
    assert TaskSettings(("mine",), tmp_path, 7).key != before


def test_benchmarks_are_printed_and_written(harness, folder, tmp_path):
    printed = run(
        *options(folder), "--recipe", "naive_2x4", "--no-generation", "--tasks", "piqa, boolq", "--out", tmp_path
    )
    table = (tmp_path / "evaluation.md").read_text(encoding="utf-8")
    dense, sparse = read_evaluations(tmp_path / "evaluation.json")[2::3]
    for task in ("piqa", "boolq"):
        figure = f"{sparse.tasks[task]['acc']:.4f} ±0.5000"
        assert f"{task} acc: dense {dense.tasks[task]['acc']:.4f}" in printed and figure in printed and figure in table
    assert "em strict" in table and "N/A" not in table


def test_benchmarks_that_cannot_run_are_one_line(harness, tmp_path, monkeypatch):
    with pytest.raises(AccelSimError, match="--tasks unknown: lm-eval cannot run it: KeyError: 'no task of that name'"):
        run_task(byte_model(), byte_tokenizer(), "unknown", TaskSettings(("unknown",)))
    with pytest.raises(AccelSimError, match="--tasks: an empty name"):
        TaskSettings(("piqa", ""))
    with pytest.raises(AccelSimError, match=r"no \.yaml file there"):
        TaskSettings(("piqa",), tmp_path)
    monkeypatch.setattr(evaluation_tasks.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(
        AccelSimError, match=r"--tasks needs lm-eval, not installed here: pip install 'accel_sim\[tasks\]'"
    ):
        run("--recipe", "naive_2x4", "--tasks", "piqa")


@pytest.mark.slow
def test_smaller_groups_cost_a_real_model_more(tmp_path):
    """The order of the papers (arXiv 2509.22166, table 6), on SmolLM2 and every kind of text."""
    names = ("naive_2x4", "naive_4x8", "naive_8x16", "unstructured_50")
    arguments = [word for name in names for word in ("--recipe", name)]
    run(*arguments, "--tokens", 1024, "--no-generation", "--out", tmp_path)
    found = {(each.recipe, each.text_kind): each for each in read_evaluations(tmp_path / "evaluation.json")}
    for kind in ("prose", "code", "mathematics", "all"):
        ordered = [found[name, kind] for name in (*names, "dense")]
        assert sorted(ordered, key=lambda each: -each.kl) == ordered
        assert sorted(ordered, key=lambda each: -each.perplexity) == ordered
    dense, half = found["dense", "all"], found["naive_8x16", "all"]
    assert 8 < dense.perplexity < 20 and 0.5 < half.over_dense < 2.5 and half.over_dense_ci[0] > 0.4
