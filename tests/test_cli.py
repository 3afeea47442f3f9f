"""The commands as a user runs them: exit status, one-line errors, files."""

import json
import os
import subprocess
import sys

import pytest

from accel_sim.cli.inputs import shipped_trace

ENTRY = "import sys; from accel_sim.cli import main as m; sys.argv[0] = sys.argv[1]; del sys.argv[1]; getattr(m, sys.argv.pop(1))()"  # fmt: skip  # noqa: E501


def command(entry: str, *arguments: str, cwd=None, **kwargs) -> subprocess.CompletedProcess:
    line = [sys.executable, "-c", ENTRY, entry, entry, *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, cwd=cwd, check=False, **kwargs)


@pytest.fixture(scope="module")
def simulated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("simulate")
    arguments = ["--arch", "dense.yaml", "--arch", "8x16.yaml", "--json", "out/r.json", "--csv", "l.csv"]
    return command("simulate_main", *arguments, "--timeline", "t.json", cwd=folder), folder


def test_simulate_without_an_input_says_what_it_uses(simulated):
    run, _ = simulated
    assert run.returncode == 0, run.stderr
    assert "using the small capture that is shipped" in run.stderr


def test_simulate_writes_what_was_asked_for(simulated):
    run, folder = simulated
    results = json.loads((folder / "out" / "r.json").read_text())
    assert [result["arch"] for result in results] == ["dense", "8x16"]
    assert json.loads((folder / "t.json").read_text())["traceEvents"]
    for name in ("out/r.json", "l.csv", "t.json"):
        assert f"wrote {name}" in run.stdout


def test_simulate_prints_totals_last_and_what_limits_the_design(simulated):
    run, _ = simulated
    lines = run.stdout.splitlines()
    total = next(index for index, line in enumerate(lines) if line.strip().startswith("total"))
    assert all("mlp." not in line for line in lines[total : total + 8])
    assert any(line.startswith("limit: 8x16 is limited by") for line in lines)


def test_simulate_imports_no_torch():
    code = (
        "import sys; from accel_sim.cli.main import simulate_main; sys.argv = ['simulate']\n"
        "try: simulate_main()\nexcept SystemExit as leave: assert not leave.code\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def broken_trace(tmp_path):
    path = tmp_path / "trace"
    path.mkdir()
    (path / "trace.json").write_text("{ nonsense")
    return path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--arch", "nowhere.yaml"], "arch nowhere.yaml: no such file"),
        (["--trace", "nowhere"], "nowhere"),
        (["--pattern", "9:8"], "N:M needs 1 <= N <= M"),
        (["--pattern", "2:4"], "pattern 2:4 is not built in; sparsity.patterns: 8:16"),
        (["--set", "array.rowz=3"], "array.rowz: unknown key; accepted here: rows"),
        (["--gemm", "512x4096"], "512x4096"),
        (["--gemm", "1x1x1", "--workload", "llama-2-7b"], "--workload and --gemm: give one of"),
        (["--workload", "llama-9"], "llama-3.1-8b"),
        (["--set", "sram.output_bytes=5"], "sram.output_bytes is"),
        (["--json", "/proc/nope/out.json"], "/proc/nope"),
    ],
)
def test_errors_are_one_line_and_exit_with_2(arguments, message):
    run = command("simulate_main", *arguments)
    assert run.returncode == 2
    errors = [line for line in run.stderr.splitlines() if not line.startswith("note:")]
    assert len(errors) == 1, run.stderr
    assert errors[0].startswith("simulate_main: error:".replace("simulate_main", "simulate"))
    assert message in errors[0]


def test_a_broken_trace_is_one_line(tmp_path):
    run = command("simulate_main", "--trace", broken_trace(tmp_path))
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1 and "trace.json" in run.stderr


def test_a_bit_flipped_trace_names_its_file(tmp_path):
    import shutil

    copy = tmp_path / "trace"
    shutil.copytree(shipped_trace(), copy)
    victim = max(copy.rglob("*.safetensors"), key=lambda path: path.stat().st_size)
    content = bytearray(victim.read_bytes())
    content[-1] ^= 1
    victim.write_bytes(content)
    run = command("simulate_main", "--trace", copy)
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1 and victim.name in run.stderr


def test_explain_tells_how_one_layer_comes_about():
    run = command("simulate_main", "--explain", "layers.0.mlp.down_proj")
    assert run.returncode == 0, run.stderr
    for words in ("96 tokens × 1536 features × 576 outputs", "array tile:", "tilings fit", "critical path", "causes:"):
        assert words in run.stdout
    assert command("simulate_main", "--explain", "no_such_layer").returncode == 2


def test_explain_says_how_long_a_group_takes_that_has_more_slots_than_lanes():
    run = command("simulate_main", "--gemm", "32x128x32", "--set", "sparsity.patterns=['32:64']", "--explain", "32")
    assert "2 groups of 64, 2 cycles each: 4 cycles" in run.stdout


def test_schema_is_json():
    run = command("main", "schema")
    assert run.returncode == 0
    assert json.loads(run.stdout)["properties"]["array"]


def test_a_terminal_without_unicode_gets_its_figures():
    run = command("simulate_main", "--gemm", "32x64x32", env=os.environ | {"PYTHONIOENCODING": "ascii"})
    assert run.returncode == 0, run.stderr
    assert "32 ? 64 ? 32" in run.stdout


def test_version_and_help():
    assert command("main", "--version").stdout.strip()
    shown = command("main", "--help").stdout
    assert all(name in shown for name in ("capture", "simulate", "pareto", "validate", "schema"))
