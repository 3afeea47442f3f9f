"""The `sensitivity` and `equal-quality` commands, from a model's folder to their files, and what they refuse."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

torch = pytest.importorskip("torch")

from evaluation_helpers import byte_model, byte_tokenizer, words  # noqa: E402

from accel_sim.capture.load import LoadedModel  # noqa: E402
from accel_sim.capture.options import CaptureOptions  # noqa: E402
from accel_sim.capture.run import record  # noqa: E402
from accel_sim.capture.text import Text, cut_prompts  # noqa: E402
from accel_sim.cli.equal_quality import equal_quality  # noqa: E402
from accel_sim.cli.sensitivity import sensitivity  # noqa: E402
from accel_sim.errors import AccelSimError  # noqa: E402
from accel_sim.sparsify import load_recipe  # noqa: E402


def run(command, *arguments: object) -> str:
    """The command's standard output. Raises what the command raises."""
    app = typer.Typer()
    app.command()(command)
    result = CliRunner().invoke(app, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """With a model, texts, and a trace of the model."""
    folder = tmp_path_factory.mktemp("inputs")
    model, tokenizer = byte_model(max_position_embeddings=128), byte_tokenizer()
    model.save_pretrained(folder / "tiny")
    tokenizer.save_pretrained(folder / "tiny")
    for number, name in enumerate(("a", "b", "c")):
        (folder / f"{name}.txt").write_text(words(number, 20), encoding="utf-8")
    prompts = cut_prompts(tokenizer, [Text("t", words(9))], 1, 32)
    for name, layers in (("trace", None), ("part", "0-1")):
        options = CaptureOptions(folder / name, tokens=32, device="cpu", layers=layers)
        record(LoadedModel(model, tokenizer, "tiny", None), prompts, options)
    return folder


def measured(folder) -> list[object]:
    return ["--model", folder / "tiny", "--device", "cpu", "--text", folder / "c.txt", "--tokens", 128, "--window", 64]


def test_sensitivities_become_a_recipe_a_picture_and_data(folder, tmp_path):
    printed = run(sensitivity, *measured(folder), "--pattern", "2:4", "--coverage", 0.5, "--out", tmp_path / "s")
    names = {path.name for path in (tmp_path / "s").iterdir()}
    assert names == {
        "2x4_magnitude_knapsack_50.yaml", "sensitivity.json", "sensitivity.csv", "sensitivity.md", "sensitivity.png",
        "sensitivity.svg", "sensitivity.journal",
    }  # fmt: skip
    content = json.loads((tmp_path / "s" / "sensitivity.json").read_text())
    recipe = load_recipe(tmp_path / "s" / "2x4_magnitude_knapsack_50.yaml")
    for one in content["projections"]:
        assert recipe.treatment(one["projection"], one["layer"]).prunes() == one["sparsified"]
    assert content["coverage"] >= 0.5
    assert [one["method"] for one in content["choices"]] == ["greedy", "knapsack", "amber"]
    assert "self_attn.q_proj" in printed and "Ways to a coverage of 50.0%" in printed
    again = run(
        sensitivity, *measured(folder), "--pattern", "2:4", "--out", tmp_path / "s", "--measure", "divergence",
        "--method", "greedy", "--coverage", 0.3,
    )  # fmt: skip
    assert "2x4_magnitude_greedy_30.yaml" in again and "nats" in again


def test_a_recipe_is_narrowed_and_an_amount_of_work_that_it_has_not_is_refused(folder, tmp_path):
    with pytest.raises(AccelSimError, match="knapsack covers at most"):
        run(sensitivity, *measured(folder), "--recipe", "amber_2x4", "--coverage", 0.9, "--out", tmp_path / "s")
    run(sensitivity, *measured(folder), "--recipe", "amber_2x4", "--coverage", 0.3, "--out", tmp_path / "s")
    recipe = load_recipe(tmp_path / "s" / "amber_2x4_knapsack_30.yaml")
    assert recipe.default.criterion == "amber_robust"
    assert not recipe.treatment("model.layers.0.mlp.up_proj", 0).prunes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "amber_8x16", "--pattern", "2:4"], "--recipe: says its pattern and criterion itself"),
        (["--tokens", 100], "--tokens 100: expected a multiple of --window 512"),
        (["--divergence-tokens", 4096], "--divergence-tokens 4096: expected a multiple of --window 512 up to"),
        (["--pattern", "9:8"], "--pattern, --criterion"),
        (["--criterion", "best"], "criterion"),
        (["--max-minutes", 3], "--max-minutes 3.0: is of --measure divergence"),
        (["--divergence-tokens", 512], "--divergence-tokens 512: is of --measure divergence"),
    ],
)
def test_what_sensitivity_refuses_before_anything_is_loaded(arguments, message, tmp_path):
    with pytest.raises(AccelSimError, match=message):
        run(sensitivity, *arguments, "--out", tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_sequences_longer_than_the_models_positions_are_refused(folder, tmp_path):
    arguments = [*measured(folder)[:-4], "--tokens", 256, "--window", 256]
    with pytest.raises(AccelSimError, match="sequences of 256 tokens: the model has 128 positions"):
        run(sensitivity, *arguments, "--out", tmp_path)


def test_what_is_begun_and_finds_nothing_does_not_keep_the_folder(folder, tmp_path):
    with pytest.raises(AccelSimError, match="sparsifies no projection"):
        run(sensitivity, *measured(folder), "--recipe", "w8a8", "--out", tmp_path)
    assert "2x4_magnitude" in run(sensitivity, *measured(folder), "--pattern", "2:4", "--out", tmp_path)


@pytest.mark.parametrize(
    "command", ["evaluate --recipe naive_2x4", "sensitivity", "equal-quality --workload smollm2-135m"]
)
def test_without_torch_the_extra_is_named(command, tmp_path):
    script = (
        "import sys; sys.modules.update(torch=None, transformers=None)\nfrom accel_sim.cli.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *command.split(), "--out", str(tmp_path / "o")], capture_output=True, text=True
    )
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "needs torch, transformers, not installed here: pip install 'accel_sim[llm]'" in done.stderr
    assert not (tmp_path / "o").exists()


def compared(folder) -> list[object]:
    return [
        "--model", folder / "tiny", "--device", "cpu", "--text", f"one={folder / 'a.txt'}", "--text",
        f"two={folder / 'b.txt'}", "--calibration", folder / "c.txt", "--tokens", 128, "--window", 128,
        "--calibration-tokens", 128, "--resolution", 0.2, "--arch", "2x4.yaml", "--arch", "8x16.yaml",
    ]  # fmt: skip


def test_machines_are_compared_at_equal_quality_and_a_second_run_measures_nothing_anew(folder, tmp_path):
    arguments = [*compared(folder), "--trace", folder / "trace", "--budgets", "0.5,300", "--out", tmp_path / "e"]
    printed = run(equal_quality, *arguments)
    content = json.loads((tmp_path / "e" / "equal_quality.json").read_text())
    assert [(one["machine"], one["budget"]) for one in content["answers"]] == [
        ("2x4", 0.005), ("8x16", 0.005), ("2x4", 3.0), ("8x16", 3.0),
    ]  # fmt: skip
    for one in content["points"]:
        assert (one["coverage"] == 0) == (one["over_dense"] == 0)
    for one in content["answers"]:
        if one["point"]:
            assert one["point"]["over_dense"] <= one["budget"]
            assert (tmp_path / "e" / one["file"]).is_file()
    assert "Machines at equal quality: naive_8x16 on tiny" in printed
    journal = (tmp_path / "e" / "evaluation.journal").read_text()
    assert run(equal_quality, *arguments) == printed
    assert (tmp_path / "e" / "evaluation.journal").read_text() == journal


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to simulate: give --trace, a whole model's capture"),
        (["--trace", "part"], "is not all 3 blocks of tiny; capture them all"),
        (["--trace", "trace", "--arch", "dense.yaml"], "arch dense: has no pattern"),
        (["--trace", "trace", "--calibration-tokens", 0], "paths follow from sensitivities"),
        (["--trace", "trace", "--recipe", "wanda_2x4"], "sparsifies no projection|prunes weights"),
    ],
)
def test_what_equal_quality_refuses(arguments, message, folder, tmp_path):
    if "--trace" in arguments:
        place = arguments.index("--trace") + 1
        arguments = [*arguments[:place], folder / arguments[place], *arguments[place + 1 :]]
    with pytest.raises(AccelSimError, match=message):
        run(equal_quality, *compared(folder), *arguments, "--out", tmp_path / "e")
