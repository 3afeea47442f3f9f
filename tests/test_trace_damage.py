"""A trace whose files say something impossible is refused with one line, even where every checksum fits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from accel_sim.errors import AccelSimError
from accel_sim.functional.validation import validate_trace
from accel_sim.pattern import Pattern
from accel_sim.trace import Projection, Site, Trace
from accel_sim.trace.synthetic_trace import write_synthetic_trace

TOKENS, FEATURES, OUTPUTS = 9, 40, 16
ACTIVATIONS, WEIGHTS = "activations/0.a.safetensors", "weights/0.a.safetensors"


@pytest.fixture
def folder(tmp_path) -> Path:
    sites = [
        Site(
            name=f"{layer}.a",
            layer=layer,
            features=FEATURES,
            tokens=TOKENS,
            projections=(Projection(name=f"block.{layer}.up", features=FEATURES, outputs=OUTPUTS),),
        )
        for layer in (0, 1)
    ]
    write_synthetic_trace(tmp_path / "t", sites, weights=True)
    return tmp_path / "t"


def read_everything(folder: Path) -> None:
    trace = Trace.open(folder)
    for site in trace.sites:
        trace.values(site.name)
        trace.positions(site.name), trace.sequences(site.name)
        for projection in site.projections:
            trace.weight(projection.name)


def refused(folder: Path) -> str:
    with pytest.raises(AccelSimError) as caught:
        read_everything(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
    return str(caught.value)


def change_manifest(folder: Path, change: Callable[[dict], object]) -> None:
    content = json.loads((folder / "trace.json").read_bytes())
    change(content)
    (folder / "trace.json").write_text(json.dumps(content))


def change_file(folder: Path, name: str, change: Callable[[bytes], bytes]) -> None:
    """Change a file and let the manifest have its new size and sha256."""
    content = change((folder / name).read_bytes())
    (folder / name).write_bytes(content)
    facts = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    change_manifest(folder, lambda manifest: manifest["files"].update({name: facts}))


def change_header(folder: Path, name: str, change: Callable[[dict], object]) -> None:
    def changed(content: bytes) -> bytes:
        length = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + length])
        change(header)
        text = json.dumps(header, separators=(",", ":")).encode().ljust(length)
        return len(text).to_bytes(8, "little") + text + content[8 + length :]

    change_file(folder, name, changed)


def change_tensor(folder: Path, name: str, tensor: str, dtype: type, index: int, value: float) -> None:
    def changed(content: bytes) -> bytes:
        length = int.from_bytes(content[:8], "little")
        first, last = (8 + length + at for at in json.loads(content[8 : 8 + length])[tensor]["data_offsets"])
        values = np.frombuffer(content[first:last], dtype).copy()
        values[index] = value
        return content[:first] + values.tobytes() + content[last:]

    change_file(folder, name, changed)


def test_the_undamaged_trace_is_read(folder):
    read_everything(folder)
    assert all(site.tokens for site in Trace.open(folder).sites)


@pytest.mark.parametrize(
    "entry",
    [
        {"shape": [9.0, 40.0]},
        {"shape": [-9, -40]},
        {"shape": [9, 10**30]},
        {"shape": "ab"},
        {"dtype": "F64"},
        {"dtype": []},
        {"data_offsets": [-2000, -1640]},
        {"data_offsets": [-10, 350]},
        {"data_offsets": [0.5, 360.5]},
        {"data_offsets": [0, 1]},
        {"data_offsets": []},
        {"data_offsets": [10**20, 10**20 + 360]},
    ],
)
def test_a_header_that_describes_no_tensor(folder, entry):
    change_header(folder, ACTIVATIONS, lambda header: header["codes"].update(entry))
    assert ACTIVATIONS in refused(folder)


def test_tensors_that_lie_upon_each_other(folder):
    change_header(folder, ACTIVATIONS, lambda header: header["scales"].update(data_offsets=[0, 4 * TOKENS]))
    assert "damaged" in refused(folder)


def test_a_header_of_endless_brackets(folder):
    change_file(folder, ACTIVATIONS, lambda content: (200_000).to_bytes(8, "little") + b"[" * 200_000 + content)
    assert "not a safetensors file" in refused(folder)


def test_a_manifest_of_endless_brackets(folder):
    (folder / "trace.json").write_bytes(b"[" * 200_000)
    assert "cannot be read as JSON" in refused(folder)


@pytest.mark.parametrize(
    ("name", "tensor", "dtype", "says"),
    [
        (ACTIVATIONS, "scales", "I32", "scales is I32 [9], expected F32 [9]"),
        (WEIGHTS, "block.0.up.scales", "I32", "block.0.up.scales is I32 [16], expected F32 [16]"),
    ],
)
def test_a_tensor_of_another_type(folder, name, tensor, dtype, says):
    change_header(folder, name, lambda header: header[tensor].update(dtype=dtype))
    assert says in refused(folder)


@pytest.mark.parametrize("shape", [[OUTPUTS, FEATURES], [FEATURES * OUTPUTS]])
def test_a_weight_of_another_shape(folder, shape):
    change_header(folder, WEIGHTS, lambda header: header["block.0.up.codes"].update(shape=shape))
    assert "block.0.up.codes is I8" in refused(folder)


def test_a_bias_that_is_announced_but_not_there(folder):
    change_manifest(folder, lambda manifest: manifest["sites"][0]["projections"][0].update(has_bias=True))
    assert "no tensor 'block.0.up.bias'" in refused(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf, 0, -1])
@pytest.mark.parametrize(
    ("name", "tensor", "index", "says"),
    [(ACTIVATIONS, "scales", 3, "scales[3] is"), (WEIGHTS, "block.0.up.scales", 5, "block.0.up.scales[5] is")],
)
def test_a_scale_that_is_no_scale(folder, name, tensor, index, says, value):
    change_tensor(folder, name, tensor, np.float32, index, value)
    assert says in refused(folder) and name in refused(folder)


@pytest.mark.parametrize(
    "name",
    [
        "../t/" + ACTIVATIONS,
        "/etc/passwd",
        "activations/../../x.safetensors",
        "activations/..",
        "activations/\0.safetensors",
        "activations/\ud800.safetensors",
        "",
        ".",
        "trace.json",
    ],
)
def test_a_file_name_that_is_none_of_a_traces_files(folder, name):
    def rename(manifest: dict) -> None:
        manifest["files"][name] = manifest["files"].pop(ACTIVATIONS)
        manifest["sites"][0]["file"] = name

    change_manifest(folder, rename)
    assert "files" in refused(folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m["sites"][0]["projections"][0].update(features=41), "reads 41 features, the site has 40"),
        (lambda m: m["sites"][0].update(projections=[]), "has no projections"),
        (lambda m: m["sites"][0].update(name="a\nb"), "sites.0.name"),
        (lambda m: m["sites"][0].update(layer=-1), "sites.0.layer"),
        (lambda m: m["sites"][0].update(file=m["sites"][1]["file"]), "a file of its own"),
        (lambda m: m["sites"][0]["projections"][0].update(outputs=2**40), "sites.0.projections.0.outputs"),
        (lambda m: m["files"][ACTIVATIONS].update(bytes=-1), "bytes"),
        (lambda m: m.update(sequences=-3), "sequences"),
        (lambda m: m["coverage"].update(expected_macs=-1), "coverage.expected_macs"),
    ],
)
def test_a_manifest_that_contradicts_itself(folder, change, says):
    change_manifest(folder, change)
    assert says in refused(folder)


@pytest.mark.parametrize(
    ("name", "tensor", "says"),
    [
        (ACTIVATIONS, "codes", "0.a[token 1, feature 3]"),
        (WEIGHTS, "block.0.up.codes", "block.0.up[feature 2, output 11]"),
    ],
)
def test_validate_names_the_matrix_with_a_code_that_the_datapath_does_not_take(folder, name, tensor, says):
    change_tensor(folder, name, tensor, np.int8, 43, -128)
    with pytest.raises(AccelSimError) as caught:
        validate_trace(Trace.open(folder), [Pattern("2:4")], {})
    assert f"{says} is -128" in str(caught.value)
