"""Recipes on machines: patterns by projection, and every circuit, pass and product of a method paid for."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from typer.testing import CliRunner

from accel_sim.arch import load_arch
from accel_sim.cli.main import simulate as simulate_command
from accel_sim.cost.methods import methods_cost
from accel_sim.errors import AccelSimError
from accel_sim.functional import hardware_factors, output_loss
from accel_sim.functional.mitigations import treated_outputs
from accel_sim.simulation import Machine, Settings, Simulation, simulate
from accel_sim.simulation.demand import demand_requests
from accel_sim.simulation.timeline import write_timeline
from accel_sim.sparsify.criteria import weight_factors
from accel_sim.sparsify.recipe import recipe_from_mapping
from accel_sim.workload import Gemm, Policy, SiteActivations, Weights, Workload

GENEROUS = ("dram.bytes_per_cycle=4096",)
SHAPES = {"self_attn.q_proj": ("a", 128, 96), "self_attn.k_proj": ("a", 128, 64), "mlp.down_proj": ("b", 192, 128)}


@cache
def workload(weights: bool = True, tokens: int = 48) -> Workload:
    """Two blocks, in each of which two projections share an input."""
    rng = np.random.default_rng(3)
    sites, gemms = {}, []
    for layer in (0, 1):
        for name, (site, features, outputs) in SHAPES.items():
            codes = rng.integers(-90, 128, (tokens, features)).astype(np.int8)
            scales = rng.random(tokens, np.float32) + 0.5
            held = Weights(
                (rng.standard_normal((features, outputs)) * rng.exponential(20, (features, 1))).clip(-127, 127)
                .astype(np.int8),
                np.ones(outputs, np.float32),
            )  # fmt: skip
            sites.setdefault(f"{layer}.{site}", SiteActivations(lambda codes=codes, scales=scales: (codes, scales)))
            gemms.append(
                Gemm(
                    f"model.layers.{layer}.{name}",
                    f"{layer}.{site}",
                    tokens,
                    features,
                    outputs,
                    layer=layer,
                    load_weights=(lambda held=held: held) if weights else None,
                )
            )
    return Workload("drawn", "codes", tuple(gemms), sites, layers_in_model=2)


def recipe(*rules, **default):
    return recipe_from_mapping("tried", {"default": {"pattern": "8:16"} | default, "rules": list(rules)})


def run(chosen=None, arch="8x16", work=None, settings=GENEROUS, **more):
    return simulate(load_arch(arch, settings), work or workload(), settings=Settings(recipe=chosen, **more))


def by_name(result):
    return {one.name: one for one in result.recipe.methods}


def test_magnitude_is_the_machine_as_it_is():
    plain, ruled = run(), run(recipe())
    assert ruled.recipe.methods == [] and ruled.recipe.unknown_quality == []
    assert ruled.model_copy(update={"recipe": None}) == plain


def test_patterns_by_projection_are_those_of_a_policy():
    dense_keys = {"projections": ["k_proj", "down_proj"], "layers": "1", "pattern": "dense"}
    ruled = run(recipe(dense_keys))
    policy = Policy("p", "", None, ())
    assert [layer.pattern for layer in ruled.layers] == ["8:16"] * 4 + ["dense"] * 2
    total = sum(np.prod(shape[1:]) for shape in SHAPES.values())
    assert ruled.coverage == pytest.approx(1 - (128 * 64 + 192 * 128) / (2 * total))
    assert run(recipe(pattern="dense")).cycles == run(policy=policy).cycles


METHODS = [
    ({"criterion": "amber"}, "Amber, raw column norm"),
    ({"criterion": "amber_robust"}, "Amber, robust norm"),
    ({"criterion": "wina"}, "WINA"),
    ({"criterion": "r_sparse"}, "R-Sparse score"),
    ({"criterion": "gradient"}, "gradient"),
    ({"criterion": "weight_variance"}, "variance of weights"),
    ({"criterion": "clact"}, "CLACT"),
    ({"shift": "median"}, "D-PTS, median"),
    ({"shift": "mean"}, "D-PTS, mean"),
    ({"shift": "static"}, "S-PTS"),
    ({"shift": "static_vector"}, "S-PTS, by feature"),
    ({"shift": "learned"}, "L-PTS"),
    ({"variance": True}, "VAR"),
    ({"output": "scale_and_shift"}, "LS"),
    ({"smoothing": {"alpha": 0.5}}, "PCS"),
    ({"low_rank": {"rank": 24}}, "R-Sparse, rank 24"),
    ({"rotation": "activations"}, "La RoSA, rotation"),
]


@pytest.mark.parametrize(("keys", "name"), METHODS)
def test_every_method_is_charged_and_adds_up(keys, name):
    plain, treated = run(quality=False), run(recipe(**keys), quality=False)
    (one,) = treated.recipe.methods
    assert (one.name, one.projections) == (name, 6)
    components = treated.area.components
    assert one.area_um2 == pytest.approx(components["method_circuits"] + components["method_tables"])
    assert one.area_um2 == pytest.approx(treated.area.total_um2 - plain.area.total_um2, abs=1e-3)
    assert one.cycles == treated.cycles - plain.cycles >= 0
    assert sum(treated.breakdown.values()) == treated.cycles == sum(layer.cycles for layer in treated.layers)
    assert sum(value for part, value in treated.energy_pj.items() if part != "total") == pytest.approx(
        treated.energy_pj["total"]
    )
    assert (treated.dense_cycles, treated.dense_energy_pj) == (plain.dense_cycles, plain.dense_energy_pj)
    assert treated.dense_area_um2 == plain.dense_area_um2
    free = name in ("LS", "PCS")
    assert (one.energy_pj == 0) == free
    assert (
        treated.speedup_iso_area == plain.speedup_iso_area
        if free
        else (treated.speedup_iso_area < plain.speedup_iso_area)
    )
    if one.area_um2:
        assert treated.area.band.low > plain.area.band.low and treated.area.band.high > plain.area.band.high


@pytest.mark.parametrize("name", ["Amber, raw column norm", "CLACT", "D-PTS, median", "VAR", "S-PTS", "L-PTS"])
def test_area_is_that_of_the_method_by_itself(name):
    """With the tables of the product that needs most: 192 features, or 128 outputs."""
    arch = load_arch("8x16", GENEROUS)
    alone = {one.name: one for one in methods_cost(arch, 192, 128)}[name]
    keys = next(keys for keys, known in METHODS if known == name)
    assert by_name(run(recipe(**keys)))[name].area_um2 == pytest.approx(alone.area_um2)


def test_energy_is_that_of_the_method_for_what_was_selected():
    """One tile of tokens, so that every token is selected once for every projection."""
    work = workload(tokens=32)
    arch = load_arch("8x16", GENEROUS)
    one = by_name(run(recipe(variance=True), work=work))["VAR"]
    per_token = [
        next(m for m in methods_cost(arch, gemm.features, gemm.outputs) if m.name == "VAR").energy_pj_per_token
        for gemm in work.gemms
    ]
    assert one.energy_pj == pytest.approx(32 * sum(per_token))


def test_a_circuit_that_two_methods_need_stands_there_once():
    both = run(recipe({"projections": "down_proj", "shift": "mean"}, shift="static"))
    alone = [run(recipe(shift=shift)) for shift in ("static", "mean")]
    sizes = [one.area.components["method_circuits"] for one in (both, *alone)]
    assert sizes[0] < sum(sizes[1:]) - 1
    assert sizes[0] >= max(sizes[1:]) * (1 - 1e-9)
    assert sum(one.area_um2 for one in both.recipe.methods) == pytest.approx(
        both.area.components["method_circuits"] + both.area.components["method_tables"]
    )


def test_several_methods_add_up_in_cycles_and_energy():
    keys = {"criterion": "amber", "shift": "median", "variance": True, "low_rank": {"rank": 16}}
    plain, treated = run(quality=False), run(recipe(**keys, rotation="weights"), quality=False)
    assert [one.name for one in treated.recipe.methods] == [
        "Amber, raw column norm", "D-PTS, median", "VAR", "La RoSA, rotation", "R-Sparse, rank 16",
    ]  # fmt: skip
    assert sum(one.cycles for one in treated.recipe.methods) == treated.cycles - plain.cycles
    circuits = [one.energy_pj for one in treated.recipe.methods[:3]]
    assert sum(circuits) == pytest.approx(treated.energy_pj["methods"])


def test_a_machine_whose_selectors_multiply_factors_has_them_already():
    arch = (*GENEROUS, "sparsity.selector.channel_factors=true")
    treated = run(recipe(criterion="amber"), settings=arch)
    assert treated.area.components["method_circuits"] == 0 < treated.area.components["method_tables"]


def test_a_median_holds_the_selectors_for_eight_more_passes():
    """With one selector nothing else limits: nine times the groups of plain selection."""
    one_selector = (*GENEROUS, "sparsity.selector.units=1")
    plain, median, mean = (
        run(recipe(shift=shift), settings=one_selector, quality=False).breakdown["selector"]
        for shift in ("none", "median", "mean")
    )
    assert 8 < median / plain < 10
    assert mean < 1.2 * plain


def test_low_rank_products_run_by_the_dense_rule():
    gemm = workload().gemms[0]
    dense = Machine(load_arch("8x16", GENEROUS), None)
    only_q = {"projections": "k_proj", "pattern": "dense"}, {"projections": "down_proj", "pattern": "dense"}
    treated = run(recipe(*only_q, low_rank={"rank": 24}), quality=False)
    down = replace(gemm, outputs=24, outputs_on_chip=True, prunable=False)
    up = replace(gemm, features=24, activations_on_chip=True, prunable=False)
    assert by_name(treated)["R-Sparse, rank 24"].cycles == 2 * (dense.time(down).cycles + dense.time(up).cycles)


@pytest.mark.parametrize(("rotation", "products"), [("activations", (128, 192)), ("weights", (128, 128, 192))])
def test_a_rotation_is_shared_by_what_reads_a_site_unless_each_has_its_own_basis(rotation, products):
    dense = Machine(load_arch("8x16", GENEROUS), None)
    sizes = [Gemm("r", "s", 48, features, features, prunable=False) for features in products]
    treated = run(recipe(rotation=rotation), quality=False)
    assert by_name(treated)["La RoSA, rotation"].cycles == 2 * sum(dense.time(gemm).cycles for gemm in sizes)


def test_timeline_and_demand_hold_the_products_that_methods_add(tmp_path):
    arch = load_arch("8x16", GENEROUS)
    made = Simulation(Machine(arch, arch.pattern(None)), workload(), settings=Settings(recipe=recipe(
        rotation="activations", low_rank={"rank": 8}
    ), quality=False))  # fmt: skip
    result = made.result()
    write_timeline([made], tmp_path / "t.json")
    events = [e for e in json.loads((tmp_path / "t.json").read_text())["traceEvents"] if e["ph"] == "X"]
    assert max(e["ts"] + e["dur"] for e in events) * result.clock_hz / 1e6 == pytest.approx(result.cycles)
    assert sum("rotation" in e["name"] for e in events if e["tid"] == 0) == 4
    asked = list(demand_requests(made))
    dram = sum(int(each.bytes[each.level == 0].sum()) for each in asked)
    assert dram == sum(layer.dram_bytes for layer in result.layers)


def test_what_a_phase_does_not_prune_runs_dense_on_the_same_machine():
    only_prefill = recipe(criterion="amber", phase="prefill")
    prefill = run(only_prefill, quality=False)
    decode = run(only_prefill, work=replace(workload(), phase="decode"), quality=False)
    assert prefill.coverage == 1 and decode.coverage == 0
    assert decode.area.total_um2 == prefill.area.total_um2
    assert (decode.recipe.phase, by_name(decode)["Amber, raw column norm"].projections) == ("decode", 0)
    assert "what the recipe prunes in prefill alone runs dense here" in decode.recipe.differences
    assert run(recipe(phase="decode"), quality=False).coverage == 0


def test_projections_with_masks_of_their_own_are_selected_each_for_itself():
    """At write-back the producer selects once for all that read a site, unless they select differently."""

    def selected(chosen):
        arch = load_arch("8x16_write_back", GENEROUS)
        made = Simulation(Machine(arch, arch.pattern(None)), workload(), settings=Settings(recipe=chosen))
        return sum(selection.selected_groups for _, selection in made.selections())

    assert selected(recipe()) == selected(recipe(shift="median")) == 2 * 48 * (8 + 12)
    assert selected(recipe(criterion="amber")) == 2 * 48 * (8 + 8 + 12)


@pytest.mark.parametrize("criterion", ["amber", "amber_robust", "wina", "weight_variance"])
def test_quality_of_a_criterion_is_that_of_its_factors(criterion):
    result = run(recipe(criterion=criterion))
    gemm = workload().gemms[2]
    weights, (codes, scales) = gemm.load_weights(), workload().sites[gemm.site].load()
    factors = hardware_factors(weight_factors(criterion, weights.codes.T.astype(np.float64)))
    error, norm = output_loss(codes, scales, weights.codes, weights.scales, "8:16", factors=factors)
    assert result.layers[2].quality_loss.value == pytest.approx(error / norm)
    assert result.layers[2].quality_loss.value != run().layers[2].quality_loss.value
    assert result.quality_loss.kind == "output"


def test_quality_of_mitigations_is_that_of_their_codes():
    result = run(recipe(shift="median", variance=True))
    gemm = workload().gemms[0]
    weights, (codes, scales) = gemm.load_weights(), workload().sites[gemm.site].load()
    dense = (codes.astype(np.float64) @ weights.codes.astype(np.float64)) * scales[:, None] * weights.scales
    treated = treated_outputs(
        codes, scales, weights.codes, weights.scales, "8:16", shift="median", variance=True
    )  # fmt: skip
    expected = np.square(dense - treated).sum() / np.square(dense).sum()
    assert result.layers[0].quality_loss.value == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize(
    ("keys", "reason"),
    [
        ({"shift": "learned"}, "shift learned: fitted to floats"),
        ({"low_rank": {"rank": 8}}, "low rank: fitted to floats"),
        ({"criterion": "gradient"}, "criterion gradient: fitted to floats"),
        ({"output": "shift"}, "output shift: fitted"),
    ],
)
def test_quality_that_a_trace_cannot_tell_is_none_and_says_why(keys, reason):
    result = run(recipe(**keys))
    assert result.quality_loss is None and all(layer.quality_loss is None for layer in result.layers)
    assert len(result.recipe.unknown_quality) == 1 and result.recipe.unknown_quality[0].startswith(reason)
    assert run(recipe(**keys), quality=False).recipe.unknown_quality == []


def test_without_weights_magnitude_has_a_loss_and_a_criterion_has_none():
    work = workload(weights=False)
    assert run(recipe(), work=work).quality_loss.kind == "input"
    judged = run(recipe(criterion="amber"), work=work)
    assert judged.quality_loss is None and "no weights" in judged.recipe.unknown_quality[0]


def test_weight_recipes_run_on_machines_that_prune_weights():
    pruned = recipe(pattern="dense", weights={"pattern": "2:4"})
    result = run(pruned, arch="weights_2x4")
    plain = run(arch="weights_2x4")
    assert (result.cycles, result.quality_loss) == (plain.cycles, plain.quality_loss)
    wanda = run(recipe(pattern="dense", weights={"pattern": "2:4", "criterion": "wanda"}), arch="weights_2x4")
    assert wanda.quality_loss is None and "weights by wanda" in wanda.recipe.unknown_quality[0]


@pytest.mark.parametrize(
    ("keys", "arch", "message"),
    [
        ({"pattern": "2:4"}, "8x16", "recipe tried: arch 8x16 has no pattern 2:4"),
        ({"pattern": "8:16"}, "dense", r"has no pattern 8:16; .* none \(it is a dense machine\)"),
        ({"pattern": "unstructured 50%"}, "8x16", "unstructured 50%: no selector is described"),
        ({"pattern": "threshold 50%"}, "16x16_unstructured", "threshold 50%: no selector is described"),
        ({"weights": {"pattern": "8:16"}}, "8x16", "prunes weights; arch 8x16 prunes activations"),
        ({"pattern": "8:16"}, "weights_8x16", "prunes activations; arch weights_8x16 prunes weights"),
        ({"pattern": "dense", "weights": {"pattern": "unstructured 50%"}}, "weights_2x4", "runs N:M, and no other"),
        ({"criterion": "random"}, "8x16", "criterion random: it is a control"),
        ({"criterion": "clact_running"}, "8x16", "clact_running: its factors change with every token"),
        ({"criterion": "amber"}, "8x16_software", "selects nothing by a circuit"),
    ],
)
def test_what_a_machine_cannot_run_is_refused_with_the_reason(keys, arch, message):
    with pytest.raises(AccelSimError, match=message):
        run(recipe(**keys), arch=arch)


def test_rules_that_match_nothing_and_a_policy_beside_it_are_refused():
    with pytest.raises(AccelSimError, match=r"recipe tried: rules\[0\]: projections up_proj: none in"):
        run(recipe({"projections": "up_proj", "pattern": "dense"}))
    with pytest.raises(AccelSimError, match="both say which projections run pruned"):
        run(recipe(), policy=Policy("p", "", None, ()))


def test_differences_to_the_recipe_are_named():
    floats = run(recipe()).recipe.differences
    assert any("floats: run on INT8" in line for line in floats) and any("scores floats" in line for line in floats)
    assert run(recipe(precision="w8a8", score="codes")).recipe.differences == []
    predicts = recipe(
        {"projections": ["q_proj"], "neurons": {"kind": "svd", "rank": 4}}, precision="w8a8", score="codes"
    )
    (difference,) = run(predicts).recipe.differences
    assert difference.startswith("the recipe predicts neurons") and "--contextual" in difference


def test_command_names_the_recipe_its_methods_and_what_they_cost(tmp_path):
    out = tmp_path / "r.json"
    app = _app()
    common = ["--gemm", "64x128x64", "--recipe", "amber_8x16"]
    done = CliRunner().invoke(app, [*common, "--arch", "8x16.yaml", "--json", str(out)])
    assert isinstance(done.exception, AccelSimError) and "none in" in str(done.exception)  # gemm0 is no projection
    file = tmp_path / "mine.yaml"
    file.write_text('default: {pattern: "8:16", criterion: amber, variance: true}\n', encoding="utf-8")
    common[-1] = str(file)
    done = CliRunner().invoke(app, [*common, "--arch", "8x16.yaml", "--arch", "dense.yaml", "--json", str(out)])
    assert done.exit_code == 0, done.output
    assert "recipe mine, prefill: 100.0% of the linear multiply-accumulates run pruned" in done.output
    assert "Amber, raw column norm, 1 projections: area +" in done.output
    assert "arch dense has no patterns: recipe mine does not touch it" in done.output
    sparse, dense = json.loads(out.read_text())
    assert [one["name"] for one in sparse["recipe"]["methods"]] == ["Amber, raw column norm", "VAR"]
    assert dense["recipe"] is None
    for option in (["--policy", "amber-llama-3.1-8b"], ["--pattern", "8:16"]):
        refused = CliRunner().invoke(app, [*common, "--arch", "8x16.yaml", *option])
        assert isinstance(refused.exception, AccelSimError)


def _app():
    import typer

    app = typer.Typer()
    app.command()(simulate_command)
    return app
