"""The GPU benchmarks of the executors on the CPU, their kernels interpreted; test_gpu_executors_benchmark.py runs this.

All is the real thing but the clock, which has no graphs here; where a test needs graphs, a clock stands in for them.
"""

import argparse
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parent.parent))

from accel_sim.executors.triton_executor import Blocks
from benchmarks import executors
from benchmarks.executors import Shape
from benchmarks.gpu import decoding as gpu_decoding
from benchmarks.gpu import executors as gpu_executors
from benchmarks.gpu import ffns as gpu_ffns
from benchmarks.gpu import tuning as gpu_tuning
from benchmarks.gpu.figures import table
from benchmarks.random_models import random_model
from benchmarks.rows import Wanted

CPU = torch.device("cpu")
SHAPE = Shape(48, 40, 4)


class Graphs:
    """A clock that calls nothing: dense takes 9 s, all else 3 s; from Python twice that."""

    def launched(self, works):
        return {key: 2 * seconds for key, seconds in self.replayed(works).items()}

    def replayed(self, works):
        return {key: 9.0 if key == "dense" else 3.0 for key in works}


@pytest.fixture
def bench(monkeypatch):
    def made(dtype="float16"):
        monkeypatch.setattr("benchmarks.gpu.timing.clock_of", lambda device, rounds: Graphs())
        return gpu_executors.Bench(SHAPE, dtype, CPU, 1, {0.5: 1.9}, {0.9: Wanted("least", 3.3)})

    return made


def by_name(part):
    return {row.name: row for row in part.rows}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_rows_of_a_sparsity(bench, dtype):
    dense, half = bench(dtype).parts([0.5], ["triton", "gather"])
    (row,) = dense.rows
    assert row.name == f"{dtype}, dense: weights read, against torch's copy_"
    assert row.ours == pytest.approx(3 * 48 * 40 * 2 / 3 / 1e9)
    rows = by_name(half)
    assert half.wrong == 0 and len(half.figures) == 2 * 2 + 2
    graph = rows[f"{dtype}, triton, parallel, 50% skipped: in a CUDA graph, against dense"]
    assert (graph.ours, graph.peer, graph.ratio, graph.wanted) == (3, 9, 3, None)
    launched = rows[f"{dtype}, triton, parallel, 50% skipped: as Python launches it, against dense"]
    assert (launched.ours, launched.peer) == (6, 18)
    paper = rows[f"{dtype}, triton, sequential, 50% skipped: speed-up, against SVDP's on an RTX 3090"]
    assert (paper.ours, paper.peer) == (3, 1.9)
    read = rows[f"{dtype}, triton, sequential, 50% skipped: bytes read, against torch's copy_"]
    assert read.ours == pytest.approx(3 * 20 * 48 * 2 / 3 / 1e9)
    told = rows[f"{dtype}, triton, sequential, with its predictor, 50% skipped: bytes read, against torch's copy_"]
    assert told.ours == pytest.approx((3 * 20 * 48 + 4 * (48 + 40)) * 2 / 3 / 1e9)
    alone = rows[f"{dtype}, triton, parallel, with its predictor, 50% skipped: the predictor alone, against the whole"]
    assert alone.ours == alone.peer == 3
    none = rows[
        f"{dtype}, gather, sequential, 50% skipped: in a CUDA graph, against dense: none (its index list is as long as"
        " the mask says, which the host waits to learn)"
    ]
    assert none.ours is None
    off = [row for name, row in rows.items() if "error against float64" in name]
    assert len(off) == 6 and all(0 < row.ours <= row.peer for row in off)


def test_what_is_wanted_is_wanted_of_the_kernels_alone(bench):
    *_, ninety = bench().parts([0.9], ["triton", "gather"])
    wanted = [row for row in ninety.rows if row.wanted]
    assert [row.verdict for row in wanted] == ["≥ 3.3: **missed**"] * 2
    assert all("triton" in row.name and "predictor" not in row.name for row in wanted)


def test_the_table_has_a_column_for_each_sparsity(bench):
    figures = [each for part in bench().parts([0.5, 0.9], ["gather"]) for each in part.figures]
    lines = table("group", figures, {0.5: 1.9}).splitlines()
    assert lines[2] == "| over dense, in a CUDA graph (as Python launches it) | 50% | 90% |"
    assert "| 1/(1−s) | 2× | 10× |" in lines and "| SVDP, RTX 3090 | 1.90× | – |" in lines
    assert "| float16, gather, parallel | no graph (3.00×) | no graph (3.00×) |" in lines
    assert "| float16, gather, parallel: µs, of dense | 6000000.0, 18000000.0 | 6000000.0, 18000000.0 |" in lines
    captured = [replace(each, graph=3.0) for each in figures]
    assert "| float16, gather, parallel | **3.00×** (3.00×) | **3.00×** (3.00×) |" in table("group", captured, {})


def test_without_graphs_the_reason_stands_in_their_place():
    *_, half = gpu_executors.Bench(SHAPE, "float16", CPU, 1).parts([0.5], ["gather"])
    why = "none (no CUDA graphs on a CPU)"
    assert sum(row.name.endswith(why) or "host waits" in row.name for row in half.rows) == 4
    assert all(each.speed_up == each.speed_up_launched > 0 for each in half.figures)
    assert "| float16, gather, sequential | no graph (" in table("group", half.figures, {})


def test_a_wrong_result_is_named_and_not_timed(bench, monkeypatch):
    right = gpu_ffns.Copy.expected
    monkeypatch.setattr(gpu_ffns.Copy, "expected", lambda self, x, mask: right(self, x, mask) * 1.02)
    *_, half = bench().parts([0.5], ["gather"])
    assert half.wrong == 4 and not half.figures
    assert all("50% skipped: none (wrong: its error is 0.0" in row.name for row in half.rows)


def test_a_neuron_too_few_is_wrong_at_the_lowest_sparsity_of_the_largest_shape():
    """What the tolerance is for: one of 15,155 neurons is off by 1/√15155 of the norm."""
    assert gpu_executors.ROUNDINGS["triton"] * torch.finfo(torch.float16).eps < 15155**-0.5


def test_a_kernel_that_fails_costs_only_its_own_figures(bench, monkeypatch):
    from accel_sim.executors.gather import GatherExecutor

    def fails(*_, **__):
        raise RuntimeError("no such thing\nand a stack")

    monkeypatch.setattr(GatherExecutor, "run", fails)
    *_, half = bench().parts([0.5], ["triton", "gather"])
    assert half.wrong == 2 and len(half.figures) == 4
    assert "float16, gather, parallel, 50% skipped: none (failed: no such thing)" in by_name(half)


def test_other_blocks_are_timed_against_the_default(bench, monkeypatch):
    one = bench()
    gates, downs = gpu_tuning.GATES[:2], gpu_tuning.DOWNS[:1]
    parts = list(gpu_tuning.tune(one.copies, one.clock, one.make, gates, downs))
    names = [row.name for rows, _ in parts for row in rows]
    assert [wrong for _, wrong in parts] == [0, 0, 0] and len(names) == 3 + 3 + 2
    assert "90% skipped, parallel: gate and up, gate_registers=64, against the default" in names
    assert "90% skipped: down and its reduction, the default blocks, against the default" in names
    monkeypatch.setattr(gpu_tuning, "relative_error", lambda y, expected: 0.5)
    rows, wrong = next(gpu_tuning.tune(one.copies, one.clock, one.make, gates, downs))
    assert wrong == 2 and "none (wrong: 0.5 off the default's result)" in rows[0].name


def test_all_blocks_that_are_tried_differ():
    for tried in (gpu_tuning.GATES, gpu_tuning.DOWNS):
        assert len({*tried, Blocks()}) == len(tried) + 1


def test_a_report_is_on_disk_as_it_grows(bench, tmp_path):
    report = gpu_executors.Report(tmp_path / "rows.json")
    for part in bench().parts([0.9], ["gather"]):
        report.add(part.rows, part.wrong)
        stored = json.loads((tmp_path / "rows.json").read_text())
        assert len(stored) == len(report.rows)
    assert {"name", "ours", "peer", "ratio", "unit", "command", "versions"} == set(stored[0])
    assert stored[0]["versions"]["copies of the weights"] == "2; a cold cache takes 2"


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(executors, "SHAPES", dict.fromkeys(gpu_executors.SHAPES, Shape(20, 12, 2)))
    monkeypatch.setattr(gpu_executors, "EXECUTORS", ("gather",))
    monkeypatch.setattr(gpu_tuning, "GATES", gpu_tuning.GATES[:1])
    monkeypatch.setattr(gpu_tuning, "DOWNS", gpu_tuning.DOWNS[:1])

    def run(report, **given):
        arguments = argparse.Namespace(**{"shape": None, "rounds": 1, "limit": 600, "tune": False, **given})
        return list(gpu_executors.measure(arguments, report, "cpu"))

    return run


def test_a_whole_run_has_all_shapes_and_dtypes(small, tmp_path):
    report = gpu_executors.Report(tmp_path / "rows.json")
    shown = small(report)
    assert len(shown) == 3 and report.wrong == 0
    assert all(len(re.findall(rf"\| {dtype}, gather", each)) == 8 for each in shown for dtype in gpu_executors.DTYPES)
    assert shown[0].splitlines()[5] == "| SVDP, RTX 3090 | 1.30× | 1.90× | 3.34× | – | 4.67× |"
    assert len(json.loads((tmp_path / "rows.json").read_text())) == len(report.rows)
    left = gpu_executors.rest(report, tuned=False)
    assert left.count("dense: weights read") == 6 and "speed-up" not in left


def test_a_limit_names_what_it_left_out(small):
    report = gpu_executors.Report(None)
    assert small(report, limit=0, shape="llama2") == []
    assert [row.name for row in report.rows] == ["float16: not run (--limit 0 s)", "bfloat16: not run (--limit 0 s)"]


def test_a_tuning_prints_all_its_rows(small):
    report = gpu_executors.Report(None)
    assert small(report, tune=True, shape="qwen2") == [] and report.wrong == 0
    assert gpu_executors.rest(report, tuned=True).count("against the default") == len(report.rows) == 6


def test_decoding_on_the_kernels():
    decoding = gpu_decoding.Decoding(
        random_model("tiny", "cpu", "float32", hidden_act="relu", num_hidden_layers=2, intermediate_size=24),
        "tiny",
        gpu_decoding.Length(prompt=4, steps=1, rounds=1, rank=4),
    )
    _, *configurations = decoding.rows(["triton"], [0.9])
    assert [wrong for _, wrong in configurations] == [0, 0]
    (off,) = (row for row in configurations[1][0] if "largest error" in row.name)
    assert off.name.startswith("triton, parallel, 90% told to be skipped") and 0 < off.ours < 1e-5
