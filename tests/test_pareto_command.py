"""The command `accel-sim pareto`, with everything behind it."""

import json

import pytest
import typer
from typer.testing import CliRunner

from accel_sim import shipped
from accel_sim.cli.pareto import pareto
from accel_sim.errors import AccelSimError

TRACE = shipped.folder("traces") / "smollm2-135m"
APP = typer.Typer()
APP.command()(pareto)


def run(*arguments: str):
    return CliRunner().invoke(APP, list(arguments), catch_exceptions=False)


def points(folder) -> list[dict]:
    return json.loads((folder / "pareto.json").read_text())["points"]


def test_products_on_two_machines(tmp_path):
    result = run("--arch", "dense", "--arch", "8x16", "--gemm", "64x256x256", "--out", str(tmp_path))
    assert result.exit_code == 0
    assert [point["label"] for point in points(tmp_path)] == ["dense", "8x16"]
    assert {path.name for path in tmp_path.iterdir()} == {
        "pareto.png", "pareto.svg", "energy_area.png", "energy_area.svg", "pareto.csv", "pareto.json",
    }  # fmt: skip
    assert all(f"wrote {path}" in result.output for path in tmp_path.iterdir())


def test_the_dense_machine_is_where_comparison_starts(tmp_path):
    run("--arch", "dense", "--gemm", "64x256x256", "--out", str(tmp_path))
    (dense,) = points(tmp_path)
    assert dense["speedup"] == dense["speedup_time"] == dense["speedup_iso_area"] == 1
    assert dense["area_overhead"] == dense["quality_loss"] == 0
    assert dense["on_front"]


def test_a_flexible_machine_gives_a_point_per_pattern(tmp_path):
    run("--arch", "flexible", "--gemm", "32x256x64", "--out", str(tmp_path))
    found = points(tmp_path)
    assert [point["label"] for point in found] == [f"flexible {pattern}" for pattern in ("2:4", "4:8", "8:16", "16:32")]
    assert len({point["area_um2"] for point in found}) == 1
    losses = [point["quality_loss"] for point in found]
    assert losses == sorted(losses, reverse=True)


def test_perplexities_replace_the_quality_loss(tmp_path):
    measured = tmp_path / "measured.json"
    measured.write_text('{"dense": 7.21, "8:16": 10.32}')
    run(
        *("--arch", "dense", "--arch", "8x16", "--gemm", "32x256x64"),
        *("--quality", str(measured), "--out", str(tmp_path / "out")),
    )
    found = [(point["quality_kind"], point["quality_loss"]) for point in points(tmp_path / "out")]
    assert found == [("perplexity", 7.21), ("perplexity", 10.32)]


def test_the_scope_can_be_the_whole_model(tmp_path):
    arguments = ("--arch", "8x16", "--workload", "smollm2-135m", "--tokens", "32", "--out", str(tmp_path))
    run(*arguments)
    (linear,) = points(tmp_path)
    run(*arguments, "--scope", "model")
    (model,) = points(tmp_path)
    assert (linear["scope"], model["scope"]) == ("linear", "model")
    assert model["dense_cycles"] > linear["dense_cycles"]
    assert model["speedup"] < linear["speedup"]


def test_a_policy_leaves_projections_dense_on_every_machine(tmp_path):
    """Each machine prunes to its own pattern what the policy prunes by default; the dense one prunes nothing."""
    arguments = ("--arch", "dense", "--arch", "2x4", "--arch", "8x16", "--trace", str(TRACE), "--out", str(tmp_path))
    run(*arguments)
    everywhere = points(tmp_path)
    run(*arguments, "--policy", "dense-qkv")
    with_policy = points(tmp_path)
    assert [point["policy"] for point in with_policy] == [None, "dense-qkv.yaml", "dense-qkv.yaml"]
    assert with_policy[0] == everywhere[0]
    for before, after in zip(everywhere[1:], with_policy[1:], strict=True):
        assert after["cycles"] > before["cycles"] and after["quality_loss"] < before["quality_loss"]


def test_pruned_weights_that_nobody_captured_have_no_quality(tmp_path):
    arguments = ("--arch", "dense", "--arch", "weights_2x4", "--gemm", "32x256x64", "--out", str(tmp_path / "out"))
    with pytest.raises(AccelSimError, match=r"design weights_2x4 on .*: nothing is known of its quality_loss"):
        run(*arguments)
    assert not (tmp_path / "out").exists()
    measured = tmp_path / "measured.json"
    measured.write_text('{"dense": 7.21, "2:4": 11.0}')
    run(*arguments, "--quality", str(measured))
    assert [point["quality_loss"] for point in points(tmp_path / "out")] == [7.21, 11.0]


def test_machines_of_one_name_are_refused(tmp_path):
    with pytest.raises(AccelSimError, match="several machines are named 8x16"):
        run("--arch", "8x16", "--arch", "8x16.yaml", "--gemm", "32x256x64", "--out", str(tmp_path))


def test_a_trace_twice_is_refused(tmp_path):
    with pytest.raises(AccelSimError, match="several workloads are named"):
        trace = ("--trace", str(TRACE))
        run("--arch", "dense", *trace, *trace, "--out", str(tmp_path))


def test_nothing_is_written_when_something_is_wrong(tmp_path):
    with pytest.raises(AccelSimError, match="expected TOKENSxFEATURESxOUTPUTS"):
        run("--gemm", "512x4096", "--out", str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
