"""The commands as a user runs them: exit status, one-line errors, files."""

import csv
import json
import os
import subprocess
import sys
import threading

import pytest

from accel_sim.arch import load_arch
from accel_sim.cli.inputs import shipped_trace
from accel_sim.cli.main import simulate_main
from accel_sim.cli.simulations import simulations
from accel_sim.occupancy import MASK_MODELS
from accel_sim.simulation import Settings
from accel_sim.workload import gemm_workload

ENTRY = "import sys; from accel_sim.cli import main as m; sys.argv[0] = sys.argv[1]; del sys.argv[1]; getattr(m, sys.argv.pop(1))()"  # fmt: skip  # noqa: E501


def command(entry: str, *arguments: str, cwd=None, **kwargs) -> subprocess.CompletedProcess:
    line = [sys.executable, "-c", ENTRY, entry, entry, *map(str, arguments)]
    return subprocess.run(line, capture_output=True, text=True, cwd=cwd, check=False, **kwargs)


@pytest.fixture
def run_simulate(tmp_path, monkeypatch, capsys):
    """`simulate` in this process, in an empty folder: (exit status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["simulate", *map(str, arguments)])
        with pytest.raises(SystemExit) as leave:
            simulate_main()
        captured = capsys.readouterr()
        return leave.value.code or 0, captured.out, captured.err

    return run


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


GEMM = ["--gemm", "32x64x32"]
TWO = ["--arch", "dense.yaml", "--arch", "8x16.yaml"]


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
        (["--scope", "everything"], "--scope everything: expected linear or model"),
        ([*GEMM, "--scope", "model"], "scope model: products given by hand have no model around them"),
        (["--policy", "nowhere"], "policy nowhere: no such file; shipped: amber-llama-3.1-8b"),
        (["--policy", "dense-qkv", "--arch", "2x4"], "policy dense-qkv.yaml: arch 2x4 has no pattern 8:16"),
        (["--policy", "dense-qkv", "--arch", "dense"], "its sparsity.patterns: none (it is a dense machine)"),
        (["--policy", "dense-qkv", "--pattern", "4:8"], "arch 8x16 has no pattern 4:8; its sparsity.patterns: 8:16"),
        ([*GEMM, "--policy", "dense-qkv"], "policy dense-qkv.yaml: rules[0]: projections q_proj"),
        (["--masks", "uniform"], f"--masks uniform: expected one of {', '.join(MASK_MODELS)}"),
        (["--masks", "iid", "--mask-seed", "-1"], "--mask-seed -1: expected a whole number of at least 0"),
        (["--mask-seed", "1"], "--mask-seed: nothing is drawn with --masks real; give one of iid"),
        (["--decode", "0"], "batch must be from 1"),
        (["--decode", "97"], "97"),
        (["--decode", "2", "--context", "0"], "context must be at least 1, not 0"),
        (["--context", "64"], "--context: is of a decode step; give its batch too"),
        ([*GEMM, "--decode", "2", "--context", "64"], "--context: products given by hand have no attention"),
        (["--explain", "no_such_layer"], "--explain no_such_layer: no such layer; there are model.layers.0"),
        (["--explain", "softmax"], "--explain softmax: not a linear projection; --scope model counts it"),
        (["--demand-layer", "q_proj"], "--demand-layer: needs --demand-trace"),
        (["--demand-format", "dramsim3"], "--demand-format: needs --demand-trace"),
        (["--demand-trace", "d.csv", "--demand-format", "xml"], "--demand-format xml: expected one of csv"),
        (["--demand-trace", "d.csv", "--demand-layer", "nope"], "--demand-layer nope: no such layer; there are"),
        ([*TWO, "--demand-trace", "d.csv"], "--demand-trace: is of one machine; give one --arch, not 2"),
        (["--tokens", "8"], "--tokens: is of --workload"),
        ([*GEMM, "--tokens", "8"], "--tokens: is of --workload"),
        (["--seed", "1"], "--seed: activations of a trace are captured, not drawn"),
        (["--distribution", "laplace"], "--distribution: activations of a trace are captured, not drawn"),
        ([*GEMM, "--json", "./layers.csv"], "--json and --csv: both would be written to layers.csv"),
        ([*GEMM, "--timeline", "/tmp"], "--timeline /tmp: is a folder; expected a file to write"),
    ],
)
def test_errors_are_one_line_exit_with_2_and_leave_nothing(arguments, message, run_simulate, tmp_path):
    status, out, err = run_simulate("--csv", "layers.csv", *arguments)
    assert status == 2 and not out
    errors = [line for line in err.splitlines() if not line.startswith("note:")]
    assert len(errors) == 1, err
    assert errors[0].startswith("simulate: error:") and message in errors[0]
    assert not list(tmp_path.iterdir())


def test_a_file_that_cannot_be_written_is_one_line(run_simulate, tmp_path):
    status, _, err = run_simulate(*GEMM, "--json", "/proc/nope/out.json", "--csv", "layers.csv")
    assert status == 2 and len(err.splitlines()) == 1 and "/proc/nope" in err
    assert not list(tmp_path.iterdir())


def test_what_is_no_file_is_written_to_and_not_replaced(run_simulate, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read = []
    reader = threading.Thread(target=lambda: read.append(pipe.read_text()))
    reader.start()
    status, _, _ = run_simulate(*GEMM, "--json", pipe)
    reader.join()
    assert status == 0 and json.loads(read[0])["arch"] == "8x16"
    assert pipe.is_fifo() and list(tmp_path.iterdir()) == [pipe]


ELASTIC = ["--set", "sparsity.skipping=elastic", "--set", "sparsity.operand_mux=full"]


@pytest.fixture
def result_of(run_simulate, tmp_path):
    """What `simulate --json` writes, with what was said on stderr."""

    def run(*arguments: str):
        status, _, err = run_simulate(*arguments, "--json", "result.json")
        assert status == 0, err
        return json.loads((tmp_path / "result.json").read_text()), err

    return run


def test_scope_model_counts_what_surrounds_the_projections(result_of):
    linear, _ = result_of("--no-quality")
    model, _ = result_of("--no-quality", "--scope", "model")
    assert (linear["scope"], model["scope"]) == ("linear", "model")
    assert model["kinds"]["linear"]["cycles"] == linear["cycles"] < model["cycles"]
    assert {"attention", "softmax", "norm"} <= set(model["kinds"]) and not linear["operations"]


def test_a_policy_decides_which_projections_run_pruned(result_of):
    result, _ = result_of("--policy", "dense-qkv")
    patterns = {layer["name"].rpartition(".")[2]: layer["pattern"] for layer in result["layers"]}
    assert result["policy"] == "dense-qkv.yaml" and result["pattern"] == "mixed"
    assert patterns["q_proj"] == patterns["k_proj"] == "dense" and patterns["o_proj"] == "8:16"


def test_a_policy_is_also_a_file(result_of, tmp_path):
    (tmp_path / "mine.yaml").write_text("default: dense\nrules:\n  - projections: up_proj\n    pattern: '8:16'\n")
    result, _ = result_of("--policy", "mine.yaml")
    assert {layer["name"].rpartition(".")[2] for layer in result["layers"] if layer["pattern"] != "dense"} == {
        "up_proj"
    }


def test_a_pattern_beside_a_policy_is_its_default(result_of):
    result, _ = result_of("--arch", "flexible.yaml", "--policy", "dense-qkv", "--pattern", "4:8", "--no-quality")
    assert {layer["pattern"] for layer in result["layers"]} == {"dense", "4:8"}


def test_a_dense_machine_beside_others_is_none_of_the_policys_business(result_of):
    (dense, pruned), err = result_of(*TWO, "--policy", "dense-qkv", "--no-quality")
    assert "note: arch dense has no patterns: policy dense-qkv.yaml does not touch it" in err
    assert dense["policy"] is None and pruned["policy"] == "dense-qkv.yaml"


@pytest.mark.parametrize("model", MASK_MODELS)
def test_masks_are_real_or_drawn(model, result_of):
    result, err = result_of(*ELASTIC, "--masks", model, "--no-quality")
    drawn = any("masks drawn" in line and model in line for line in result["approximations"])
    assert result["masks"] == model and drawn == (model != "real")
    assert "changes nothing" not in err


def test_the_mask_seed_is_what_is_drawn_from(result_of):
    gather = ["--decode", "3", "--set", "sparsity.skipping=row_gather", "--masks", "iid", "--no-quality"]
    seeds = [result_of(*gather, "--mask-seed", seed)[0] for seed in ("0", "0", "5")]
    assert seeds[0] == seeds[1] and seeds[0]["cycles"] != seeds[2]["cycles"]
    assert result_of(*gather)[0] == seeds[0]


def test_masks_that_change_nothing_are_said_to(result_of):
    _, err = result_of("--masks", "iid", "--no-quality", "--arch", "2x4", "--arch", "8x16")
    assert "note: --masks iid changes nothing on 2x4, 8x16: nothing is skipped there by where the non-zeros are" in err


@pytest.mark.parametrize(
    ("idle", "at_work"),
    [
        ("sparsity.sync_window=4", "sparsity.skipping=elastic"),
        ("cores.split=tokens", "cores.count=2"),
        ("sram.accumulator_bytes=8192", "array.dataflow=weight_stationary"),
        ("sparsity.selector.software_launch_cycles=9", "sparsity.selector.placement=software"),
    ],
)
def test_a_setting_that_changes_nothing_is_said_to(idle, at_work, run_simulate):
    said = f"note: --set {idle.partition('=')[0]} changes nothing here: it needs "
    assert said in run_simulate(*GEMM, "--set", idle)[2]
    both = ("--set", idle, "--set", at_work, "--set", "sparsity.operand_mux=full")
    assert run_simulate(*GEMM, *both)[0::2] == (0, "")


def test_a_decode_step_has_a_row_a_sequence_and_a_cache(result_of):
    step, err = result_of("--decode", "4", "--context", "300", "--scope", "model", "--no-quality")
    scores = next(layer for layer in step["layers"] if layer["name"].endswith("scores"))
    assert {layer["tokens"] for layer in step["layers"] if layer["kind"] == "linear"} == {4}
    assert scores["outputs"] == 300 and "batch 4, context 300" in step["trace"]
    assert "--context" not in err


def test_a_context_without_attention_is_said_to_change_nothing(result_of):
    _, err = result_of("--decode", "4", "--context", "300", "--no-quality")
    assert "note: --context changes attention alone, which --scope linear leaves out" in err


def test_products_by_hand_have_decode_steps_too(result_of):
    result, _ = result_of("--gemm", "512x64x32", "--decode", "8")
    assert [layer["tokens"] for layer in result["layers"]] == [8]


def test_without_quality_every_file_can_be_written(run_simulate, tmp_path):
    files = ["--json", "r.json", "--csv", "l.csv", "--timeline", "t.json"]
    status, out, _ = run_simulate(*TWO, *files, "--no-quality", "--scope", "model")
    assert status == 0 and all(f"wrote {name}" in out for name in ("r.json", "l.csv", "t.json"))
    results = json.loads((tmp_path / "r.json").read_text())
    assert all(result["quality_loss"] is None for result in results)
    rows = list(csv.DictReader((tmp_path / "l.csv").open()))
    assert len(rows) == sum(len(result["layers"]) + len(result["operations"]) for result in results)
    assert sum(int(row["cycles"]) for row in rows) == sum(result["cycles"] for result in results)
    assert {row["quality_loss"] for row in rows} == {""}


def test_the_timeline_has_a_track_for_every_stage_of_every_core(run_simulate, tmp_path):
    run_simulate(*GEMM, "--set", "cores.count=2", "--timeline", "t.json")
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    names = {event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert {"layer", "core 0 compute", "core 1 compute"} <= names


def test_a_demand_trace_holds_what_the_layer_moves(result_of, tmp_path):
    result, _ = result_of("--demand-trace", "d.csv", "--demand-layer", "layers.0.self_attn.k_proj")
    layer = next(one for one in result["layers"] if one["name"] == "model.layers.0.self_attn.k_proj")
    rows = list(csv.DictReader((tmp_path / "d.csv").open()))
    assert sum(int(row["bytes"]) for row in rows if row["level"] == "dram") == layer["dram_bytes"]
    assert int(rows[-1]["cycle"]) <= layer["cycles"]


def test_machines_of_one_run_share_what_they_read():
    workload = gemm_workload(["32x64x32"])
    made, notes = simulations([load_arch("2x4"), load_arch("8x16")], workload, None, Settings(), "compiled")
    assert len({id(each.statistics) for each in made}) == 1 and not notes


def test_every_machine_of_a_run_is_explained(run_simulate):
    _, out, _ = run_simulate(*TWO, *GEMM, "--explain", "32x64x32")
    assert "on dense (dense): 32 tokens" in out and "on 8x16 (8:16): 32 tokens" in out


def test_an_operation_of_the_vector_unit_is_explained(run_simulate):
    status, out, _ = run_simulate("--scope", "model", "--no-quality", "--explain", "layers.0.mlp.norm")
    assert status == 0 and "layers.0.mlp.norm (norm) on the vector unit of 8x16" in out


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
