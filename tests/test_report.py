"""What the tables say: kinds of operation, Amdahl's law, losses that nobody knows, approximations, narrow terminals."""

import io
import re
from functools import cache

import pytest
from rich.cells import cell_len
from rich.console import Console

from accel_sim.arch import load_arch
from accel_sim.cli.inputs import shipped_trace
from accel_sim.cli.kind_table import amdahl, kind_table
from accel_sim.cli.layer_table import layer_table
from accel_sim.cli.report import print_comparison, print_result
from accel_sim.simulation import Machine, Result, Settings, Simulation, WorkloadStatistics
from accel_sim.trace import Trace
from accel_sim.workload import Workload, gemm_workload, load_policy, preset_workload, workload_from_trace

WIDE = 170


@cache
def shipped() -> Workload:
    return workload_from_trace(Trace.open(shipped_trace()))


@cache
def statistics() -> WorkloadStatistics:
    return WorkloadStatistics(shipped())


def simulation(arch: str = "8x16", changes: tuple[str, ...] = (), workload: Workload | None = None, **settings):
    built = load_arch(arch, changes)
    known = None if workload else statistics()
    return Simulation(Machine(built, built.pattern()), workload or shipped(), known, Settings(**settings))


@cache
def whole_model() -> tuple[Simulation, Result]:
    one = simulation(scope="model", policy=load_policy("dense-qkv"))
    return one, one.result()


def printed(of: Simulation, capsys, result: Result | None = None) -> str:
    print_result(result or of.result(), of)
    return capsys.readouterr().out


def rendered(table, width: int) -> list[str]:
    screen = Console(file=io.StringIO(), width=width, highlight=False)
    screen.print(table)
    return screen.file.getvalue().splitlines()


def column(table, header: str) -> list[str]:
    return next(list(each.cells) for each in table.columns if each.header == header)


def number(text: str) -> float:
    return float(text.replace(",", "").rstrip("%"))


def test_rows_of_layers_and_operations_add_up_to_the_totals():
    _, result = whole_model()
    table = layer_table(result, all_layers=False, width=WIDE, quality_asked=True)
    assert sum(map(number, column(table, "cycles"))) == result.cycles
    assert sum(map(number, column(table, "n"))) == sum(one.repeat for one in (*result.layers, *result.operations))
    every = layer_table(result, all_layers=True, width=WIDE, quality_asked=True)
    assert every.row_count == len(result.layers) + len(result.operations) > table.row_count
    assert sum(map(number, column(every, "cycles"))) == result.cycles


def test_blocks_of_queries_are_one_row_with_what_they_have_in_common():
    workload = preset_workload("smollm2-135m", 300)
    result = simulation(workload=workload, scope="model", quality=False).result()
    table = layer_table(result, all_layers=False, width=WIDE, quality_asked=False)
    rows = dict(zip(column(table, "layer"), column(table, "shape"), strict=True))
    # Blocks of 128, 128 and 44 queries, 3 query heads to a KV head, with 128, 256 and 300 keys.
    assert rows["layers.{0-29}.self_attn.scores"] == "* × 64 × *"
    assert rows["layers.{0-29}.self_attn.softmax"] == "* elements"
    assert rows["layers.{0-29}.self_attn.q_proj"] == "300 × 576 × 576"


def test_kinds_of_operation_add_up_with_totals_last():
    _, result = whole_model()
    table = kind_table(result, WIDE)
    assert column(table, "kind")[0] == "linear"  # the largest
    assert set(column(table, "kind")) == {"linear", "attention", "softmax", "norm", "activation", "rotary"}
    assert sum(map(number, column(table, "cycles"))) == result.cycles
    assert sum(map(number, column(table, "dense cycles"))) == result.dense_cycles
    for shares in ("share", "dense share"):
        assert sum(map(number, column(table, shares))) == pytest.approx(100, abs=0.4)
    energy = next(each for each in table.columns if each.header.startswith("energy"))
    assert sum(map(number, energy.cells)) == pytest.approx(number(energy.footer), abs=0.05)
    assert rendered(table, WIDE)[-2].split()[:2] == ["total", f"{result.cycles:,}"]


def test_amdahls_limit_is_what_the_rest_leaves():
    _, result = whole_model()
    linear, rest = result.kinds["linear"], result.dense_cycles - result.kinds["linear"].dense_cycles
    text = amdahl(result)
    assert f"{linear.dense_cycles / result.dense_cycles:.1%} of the dense cycles" in text
    assert f"at most {result.dense_cycles / rest:.3f}×" in text
    assert f"{linear.dense_cycles / linear.cycles:.3f}× as fast, the whole {result.speedup:.3f}×" in text
    assert result.speedup < linear.dense_cycles / linear.cycles < result.dense_cycles / rest


def test_scope_policy_and_coverage_are_named(capsys):
    of, result = whole_model()
    text = printed(of, capsys, result)
    assert "by kind of operation" in text and "Amdahl: linear projections are" in text
    assert f"scope model: {result.scope_source[:40]}" in text
    # Of a block's 3,538,944 weights, q, k and v hold 552,960: 84.4 % run pruned.
    assert "policy dense-qkv.yaml: 84.4% of the linear multiply-accumulates run pruned" in text


def test_linear_scope_has_no_table_of_kinds(capsys):
    text = printed(simulation(), capsys)
    assert "by kind of operation" not in text and "Amdahl" not in text and "policy" not in text


def test_masks_are_named_where_the_machine_depends_on_them(capsys):
    changes = ("sparsity.skipping=elastic", "sparsity.operand_mux=full")
    assert "masks: real\n" in printed(simulation(changes=changes), capsys)
    assert "masks: iid, seed 3\n" in printed(simulation(changes=changes, masks="iid", seed=3), capsys)
    assert "masks:" not in printed(simulation(masks="iid"), capsys)


def test_every_approximation_has_a_line_of_its_own(capsys):
    of = simulation(changes=("sparsity.selector.placement=software",), scope="model")
    result = of.result()
    lines = printed(of, capsys, result).splitlines()
    named = [line.removeprefix("approximated: ") for line in lines if line.startswith("approximated: ")]
    assert named == result.approximations and len(named) >= 2


def test_utilisation_stands_with_the_cycles(capsys):
    of = simulation()
    result = of.result()
    assert f"utilisation of the multipliers {result.utilisation:.1%}\n" in printed(of, capsys, result)


def test_a_loss_that_was_not_asked_for_is_a_dash_and_says_why(capsys):
    of = simulation(quality=False)
    text = printed(of, capsys)
    assert "quality loss —: not asked for (--no-quality)" in text
    total = next(line for line in text.splitlines() if line.strip().startswith("total"))
    assert "—" in total.split()


def test_a_loss_that_nobody_can_know_says_why(capsys):
    of = simulation(changes=("sparsity.operand=weights",), workload=gemm_workload(["64x128x64"]))
    assert "quality loss —: weights are pruned that this workload does not hold" in printed(of, capsys)


def test_a_loss_of_the_other_kind_is_marked(capsys):
    # The shipped trace holds the weights of one block of three.
    text = printed(simulation(), capsys)
    assert re.search(r"layers\.15\.self_attn\.q_proj .* 0\.\d{4}† ", text)
    assert "; † ‖XW − X̂W‖² / ‖XW‖²" in text


def test_machines_without_a_loss_can_be_compared(capsys):
    workload = gemm_workload(["64x128x64"])
    pruned_weights = simulation(changes=("sparsity.operand=weights",), workload=workload).result()
    known = simulation(workload=workload).result()
    print_comparison([pruned_weights, known])
    text = capsys.readouterr().out
    assert "quality loss of the input" in text and " — " in text and f"{known.quality_loss.value:.4f}" in text
    print_comparison([simulation(workload=workload, quality=False).result()] * 2)
    assert "quality loss" not in capsys.readouterr().out


def test_a_terminal_that_is_too_narrow_cuts_no_figure(monkeypatch, capsys):
    monkeypatch.setattr("accel_sim.cli.screen._PIPED_WIDTH", 40)
    results = [simulation(name, quality=False).result() for name in ("8x16", "8x16_dual_core")]
    print_comparison(results)
    printed = capsys.readouterr().out
    assert "…" not in printed
    for result in results:
        assert all(text in printed for text in (result.arch, f"{result.cycles:,}", f"{result.area.overhead:+.1%}"))


@pytest.mark.parametrize("width", [80, 100])
def test_tables_fit_a_narrow_terminal(width):
    _, result = whole_model()
    lines = rendered(layer_table(result, False, width, True), width) + rendered(kind_table(result, width), width)
    assert max(map(cell_len, lines)) <= width
    shown = " ".join(lines)
    for word in ("requantise", "activation", f"{result.cycles:,}", f"{result.dense_cycles:,}", "bottleneck"):
        assert word in shown
    assert "…" not in shown
