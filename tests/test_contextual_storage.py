"""A folder of predictors: what is written comes back, and what is damaged is said to be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from accel_sim.errors import AccelSimError  # noqa: E402
from accel_sim.sparsify.contextual import PredictorOptions  # noqa: E402
from accel_sim.sparsify.contextual.ffn import GatedFfn  # noqa: E402
from accel_sim.sparsify.contextual.fit import Fitted, fit_predictor  # noqa: E402
from accel_sim.sparsify.contextual.powerinfer import write_powerinfer  # noqa: E402
from accel_sim.sparsify.contextual.predictor import LowRankPredictor  # noqa: E402
from accel_sim.sparsify.contextual.storage import (  # noqa: E402
    MANIFEST_NAME,
    StoredPredictors,
    read_predictors,
    write_predictors,
)

HIDDEN, NEURONS = 13, 21
"""Neither is a multiple of 8, so that the last byte of a row of signs is not full."""


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def fitted(seed: int = 0, **options) -> Fitted:
    ffn = GatedFfn(
        normal(NEURONS, HIDDEN, seed=seed), normal(NEURONS, HIDDEN, seed=1), normal(HIDDEN, NEURONS, seed=2), "relu"
    )
    return fit_predictor(PredictorOptions(**options), ffn, normal(60, HIDDEN, seed=3))


def some() -> StoredPredictors:
    layers = {
        11: fitted(rank=5),
        0: fitted(seed=4, rank=3, bias="none", whitening=False),
        2: fitted(kind="sign_bit", sparsity=0.7),
    }
    return StoredPredictors("a/model", "f" * 64, {"code": "a" * 64, "prose": "b" * 64}, layers)


@pytest.fixture
def folder(tmp_path) -> Path:
    write_predictors(tmp_path / "made" / "here", some())
    return tmp_path / "made" / "here"


def tensors_file(folder: Path) -> Path:
    (found,) = folder.glob("*.safetensors")
    return found


def test_what_is_written_comes_back(folder):
    written, read = some(), read_predictors(folder, "f" * 64)
    assert (read.model, read.fingerprint, read.calibration) == (
        written.model,
        written.fingerprint,
        written.calibration,
    )
    assert list(read.layers) == [0, 2, 11]
    x = normal(40, HIDDEN, seed=9)
    for layer, expected in written.layers.items():
        found = read.layers[layer]
        assert type(found.predictor) is type(expected.predictor)
        assert torch.equal(found.predictor.scores(x), expected.predictor.scores(x))
        assert torch.equal(found.predictor.bias, expected.predictor.bias)
        assert replace(found, predictor=None).__dict__ == replace(expected, predictor=None).__dict__


def test_writing_again_replaces_the_whole_set(folder):
    before = tensors_file(folder)
    (folder / "notes.txt").write_text("mine")
    write_predictors(folder, replace(some(), layers={1: fitted(rank=2)}))
    assert not before.exists()
    assert {path.name for path in folder.iterdir()} == {MANIFEST_NAME, tensors_file(folder).name, "notes.txt"}
    assert list(read_predictors(folder).layers) == [1]


def test_writing_the_same_again_changes_nothing(folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    write_predictors(folder, some())
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_failed_write_leaves_what_was_there(folder, monkeypatch):
    """The disk is full when the manifest is to be written."""
    real = json.dumps
    monkeypatch.setattr(json, "dumps", lambda *_, **__: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(AccelSimError, match="cannot be written: No space left on device"):
        write_predictors(folder, replace(some(), layers={1: fitted(rank=2)}))
    monkeypatch.setattr(json, "dumps", real)
    assert list(read_predictors(folder, "f" * 64).layers) == [0, 2, 11]


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(AccelSimError, match=r"file.*cannot be written"):
        write_predictors(tmp_path / "file", some())
    assert (tmp_path / "file").read_text() == "mine"


def test_an_oracle_and_nothing_are_not_stored(tmp_path):
    with pytest.raises(AccelSimError, match="layer 3: a predictor of kind oracle is not stored"):
        write_predictors(tmp_path, replace(some(), layers={3: fitted(kind="oracle")}))
    with pytest.raises(AccelSimError, match="no predictors to store"):
        write_predictors(tmp_path, replace(some(), layers={}))
    assert not list(tmp_path.iterdir())


def test_predictors_of_another_model_are_refused(folder):
    with pytest.raises(
        AccelSimError, match=r"of another model, a/model \(fingerprint ffffffffffff, the model's is 000"
    ):
        read_predictors(folder, "0" * 64)


def test_missing_files_are_named(folder, tmp_path):
    with pytest.raises(AccelSimError, match="holds no predictors \\(no such folder\\)"):
        read_predictors(tmp_path / "nowhere")
    with pytest.raises(AccelSimError, match=f"no {MANIFEST_NAME} in it"):
        read_predictors(tmp_path)
    tensors_file(folder).unlink()
    with pytest.raises(AccelSimError, match=r"predictors-.*cannot be read: No such file.*fit the predictors again"):
        read_predictors(folder)


@pytest.mark.parametrize("at", [0, 100, -1])
def test_damaged_tensors_are_noticed(folder, at):
    path = tensors_file(folder)
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
    with pytest.raises(AccelSimError, match="damaged"):
        read_predictors(folder)
    path.write_bytes(content[:-5])
    with pytest.raises(AccelSimError, match="damaged"):
        read_predictors(folder)


def changed(folder: Path, change) -> None:
    content = json.loads((folder / MANIFEST_NAME).read_text())
    change(content)
    (folder / MANIFEST_NAME).write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m.update(schema_version=2), "schema_version is 2; this version reads 1"),
        (lambda m: m.pop("fingerprint"), "fingerprint: Field required"),
        (lambda m: m.update(tensors="../predictors-0123456789abcdef.safetensors"), "tensors: String should match"),
        (lambda m: m["layers"]["0"]["options"].update(kind="magic"), "layers.0.options.kind"),
        (lambda m: m["layers"]["0"]["options"].update(rank=None), "layers.0.options: rank: kind svd needs one"),
        (lambda m: m["layers"].update(first=m["layers"]["0"]), "layers.first"),
        (lambda m: m["layers"].update({"1": m["layers"]["0"]}), "layer 1: bias is missing; expected \\[21\\]"),
        (lambda m: m["layers"]["0"].update(rank=4), "layer 0: down has shape \\[3, 13\\]; expected \\[4, 13\\]"),
        (
            lambda m: m["layers"]["2"].update(hidden=20),
            "layer 2: sign_bits has shape \\[21, 2\\]; expected \\[21, 3\\]",
        ),
    ],
)
def test_a_manifest_that_does_not_fit_is_named(folder, change, message):
    changed(folder, change)
    with pytest.raises(AccelSimError, match=message):
        read_predictors(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"\xff\xfe"])
def test_a_manifest_that_is_none_is_named(folder, content):
    (folder / MANIFEST_NAME).write_bytes(content)
    with pytest.raises(AccelSimError, match=MANIFEST_NAME):
        read_predictors(folder)


# PowerInfer's layout


def low_rank_layers(count: int = 3) -> dict[int, LowRankPredictor]:
    return {layer: fitted(seed=layer, rank=4).predictor for layer in reversed(range(count))}


def test_powerinfer_files_are_two_linear_layers(tmp_path):
    predictors = low_rank_layers()
    write_powerinfer(tmp_path / "new", predictors)
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"model_0.pt", "model_1.pt", "model_2.pt"}
    x = normal(30, HIDDEN, seed=8)
    for layer, predictor in predictors.items():
        state = torch.load(tmp_path / "new" / f"model_{layer}.pt", weights_only=True)
        network = torch.nn.Sequential()
        network.add_module("fc1", torch.nn.Linear(HIDDEN, 4, bias=False))
        network.add_module("fc2", torch.nn.Linear(4, NEURONS))
        network.load_state_dict(state)  # strict: all the names, and no others
        outputs = network(x)
        assert torch.allclose(outputs, predictor.scores(x) + predictor.bias, atol=1e-5)
        sure = outputs.abs() > 1e-4
        assert torch.equal((outputs > 0)[sure], predictor.predict(x)[sure])


@pytest.mark.parametrize(
    ("predictors", "message"),
    [
        ({}, "no predictors"),
        ({1: fitted(rank=4).predictor}, "no predictor for layer 0"),
        ({0: fitted(rank=4).predictor, 2: fitted(rank=4).predictor}, "no predictor for layer 1"),
        ({0: fitted(kind="sign_bit").predictor}, "layer 0: not a low-rank predictor"),
    ],
)
def test_what_powerinfer_cannot_hold_is_named(tmp_path, predictors, message):
    with pytest.raises(AccelSimError, match=message):
        write_powerinfer(tmp_path, predictors)
    assert not list(tmp_path.iterdir())


def test_other_models_files_are_neither_mixed_in_nor_lost(tmp_path):
    write_powerinfer(tmp_path, low_rank_layers(3))
    write_powerinfer(tmp_path, low_rank_layers(3))  # the same again is no problem
    with pytest.raises(AccelSimError, match=r"holds model_2\.pt, which readers would count"):
        write_powerinfer(tmp_path, low_rank_layers(2))
    assert len(list(tmp_path.iterdir())) == 3
