"""The composed result: documented keys, sums, comparisons, and the shipped trace on both engines."""

import json
from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from accel_sim.arch import load_arch
from accel_sim.cli.inputs import shipped_trace
from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern
from accel_sim.simulation import Machine, Result, Settings, Simulation, WorkloadStatistics, simulate
from accel_sim.simulation.output import write_csv, write_json
from accel_sim.simulation.timeline import write_timeline
from accel_sim.timing import CAUSES
from accel_sim.trace import Trace
from accel_sim.workload import Gemm, Policy, SiteActivations, Weights, Workload
from accel_sim.workload.by_hand import gemm_workload
from accel_sim.workload.from_trace import workload_from_trace
from accel_sim.workload.policy import Rule
from accel_sim.workload.presets import preset_workload

ARCHS = ("dense", "2x4", "4x8", "8x16", "16x32")
GENEROUS = ["dram.bytes_per_cycle=4096"]


@cache
def shipped_workload() -> Workload:
    return workload_from_trace(Trace.open(shipped_trace()))


@cache
def shipped_statistics() -> WorkloadStatistics:
    return WorkloadStatistics(shipped_workload())


@cache
def on_shipped_trace(arch: str) -> Result:
    return simulate(load_arch(arch), shipped_workload(), statistics=shipped_statistics())


def one_layer(tokens: int = 64, features: int = 128, outputs: int = 96, zeros: float = 0) -> Workload:
    """A product with weights, drawn so that every pattern prunes something."""
    rng = np.random.default_rng(7)
    codes = rng.integers(-127, 128, (tokens, features)).astype(np.int8)
    codes[rng.random(codes.shape) < zeros] = 0
    scales = np.ones(tokens, np.float32)
    weights = Weights(rng.integers(-127, 128, (features, outputs)).astype(np.int8), np.ones(outputs, np.float32))
    gemm = Gemm("layer", "site", tokens, features, outputs, load_weights=lambda: weights)
    return Workload("drawn", "uniform codes", (gemm,), {"site": SiteActivations(lambda: (codes, scales))})


@pytest.mark.parametrize("name", ARCHS)
def test_breakdowns_and_components_add_up(name):
    result = on_shipped_trace(name)
    assert tuple(result.breakdown) == CAUSES
    assert sum(result.breakdown.values()) == result.cycles == sum(layer.cycles for layer in result.layers)
    assert all(sum(layer.breakdown.values()) == layer.cycles for layer in result.layers)
    components = [value for key, value in result.energy_pj.items() if key != "total"]
    assert sum(components) == pytest.approx(result.energy_pj["total"], rel=1e-9)
    assert sum(layer.energy_pj for layer in result.layers) == pytest.approx(result.energy_pj["total"], rel=1e-9)
    assert sum(result.area.components.values()) == pytest.approx(result.area.total_um2, rel=1e-9)
    assert result.edp == pytest.approx(result.energy_pj["total"] * 1e-12 * result.time_s)
    assert result.time_s == pytest.approx(result.cycles / result.clock_hz)
    assert result.clock_hz == pytest.approx(min(500e6, 1e9 / result.critical_path_ns))
    macs = sum(layer.tokens * layer.features * layer.outputs for layer in result.layers)
    gops = 2 * macs / result.time_s / 1e9
    assert result.performance_per_mm2 == pytest.approx(gops / (result.area.total_um2 / 1e6))


def test_json_has_the_documented_keys(tmp_path):
    write_json([on_shipped_trace("8x16")], tmp_path / "one.json")
    write_json([on_shipped_trace("dense"), on_shipped_trace("8x16")], tmp_path / "two.json")
    one, two = (json.loads((tmp_path / name).read_text()) for name in ("one.json", "two.json"))
    assert two[1] == one
    assert one.keys() >= {
        "arch", "trace", "pattern", "cycles", "dense_cycles", "speedup", "speedup_time", "speedup_iso_area", "clock_hz",
        "critical_path_ns", "time_s", "area", "energy_pj", "dense_energy_pj", "edp", "performance_per_mm2",
        "quality_loss", "bottleneck", "breakdown", "layers",
    }  # fmt: skip
    assert one["area"].keys() >= {"total_um2", "total_nand2", "overhead", "overhead_array", "components"}
    assert one["quality_loss"].keys() >= {"value", "kind"}
    assert one["layers"][0].keys() >= {"name", "pattern", "cycles", "dense_cycles", "breakdown", "bottleneck"}
    assert len(one["layers"]) == sum(len(site.projections) for site in Trace.open(shipped_trace()).sites)
    assert Result.model_validate(one) == on_shipped_trace("8x16"), "what is written can be read back"


def test_csv_has_one_row_a_layer(tmp_path):
    result = on_shipped_trace("8x16")
    write_csv([result], tmp_path / "layers.csv")
    header, *rows = (tmp_path / "layers.csv").read_text().splitlines()
    assert len(rows) == len(result.layers)
    assert header.split(",")[:3] == ["arch", "trace", "name"]
    assert rows[0].split(",")[2] == result.layers[0].name


def test_engines_agree_on_the_real_trace():
    compiled, event = (simulate(load_arch("8x16"), shipped_workload(), engine=e) for e in ("compiled", "event"))
    assert compiled.model_copy(update={"engine": "event"}) == event


def test_the_dense_machine_compares_equal_to_itself():
    result = on_shipped_trace("dense")
    assert result.speedup == result.speedup_time == 1
    assert result.speedup_iso_area == pytest.approx(1)
    assert result.quality_loss.value == 0
    assert result.area.overhead == 0
    assert result.energy_pj["total"] == pytest.approx(result.dense_energy_pj)


def test_larger_groups_lose_less_quality_and_cost_more_area():
    results = [on_shipped_trace(name) for name in ("2x4", "4x8", "8x16", "16x32")]
    losses = [result.quality_loss.value for result in results]
    overheads = [result.area.overhead for result in results]
    assert losses == sorted(losses, reverse=True) and len(set(losses)) == 4
    assert overheads == sorted(overheads) and overheads[0] > 0
    assert all(result.speedup_iso_area < result.speedup_time for result in results)


def test_quality_is_of_the_output_where_all_weights_are_there():
    workload = one_layer()
    result = simulate(load_arch("8x16"), workload)
    codes, _ = workload.sites["site"].load()
    weights = workload.gemms[0].load_weights().codes.astype(np.float64)
    kept = np.zeros(codes.shape)
    for token, row in enumerate(codes.astype(int)):
        for group in range(0, len(row), 16):
            order = sorted(range(group, group + 16), key=lambda k: (-abs(row[k]), k))
            kept[token, order[:8]] = row[order[:8]]
    dense_output = codes @ weights
    expected = ((dense_output - kept @ weights) ** 2).sum() / (dense_output**2).sum()
    assert result.quality_loss.kind == "output"
    assert result.quality_loss.value == pytest.approx(expected, rel=1e-9)


def test_quality_is_of_the_input_where_a_layer_lacks_weights():
    assert on_shipped_trace("8x16").quality_loss.kind == "input"
    kinds = {layer.quality_loss.kind for layer in on_shipped_trace("8x16").layers}
    assert kinds == {"input", "output"}, "the shipped trace holds the weights of one layer"


def test_zero_gating_saves_energy_but_no_time_where_there_are_zeros():
    workload = one_layer(zeros=0.8)
    plain, gated = (simulate(load_arch("8x16", [f"zero_gating={kind}"]), workload) for kind in ("none", "operand"))
    assert gated.cycles == plain.cycles
    assert gated.energy_pj["multiply"] < plain.energy_pj["multiply"]
    assert gated.dense_energy_pj < plain.dense_energy_pj, "both sides are gated"


def test_iso_area_speedup_follows_the_enlarged_array_when_compute_bound():
    # Compute-bound: enlarging the dense array by the extra area buys that much speed, so the gain shrinks by as much.
    result = simulate(load_arch("8x16", GENEROUS), gemm_workload(["512x4096x4096"]))
    machine = Machine(load_arch("8x16", GENEROUS), Pattern("8:16"))
    dense = Machine(machine.arch.dense(), None)
    factor = 1 + (machine.area.total_um2 - dense.area.total_um2) / dense.area.array_um2
    assert result.speedup_iso_area == pytest.approx(result.speedup_time / factor, rel=0.005)


def test_a_machine_that_no_dense_one_is_as_small_as_is_refused():
    # 5000 requantisers behind 21 multipliers: the dense machine's faster clock cuts each into one more stage.
    small = [
        "array.rows=7", "array.cols=3", "array.lanes=1", "array.requantisers=5000", "sparsity.operand_mux=restricted",
        "sram.bank_bytes=524288", "technology.node_nm=7", "technology.clock_target_hz=5.0e+9",
    ]  # fmt: skip
    arch = load_arch("16x32", [*small, "sram.weight_port_bytes_per_cycle=100000"])
    with pytest.raises(AccelSimError, match="arch 16x32: its dense counterpart is larger even without an array"):
        simulate(arch, gemm_workload(["1x33x33"]))


def test_a_flexible_unit_runs_what_it_is_asked_and_pays_for_the_largest():
    flexible = load_arch("flexible")
    small = simulate(flexible, shipped_workload(), Pattern("2:4"), statistics=shipped_statistics())
    assert small.pattern == "2:4"
    assert small.quality_loss.value == on_shipped_trace("2x4").quality_loss.value
    assert small.area.total_um2 >= on_shipped_trace("16x32").area.total_um2
    with pytest.raises(AccelSimError, match="pattern 1:4 is not built in"):
        simulate(flexible, shipped_workload(), Pattern("1:4"))


def test_repeated_products_count_as_often_as_they_stand_for():
    once = gemm_workload(["64x256x256"])
    many = Workload(once.name, once.source, (Gemm("experts", once.gemms[0].site, 64, 256, 256, repeat=5),), once.sites)
    single, repeated = (simulate(load_arch("8x16"), workload) for workload in (once, many))
    assert repeated.cycles == 5 * single.cycles
    assert repeated.dense_cycles == 5 * single.dense_cycles
    assert repeated.energy_pj["total"] == pytest.approx(5 * single.energy_pj["total"])
    assert repeated.speedup_iso_area == pytest.approx(single.speedup_iso_area)


def test_the_mean_loss_weighs_layers_by_their_work():
    result = on_shipped_trace("8x16")
    loss_of_site = {}
    for layer in result.layers:  # of the inputs everywhere, since most layers lack weights
        loss_of_site[layer.site] = shipped_statistics().input_loss(layer.site, Pattern("8:16")).value
    work = [layer.tokens * layer.features * layer.outputs for layer in result.layers]
    losses = [loss_of_site[layer.site] for layer in result.layers]
    assert result.quality_loss.value == pytest.approx(np.average(losses, weights=work))
    assert result.quality_loss.value != pytest.approx(np.mean(losses), rel=1e-3)


def test_projections_of_one_site_share_its_selection_at_write_back():
    once = one_layer()
    gemm = once.gemms[0]
    twice = Workload(once.name, once.source, (gemm, replace(gemm, name="second")), once.sites)
    at_load, at_write_back = (load_arch("8x16", [f"sparsity.selector.placement={p}"]) for p in ("load", "write_back"))
    for arch, times in ((at_load, 2), (at_write_back, 1)):
        single, both = (simulate(arch, workload).energy_pj["selector"] for workload in (once, twice))
        assert both == pytest.approx(times * single)


def test_a_site_is_selected_once_for_every_pattern_that_reads_it():
    drawn = one_layer()
    gemms = tuple(replace(drawn.gemms[0], name=name) for name in ("q_proj", "k_proj", "v_proj"))
    workload = Workload(drawn.name, drawn.source, gemms, drawn.sites)
    other = Rule(projections=("k_proj",), pattern="4:8")
    mixed = Policy("mixed", "", default=Pattern("8:16"), rules=(other,))
    arch = load_arch("flexible", ["sparsity.selector.placement=software"])
    result = simulate(arch, workload, settings=Settings(policy=mixed, quality=False))
    kernel = arch.sparsity.selector.software_launch_cycles
    assert [layer.breakdown["selector"] > kernel for layer in result.layers] == [True, True, False]


@pytest.mark.parametrize(("down", "outputs"), [("8:16", 32), ("dense", 64)])
def test_outputs_are_needed_as_the_projection_that_reads_them_is_pruned(down, outputs):
    # One token of 64 values, none of them zero: 8:16 keeps half of them, a dense down_proj needs them all.
    codes = np.arange(1, 65, dtype=np.int8)[None]
    gate = Gemm("gate_proj", "in", 1, 64, 64, consumer_site="between")
    reader = Gemm("down_proj", "between", 1, 64, 64)
    sites = dict.fromkeys(("in", "between"), SiteActivations(lambda: (codes, np.ones(1, np.float32))))
    workload = Workload("drawn", "drawn", (gate, reader), sites)
    policy = Policy("mixed", "", Pattern("8:16"), (Rule(projections="down_proj", pattern=down),))
    arch = load_arch("8x16", ["sparsity.skipping=gather"])
    simulation = Simulation(Machine(arch, arch.pattern()), workload, settings=Settings(policy=policy))
    assert simulation.time(gate).plan.product.outputs == outputs


def test_a_kernel_selects_once_for_all_repeats_of_a_product():
    drawn = one_layer()
    once, many = (
        simulate(
            load_arch("8x16_software"),
            replace(drawn, gemms=(replace(drawn.gemms[0], tokens=16, repeat=repeat),)),
            settings=Settings(quality=False),
        )
        for repeat in (1, 4)
    )
    kernel = load_arch("8x16_software").sparsity.selector.software_launch_cycles
    assert many.cycles < 4 * once.cycles - 2 * kernel, "three launches less, for four times the rows"


def test_experts_that_share_the_zeros_of_the_first_are_named():
    drawn = one_layer()
    many = Workload(drawn.name, drawn.source, (replace(drawn.gemms[0], tokens=32, repeat=2),), drawn.sites)
    for name, said in (("8x16_elastic", True), ("8x16", False)):
        result = simulate(load_arch(name), many, settings=Settings(quality=False))
        assert any("with the non-zeros of the first" in line for line in result.approximations) == said


def test_gating_counts_the_slots_that_hold_zeros():
    # Each group of 16 holds 4 non-zeros, so half of its 8 slots are zero; on the dense machine 12 of 16 features are.
    codes = np.zeros((32, 64), np.int8)
    codes[:, ::4] = 5
    gemm = Gemm("layer", "site", 32, 64, 32)
    site = SiteActivations(lambda: (codes, np.ones(32, np.float32)))
    workload = Workload("quarter", "every fourth feature", (gemm,), {"site": site})
    statistics = WorkloadStatistics(workload)
    assert statistics.zeros("site", Pattern("8:16")).zero_slots == 0.5
    assert statistics.zeros("site", None).zero_slots == 0.75
    plain, gated = (simulate(load_arch("8x16", [f"zero_gating={kind}"]), workload) for kind in ("none", "operand"))
    held = 32 * 32 * 64 // 2 // 2
    saved = plain.energy_pj["multiply"] - gated.energy_pj["multiply"]
    assert saved == pytest.approx(held * 0.215 * 0.9588), "the anchored energy of one multiplier"


def test_a_sampled_site_states_its_error():
    result = simulate(load_arch("8x16"), gemm_workload(["4096x256x64"]))
    assert 0 < result.quality_loss.standard_error < result.quality_loss.value


def test_experts_with_one_token_each_still_tell_their_error():
    result = simulate(load_arch("8x16"), preset_workload("qwen3-30b-a3b", 8))
    experts = [layer for layer in result.layers if layer.tokens == 1 and layer.repeat > 1]
    assert experts and all(layer.quality_loss.standard_error > 0 for layer in experts)
    exact = [layer for layer in result.layers if layer.quality_loss.standard_error is None]
    assert exact and result.quality_loss.standard_error > 0, "layers without a sampling error do not hide the others'"
    with pytest.raises(AccelSimError, match="sampled_rows 1: expected at least 2"):
        SiteActivations(lambda: None, sampled_rows=1)


def test_what_the_tables_lack_is_named():
    bitmap = on_shipped_trace("16x32").extrapolated
    assert "dot_product 16 lanes: energy" in bitmap, "only its area was measured"
    enumerative = simulate(load_arch("16x32", ["sparsity.metadata=enumerative"]), one_layer()).extrapolated
    assert next(row for row in enumerative if row not in bitmap) == "enumerative decoder 16:32: area"


def test_timeline_shows_every_stage_without_overlap(tmp_path):
    machine = Machine(load_arch("8x16"), Pattern("8:16"))
    simulation = Simulation(machine, gemm_workload(["64x256x128", "32x64x64"]))
    write_timeline([simulation], tmp_path / "timeline.json")
    events = json.loads((tmp_path / "timeline.json").read_text())["traceEvents"]
    slices = [event for event in events if event["ph"] == "X"]
    tracks = {event["tid"]: event["args"]["name"] for event in events if event["name"] == "thread_name"}
    assert list(tracks.values()) == ["layer", "load", "select", "compute", "requantise", "store"]
    assert {event["tid"] for event in slices} == set(tracks)
    for track in tracks:
        spans = sorted((event["ts"], event["ts"] + event["dur"]) for event in slices if event["tid"] == track)
        assert all(after[0] >= before[1] - 1e-9 for before, after in pairwise(spans))


def test_the_timeline_leaves_room_for_the_kernel_that_selects(tmp_path):
    machine = Machine(load_arch("8x16_software"), Pattern("8:16"))
    simulation = Simulation(machine, gemm_workload(["64x256x128"]))
    write_timeline([simulation], tmp_path / "timeline.json")
    events = json.loads((tmp_path / "timeline.json").read_text())["traceEvents"]
    kernel, layer = (event for event in events if event["ph"] == "X" and event["tid"] == 0)
    assert kernel["name"].startswith("selecting for gemm0")
    assert layer["ts"] == pytest.approx(kernel["ts"] + kernel["dur"])
    total = (layer["ts"] + layer["dur"]) * machine.delays.clock_hz / 1e6
    assert total == pytest.approx(simulation.result().cycles)


def test_utilisation_counts_the_multipliers_of_all_cores():
    for name, cores in (("8x16", 1), ("8x16_dual_core", 2)):
        result = simulate(load_arch(name, GENEROUS), gemm_workload(["512x1024x1024"]))
        slots = 512 * 1024 * 1024 // 2
        assert result.utilisation == pytest.approx(slots / (32 * 32 * 16 * cores * result.cycles))
        assert 0.5 < result.utilisation <= 1


def test_every_repeat_of_a_site_is_selected_once_at_write_back():
    once = gemm_workload(["64x256x256"])
    many = Workload(once.name, once.source, (replace(once.gemms[0], repeat=5),), once.sites)
    single, repeated = (simulate(load_arch("8x16_write_back"), work).energy_pj["selector"] for work in (once, many))
    assert repeated == pytest.approx(5 * single) and single > 0


def test_a_kernel_selects_also_what_the_vector_unit_produces():
    work = preset_workload("smollm2-135m", 32)
    linear, whole = (
        simulate(load_arch("8x16_software"), work, settings=Settings(scope=scope, quality=False))
        for scope in ("linear", "model")
    )
    assert linear.breakdown["selector"] == whole.breakdown["selector"] > 120 * 2500, "120 sites, a launch each"


def test_what_the_vector_unit_selects_is_not_selected_again():
    work = preset_workload("smollm2-135m", 32)
    linear, whole = (
        simulate(load_arch("8x16_write_back"), work, settings=Settings(scope=scope, quality=False)).energy_pj[
            "selector"
        ]
        for scope in ("linear", "model")
    )
    assert whole == pytest.approx(linear), "each site once, whoever it is charged to"


def test_the_loss_of_static_weights_is_of_the_outputs_they_give():
    workload = one_layer()
    gemm, codes = workload.gemms[0], workload.sites["site"].load()[0]  # whose scales are all one
    weights = Weights(gemm.load_weights().codes, np.linspace(0.5, 9, gemm.outputs).astype(np.float32))
    workload = Workload("drawn", "", (replace(gemm, load_weights=lambda: weights),), workload.sites)
    pruned = weights.codes.astype(np.float64)
    for output in range(gemm.outputs):
        for group in range(0, gemm.features, 4):
            order = sorted(range(group, group + 4), key=lambda k: (-abs(int(weights.codes[k, output])), k))
            pruned[order[2:], output] = 0
    dense_output = codes @ (weights.codes * weights.scales.astype(np.float64))
    lost = codes @ ((weights.codes - pruned) * weights.scales.astype(np.float64))
    result = simulate(load_arch("weights_2x4"), workload)
    assert result.quality_loss.value == pytest.approx((lost**2).sum() / (dense_output**2).sum(), rel=1e-9)


def test_output_files_survive_a_failed_write(tmp_path, monkeypatch):
    target = tmp_path / "out.json"
    target.write_text("precious")

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("json.dump", full)
    with pytest.raises(OSError, match="No space left"):
        write_json([on_shipped_trace("dense")], target)
    assert target.read_text() == "precious"
    assert list(tmp_path.iterdir()) == [target], "no temporary file stays behind"
