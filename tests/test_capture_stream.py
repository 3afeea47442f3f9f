"""Rows on their way from a model to its trace: in order, behind its back, no more at a time than allowed."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from capture_helpers import loaded_model, options, prompts  # noqa: E402

from accel_sim.capture import stream as streams  # noqa: E402
from accel_sim.capture.encode import Encoded, encode  # noqa: E402
from accel_sim.capture.host_copy import HostCopy, pack, unpack  # noqa: E402
from accel_sim.capture.run import record  # noqa: E402
from accel_sim.capture.stream import SiteRows, TraceStream  # noqa: E402
from accel_sim.capture.watch import Observer  # noqa: E402
from accel_sim.errors import AccelSimError  # noqa: E402
from accel_sim.trace.format import Projection, Site  # noqa: E402
from accel_sim.trace.writer import TraceWriter  # noqa: E402

FEATURES = 8


def rows(value: float = 1.0, name: str = "a", tokens: int = 4, dtype: str = "int8") -> SiteRows:
    site = Site(
        name=name, features=FEATURES, tokens=0, dtype=dtype,
        projections=(Projection(name=name, features=FEATURES, outputs=3),),
    )  # fmt: skip
    positions = np.arange(tokens)
    return SiteRows(site, encode(torch.full((tokens, FEATURES), value), dtype, name, positions), positions)


class Gate:
    """Copies that arrive only when they are let through."""

    def __init__(self, monkeypatch):
        self.open = threading.Event()
        gate = self

        class Waiting(HostCopy):
            def wait(self):
                assert gate.open.wait(10)
                return super().wait()

        monkeypatch.setattr(streams, "HostCopy", Waiting)


def written(writer: TraceWriter) -> dict[str, int]:
    return {site.name: site.tokens for site in writer.sites}


def test_rows_are_handed_over_before_they_have_arrived(tmp_path, monkeypatch):
    gate = Gate(monkeypatch)
    writer = TraceWriter.start(tmp_path / "t", {})
    with TraceStream(writer, 10_000) as stream:
        stream.append([rows(), rows(name="b")], 0)
        stream.append([rows()], 0)
        stream.checkpoint({"pieces": 2})
        assert written(writer) == {} and writer.progress == {}
        gate.open.set()
    assert written(writer) == {"a": 8, "b": 4}
    assert writer.progress == {"pieces": 2}
    assert stream.streamed.bytes == 3 * 4 * (FEATURES + 4) == stream.streamed.most_bytes


def test_the_model_waits_where_too_much_is_on_the_way(tmp_path, monkeypatch):
    gate = Gate(monkeypatch)
    with TraceStream(TraceWriter.start(tmp_path / "t", {}), 60) as stream:
        stream.append([rows()], 0)  # 48 bytes
        threading.Timer(0.1, gate.open.set).start()
        stream.append([rows()], 0)
        assert stream.streamed.waited_seconds > 0.05
    assert stream.streamed.most_bytes == 48
    assert written(stream._writer) == {"a": 8}


def test_rows_larger_than_all_the_room_pass_alone(tmp_path):
    with TraceStream(TraceWriter.start(tmp_path / "t", {}), 1) as stream:
        stream.append([rows(tokens=100)], 0)
        stream.append([rows(tokens=100)], 0)
    assert written(stream._writer) == {"a": 200}


def test_what_the_thread_cannot_do_is_raised_where_the_model_runs(tmp_path):
    bad = rows()
    codes = bad.encoded.stored.clone()
    codes[2, 5] = -128
    scales = torch.tensor([1, 1, torch.nan, 1])
    writer = TraceWriter.start(tmp_path / "t", {})
    says = "a: token 2, feature 5 is not finite; INT8"
    with pytest.raises(AccelSimError, match=says), TraceStream(writer, 10_000) as stream:
        stream.append([SiteRows(bad.site, Encoded(codes, scales), bad.positions)], 0)
        for _ in range(100):
            time.sleep(0.01)
            stream.append([rows()], 0)  # the first call after the thread has met it
        raise AssertionError("was not raised")
    assert written(writer) == {}


def test_what_the_last_rows_cannot_do_is_raised_at_the_end(tmp_path):
    bad = rows(np.inf, dtype="float16")
    writer = TraceWriter.start(tmp_path / "t", {})
    says = "a: token 0, feature 0 is inf, no finite float16"
    with pytest.raises(AccelSimError, match=says), TraceStream(writer, 10_000) as stream:
        stream.append([bad], 0)


def test_an_interrupted_capture_keeps_what_it_had(tmp_path, monkeypatch):
    gate = Gate(monkeypatch)
    writer = TraceWriter.start(tmp_path / "t", {})
    with pytest.raises(KeyboardInterrupt), TraceStream(writer, 10_000) as stream:
        stream.append([rows()], 0)
        stream.checkpoint({"pieces": 1})
        gate.open.set()
        raise KeyboardInterrupt
    assert TraceWriter.resume(tmp_path / "t", {}).progress == {"pieces": 1}


def test_a_slow_disk_changes_nothing_but_the_time(tmp_path, monkeypatch):
    loaded = loaded_model("llama")
    record(loaded, prompts(2, 12), options(tmp_path / "fast", sequences=2, chunk=5))
    original = TraceWriter.append
    monkeypatch.setattr(TraceWriter, "append", lambda *args: (time.sleep(0.002), original(*args))[1])
    told = []
    slow = options(tmp_path / "slow", sequences=2, chunk=5, buffer_gib=1e-7)
    record(loaded, prompts(2, 12), slow, Observer(on_streamed=told.append))
    for path in (tmp_path / "fast" / "activations").iterdir():
        assert path.read_bytes() == (tmp_path / "slow" / "activations" / path.name).read_bytes()
    assert told[0].waited_seconds > 0.02


def test_packed_bytes_come_apart_again():
    tensors = [
        torch.arange(15, dtype=torch.int8).reshape(3, 5), torch.tensor([1.5, -2.0, 3.0]),
        torch.randn(3, 7).to(torch.bfloat16), torch.zeros((0, 4), dtype=torch.int8), torch.randn(2, 2),
    ]  # fmt: skip
    packed = pack(tensors)
    assert packed.dtype == torch.uint8 and len(packed) == sum(each.nbytes for each in tensors)
    for got, given in zip(unpack(packed, [(each.shape, each.dtype) for each in tensors]), tensors, strict=True):
        assert got.dtype == given.dtype and torch.equal(got, given)
