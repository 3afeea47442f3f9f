"""The benchmarks' own arithmetic: what they read, what they write, and the tables they make. No peer runs here."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
if str(ROOT) not in sys.path:  # the benchmarks are scripts of the checkout, not part of the package
    sys.path.append(str(ROOT))

from accel_sim.arch import load_arch  # noqa: E402
from accel_sim.trace import Trace  # noqa: E402
from accel_sim.workload.from_trace import workload_from_trace  # noqa: E402
from benchmarks import accel_forge, elastic, limits, peak_rates, peers, quoted, scale_sim, zig_zag  # noqa: E402
from benchmarks.children import ChildFailed, Finished, run_child  # noqa: E402
from benchmarks.ours import compute_cycles, timings  # noqa: E402
from benchmarks.products import LLAMA_REDUCED, SMOLLM2_LAYER, product  # noqa: E402
from benchmarks.rows import Row, Wanted, markdown, not_run, replace_between_markers, write_json  # noqa: E402


def row(ours=30.0, peer=20.0, **given) -> Row:
    return Row("Tool", "product", ours, peer, "cycles", "make bench", {"tool": "1.0"}, **given)


def test_a_ratio_is_ours_over_the_peer_and_of_speed_the_other_way_round():
    assert row().ratio == 1.5
    assert row(faster=True).ratio == pytest.approx(2 / 3)


def test_a_row_without_a_peer_has_no_ratio_and_no_verdict():
    missing = row(peer=None, wanted=Wanted("least", 2))
    assert missing.ratio is None and missing.verdict == ""


@pytest.mark.parametrize(
    ("wanted", "met"),
    [
        (Wanted("least", 1.5), True),
        (Wanted("least", 1.6), False),
        (Wanted("most", 1.5), True),
        (Wanted("most", 1.4), False),
        (Wanted("within", 0.5), True),
        (Wanted("within", 0.4), False),
    ],
)
def test_a_missed_target_is_said_so(wanted, met):
    assert ("met" in row(wanted=wanted).verdict) == met
    assert ("**missed**" in row(wanted=wanted).verdict) != met


def test_the_report_is_a_list_of_rows_with_seven_keys(tmp_path):
    rows = [row(), not_run("Tool", "Tool", "no Python", "make bench", {"python": "3.11"})]
    write_json(rows, tmp_path / "deep" / "report.json")
    stored = json.loads((tmp_path / "deep" / "report.json").read_text())
    assert [set(entry) for entry in stored] == [{"name", "ours", "peer", "ratio", "unit", "command", "versions"}] * 2
    assert stored[0]["name"] == "Tool: product" and stored[0]["ratio"] == 1.5
    assert stored[1]["ours"] is None and "no Python" in stored[1]["name"]


def test_the_committed_report_has_the_same_keys_and_ratios_that_follow_from_its_figures():
    for entry in json.loads((ROOT / "reports" / "benchmarks.json").read_text()):
        assert set(entry) == {"name", "ours", "peer", "ratio", "unit", "command", "versions"}
        if entry["ratio"] is not None:
            ratio = entry["ours"] / entry["peer"]
            assert entry["ratio"] == pytest.approx(ratio) or entry["ratio"] == pytest.approx(1 / ratio)


def test_the_table_has_a_heading_for_every_group_and_a_line_for_every_row():
    table = markdown([row(), row(ours=0.0123456, faster=True), Row("Other", "x", None, 2.0, "s", "make bench")])
    assert table.count("### ") == 2
    assert "| product | 30 | 20 | cycles | 1.500× |  |" in table
    assert "0.01235" in table and "1,620× faster" in table
    assert "| x | – | 2 | s |  |  |" in table


def test_the_table_replaces_what_stands_between_the_markers():
    page = "before\n<!-- begin: make bench -->\nold\n<!-- end: make bench -->\nafter\n"
    replaced = replace_between_markers(page, "new\n")
    assert replaced == page.replace("old", "new")
    with pytest.raises(ValueError, match="begin"):
        replace_between_markers("no markers", "new")


def test_the_page_has_the_markers():
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    assert replace_between_markers(page, "### t\n") != page


def test_scale_sims_report_is_read_by_its_column():
    report = (
        "LayerID, Total Cycles (incl. prefetch), Total Cycles, Stall Cycles, Overall Util %,\n"
        "0, 190000, 183743.0, 0.0, 90.2,\n1, 61300, 61247.0, 0.0, 90.2,\n"
    )
    assert scale_sim.parse_compute_report(report) == (183_743, 61_247)


def test_scale_sim_gets_outputs_before_features_and_a_plain_layout(tmp_path):
    scale_sim.write_inputs(tmp_path, "ws", [product("p", 100, 33, 70)])
    assert (tmp_path / "topology.csv").read_text().splitlines()[1] == "l0, 100, 70, 33,"
    assert (tmp_path / "layout.csv").read_text().splitlines()[1].count(",1") == 21
    assert "Dataflow: ws" in (tmp_path / "config.cfg").read_text()


@pytest.mark.parametrize(
    ("dataflow", "shape", "theirs"),  # (tokens, features, outputs), compute cycles that SCALE-Sim 3.0.0 printed
    [
        ("os", (512, 576, 576), 183_743),
        ("os", (100, 33, 70), 1_139),
        ("os", (32, 14336, 512), 230_367),
        ("ws", (512, 576, 576), 196_343),
        ("ws", (100, 33, 70), 1_163),
        ("ws", (64, 4096, 1024), 647_167),
    ],
)
def test_the_array_is_taken_for_as_long_as_scale_sim_says_but_for_counting_from_0(dataflow, shape, theirs):
    (timing,) = timings(load_arch(scale_sim.MACHINES[dataflow]), [product("p", *shape)])
    assert compute_cycles(timing) == theirs + 1


@pytest.fixture
def no_clock(monkeypatch):
    """Nothing is timed and no command runs; what peers print is made up."""
    for module in (scale_sim, zig_zag, accel_forge):
        monkeypatch.setattr(module, "median_seconds", lambda work: 0.01)
    for module in (scale_sim, zig_zag):
        monkeypatch.setattr(module, "simulate_command", lambda *arguments: Finished(1.0, 10**8, ""))
    return peers.Environment(Path("python"), "1.0")


def test_every_product_stands_beside_scale_sim_in_both_dataflows(no_clock, monkeypatch):
    def made_up(python, dataflow, products):
        arch = load_arch(scale_sim.MACHINES[dataflow])
        cycles = tuple(compute_cycles(timing) - 1 for timing in timings(arch, products))
        return scale_sim.ScaleSimRun(cycles, 100, 10**9)

    monkeypatch.setattr(scale_sim, "run_scale_sim", made_up)
    rows = scale_sim.rows(no_clock)
    cycles = [one for one in rows if one.wanted is scale_sim.SAME_CYCLES]
    assert len(cycles) == 2 * (7 + 3) and all(one.ours == one.peer + 1 for one in cycles)
    (speed, _) = (one for one in rows if one.wanted is scale_sim.TIMES_FASTER)
    assert speed.ratio == 10_000 and "met" in speed.verdict
    assert sum("overlapping" in one.name and one.ratio < 1 for one in rows) == 2


def test_zigzags_cycles_are_found_by_the_name_of_the_product(no_clock, monkeypatch):
    cycles = {gemm.name: {"ideal_temporal_cycle": gemm.macs / 1024, "latency_total2": 1.0} for gemm in SMOLLM2_LAYER}
    layers = [{"name": name, **cycles[name]} for name in reversed(cycles)]
    monkeypatch.setattr(zig_zag, "run_zigzag", lambda *given: ({"seconds": 5.0, "layers": layers}, 7.0))
    at_work = [one for one in zig_zag.rows(no_clock) if "array at work" in one.name]
    assert [one.ratio for one in at_work] == [1.0] * 4


def test_accelforges_bits_stand_beside_our_bytes(no_clock, monkeypatch):
    both_ways = {f"{memory}/{way}": 4_000_000 for memory in accel_forge.COUNTED for way in ("read", "write")}
    answer = {"seconds": 1.0, "latency_s": 1e-4, "energy_j": {"Dram/read": 1e-6}, "actions": both_ways}
    monkeypatch.setattr(accel_forge, "run_accelforge", lambda python, machine, products: [answer] * len(products))
    rows = accel_forge.rows(no_clock)
    assert {one.peer for one in rows if one.unit == "bytes"} == {1_000_000}
    assert {one.peer for one in rows if one.unit == "µJ"} == {1.0}
    (weights,) = (one.ours for one in rows if one.name == "q_proj, weight buffer")
    assert weights == 576 * 576 * (16 + 1)  # read for each of 16 panels of tokens, written once


def test_zigzag_gets_tokens_features_and_outputs():
    (layer,) = zig_zag.workload([product("p", 100, 33, 70)])
    assert dict(zip(layer["loop_dims"], layer["loop_sizes"], strict=True)) == {"B": 100, "C": 33, "K": 70}


def test_accelforge_is_charged_our_energies():
    parameters = accel_forge.machine_parameters(load_arch("dense.yaml"), 4e8)
    assert parameters["dram_j"] == pytest.approx(6.25e-12)  # HBM2, per bit
    assert parameters["dram_bits_per_s"] == 256 * 8 * 4e8
    assert 0 < parameters["activation_read_j"] < parameters["dram_j"]
    placeholders = (accel_forge.INPUTS / "machine.yaml").read_text().split("{{")[1:]
    assert {text.partition("}}")[0] for text in placeholders} == set(parameters)


def test_peak_rates_follow_from_the_number_of_units():
    assert all(one.wanted.met(one.ratio) for one in peak_rates.rows())


def test_two_of_four_doubles_every_gpu():
    for gpu in peak_rates.GPUS:
        assert peak_rates.peak_tops(gpu, peak_rates.SPARSE) == 2 * peak_rates.peak_tops(gpu, None)


def test_what_is_only_quoted_is_never_held_against_us():
    assert all(one.wanted is None and "context only" in one.group for one in quoted.rows())


def test_the_products_are_those_of_the_published_shapes():
    assert sum(gemm.macs for gemm in SMOLLM2_LAYER) == 512 * (2 * 576 * 576 + 2 * 576 * 192 + 3 * 576 * 1536)
    assert {gemm.features for gemm in LLAMA_REDUCED} == {4096, 14336}


def test_machines_differ_in_nothing_that_statistics_depend_on():
    machines = limits.variants(load_arch(limits.ARCH), 30)
    assert len({machine.name + str(machine.sram) + str(machine.dram) for machine in machines}) == 30
    assert len({(machine.array, machine.sparsity) for machine in machines}) == 1


def test_our_limits_run_on_any_stored_trace(monkeypatch):
    def once(work, rounds=1):
        work()
        return 1.0

    monkeypatch.setattr(limits, "median_seconds", once)
    monkeypatch.setattr(limits, "MACHINES", 2)
    (trace,) = (path.parent for path in (ROOT / "traces").glob("*/trace.json"))
    workload = workload_from_trace(Trace.open(trace))
    assert limits.read_once(workload) > 0
    rows = limits.trace_rows(workload) + limits.many_machines_rows(workload)
    assert all(one.ratio == 1.0 for one in rows) and len(rows) == 6


def test_elastic_skipping_is_measured_with_its_zeros_and_window(monkeypatch):
    monkeypatch.setattr(elastic, "PRODUCT", "64x1024x64")
    monkeypatch.setattr(elastic, "TOKENS", 64)
    monkeypatch.setattr(elastic, "ZEROS", (0.9,))
    rows = elastic.rows()
    assert len(rows) == 2 * len(elastic.WINDOWS)
    assert all("90% and what rounds to zero" in one.name for one in rows)
    assert rows[0].ratio > 1  # equal multipliers


def test_a_child_hands_back_its_output_time_and_memory():
    finished = run_child([sys.executable, "-c", "x = bytearray(50_000_000); print('done')"])
    assert finished.stdout == "done\n"
    assert finished.peak_bytes > 50_000_000 and finished.seconds > 0


def test_a_childs_memory_is_its_own():
    held = bytearray(b"x" * 300_000_000)  # of the process that starts it
    assert run_child([sys.executable, "-c", ""]).peak_bytes < len(held) / 3


def test_a_child_that_fails_is_named_with_its_last_line():
    with pytest.raises(ChildFailed, match="no such layer"):
        run_child([sys.executable, "-c", "raise SystemExit('no such layer')"])


def test_a_python_that_is_nowhere_is_said_to_be_missing(monkeypatch):
    monkeypatch.setattr(peers, "_interpreters", lambda least: [sys.executable])
    assert peers.interpreter((3, 11)) == Path(sys.executable)
    with pytest.raises(peers.PeerMissing, match="needs Python 99"):
        peers.interpreter((99, 0))
