"""The `reluify` command, from a model's folder to the ReLU model's, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

torch = pytest.importorskip("torch")

from evaluation_helpers import byte_model, byte_tokenizer, words  # noqa: E402

from accel_sim.capture.gated_mlps import gated_mlps  # noqa: E402
from accel_sim.capture.load import load_model  # noqa: E402
from accel_sim.capture.options import CaptureOptions  # noqa: E402
from accel_sim.capture.relu_form import LABEL_NAME  # noqa: E402
from accel_sim.cli.reluify import reluify  # noqa: E402
from accel_sim.errors import AccelSimError  # noqa: E402

APP = typer.Typer()
APP.command()(reluify)


def run(*arguments: object) -> str:
    """The command's standard output. Raises what the command raises."""
    result = CliRunner().invoke(APP, [str(each) for each in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    for name, changes in (("llama", {}), ("relu", {"hidden_act": "relu"})):
        byte_model(**changes).save_pretrained(folder / name)
        byte_tokenizer().save_pretrained(folder / name)
    (folder / "text.txt").write_text(words(5, 300), encoding="utf-8")
    return folder


def options(folder, model: str | Path = "llama") -> list[object]:
    return [
        "--model", folder / model, "--device", "cpu", "--text", folder / "text.txt", "--window", 32, "--tokens", 320,
        "--refit-tokens", 128, "--evaluation-tokens", 32,
    ]  # fmt: skip


def test_a_model_becomes_a_folder_with_a_label_that_every_command_loads(folder, tmp_path):
    out = tmp_path / "made"
    printed = run(*options(folder), "--out", out, "--activation", "drelu", "--threshold", 0.1)
    label = json.loads((out / LABEL_NAME).read_text())
    assert label["form"] == {"activation": "drelu", "threshold": 0.1}
    assert label["source"]["id"] == "llama"
    assert [each["name"] for each in label["text"]] == ["text.txt"]
    assert {each["kind"] for each in label["held_out"]} == {"prose", "code", "mathematics"}
    said = "llama, made dReLU above 0.1 here with 320 tokens of distillation: perplexity"
    assert said in " ".join(printed.split())
    assert (out / "reluified.md").read_text().startswith(said)
    model = load_model(CaptureOptions(out=out, model=str(out), device="cpu")).model
    assert all(isinstance(mlp.act_fn, torch.nn.Threshold) for mlp in gated_mlps(model).values())
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    assert said in " ".join(run(*options(folder), "--out", out, "--activation", "drelu", "--threshold", 0.1).split())
    assert {path.name: path.stat().st_mtime_ns for path in out.iterdir()} == before
    with pytest.raises(AccelSimError, match="made of another one, of other text or with other settings"):
        run(*options(folder), "--out", out)
    with pytest.raises(AccelSimError, match="has a ReLU in its gate already"):
        run(*options(folder, out), "--out", tmp_path / "again")


def test_a_folder_with_something_else_is_refused_and_kept(folder, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(AccelSimError, match="holds something else; expected an empty folder"):
        run(*options(folder), "--out", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    with pytest.raises(AccelSimError, match=r"mine.txt: is a file"):
        run(*options(folder), "--out", tmp_path / "mine.txt")
    with pytest.raises(AccelSimError, match="holds something else"):
        run(*options(folder), "--out", tmp_path / "new", "--export", tmp_path)
    with pytest.raises(AccelSimError, match=r"--export: .* has no checkpoint"):
        run(*options(folder), "--out", tmp_path / "new", "--export", tmp_path / "other")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--threshold", -1], "--threshold -1: expected a number from 0"),
        (["--activation", "gelu"], "--activation gelu: expected one of relu, drelu"),
        (["--l1", -1], "--l1 -1"),
        (["--window", 128], "--window 128: the model has 64 positions"),
        (["--dtype", "float16"], "--dtype float16: gradients leave its range"),
        (["--dtype", "int8"], "compute dtype int8: expected one of"),
    ],
)
def test_options_that_cannot_be_are_refused_and_nothing_is_written(arguments, message, folder, tmp_path):
    with pytest.raises(AccelSimError, match=message):
        run(*options(folder), "--out", tmp_path / "new", *arguments)
    assert not (tmp_path / "new").exists()


def test_a_relu_model_is_refused(folder, tmp_path):
    with pytest.raises(AccelSimError, match="has a ReLU in its gate already"):
        run(*options(folder, "relu"), "--out", tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("label", "message"),
    [
        ("{}", "not a label that `accel-sim reluify` wrote"),
        ("no JSON", "not a label"),
        ('{"form": {"activation": "relu", "threshold": -1}}', "threshold -1: expected a number from 0 on"),
        ('{"form": {"activation": "swish", "threshold": 0}}', "activation swish: expected one of relu, drelu"),
    ],
)
def test_a_damaged_label_is_never_passed_over(label, message, tmp_path):
    byte_model().save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    (tmp_path / LABEL_NAME).write_text(label)
    with pytest.raises(AccelSimError, match=message):
        load_model(CaptureOptions(out=tmp_path, model=str(tmp_path), device="cpu"))
