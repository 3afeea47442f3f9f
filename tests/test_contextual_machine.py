"""Contextual sparsity on a machine: the workload with its predictor, times, costs, the decode study, the commands."""

import json
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
import pytest
import typer
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from accel_sim import AccelSimError, cost
from accel_sim.arch import load_arch
from accel_sim.cli.contextual_options import contextual
from accel_sim.cli.decode import decode
from accel_sim.cli.inputs import shipped_trace
from accel_sim.cli.simulate import simulate as simulate_command
from accel_sim.simulation import Machine, Settings, Simulation, WorkloadStatistics, simulate
from accel_sim.simulation.demand import demand_regions, demand_requests
from accel_sim.simulation.simulate import operations_on
from accel_sim.study.contextual_zeros import zeros_behind_an_active_gate
from accel_sim.study.decode import run_decode_study
from accel_sim.study.decode_output import markdown
from accel_sim.timing import CAUSES
from accel_sim.trace import Trace
from accel_sim.workload import (
    ContextualOptions,
    DrawnNeurons,
    Gemm,
    SiteActivations,
    Weights,
    Workload,
    contextual_workload,
    decode_workload,
    drawn_contextual_workload,
    gemm_workload,
    preset_workload,
    workload_from_trace,
)
from accel_sim.workload.drawn_predictor import drawn_predictor

SHIPPED = workload_from_trace(Trace.open(shipped_trace()))
MODEL, FAST = Settings(scope="model", quality=False), Settings(quality=False)


@dataclass(frozen=True)
class LowRankMasks:
    """A predictor that nobody fitted: a random low-rank product of the MLP's input, above zero."""

    rank: int
    neurons: int

    def predicted(self, layer, codes, scales):
        generator = np.random.default_rng(layer)
        down = generator.standard_normal((codes.shape[1], self.rank))
        up = generator.standard_normal((self.rank, self.neurons))
        return (codes * scales[:, None]) @ down @ up > 0


MASKS = LowRankMasks(32, 1536)


@cache
def traced(batch: int) -> Workload:
    """A decode step of the shipped trace with that predictor."""
    return decode_workload(contextual_workload(SHIPPED, MASKS, ContextualOptions(32, "random signs")), batch, 64)


@cache
def drawn(batch: int, name: str = "smollm2-135m", rank: int = 32, predicted: float = 0.5, realised: float = 0.9):
    whole = preset_workload(name, 64)
    return decode_workload(
        drawn_contextual_workload(whole, DrawnNeurons(predicted, realised), ContextualOptions(rank)), batch
    )


def mlp(result, layer=0):
    """The MLP's products of one layer by last name."""
    return {one.name.rpartition(".")[2]: one for one in result.layers if f"layers.{layer}.mlp." in one.name}


# The workload


def test_two_products_stand_in_front_of_every_gate():
    names = [gemm.name.rpartition(".")[2] for gemm in traced(2).gemms]
    gates = [place for place, name in enumerate(names) if name == "gate_proj"]
    assert gates and all(
        names[place - 2 : place + 3] == ["fc1", "fc2", "gate_proj", "up_proj", "down_proj"] for place in gates
    )
    fc1, fc2 = traced(2).gemms[gates[0] - 2 : gates[0]]
    assert fc1.shape == (2, 576, 32) and fc2.shape == (2, 32, 1536)
    assert fc1.site == traced(2).gemms[gates[0]].site and fc2.site not in traced(2).sites
    assert fc1.outputs_on_chip and fc2.activations_on_chip and fc2.outputs_on_chip and fc2.thresholds
    assert not fc1.prunable and not fc2.prunable


def test_the_whole_model_holds_the_same_products_in_the_same_order():
    products = tuple(one for one in traced(2).model.operations if isinstance(one, Gemm))
    linear = tuple(one for one in products if one.kind in ("linear", "predictor"))
    assert linear == traced(2).gemms


def test_what_is_not_predicted_is_zero_in_front_of_down_proj():
    plain, step = decode_workload(SHIPPED, 3), traced(3)
    for gate in (gemm for gemm in step.gemms if gemm.name.endswith("gate_proj")):
        codes, scales = step.sites[gate.site].load()
        bits = MASKS.predicted(gate.layer, codes, scales)
        assert np.array_equal(step.sites[gate.predicted_site].load()[0], bits)
        before, after = (each.sites[gate.consumer_site].load()[0] for each in (plain, step))
        assert np.array_equal(after, np.where(bits.any(axis=0), before, 0))


def test_prefill_is_dense():
    whole = contextual_workload(SHIPPED, MASKS, ContextualOptions(32))
    assert whole.gemms == SHIPPED.gemms and whole.sites is SHIPPED.sites


def test_a_step_of_a_step_has_one_predictor():
    again = decode_workload(traced(2), 3)
    assert len(again.gemms) == len(traced(2).gemms) and again.gemms[0].tokens == 3


def test_ranks_may_differ_by_layer_and_be_missing():
    layers = sorted({gemm.layer for gemm in SHIPPED.gemms})
    options = ContextualOptions({layers[0]: 8, layers[1]: 16})
    step = decode_workload(contextual_workload(SHIPPED, MASKS, options), 1)
    ranks = {gemm.layer: gemm.outputs for gemm in step.gemms if gemm.name.endswith("fc1")}
    assert ranks == {layers[0]: 8, layers[1]: 16} and "rank 8-16" in step.source


def test_the_source_says_who_predicts():
    assert "predictor of rank 32; random signs" in traced(1).source
    assert "DRAWN neurons, predicted sparsity 0.5, realised 0.9, seed 0" in drawn(1).source


@pytest.mark.parametrize(("predicted", "realised"), [(0.0, 0.0), (0.5, 0.9), (0.45, 0.45), (1.0, 1.0), (0.333, 0.77)])
def test_drawn_neurons_have_the_stated_shares(predicted, realised):
    wanted, active = DrawnNeurons(predicted, realised, seed=3).draw(5, 4, 1000)
    assert set(wanted.sum(axis=1)) == {round(1000 * (1 - predicted))}
    assert set(active.sum(axis=1)) == {round(1000 * (1 - realised))}
    assert not (active & ~wanted).any()


def test_drawn_tokens_and_layers_are_independent():
    neurons = DrawnNeurons(0.5, 0.5)
    first, second = (neurons.draw(layer, 2, 4000)[0] for layer in (0, 1))
    for one, other in ((first[0], first[1]), (first[0], second[0])):
        assert abs((one & other).mean() - 0.25) < 0.03  # independent halves share a quarter; the error is 0.007
    assert np.array_equal(first, neurons.draw(0, 2, 4000)[0])


def test_a_layer_may_have_a_share_of_its_own():
    neurons = DrawnNeurons(0.4, 0.9, of_layers={0: 0.3})
    assert [neurons.draw(layer, 1, 100)[0].sum() for layer in (0, 1)] == [70, 60]
    assert "0.3 in layer 0" in neurons.source


@pytest.mark.parametrize(
    ("neurons", "message"),
    [
        ({"predicted_sparsity": 0.9, "realised_sparsity": 0.5}, "realised is at least as much"),
        ({"predicted_sparsity": 1.5, "realised_sparsity": 0.5}, "predicted 1.5: expected a share"),
        ({"predicted_sparsity": 0.1, "realised_sparsity": 0.5, "seed": -1}, "seed -1"),
        ({"predicted_sparsity": 0.1, "realised_sparsity": 0.5, "of_layers": {2: 0.6}}, "predicted, layer 2 0.6"),
    ],
)
def test_neurons_that_cannot_be_drawn_are_refused(neurons, message):
    with pytest.raises(AccelSimError, match=message):
        DrawnNeurons(**neurons)


def test_what_has_no_gated_mlp_is_refused():
    by_hand = contextual_workload(gemm_workload(["4x64x64"]), MASKS, ContextualOptions(4))
    with pytest.raises(AccelSimError, match="a predictor needs gated MLPs"):
        decode_workload(by_hand, 1)
    experts = drawn_contextual_workload(
        preset_workload("qwen3-30b-a3b", 4), DrawnNeurons(0.5, 0.9), ContextualOptions(4)
    )
    with pytest.raises(AccelSimError, match=r"layer model\.layers\.0\.mlp.*: a predictor of experts is not modelled"):
        decode_workload(experts, 1)


def test_answers_of_another_shape_are_refused():
    step = decode_workload(contextual_workload(SHIPPED, LowRankMasks(4, 7), ContextualOptions(4)), 1)
    with pytest.raises(AccelSimError, match=r"the predictor answers bool \[1, 7\]; expected bool \[1, 1536\]"):
        simulate(load_arch("edge_contextual"), step, settings=FAST)


def test_ranks_that_are_none_are_refused():
    with pytest.raises(AccelSimError, match="rank 0"):
        ContextualOptions(0)
    with pytest.raises(AccelSimError, match="none of its layers has a rank"):
        decode_workload(contextual_workload(SHIPPED, MASKS, ContextualOptions({999: 4})), 1)


# Against the paper


@pytest.mark.parametrize("layers", [slice(0, 1), slice(0, 3)])
def test_multiplications_are_equation_5(layers):
    """SVDP eq. 5, r(d+D) + d(1−s)D + 2d(1−s′)D, with the densities that were drawn: d 4096, D 11008, r 256."""
    step = drawn(1, "llama-2-7b", 256)
    result = simulate(load_arch("edge_contextual"), step, settings=FAST)
    hidden, neurons, rank = 4096, 11008, 256
    predicted, realised = round(0.5 * neurons), round(0.1 * neurons)
    for layer in range(32)[layers]:
        parts = mlp(result, layer)
        done = sum(one.multiplies for one in parts.values())
        assert done == rank * (hidden + neurons) + hidden * predicted + 2 * hidden * realised
        assert 3 * hidden * neurons / done == pytest.approx(3.818, abs=5e-4)  # the paper prints 3.8


PUBLISHED = {
    # Weight bytes of a decode step over those that are fetched, at s = .4, .5, .6, .7 with s_pred = .9 s, s′ = .9.
    "llama-2-7b": (256, {0.4: 1.83, 0.5: 1.90, 0.6: 1.97, 0.7: 2.05}),
    "mistral-7b": (352, {0.4: 2.18, 0.7: 2.58}),
    "qwen2-7b": (512, {0.4: 2.15, 0.7: 2.55}),
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_weight_traffic_bounds(name):
    rank, bounds = PUBLISHED[name]
    for share, bound in bounds.items():
        step = drawn(1, name, rank, 0.9 * share, 0.9)
        products = [one for one in step.operations("model") if isinstance(one, Gemm) and one.kind != "attention"]
        simulation = Simulation(Machine(load_arch("edge_contextual"), None), step, settings=MODEL)
        dense = fetched = 0
        for gemm in products:
            needed = simulation.nonzeros(gemm)
            rows = gemm.features if needed is None or needed.features is None else needed.features
            columns = gemm.outputs if needed is None or needed.outputs is None else needed.outputs
            fetched += rows * columns
            dense += gemm.features * gemm.outputs if gemm.kind != "predictor" else 0
        assert dense / fetched == pytest.approx(bound, abs=0.0051), share


# The machine


def test_each_projection_fetches_what_its_stage_knows():
    step, arch = traced(1), load_arch("edge_contextual")
    gate = next(gemm for gemm in step.gemms if gemm.name.endswith("gate_proj"))
    predicted = int(step.sites[gate.predicted_site].load()[0].sum())
    realised = int(np.count_nonzero(step.sites[gate.consumer_site].load()[0]))
    assert 0 < realised < predicted < 1536

    def multiplies(*changes):
        return {
            name: one.multiplies
            for name, one in mlp(
                simulate(load_arch("edge_contextual", changes), step, settings=FAST), gate.layer
            ).items()
        }

    sequential, parallel = multiplies(), multiplies("predictor.pipeline=parallel")
    assert sequential["gate_proj"] == parallel["gate_proj"] == parallel["up_proj"] == 576 * predicted
    assert sequential["up_proj"] == sequential["down_proj"] == parallel["down_proj"] == 576 * realised
    assert arch.predictor.pipeline == "sequential"


def test_a_batch_needs_the_union():
    step = traced(4)
    parts = mlp(simulate(load_arch("edge_contextual"), step, settings=FAST))
    gate = next(gemm for gemm in step.gemms if gemm.name.endswith("gate_proj"))
    bits = step.sites[gate.predicted_site].load()[0].astype(bool)
    active = step.sites[gate.consumer_site].load()[0] != 0
    assert parts["gate_proj"].multiplies == 4 * 576 * bits.any(axis=0).sum()
    assert parts["up_proj"].multiplies == 4 * 576 * active.any(axis=0).sum()


def test_the_dense_machine_never_runs_the_predictor():
    step, plain = traced(2), decode_workload(SHIPPED, 2, 64)
    arch = load_arch("edge_contextual")
    result, reference = simulate(arch, step, settings=MODEL), simulate(arch.dense(), plain, settings=MODEL)
    assert (result.dense_cycles, result.dense_energy_pj) == (
        reference.cycles,
        pytest.approx(reference.energy_pj["total"]),
    )
    assert result.kinds["predictor"].dense_cycles == 0 < result.kinds["predictor"].cycles
    assert {one.dense_tiling for one in result.layers if one.kind == "predictor"} == {""}
    assert result.macs == reference.macs


@pytest.mark.parametrize("name", ["dense", "8x16", "8x16_row_gather"])
def test_machines_without_a_predictor_leave_it_out(name):
    result = simulate(load_arch(name), traced(2), settings=FAST)
    assert not any(one.kind == "predictor" for one in result.layers) and "predictor" not in result.kinds


def test_without_a_predictor_in_the_workload_nothing_is_gathered():
    arch = load_arch("edge_contextual")
    result = simulate(arch, decode_workload(SHIPPED, 1), settings=FAST)
    assert result.cycles == result.dense_cycles
    assert "the workload has no predictor: nothing is gathered" in result.approximations


def test_the_oracle_is_never_behind():
    """`gather` knows beforehand what the sequential pipeline finds out, and does without the predictor."""
    step = drawn(1)
    oracle = simulate(load_arch("gather", ["dram.bytes_per_cycle=51.2"]), step, settings=FAST)
    real = simulate(load_arch("edge_contextual"), step, settings=FAST)
    assert mlp(oracle)["gate_proj"].cycles < mlp(real)["gate_proj"].cycles
    assert mlp(oracle)["up_proj"].cycles == mlp(real)["up_proj"].cycles


@pytest.mark.parametrize("scope", ["linear", "model"])
@pytest.mark.parametrize(
    "changes", [[], ["predictor.pipeline=parallel"], ["predictor.weights=sram"], ["cores.count=2"]]
)
def test_causes_add_up_and_engines_agree(scope, changes):
    arch, step = load_arch("edge_contextual", changes), traced(3)
    chosen = Settings(scope=scope, quality=False)
    compiled, event = (simulate(arch, step, engine=engine, settings=chosen) for engine in ("compiled", "event"))
    for result in (compiled, event):
        assert result.cycles == sum(result.breakdown.values()) == sum(kind.cycles for kind in result.kinds.values())
        for one in (*result.layers, *result.operations):
            assert one.cycles == sum(one.breakdown.values()) and set(one.breakdown) == set(CAUSES)
        assert result.energy_pj["total"] == pytest.approx(sum(kind.energy_pj for kind in result.kinds.values()))
    assert compiled.model_dump(exclude={"engine"}) == event.model_dump(exclude={"engine"})


@settings(deadline=None, max_examples=25)
@given(
    tokens=st.integers(1, 40),
    hidden=st.integers(1, 90),
    neurons=st.integers(1, 150),
    rank=st.integers(1, 20),
    pipeline=st.sampled_from(["sequential", "parallel"]),
    weights=st.sampled_from(["dram", "sram"]),
    machine=st.fixed_dictionaries(
        {
            "array.rows": st.integers(1, 8),
            "array.cols": st.integers(1, 8),
            "array.lanes": st.sampled_from([1, 4, 16]),
            "array.dataflow": st.sampled_from(["output_stationary", "weight_stationary"]),
            "cores.count": st.integers(1, 3),
            "cores.split": st.sampled_from(["tokens", "outputs"]),
            "cores.shared_buffer_bytes": st.sampled_from([0, 20000]),
            "dram.bytes_per_cycle": st.sampled_from([3.7, 64, 1000]),
            "predictor.sram_bytes_per_cycle": st.sampled_from([1, 7, 256]),
        }
    ),
    data=st.data(),
)
def test_random_machines_and_masks(tokens, hidden, neurons, rank, pipeline, weights, machine, data):
    """Engines agree, causes add up, and exactly what the masks say is multiplied, empty and full ones too."""
    seed, density = data.draw(st.integers(0, 2**16)), data.draw(st.sampled_from([0.0, 0.03, 0.5, 1.0]))
    generator = np.random.default_rng(seed)
    bits = generator.random((tokens, neurons)) < density
    codes = generator.integers(-2, 3, (tokens, neurons)).astype(np.int8)
    work = _by_masks(tokens, hidden, neurons, rank, bits, codes)
    changes = [f"{key}={value}" for key, value in machine.items()]
    arch = load_arch("edge_contextual", [*changes, f"predictor.pipeline={pipeline}", f"predictor.weights={weights}"])
    compiled, event = (simulate(arch, work, engine=engine, settings=FAST) for engine in ("compiled", "event"))
    assert compiled.model_dump(exclude={"engine"}) == event.model_dump(exclude={"engine"})
    for one in compiled.layers:
        assert one.cycles == sum(one.breakdown.values()) and min(one.breakdown.values()) >= 0
    known, active = bits.any(axis=0), (codes * bits.any(axis=0)).any(axis=0)
    columns = {"gate_proj": known, "up_proj": active if pipeline == "sequential" else known, "down_proj": active}
    parts = mlp(compiled)
    for name, mask in columns.items():
        assert parts[name].multiplies == tokens * hidden * max(1, mask.sum()), name
    assert parts["fc1"].multiplies + parts["fc2"].multiplies == tokens * rank * (hidden + neurons)


def _by_masks(tokens, hidden, neurons, rank, bits, codes):
    block, ones = "model.layers.0.mlp", np.ones(tokens, np.float32)
    inputs, product = f"{block}.input", f"{block}.down_proj.input"
    common = {"tokens": tokens, "layer": 0}
    gemms = [
        Gemm(f"{block}.{name}", inputs, features=hidden, outputs=neurons, consumer_site=product, **common)
        for name in ("gate_proj", "up_proj")
    ]
    gemms.append(Gemm(f"{block}.down_proj", product, features=neurons, outputs=hidden, **common))
    sites = {inputs: SiteActivations(lambda: (np.ones((tokens, hidden), np.int8), ones))}
    sites[product] = SiteActivations(lambda: (codes, ones))
    plain = Workload("masks", "given", tuple(gemms), sites, phase="decode")

    class Given:
        def predicted(self, layer, codes, scales):
            return bits

    return contextual_workload(plain, Given(), ContextualOptions(rank))


def test_a_memory_of_its_own_spares_the_dram():
    step = traced(1)
    from_dram, on_chip = (
        simulate(load_arch("edge_contextual", [f"predictor.weights={where}"]), step, settings=FAST)
        for where in ("dram", "sram")
    )
    moved = [sum(one.dram_bytes for one in each.layers if one.kind == "predictor") for each in (from_dram, on_chip)]
    fc1s = [gemm for gemm in step.gemms if gemm.name.endswith("fc1")]
    inputs = sum(-(-(gemm.features + 4) // 32) * 32 for gemm in fc1s)  # activations and their scale in whole bursts
    assert moved[1] == inputs < moved[0]
    assert on_chip.kinds["predictor"].cycles < from_dram.kinds["predictor"].cycles
    assert on_chip.energy_pj["sram_predictor"] > 0 == from_dram.energy_pj["sram_predictor"]


def test_what_that_memory_takes_is_its_own_cause():
    slow = load_arch("edge_contextual", ["predictor.weights=sram", "predictor.sram_bytes_per_cycle=1"])
    fc2 = mlp(simulate(slow, traced(1), settings=FAST))["fc2"]
    assert fc2.bottleneck == "sram" and fc2.breakdown["sram"] == 32 * 1536 and fc2.breakdown["dram"] == 0


def test_a_predictor_that_does_not_fit_is_refused():
    small = load_arch("edge_contextual", ["predictor.weights=sram", "predictor.sram_bytes=65536"])
    layers = len({gemm.layer for gemm in SHIPPED.gemms})
    needed = layers * (32 * (576 + 4) + 1536 * (32 + 8))
    with pytest.raises(AccelSimError, match=f"predictor.sram_bytes 65536: .* takes {needed} bytes"):
        simulate(small, traced(1), settings=FAST)
    operations = operations_on(load_arch("edge_contextual", ["predictor.weights=sram"]), traced(1), "linear")
    assert {gemm.weights_on_chip for gemm in operations if gemm.kind == "predictor"} == {True}


def test_thresholds_come_with_the_weights_and_leave_bits():
    simulation = Simulation(Machine(load_arch("edge_contextual"), None), traced(1), settings=FAST)
    fc2 = next(gemm for gemm in simulation.operations if gemm.name.endswith("fc2"))
    plain = replace(fc2, thresholds=False)
    bytes_read = [simulation.time(gemm).plan.dram_read_bytes for gemm in (fc2, plain)]
    assert bytes_read[0] - bytes_read[1] == 1536 * 4
    assert not simulation.time(fc2).plan.traffic.write.any()


def test_a_predictor_needs_a_machine_that_gathers():
    with pytest.raises(AccelSimError, match=r"predictor\.kind low_rank: needs sparsity\.skipping gather, not fixed"):
        load_arch("dense", ["predictor.kind=low_rank"])


def test_what_the_predictor_costs_stands_in_the_area():
    arch = load_arch("edge_contextual")
    oracle, stored = (
        load_arch("edge_contextual", ["predictor.kind=none"]),
        load_arch("edge_contextual", ["predictor.weights=sram"]),
    )
    with_unit, without, with_memory = (cost.area(one).components_um2 for one in (arch, oracle, stored))
    assert with_unit["prediction"] > 0 and with_unit["predictor_bits"] > 0 == with_unit["sram_predictor"]
    assert without["prediction"] == without["predictor_bits"] == 0
    same = set(with_unit) - {"prediction", "predictor_bits", "sram_predictor", "wires"}
    assert {name: with_unit[name] for name in same} == {name: without[name] for name in same}
    assert with_memory["sram_predictor"] > 4 * 1024 * 1024 * 8 * 0.1  # a bit is more than 0.1 µm² at 45 nm
    quantities = {row.quantity for row in cost.sources(stored)}
    assert any(quantity.startswith("SRAM predictor") for quantity in quantities)
    assert any(quantity.startswith("threshold comparator") for quantity in quantities)


def test_the_oracle_says_so_and_the_predictor_what_it_takes_for_granted():
    lines = simulate(load_arch("edge_contextual"), drawn(1), settings=FAST).approximations
    assert any("for all of them" in line for line in lines) and any("drawn" in line for line in lines)
    assert not any("oracle" in line for line in lines)
    assert any("oracle" in line for line in simulate(load_arch("gather"), drawn(1), settings=FAST).approximations)


# Quality


def test_misses_are_the_loss_of_down_proj():
    step, plain = traced(2), decode_workload(SHIPPED, 2)
    result = simulate(load_arch("edge_contextual"), step)
    down = mlp(result)["down_proj"]
    before, scales = plain.sites[down.site].load()
    after = step.sites[down.site].load()[0]
    gemm = next(gemm for gemm in step.gemms if gemm.name == down.name)
    whole, left = (codes * scales[:, None].astype(np.float64) for codes in (before, after))
    if gemm.load_weights is not None:
        weights = gemm.load_weights()
        whole, left = (part @ (weights.codes * weights.scales.astype(np.float64)) for part in (whole, left))
    assert down.quality_loss.value == pytest.approx(np.square(whole - left).sum() / np.square(whole).sum())
    assert result.quality_loss.value > 0


def test_what_drawn_neurons_miss_is_not_known():
    result = simulate(load_arch("edge_contextual"), drawn(1))
    assert mlp(result)["down_proj"].quality_loss is None and result.quality_loss is None


# Requests to the memories


@pytest.mark.parametrize("weights", ["dram", "sram"])
def test_the_demand_trace_moves_what_is_timed(weights):
    arch = load_arch("edge_contextual", [f"predictor.weights={weights}"])
    simulation = Simulation(Machine(arch, None), traced(2), WorkloadStatistics(traced(2)), FAST)
    moved = sum(int(batch.bytes[batch.level == 0].sum()) for batch in demand_requests(simulation))
    assert moved == sum(layer.dram_bytes for layer in simulation.result().layers)
    operands = {region.operand for region in demand_regions(simulation) if region.operation.endswith("fc2")}
    assert operands == ({"weights"} if weights == "dram" else set())


# The study and the commands


@cache
def study():
    whole = drawn_contextual_workload(
        preset_workload("smollm2-135m", 64), DrawnNeurons(0.5, 0.9), ContextualOptions(32)
    )
    machines = [load_arch("edge_contextual"), load_arch("dense")]
    return run_decode_study(machines, whole, (1, 4), (64, 2048), "model")


def test_a_line_a_machine_and_context():
    assert study().machines == [
        f"{name}, context {length}" for name in ("edge_contextual", "dense") for length in (64, 2048)
    ]
    short, long = (study().of(f"edge_contextual, context {length}") for length in (64, 2048))
    assert [point.batch for point in short] == [1, 4]
    assert short[0].speedup > long[0].speedup > 1  # caches dilute the gain
    assert short[0].mlp_speedup == long[0].mlp_speedup > short[0].speedup
    assert short[0].mlp_speedup > short[1].mlp_speedup


def test_the_predictor_has_rows_of_its_own():
    point = study().of("edge_contextual, context 64")[0]
    result = simulate(load_arch("edge_contextual"), drawn(1), settings=FAST)
    kind = result.kinds["predictor"]
    assert (point.predictor_cycles, point.predictor_energy_per_token_pj) == (kind.cycles, pytest.approx(kind.energy_pj))
    parts = [mlp(result, layer) for layer in range(30)]
    assert point.mlp_cycles == sum(one.cycles for part in parts for one in part.values())
    text = markdown(study())
    assert "The MLPs' products" in text and f"{point.predictor_cycles:,}" in text
    assert study().of("dense, context 64")[0].mlp_cycles is None


def test_needed_weights_leave_the_predictor_out():
    point = study().of("edge_contextual, context 64")[0]
    attention, neurons = 2 * 576 * 576 + 2 * 576 * 192, 1536 * 576
    fetched = attention + 768 * 576 + 2 * 154 * 576
    assert point.weights_needed == pytest.approx(fetched / (attention + 3 * neurons))


def test_the_decode_command(tmp_path):
    app = typer.Typer()
    app.command()(decode)
    arguments = ["--workload", "smollm2-135m", "--contextual", "rank=32,predicted=0.5,realised=0.9", "--batches", "1"]
    done = CliRunner().invoke(app, [*arguments, "--context", "64,128", "--scope", "model", "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    points = json.loads((tmp_path / "decode.json").read_text())["points"]
    assert [point["machine"] for point in points] == [
        f"{name}, context {length}" for name in ("edge_contextual", "datacenter_contextual") for length in (64, 128)
    ]
    assert points[0]["predictor_cycles"] > 0


def test_the_simulate_command(tmp_path):
    app = typer.Typer()
    app.command()(simulate_command)
    predictor = tmp_path / "predictor.yaml"
    predictor.write_text("rank: 32\npredicted: 0.5\nrealised: 0.9\nlayers: {0: 0.4}\n")
    arguments = ["--workload", "smollm2-135m", "--contextual", str(predictor), "--decode", "1", "--no-quality"]
    machines = ["--arch", "edge_contextual", "--arch", "dense", "--scope", "model", "--explain", "fc2"]
    done = CliRunner().invoke(app, [*arguments, *machines, "--json", str(tmp_path / "out.json")])
    assert done.exit_code == 0, done.output
    assert "predictor" in done.output and "leaves it out" in done.output
    gathered, dense = json.loads((tmp_path / "out.json").read_text())
    assert "0.4 in layer 0" in gathered["source"] and dense["speedup"] == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rank=32", "predicted: Field required"),
        ("rank=32,predicted=2,realised=0.9", "predicted: Input should be less than or equal to 1"),
        ("rank=32,predicted", "expected KEY=VALUE"),
        ("rank=32,rank=8", "rank is given twice"),
        ("rank=32,predicted=0.5,realised=0.9,colour=red", "colour: unknown key; known are rank"),
        ("nowhere.yaml", "No such file"),
    ],
)
def test_predictors_that_are_none_are_refused(text, message):
    with pytest.raises(AccelSimError, match=message):
        drawn_predictor(text)


def test_drawn_neurons_are_of_published_shapes_and_fitted_ones_of_a_trace(tmp_path):
    assert contextual(SHIPPED, None, None, None) is SHIPPED
    with pytest.raises(AccelSimError, match="for a trace give a folder of `accel-sim contextual fit`"):
        contextual(SHIPPED, "rank=32,predicted=0.5,realised=0.9", shipped_trace(), None)
    with pytest.raises(AccelSimError, match="fitted predictors answer for captured activations"):
        contextual(preset_workload("smollm2-135m", 4), str(tmp_path), None, "smollm2-135m")
    with pytest.raises(AccelSimError, match="holds no predictors"):
        contextual(SHIPPED, str(tmp_path), shipped_trace(), None)


def test_a_folder_of_fitted_predictors_answers_for_a_trace(tmp_path):
    torch = pytest.importorskip("torch")
    from accel_sim.sparsify.contextual import PredictorOptions
    from accel_sim.sparsify.contextual.fit import Fitted
    from accel_sim.sparsify.contextual.machine import FittedNeurons
    from accel_sim.sparsify.contextual.predictor import LowRankPredictor
    from accel_sim.sparsify.contextual.storage import StoredPredictors, write_predictors

    random = torch.Generator().manual_seed(0)
    gates = {gemm.layer: gemm for gemm in SHIPPED.gemms if gemm.name.endswith("gate_proj")}
    layers = {}
    for layer, gate in gates.items():
        down, up = (torch.randn(shape, generator=random) for shape in ((8, gate.features), (gate.outputs, 8)))
        predictor = LowRankPredictor(down, up, torch.zeros(gate.outputs))
        layers[layer] = Fitted(predictor, PredictorOptions(rank=8), 0.5, 0.5, 0.5)
    write_predictors(tmp_path, StoredPredictors("one", "f" * 64, {}, layers))
    step = decode_workload(contextual(SHIPPED, str(tmp_path), shipped_trace(), None), 2)
    gate = next(gemm for gemm in step.gemms if gemm.name.endswith("gate_proj"))
    predicted = FittedNeurons(tmp_path).predicted(gate.layer, *step.sites[gate.site].load())
    assert np.array_equal(step.sites[gate.predicted_site].load()[0], predicted)
    assert "neurons predicted in INT8 by predictors fitted to one" in step.source
    assert [gemm.outputs for gemm in step.gemms if gemm.name.endswith("predictor.fc1")] == [8] * len(gates)


# Zeros that are not the gate's


def test_zeros_behind_an_active_gate_are_counted():
    generator = np.random.default_rng(5)
    codes, scales = generator.integers(-9, 10, (4, 12)).astype(np.int8), np.ones(4, np.float32)
    weights = Weights(generator.integers(-9, 10, (12, 30)).astype(np.int8), np.ones(30, np.float32))
    product = generator.integers(-1, 2, (4, 30)).astype(np.int8)
    gate = Gemm("mlp.gate_proj", "x", 4, 12, 30, load_weights=lambda: weights, consumer_site="h")
    sites = {"x": SiteActivations(lambda: (codes, scales)), "h": SiteActivations(lambda: (product, scales))}
    counted = zeros_behind_an_active_gate(Workload("one", "given", (gate,), sites))
    pairs = [
        (sum(int(codes[t, k]) * int(weights.codes[k, j]) for k in range(12)) > 0, product[t, j] == 0)
        for t in range(4)
        for j in range(30)
    ]
    assert counted == sum(active and zero for active, zero in pairs) / sum(active for active, _ in pairs)
    with pytest.raises(AccelSimError, match="needs its weights"):
        zeros_behind_an_active_gate(Workload("one", "given", (replace(gate, load_weights=None),), sites))
