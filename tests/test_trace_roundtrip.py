"""A trace that was written reads back as it was, and a damaged one says so."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from accel_sim.errors import AccelSimError
from accel_sim.quantize import quantize_tokens, quantize_weight
from accel_sim.trace import Projection, Site, Trace
from accel_sim.trace.folder import occupant
from accel_sim.trace.writer import TraceWriter

FEATURES, OUTPUTS = 10, 6
PROJECTION = Projection(name="block.0.up", features=FEATURES, outputs=OUTPUTS, has_bias=True, bias="block.0.up.bias")
FACTS = {
    "model": {"id": "m", "architecture": "A", "dtype": "float32", "device": "cpu", "parameters": 1, "config": {}},
    "tokenizer": {"name": "T", "vocabulary": 2},
    "text": [],
    "token_ids_sha256": "",
    "phase": "prefill",
    "tokens_per_sequence": 4,
    "sequences": 2,
    "layers": [0],
    "layers_in_model": 1,
    "coverage": {"expected_macs": 1, "captured_macs": 1},
    "versions": {},
    "command": [],
}


def site(dtype: str = "int8") -> Site:
    return Site(name="0.up", layer=0, features=FEATURES, tokens=0, dtype=dtype, projections=(PROJECTION,))


def activations(tokens: int = 7) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(tokens, FEATURES)).astype(np.float32)


def append(writer: TraceWriter, x: np.ndarray, sequence: int = 0) -> None:
    codes, scales = quantize_tokens(x)
    writer.append(site(), codes, scales, np.arange(len(x)), sequence)


def write(path: Path, weights: bool = False) -> Trace:
    """A finished trace of two sequences, 4 and 3 tokens long."""
    writer = TraceWriter.start(path, {})
    append(writer, activations()[:4], sequence=0)
    append(writer, activations()[4:], sequence=1)
    sites = writer.sites
    if weights:
        file = writer.write_weights("layer_0", [PROJECTION], lambda _: weight_tensors())
        stored = PROJECTION.model_copy(update={"has_weight": True, "weight_file": file})
        sites = tuple(each.model_copy(update={"projections": (stored,)}) for each in sites)
    writer.finish(sites, FACTS | {"dtype": "int8"})
    return Trace.open(path)


def weight_tensors() -> dict[str, np.ndarray]:
    codes, scales = quantize_weight(np.arange(60, dtype=np.float32).reshape(OUTPUTS, FEATURES))
    return {"codes": codes, "scales": scales, "bias": np.arange(OUTPUTS, dtype=np.float32)}


def test_codes_scales_positions_and_sequences_come_back(tmp_path):
    trace = write(tmp_path / "t")
    codes, scales = quantize_tokens(activations())
    np.testing.assert_array_equal(trace.codes("0.up"), codes)
    np.testing.assert_array_equal(trace.scales("0.up"), scales)
    np.testing.assert_array_equal(trace.positions("0.up"), [0, 1, 2, 3, 0, 1, 2])
    np.testing.assert_array_equal(trace.sequences("0.up"), [0, 0, 0, 0, 1, 1, 1])
    np.testing.assert_array_equal(trace.values("0.up"), codes * scales[:, None])
    assert trace.name == "t" and trace.sites[0].tokens == 7


def test_codes_are_mapped_and_cannot_be_written(tmp_path):
    codes = write(tmp_path / "t").codes("0.up")
    assert codes.base is not None
    with pytest.raises(ValueError, match="read-only"):
        codes[0, 0] = 1


def test_the_files_are_plain_safetensors(tmp_path):
    trace = write(tmp_path / "t", weights=True)
    stored = load_file(trace.path / trace.sites[0].file)
    np.testing.assert_array_equal(stored["codes"], trace.codes("0.up"))
    np.testing.assert_array_equal(stored["sequences"], trace.sequences("0.up"))
    weights = load_file(trace.path / "weights/layer_0.safetensors")
    np.testing.assert_array_equal(weights["block.0.up.codes"], weight_tensors()["codes"])


def test_weights_come_back_feature_major_with_scales_and_bias(tmp_path):
    weight = write(tmp_path / "t", weights=True).weight("block.0.up")
    for name, expected in weight_tensors().items():
        np.testing.assert_array_equal(getattr(weight, name), expected)
    assert weight.codes.shape == (FEATURES, OUTPUTS)


def test_a_weight_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(AccelSimError, match="holds no weight"):
        write(tmp_path / "t").weight("block.0.up")
    with pytest.raises(AccelSimError, match="no such projection"):
        Trace.open(tmp_path / "t").weight("nothing")


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_float_traces_are_widened_and_quantised_when_read(tmp_path, dtype):
    x = activations()
    bits = x.view(np.uint32) & np.uint32(0xFFFF0000)
    stored = {"float16": x.astype(np.float16), "bfloat16": (bits >> 16).astype(np.uint16), "float32": x}[dtype]
    expected = {"float16": x.astype(np.float16).astype(np.float32), "bfloat16": bits.view(np.float32), "float32": x}[
        dtype
    ]
    writer = TraceWriter.start(tmp_path / "t", {})
    writer.append(site(dtype), stored, None, np.arange(7), 0)
    writer.finish(writer.sites, FACTS | {"dtype": dtype})
    trace = Trace.open(tmp_path / "t")
    np.testing.assert_array_equal(trace.values("0.up"), expected)
    np.testing.assert_array_equal(trace.codes("0.up"), quantize_tokens(expected)[0])
    np.testing.assert_array_equal(trace.scales("0.up"), quantize_tokens(expected)[1])


def test_reading_needs_no_torch(tmp_path):
    write(tmp_path / "t", weights=True)
    program = (
        "import sys; sys.modules.update(torch=None, transformers=None, safetensors=None)\n"
        "from accel_sim.trace import Trace\n"
        f"t = Trace.open({str(tmp_path / 't')!r})\n"
        "print(t.codes('0.up').shape, t.values('0.up').dtype, t.weight('block.0.up').codes.shape)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "(7, 10) float32 (10, 6)"


def damaged(tmp_path: Path, change) -> str:
    trace = write(tmp_path / "t", weights=True)
    path = trace.path / trace.sites[0].file
    change(path)
    with pytest.raises(AccelSimError) as caught:
        Trace.open(tmp_path / "t")
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    return str(caught.value)


def test_a_truncated_file_is_named(tmp_path):
    assert "truncated" in damaged(tmp_path, lambda path: path.write_bytes(path.read_bytes()[:-1]))


def test_a_missing_file_is_named(tmp_path):
    assert "missing" in damaged(tmp_path, lambda path: path.unlink())


def test_one_flipped_bit_is_found(tmp_path):
    def flip(path: Path) -> None:
        content = bytearray(path.read_bytes())
        content[1024 + 5] ^= 1
        path.write_bytes(content)

    assert "sha256" in damaged(tmp_path, flip)
    Trace.open(tmp_path / "t", verify=False)


def test_a_damaged_header_is_an_error_even_without_verifying(tmp_path):
    trace = write(tmp_path / "t")
    path = trace.path / trace.sites[0].file
    path.write_bytes(b"\xff" * path.stat().st_size)
    with pytest.raises(AccelSimError, match="not a safetensors file"):
        Trace.open(tmp_path / "t", verify=False).codes("0.up")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda m: m.update(surprise=1), "surprise: Extra inputs"),
        (lambda m: m.update(schema_version=99), "schema_version is 99"),
        (lambda m: m["sites"][0].update(features=0), "sites.0.features"),
        (lambda m: m["files"].clear(), "is not among files"),
        (lambda m: m["files"].update({"../x": {"bytes": 1, "sha256": ""}}), "expected activations/NAME.safetensors"),
    ],
)
def test_a_wrong_manifest_names_the_field(tmp_path, change, says):
    write(tmp_path / "t")
    path = tmp_path / "t/trace.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(AccelSimError, match=says):
        Trace.open(tmp_path / "t")


def test_what_is_no_trace_is_an_error(tmp_path):
    with pytest.raises(AccelSimError, match="no such folder"):
        Trace.open(tmp_path / "nowhere")
    with pytest.raises(AccelSimError, match=r"no trace\.json"):
        Trace.open(tmp_path)
    (tmp_path / "trace.json").write_text("{")
    with pytest.raises(AccelSimError, match="JSON"):
        Trace.open(tmp_path)


def test_an_unfinished_capture_is_no_trace(tmp_path):
    append(TraceWriter.start(tmp_path / "t", {}), activations())
    with pytest.raises(AccelSimError, match="unfinished"):
        Trace.open(tmp_path / "t")


def test_resuming_drops_what_came_after_the_checkpoint(tmp_path):
    writer = TraceWriter.start(tmp_path / "t", {"tokens": 7})
    append(writer, activations()[:4])
    writer.checkpoint({"chunk": 1})
    append(writer, activations()[:2])
    resumed = TraceWriter.resume(tmp_path / "t", {"tokens": 7})
    assert resumed.progress == {"chunk": 1} and resumed.sites[0].tokens == 4
    append(resumed, activations()[4:], sequence=1)
    resumed.finish(resumed.sites, FACTS | {"dtype": "int8"})
    write(tmp_path / "whole")
    for file in ("activations/0.up.safetensors", "trace.json"):
        assert (tmp_path / "t" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()


def test_resuming_with_other_options_names_them(tmp_path):
    TraceWriter.start(tmp_path / "t", {"tokens": 7})
    with pytest.raises(AccelSimError, match="tokens 7, this one 8"):
        TraceWriter.resume(tmp_path / "t", {"tokens": 8})


def test_nothing_is_overwritten_unasked(tmp_path):
    write(tmp_path / "t")
    with pytest.raises(AccelSimError, match="holds a trace already; --force"):
        TraceWriter.start(tmp_path / "t", {})
    TraceWriter.start(tmp_path / "t", {}, force=True)
    with pytest.raises(AccelSimError, match="--resume goes on"):
        TraceWriter.start(tmp_path / "t", {})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").touch()
    with pytest.raises(AccelSimError, match="no trace"):
        TraceWriter.start(tmp_path / "mine", {}, force=True)


class Killed(BaseException):
    """What no handler in the writer may swallow."""


def kill_at(monkeypatch, operation: int) -> None:
    """Let the given call that changes the file system, and what follows it, not happen."""
    calls = iter(range(operation))

    def until_killed(function):
        def counted(*arguments, **options):
            if next(calls, None) is None:
                raise Killed
            return function(*arguments, **options)

        return counted

    for owner, name in (
        (Path, "open"),
        (Path, "write_bytes"),
        (Path, "mkdir"),
        (Path, "unlink"),
        (Path, "rename"),
        (os, "replace"),
    ):
        monkeypatch.setattr(owner, name, until_killed(getattr(owner, name)))
    monkeypatch.setattr(shutil, "rmtree", until_killed(shutil.rmtree))


@pytest.mark.parametrize("operation", range(30))
def test_killed_at_any_moment_the_old_trace_is_whole_until_the_new_one_is(tmp_path, monkeypatch, operation):
    write(tmp_path / "t", weights=True)
    old = {file.name: file.read_bytes() for file in (tmp_path / "t").rglob("*.safetensors")}
    other = weight_tensors() | {"bias": np.ones(OUTPUTS, np.float32)}

    def replace(writer: TraceWriter) -> None:
        append(writer, activations(5)[writer.sites[0].tokens if writer.sites else 0 :])
        writer.checkpoint({"all": 5})
        file = writer.write_weights("layer_0", [PROJECTION], lambda _: other)
        stored = PROJECTION.model_copy(update={"has_weight": True, "weight_file": file})
        sites = tuple(each.model_copy(update={"projections": (stored,)}) for each in writer.sites)
        writer.finish(sites, FACTS | {"dtype": "int8"})

    def is_whole(path: Path, files: dict[str, bytes]) -> bool:
        with suppress(AccelSimError):
            Trace.open(path)
            return {file.name: file.read_bytes() for file in path.rglob("*.safetensors")} == files
        return False

    with monkeypatch.context() as patch:
        kill_at(patch, operation)
        with suppress(Killed):
            replace(TraceWriter.start(tmp_path / "t", {}, force=True))
    finished = occupant(tmp_path / "t") == "a trace" and Trace.open(tmp_path / "t").sites[0].tokens == 5
    kept = is_whole(tmp_path / "t", old) or is_whole(tmp_path / "t.before-force", old)
    assert finished or kept
    if occupant(tmp_path / "t") == "an unfinished capture":
        replace(TraceWriter.resume(tmp_path / "t", {}))
    elif not finished:
        replace(TraceWriter.start(tmp_path / "t", {}, force=True))
    assert Trace.open(tmp_path / "t").sites[0].tokens == 5
    np.testing.assert_array_equal(Trace.open(tmp_path / "t").weight("block.0.up").bias, np.ones(OUTPUTS))
    assert finished or not (tmp_path / "t.before-force").exists()


def test_a_full_disk_leaves_nothing_that_reads_as_complete(tmp_path):
    """The kernel's limit on file size stands for the full disk: the same call fails, with another number."""
    program = (
        "import resource, sys\n"
        "sys.path.insert(0, 'tests')\n"
        "import numpy as np\n"
        "from test_trace_roundtrip import site\n"
        "from accel_sim.trace.writer import TraceWriter\n"
        f"writer = TraceWriter.start(__import__('pathlib').Path({str(tmp_path / 't')!r}), {{}})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "for i in range(100):\n"
        "    writer.append(site(), np.zeros((1000, 10), np.int8), np.ones(1000), np.arange(1000), i)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False
    )
    assert "AccelSimError" in done.stderr and "0.up.safetensors: cannot be written: File too large" in done.stderr
    with pytest.raises(AccelSimError, match="unfinished"):
        Trace.open(tmp_path / "t")
