"""Prefill in chunks, decoding step by step, and going on after a kill: the same rows in the same order."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from capture_helpers import PROMPT, loaded_model, options, prompts  # noqa: E402

from accel_sim.capture import forward  # noqa: E402
from accel_sim.capture.load import LoadedModel  # noqa: E402
from accel_sim.capture.run import record  # noqa: E402
from accel_sim.capture.text import Prompt  # noqa: E402
from accel_sim.capture.watch import Observer  # noqa: E402
from accel_sim.errors import AccelSimError  # noqa: E402
from accel_sim.trace import Trace  # noqa: E402

FLOATS = {"rtol": 1e-4, "atol": 1e-5}


class Killed(Exception):
    """Stands for the signal."""


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", ["llama", "gpt2", "gemma3", "mixtral", "llama4", "deepseek_v3"])
def test_chunks_with_a_cache_give_the_rows_of_one_pass(tmp_path, name):
    loaded = loaded_model(name)
    record(loaded, prompts(2, 12), options(tmp_path / "whole", sequences=2, dtype="float32"))
    record(loaded, prompts(2, 12), options(tmp_path / "chunks", sequences=2, dtype="float32", chunk=5))
    whole, chunks = Trace.open(tmp_path / "whole"), Trace.open(tmp_path / "chunks")
    assert {site.name: site.tokens for site in whole.sites} == {site.name: site.tokens for site in chunks.sites}
    for site in whole.sites:
        if site.expert is None:  # an expert's rows come in the order of its calls
            np.testing.assert_array_equal(whole.positions(site.name), chunks.positions(site.name))
        np.testing.assert_array_equal(np.sort(whole.sequences(site.name)), chunks.sequences(site.name))
        np.testing.assert_allclose(in_order(whole, site.name), in_order(chunks, site.name), **FLOATS)


def in_order(trace: Trace, site: str) -> np.ndarray:
    return trace.values(site)[np.lexsort((trace.positions(site), trace.sequences(site)))]


def test_rows_carry_their_sequence_and_position(tmp_path):
    record(loaded_model("llama"), prompts(3, 12), options(tmp_path / "t", sequences=3, chunk=5))
    trace = Trace.open(tmp_path / "t")
    for site in trace.sites:
        assert trace.positions(site.name).tolist() == [*range(12)] * 3
        assert trace.sequences(site.name).tolist() == [0] * 12 + [1] * 12 + [2] * 12


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen3_moe", "deepseek_v3"])
def test_decoded_rows_are_those_of_a_prefill_of_the_same_tokens(tmp_path, name):
    loaded = loaded_model(name)
    steps = 6
    record(loaded, prompts(1, 12), options(tmp_path / "d", phase="decode", new_tokens=steps, dtype="float32"))
    generated = greedy(loaded, PROMPT, steps)
    longer = Prompt(np.array(PROMPT + generated), prompts(1, 12)[0].cut)
    record(loaded, (longer,), options(tmp_path / "p", tokens=12 + steps, dtype="float32"))
    decode, prefill = Trace.open(tmp_path / "d"), Trace.open(tmp_path / "p")
    assert decode.manifest.new_tokens == steps and decode.manifest.coverage.fraction == 1
    for site in decode.sites:
        positions = decode.positions(site.name)
        if site.expert is None:
            assert positions.tolist() == [*range(12, 12 + steps)]
        place = {position: row for row, position in enumerate(prefill.positions(site.name))}
        rows = [place[position] for position in positions]
        np.testing.assert_allclose(decode.values(site.name), prefill.values(site.name)[rows], **FLOATS)


def greedy(loaded: LoadedModel, ids: list[int], steps: int) -> list[int]:
    """The likeliest continuation, without any cache."""
    ids = list(ids)
    with torch.no_grad():
        for _ in range(steps):
            ids.append(int(loaded.model(input_ids=torch.tensor([ids])).logits[0, -1].argmax()))
    return ids[-steps:]


@pytest.mark.parametrize(
    ("name", "changes", "killed_after"),
    [
        ("llama", {"chunk": 5}, 17),
        ("llama", {"chunk": 5, "weights": True}, 24),
        ("llama", {"phase": "decode", "new_tokens": 4}, 30),
        ("mixtral", {"chunk": 5}, 17),
    ],
)
def test_a_killed_capture_that_is_resumed_gives_the_identical_trace(tmp_path, monkeypatch, name, changes, killed_after):
    monkeypatch.setattr(forward, "CHECKPOINT_SECONDS", 0.0)
    loaded = loaded_model(name)
    changes = {"sequences": 2, **changes}
    record(loaded, prompts(2, 12), options(tmp_path / "whole", **changes))

    def kill(done: int, _: int) -> None:
        if done >= killed_after:
            raise Killed

    with pytest.raises(Killed):
        record(loaded, prompts(2, 12), options(tmp_path / "t", **changes), Observer(on_tokens=kill))
    with pytest.raises(AccelSimError, match="unfinished"):
        Trace.open(tmp_path / "t")
    record(loaded, prompts(2, 12), options(tmp_path / "t", resume=True, **changes))
    assert contents(tmp_path / "t") == contents(tmp_path / "whole")


@pytest.mark.parametrize("at", ["storing", "writing"])
def test_a_kill_while_the_trace_is_finished_can_be_resumed_too(tmp_path, at):
    loaded = loaded_model("llama")
    record(loaded, prompts(1, 12), options(tmp_path / "whole", weights=True))

    def kill(status: str) -> None:
        if status.startswith(at):
            raise Killed

    with pytest.raises(Killed):
        record(loaded, prompts(1, 12), options(tmp_path / "t", weights=True), Observer(on_status=kill))
    record(loaded, prompts(1, 12), options(tmp_path / "t", weights=True, resume=True))
    assert contents(tmp_path / "t") == contents(tmp_path / "whole")


def test_a_checkpoint_loses_no_more_than_the_last_chunk(tmp_path, monkeypatch):
    """Resuming must not fall back to starting again: what was stored is not recorded a second time."""
    monkeypatch.setattr(forward, "CHECKPOINT_SECONDS", 0.0)
    loaded = loaded_model("llama")

    def kill(done: int, _: int) -> None:
        if done >= 12:
            raise Killed

    with pytest.raises(Killed):
        record(loaded, prompts(1, 12), options(tmp_path / "t", chunk=4), Observer(on_tokens=kill))
    resumed = []
    original = forward.Recorder.chunk
    monkeypatch.setattr(
        forward.Recorder, "chunk", lambda self, *args: (resumed.append(args[1]), original(self, *args))[1]
    )
    record(loaded, prompts(1, 12), options(tmp_path / "t", chunk=4, resume=True))
    assert resumed == [8]


def test_resuming_with_other_options_is_refused(tmp_path):
    loaded = loaded_model("llama")
    with pytest.raises(Killed):
        record(loaded, prompts(1, 12), options(tmp_path / "t"), Observer(on_tokens=_kill_at_once))
    with pytest.raises(AccelSimError, match="has dtype int8, this one float32"):
        record(loaded, prompts(1, 12), options(tmp_path / "t", dtype="float32", resume=True))


def _kill_at_once(*_: int) -> None:
    raise Killed


def test_a_full_disk_is_one_line_leaves_no_trace_and_can_be_resumed(tmp_path):
    """The kernel's limit on the size of a file stands for the full disk: the same call fails, for another reason."""
    loaded = loaded_model("llama")
    changes = {"sequences": 9, "tokens": 40}
    record(loaded, prompts(9, 40), options(tmp_path / "whole", **changes))
    with file_size_limit(3000), pytest.raises(AccelSimError, match=r"cannot be written: File too large") as caught:
        record(loaded, prompts(9, 40), options(tmp_path / "t", **changes))
    assert "\n" not in str(caught.value)
    with pytest.raises(AccelSimError, match="unfinished"):
        Trace.open(tmp_path / "t")
    record(loaded, prompts(9, 40), options(tmp_path / "t", resume=True, **changes))
    assert contents(tmp_path / "t") == contents(tmp_path / "whole")


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
