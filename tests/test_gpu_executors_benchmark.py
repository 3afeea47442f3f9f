"""The GPU benchmarks of the executors: what they say without a GPU, their rows interpreted, decoding on a CPU."""

import json
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
from test_functional_triton import run_tests
from test_functional_triton_benchmark import without_a_gpu

ROOT = Path(__file__).parent.parent
if str(ROOT) not in sys.path:  # the benchmarks are scripts of the checkout, not part of the package
    sys.path.append(str(ROOT))

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from benchmarks.executors import PAPERS_CUDA, SHAPES, Shape  # noqa: E402
from benchmarks.gpu import decoding as gpu_decoding  # noqa: E402
from benchmarks.gpu import executors as gpu_executors  # noqa: E402


def run(module, *arguments):
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_rows_and_checks_interpreted():
    run_tests("gpu_executors_interpreted.py", 15, TRITON_INTERPRET="1")


@pytest.mark.parametrize("module", ["gpu.executors", "gpu.decoding"])
def test_without_a_gpu_one_line_and_status_2(module, tmp_path):
    why = without_a_gpu()
    done = run(module, "--json", str(tmp_path / "rows.json"))
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"not run: {why}\n")
    assert not (tmp_path / "rows.json").exists()


def test_the_shapes_are_the_papers():
    assert set(gpu_executors.SHAPES) == set(gpu_executors.AT_20) <= {*SHAPES} & {*PAPERS_CUDA}
    assert {shape for shape, _ in gpu_executors.WANTED} <= {*gpu_executors.SHAPES}


def test_decoding_on_a_cpu_writes_what_it_prints(tmp_path):
    sizes = ["--device", "cpu", "--size", "tiny", "--executors", "gather"]
    short = ["--prompt", "8", "--steps", "2", "--rounds", "1", "--rank", "4", "--json", str(tmp_path / "rows.json")]
    done = run("gpu.decoding", *sizes, *short)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert len(rows) == 3 + 3 * 2 * 6
    for row in rows:
        group, _, name = row["name"].partition("tokens: ")
        assert group.startswith("Decoding on cpu: tiny with ReLU, random float32 weights, 8 + 2 ")
        assert f"| {name} |" in done.stdout
    told = [row for row in rows if "neurons skipped, told beside in fact" in row["name"]]
    assert [round(row["ours"], 1) for row in told] == [0.5, 0.5, 0.8, 0.8, 0.9, 0.9]
    assert all(row["peer"] >= row["ours"] for row in told)
    assert all(row["ours"] <= row["peer"] for row in rows if "largest error" in row["name"])
    assert sum("none (no CUDA graphs on a CPU)" in row["name"] for row in rows) == 6


def test_a_limit_names_what_it_left_out():
    sizes = ["--device", "cpu", "--size", "tiny", "--executors", "gather", "--limit", "0"]
    done = run("gpu.decoding", *sizes, "--prompt", "8", "--steps", "1", "--rounds", "1", "--rank", "4")
    assert done.returncode == 0 and "all that is not above: none (--limit 0 s)" in done.stdout
    assert "told to be skipped" not in done.stdout


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--prompt", "1"], "expected a prompt of at least 2 tokens"),
        (["--rounds", "0"], "at least 1 step, round and rank"),
        (["--executors", "numba"], "--executors numba: expected some of triton, gather"),
    ],
)
def test_what_cannot_be_measured_is_refused(given, message):
    done = run("gpu.decoding", "--device", "cpu", *given)
    assert done.returncode == 2 and message in done.stderr


@pytest.fixture(scope="module")
def decoding():
    from benchmarks.random_models import random_model

    model = random_model("tiny", "cpu", "float32", hidden_act="relu")
    return gpu_decoding.Decoding(model, "tiny", gpu_decoding.Length(prompt=8, steps=3, rounds=1, rank=4))


def test_static_steps_are_the_models_own(decoding):
    """Given positions and masks, behind a prompt, twice: the tokens of the model's own greedy decode."""
    from accel_sim.evaluation.generation import continue_greedily

    expected = continue_greedily(decoding.model, decoding.prompt, 4)[0].tolist()
    for _ in range(2):
        decoding.dense.restart()
        tokens = [decoding.dense.token.item()]
        for _ in range(3):
            decoding.dense.step()
            tokens.append(decoding.dense.token.item())
        assert tokens == expected


def test_a_step_asks_the_device_nothing(decoding):
    """So that it can be captured: with tensors that have no values, whoever asks for one fails."""
    from torch._subclasses import FakeTensorMode
    from torch._subclasses.fake_tensor import DataDependentOutputException

    from benchmarks.gpu.steps import StaticSteps

    steps = StaticSteps(decoding.model, decoding.prompt, 1)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        for name in ("token", "position", "logits"):
            setattr(steps, name, mode.from_tensor(getattr(steps, name)))
        steps.step()
        with pytest.raises(DataDependentOutputException):
            bool(steps.token > 0)


def test_the_hook_of_a_live_model_asks_no_device_that_captures(monkeypatch):
    from types import SimpleNamespace

    from torch._subclasses import FakeTensorMode
    from torch._subclasses.fake_tensor import DataDependentOutputException

    from accel_sim.executors.live import _holds_tokens

    with FakeTensorMode():
        length = torch.zeros((), dtype=torch.int64, device="cuda")
        past = SimpleNamespace(get_seq_length=lambda: length)
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
        assert _holds_tokens(past)
        monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
        with pytest.raises(DataDependentOutputException):
            _holds_tokens(past)
    assert not _holds_tokens(SimpleNamespace(get_seq_length=lambda: torch.tensor(0)))
    assert _holds_tokens(SimpleNamespace(get_seq_length=lambda: 3))


def test_a_step_must_read_all_weights_but_the_embedding_and_the_whole_cache(decoding):
    """Of the tiny model: 4 layers of 64 and 192 features, 2 of 4 heads for keys and values, a cache of 64 places."""
    attention, ffn, head = 64 * (64 + 32 + 32 + 64), 3 * 64 * 192, 512 * 64
    weights = 4 * (attention + ffn + 2 * 64) + 64 + head
    cache = 4 * 2 * 2 * 16 * 64
    assert decoding.bytes_of_a_step() == 4 * (weights + cache)
    thin = 4 * 4 * (64 + 192)
    half = decoding.bytes_of_a_step((0.5, 0.25, 0.25))
    assert half == 4 * (weights + cache - 4 * 64 * 192 * 2 + thin)


def test_wrong_answers_are_named(decoding, monkeypatch):
    from accel_sim.executors.gather import GatherExecutor
    from accel_sim.executors.masks import Outcome

    right = GatherExecutor.run

    def doubled(*arguments, **more):
        outcome = right(*arguments, **more)
        return Outcome(2 * outcome.y, outcome.rows)

    monkeypatch.setattr(GatherExecutor, "run", doubled)
    _, (rows, wrong), _ = decoding.rows(["gather"], [0.5])
    assert wrong == 1 and "wrong: 4 layers ran on it, the largest error is 1 of the norm" in rows[0].name


class Device:
    """Stands for torch.cuda: events are a microsecond of each call apart, and a graph is what ran in its block."""

    def __init__(self, refuses=False):
        self.now, self.slept, self.refuses, self.graphs = 0, 0, refuses, []
        device = self

        class Event:
            def __init__(self, enable_timing):
                assert enable_timing

            def record(self):
                self.at = device.now

            def elapsed_time(self, later):
                return (later.at - self.at) / 1e3  # in ms

        class Stream:
            def wait_stream(self, other):
                assert isinstance(other, Stream)

        class CUDAGraph:
            def replay(self):
                device.now += self.length

        class Block:
            def __init__(self, graph):
                self.graph = graph

            def __enter__(self):
                self.before = device.now

            def __exit__(self, *_):
                if device.refuses:
                    raise RuntimeError("operation not permitted when stream is capturing\nand more")
                self.graph.length = device.now - self.before

        self.Event, self.Stream, self.CUDAGraph, self.graph = Event, Stream, CUDAGraph, Block

    def synchronize(self):
        pass

    def _sleep(self, cycles):
        self.slept += 1

    def current_stream(self):
        return self.Stream()

    def stream(self, side):
        return nullcontext()

    def call(self, microseconds):
        def run():
            self.now += microseconds

        return run


def test_events_and_graphs_tell_the_time_of_one_call(monkeypatch):
    from benchmarks.gpu.timing import CudaClock, clock_of

    device = Device()
    monkeypatch.setattr(torch, "cuda", device)
    clock = clock_of(torch.device("cuda"), 3)
    assert isinstance(clock, CudaClock)
    works = {"a": [device.call(2), device.call(4)], "b": [device.call(5)]}
    assert clock.launched(works) == {"a": pytest.approx(3e-6), "b": pytest.approx(5e-6)}
    assert device.slept == 0  # a launch's own time counts
    assert clock.replayed(works) == {"a": pytest.approx(3e-6), "b": pytest.approx(5e-6)}
    assert device.slept == 2 * 4


def test_what_is_not_captured_says_why_and_the_rest_is_timed(monkeypatch):
    from benchmarks.gpu.timing import CudaClock, NotCaptured

    device = Device(refuses=True)
    monkeypatch.setattr(torch, "cuda", device)
    (why,) = CudaClock(1).replayed({"a": [device.call(2)]}).values()
    assert isinstance(why, NotCaptured) and str(why) == "operation not permitted when stream is capturing"


def test_a_step_in_a_graph_is_timed_behind_the_prompt(decoding, monkeypatch):
    from types import SimpleNamespace

    from benchmarks.gpu import steps as gpu_steps

    device, restarted = Device(), []
    monkeypatch.setattr(gpu_steps.torch, "cuda", device)
    on_device = SimpleNamespace(device=SimpleNamespace(type="cuda"))
    steps = SimpleNamespace(prompt=on_device, restart=lambda: restarted.append(device.now))
    assert gpu_steps.seconds_of_steps(steps, 8, device.call(3)) == pytest.approx(3e-6)
    assert restarted == [0] and device.slept == 1
    gpu_steps.wait(on_device.device)


@pytest.mark.gpu
def test_ffns_on_a_gpu():
    bench = gpu_executors.Bench(Shape(200, 301, 8), "float16", torch.device("cuda"), 2)
    _, half = bench.parts([0.5], gpu_executors.EXECUTORS)
    assert half.wrong == 0 and len(half.figures) == 6
    assert all(each.not_captured is None for each in half.figures if each.config.executor == "triton")
    assert all(part.wrong == 0 for part in bench.tuning())


@pytest.mark.gpu
def test_decoding_on_a_gpu(tmp_path):
    done = run("gpu.decoding", "--size", "tiny", "--steps", "4", "--rounds", "1", "--json", str(tmp_path / "rows.json"))
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    captured = [row for row in rows if "triton" in row["name"] and "in a CUDA graph, against dense" in row["name"]]
    assert len(captured) == 6 and all(row["ours"] and row["peer"] for row in captured)


@pytest.mark.gpu
def test_a_captured_step_is_the_step():
    """The same tokens, replayed and called, of an attached model."""
    from accel_sim.executors.live import attach
    from benchmarks.gpu.steps import StaticSteps
    from benchmarks.random_models import random_model

    model = random_model("tiny", "cuda", "float32", hidden_act="relu")
    prompt = torch.arange(16, device="cuda")[None]
    with attach(model, executor="triton"):
        steps = StaticSteps(model, prompt, 8)
        called, replayed = [], []
        for _ in range(8):
            steps.step()
            called.append(steps.token.item())
        replay = steps.graph()
        for _ in range(8):
            replay()
            replayed.append(steps.token.item())
    assert replayed == called
