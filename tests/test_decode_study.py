"""Decode steps against the batch: the figures, the words, the files and the command."""

import json
from dataclasses import replace
from functools import cache

import pytest
import typer
from typer.testing import CliRunner

from accel_sim import AccelSimError
from accel_sim.arch import load_arch
from accel_sim.cli.decode import decode
from accel_sim.cli.inputs import shipped_trace
from accel_sim.simulation import Settings, simulate
from accel_sim.study.batches import batches_named, batches_that_fit
from accel_sim.study.decode import DecodePoint, DecodeStudy, run_decode_study, verdict
from accel_sim.study.decode_output import markdown, write_decode_study
from accel_sim.trace import Trace
from accel_sim.workload import decode_workload, preset_workload, workload_from_trace

BATCHES = (1, 8, 64)
MACHINES = ("dense", "8x16", "weights_8x16", "8x16_row_gather")
SHIPPED = workload_from_trace(Trace.open(shipped_trace()))
APP = typer.Typer()
APP.command()(decode)


@cache
def study() -> DecodeStudy:
    return run_decode_study([load_arch(name) for name in MACHINES], SHIPPED, BATCHES)


def points(machine: str) -> dict[int, DecodePoint]:
    return {point.batch: point for point in study().of(machine)}


# Figures


def test_a_point_is_one_run_of_the_simulator():
    point = points("8x16_row_gather")[8]
    result = simulate(load_arch("8x16_row_gather"), decode_workload(SHIPPED, 8), settings=Settings(quality=False))
    assert (point.cycles, point.dense_cycles, point.bottleneck) == (result.cycles, result.dense_cycles, "dram")
    assert point.tokens_per_s == pytest.approx(8 / result.time_s)
    assert point.energy_per_token_pj == pytest.approx(result.energy_pj["total"] / 8)
    assert point.dram_bytes == sum(layer.dram_bytes for layer in result.layers)


def test_every_machine_meets_every_batch():
    assert study().machines == list(MACHINES)
    assert all(list(points(machine)) == list(BATCHES) for machine in MACHINES)


def test_alone_a_sequence_needs_half_of_the_weights():
    alone = points("8x16_row_gather")[1]
    assert 0.45 < alone.weights_needed <= 0.5
    assert alone.speedup > 1.5 and alone.dram_bytes < 0.6 * alone.dense_dram_bytes


def test_a_batch_needs_more_of_the_weights_the_larger_it_is():
    needed = [point.weights_needed for point in study().of("8x16_row_gather")]
    speedups = [point.speedup for point in study().of("8x16_row_gather")]
    assert needed == sorted(needed) and needed[-1] > 0.95
    assert speedups == sorted(speedups, reverse=True)


def test_pruned_activations_fetch_all_weights():
    assert {point.weights_needed for point in study().of("8x16")} == {1.0}
    assert points("8x16")[1].speedup < 1.05 < points("8x16")[64].speedup


def test_static_weights_gain_at_every_batch():
    assert min(point.speedup for point in study().of("weights_8x16")) > 1.3


def test_the_whole_model_dilutes_the_gain():
    arch = [load_arch("8x16_row_gather")]
    workload = preset_workload("smollm2-135m", 64)
    (linear,) = run_decode_study(arch, workload, [1]).points
    (model,) = run_decode_study(arch, workload, [1], context=1024, scope="model").points
    assert 1 < model.speedup < linear.speedup
    assert model.cycles > linear.cycles


def test_progress_is_told_for_every_run():
    told = []
    run_decode_study([load_arch("dense"), load_arch("8x16")], SHIPPED, (1, 2), on_progress=told.append)
    assert told == ["dense, batch 1", "8x16, batch 1", "dense, batch 2", "8x16, batch 2"]


# Words


def line_of(*described: tuple[int, float, str, float]) -> str:
    """The verdict on points of (batch, speed-up, bottleneck, weights needed)."""
    first = points("8x16")[1]
    return verdict(
        [
            replace(
                first, machine="m", batch=batch, cycles=1000, dense_cycles=round(1000 * speedup), speedup=speedup,
                bottleneck=limit, weights_needed=needed,
            )
            for batch, speedup, limit, needed in described
        ]
    )  # fmt: skip


def test_a_gain_that_ends_with_the_union():
    assert line_of((1, 1.9, "dram", 0.5), (2, 1.5, "dram", 0.7), (4, 1.2, "dram", 0.9), (8, 1.0, "compute", 1.0)) == (
        "m: 1.90× over dense at best (batch 1), less than half of it from batch 4 on (the batch needs 90% of the"
        " weights; 50% at the best); limited by dram up to batch 4, compute from 8."
    )


def test_a_gain_that_begins_with_the_array():
    assert line_of((1, 1.0, "dram", 1.0), (64, 1.2, "dram", 1.0), (256, 1.8, "compute", 1.0)) == (
        "m: 1.80× over dense at best (batch 256), less than half of that gain up to batch 64 (DRAM limits, and the"
        " weights come whole whatever the pattern); limited by dram up to batch 64, compute from 256."
    )


def test_a_gain_that_ends_where_another_part_limits():
    assert "from batch 8 on (compute limits, no longer dram)" in line_of(
        (1, 1.8, "dram", 1.0), (8, 1.1, "compute", 1.0)
    )


def test_no_gain_and_losses_are_said():
    assert line_of((1, 1.0, "dram", 1.0)) == "m: as fast as dense at every batch; limited by dram."
    assert line_of((1, 1.01, "dram", 1.0), (8, 0.9, "dram", 1.0)) == (
        "m: no gain over dense at any batch; slower than dense from batch 8 (0.90× at batch 8); limited by dram."
    )


# Batches


def test_batches_are_a_list_in_order():
    assert batches_named("4,1, 2,4") == (1, 2, 4)


@pytest.mark.parametrize("text", ["", "0", "1,-2", "two", "1.5"])
def test_what_is_no_list_of_batches(text):
    with pytest.raises(AccelSimError, match=f"--batches {text}: expected whole numbers of at least 1"):
        batches_named(text)


def test_batches_a_trace_cannot_stand_for_are_left_out_by_name():
    batches, why = batches_that_fit(SHIPPED)
    assert batches == (1, 2, 4, 8, 16, 32, 64)
    assert "batches from 128 are left out" in why and "96 tokens" in why
    assert batches_that_fit(preset_workload("smollm2-135m", 8)) == (tuple(2**power for power in range(9)), None)


# Files and command


def test_files_hold_every_point(tmp_path):
    written = write_decode_study(study(), tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in written} == {
        "decode.json", "decode.csv", "decode.md", "speedup.png", "speedup.svg", "rates.png", "rates.svg",
    }  # fmt: skip
    content = json.loads((tmp_path / "decode.json").read_text())
    assert [one["cycles"] for one in content["points"]] == [point.cycles for point in study().points]
    assert len((tmp_path / "decode.csv").read_text().splitlines()) == 1 + len(study().points)
    assert content["verdicts"][0] in markdown(study())


def test_the_command(tmp_path):
    arguments = ["--arch", "dense", "--arch", "8x16_row_gather", "--batches", "1,4", "--out", str(tmp_path)]
    result = CliRunner().invoke(APP, arguments, catch_exceptions=False)
    assert result.exit_code == 0
    assert "over dense at best (batch 1)" in result.output
    assert json.loads((tmp_path / "decode.json").read_text())["points"][0]["machine"] == "dense"


def test_a_context_without_attention_is_said_to_change_nothing(tmp_path):
    arguments = ["--arch", "dense", "--batches", "1", "--context", "64", "--out", str(tmp_path)]
    result = CliRunner().invoke(APP, arguments, catch_exceptions=False)
    assert "note: --context changes attention alone" in result.output


def test_batches_beyond_the_trace_are_refused(tmp_path):
    with pytest.raises(AccelSimError, match="batch 200: it holds 96 tokens"):
        CliRunner().invoke(APP, ["--batches", "200", "--out", str(tmp_path / "x")], catch_exceptions=False)
    assert not (tmp_path / "x").exists()
