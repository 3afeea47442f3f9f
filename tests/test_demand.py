"""The demand trace: every request to DRAM and SRAM, held to the timing model's own totals."""

import gzip
from collections import Counter

import numpy as np
import pytest
from hypothesis import assume, event, given, settings
from hypothesis import strategies as st
from machines import SETTINGS, activations, machine

from accel_sim.arch import load_arch, shipped_archs
from accel_sim.demand.requests import LEVELS, Requests
from accel_sim.errors import AccelSimError
from accel_sim.simulation import Machine, Settings, Simulation
from accel_sim.simulation.demand import demand_regions, demand_requests, write_demand_trace
from accel_sim.timing import count_activity, select_site
from accel_sim.timing.formats import formats
from accel_sim.timing.vector import vector_activity
from accel_sim.workload import Gemm, SiteActivations, VectorOperation, Workload
from accel_sim.workload.decode import decode_workload
from accel_sim.workload.presets import preset_workload

SIZES = st.integers(1, 150)
BUFFERS = st.sampled_from([700, 2000, 5001, 16000, 60000])
MACHINES = st.builds(
    lambda one, activations, weights, outputs, latency: one
    | {"sram.activation_bytes": activations, "sram.weight_bytes": weights, "sram.output_bytes": outputs}
    | {"dram.latency_cycles": latency},
    SETTINGS, BUFFERS, BUFFERS, BUFFERS, st.sampled_from([0, 50]),
)  # fmt: skip
"""Buffers small enough for every way to replace their content."""
ACTIVITY = {
    ("dram", False): "dram_read_bytes",
    ("dram", True): "dram_write_bytes",
    ("shared_buffer", False): "shared_buffer_read_bytes",
    ("shared_buffer", True): "shared_buffer_write_bytes",
    ("activation_sram", False): "activation_sram_read_bytes",
    ("activation_sram", True): "activation_sram_write_bytes",
    ("weight_sram", False): "weight_sram_read_bytes",
    ("weight_sram", True): "weight_sram_write_bytes",
    ("accumulator_sram", False): "accumulator_sram_read_bytes",
    ("accumulator_sram", True): "accumulator_sram_write_bytes",
    ("output_sram", False): "output_sram_read_bytes",
    ("output_sram", True): "output_sram_write_bytes",
}


def site(codes) -> SiteActivations:
    return SiteActivations(lambda: (codes, np.ones(len(codes), np.float32)))


def simulation_of(arch, gemm: Gemm, codes=None, needed_outputs=None) -> Simulation:
    """One product; `needed_outputs` are what the layer behind it needs, bool [outputs]."""
    codes = activations(gemm.tokens, gemm.features, 0.5) if codes is None else codes
    behind = np.ones((gemm.tokens, gemm.outputs), np.int8) if needed_outputs is None else needed_outputs
    sites = {gemm.site: site(codes), "behind": site(behind)}
    workload = Workload("drawn", "drawn", (gemm,), sites)
    return Simulation(Machine(arch, arch.pattern()), workload, settings=Settings(quality=False))


def requests_of(simulation: Simulation, layer=None) -> Requests:
    return Requests.joined(list(demand_requests(simulation, layer)))


def at(level: str, requests: Requests) -> Requests:
    return requests[requests.level == LEVELS.index(level)]


def totals(requests: Requests) -> dict:
    return {
        key: int(chosen.bytes[chosen.write == write].sum())
        for key in ACTIVITY
        for level, write in [key]
        for chosen in [at(level, requests)]
    }


def distinct_bytes(requests: Requests) -> int:
    """Bytes that at least one request touches."""
    order = np.argsort(requests.address)
    begin, end = requests.address[order], (requests.address + requests.bytes)[order]
    reached = np.maximum.accumulate(np.append(0, end))[:-1]
    return int(np.maximum(end - np.maximum(begin, reached), 0).sum())


def finished(requests: Requests, memory) -> np.ndarray:
    """When a memory that serves them one by one has finished each; cycles [requests]."""
    costs = requests.bytes * np.where(requests.write, memory.turnaround, 1) / memory.bytes_per_cycle
    spent = np.cumsum(costs)
    return spent + np.maximum.accumulate(requests.cycle - (spent - costs))


def one_product(tokens, features, outputs, settings_, zeros):
    arch = machine(settings_)
    behind = activations(tokens, outputs, zeros, seed=1)
    gemm = Gemm("layer", "site", tokens, features, outputs, consumer_site="behind")
    simulation = simulation_of(arch, gemm, activations(tokens, features, zeros), behind)
    try:
        simulation.time(gemm)
    except AccelSimError as error:
        assume("too small" not in str(error))
        raise
    tiling = simulation.time(gemm).plan.tiling
    event(
        f"held {tiling.replacement}, streaming {tiling.streaming}, chunks {tiling.chunks > 1}, cores {arch.cores.count}"
    )
    return simulation, gemm, requests_of(simulation)


random_products = given(SIZES, SIZES, SIZES, MACHINES, st.sampled_from([0.0, 0.5, 0.97]))


@settings(max_examples=60, deadline=None)
@random_products
def test_every_level_moves_what_the_activity_counts(tokens, features, outputs, settings_, zeros):
    simulation, gemm, requests = one_product(tokens, features, outputs, settings_, zeros)
    arch, pattern = simulation.machine.arch, simulation.machine.pattern
    activity = count_activity(gemm, arch, pattern, simulation.time(gemm), 0.0)
    activity = select_site(tokens, features, arch, pattern).added_to(activity)
    assert totals(requests) == {key: getattr(activity, field) for key, field in ACTIVITY.items()}


@settings(max_examples=60, deadline=None)
@random_products
def test_requests_come_in_order_and_never_faster_than_the_memory(tokens, features, outputs, settings_, zeros):
    simulation, gemm, requests = one_product(tokens, features, outputs, settings_, zeros)
    arch, pattern = simulation.machine.arch, simulation.machine.pattern
    cycles = simulation.time(gemm).cycles + select_site(tokens, features, arch, pattern).cycles
    assert (np.diff(requests.cycle) >= 0).all()
    assert 0 <= requests.cycle[0] <= requests.cycle[-1] <= cycles
    dram, burst = at("dram", requests), arch.dram.burst_bytes
    assert (dram.address // burst == (dram.address + dram.bytes - 1) // burst).all()
    served = finished(dram, arch.dram)
    assert (served[:-1] < dram.cycle[1:] + 1 + 1e-6).all(), "the memory is asked before it has moved what came before"
    assert served[-1] <= cycles + 1e-6


@settings(max_examples=60, deadline=None)
@random_products
def test_requests_stay_in_their_regions_and_leave_nothing_out(tokens, features, outputs, settings_, zeros):
    simulation, gemm, requests = one_product(tokens, features, outputs, settings_, zeros)
    dram, regions = at("dram", requests), list(demand_regions(simulation))
    within = Counter()
    for region in regions:
        end = region.address + region.bytes
        mine = (dram.address >= region.address) & (dram.address + dram.bytes <= end)
        within.update(np.flatnonzero(mine).tolist())
        used = dram[mine]
        assert (used.write == (region.operand in ("outputs", "compressed activations"))).all()
        product, machine_ = simulation.time(gemm).plan.product, simulation.machine
        stored = formats(product, machine_.arch, machine_.pattern)
        least = {
            "activations": tokens * stored.activation_dram_bytes,
            "weights": product.outputs * stored.weight_dram_bytes,
            "outputs": tokens * product.outputs * machine_.arch.array.stored_output_bytes,
            "dense activations": tokens * (features + 4),
            "compressed activations": tokens * stored.activation_dram_bytes,
        }[region.operand]
        assert distinct_bytes(used) >= least, f"some of the {region.operand} never move"
        assert region.operand != "outputs" or used.bytes.sum() == least, "outputs are written twice"
    assert set(within.values()) == {1}, "regions overlap"
    assert len(within) == len(dram), "a request lies in no region"


@settings(max_examples=60, deadline=None)
@random_products
def test_what_arrives_in_sram_fits_where_it_is_put(tokens, features, outputs, settings_, zeros):
    simulation, _, requests = one_product(tokens, features, outputs, settings_, zeros)
    sram = simulation.machine.arch.sram
    sizes = {
        "activation_sram": sram.activation_bytes,
        "weight_sram": sram.weight_bytes,
        "output_sram": sram.output_bytes,
    }
    for level, size in sizes.items():
        lines = at(level, requests)
        assert lines.address.min(initial=0) >= 0
        assert (lines.address < size).all()
        assert ((lines.address + lines.bytes)[lines.write] <= size).all()


def test_a_product_by_hand():
    # One token of 28 features and its scale are one burst of 32 bytes, and so are one output's weights. The array is
    # done a cycle after both are there; its output is a byte. Operands lie in regions of 4 KiB.
    simulation = simulation_of(load_arch("dense"), Gemm("layer", "site", 1, 28, 1))
    dram = at("dram", requests_of(simulation))
    assert dram.address.tolist() == [0, 0x1000, 0x2000]
    assert dram.bytes.tolist() == [32, 32, 1]
    assert dram.write.tolist() == [False, False, True]
    assert dram.cycle.tolist() == [0, 0, simulation.result().cycles - 1]


def test_a_slow_memory_spreads_its_requests():
    # 128 features, scale and padding are 5 bursts; at half a burst a cycle there is one every second cycle.
    arch = load_arch("dense", ["dram.bytes_per_cycle=16"])
    reads = at("dram", requests_of(simulation_of(arch, Gemm("layer", "site", 1, 128, 1))))[:-1]
    assert reads.cycle.tolist() == list(range(0, 20, 2))


def test_rows_that_are_fetched_in_chunks_are_strided():
    # By hand: a panel of 4 outputs does not fit, so chunks of it go through two halves: 4 pieces, a row apart.
    arch = load_arch("dense", ["array.rows=4", "array.cols=4", "sram.weight_bytes=2048", "sram.activation_bytes=2048"])
    simulation = simulation_of(arch, Gemm("layer", "site", 4, 1024, 4))
    plan = simulation.time(simulation.workload.gemms[0]).plan
    assert plan.tiling.chunks > 1
    piece = plan.items.weight_bytes[0, 0] // 4
    weights = next(region for region in demand_regions(simulation) if region.operand == "weights")
    dram = at("dram", requests_of(simulation))
    dram = dram[(dram.address >= weights.address) & (dram.address < weights.address + weights.bytes)]
    starts = dram.address[: plan.items.weight_bytes[0, 0] // 32 : piece // 32]
    assert len(set(np.diff(starts))) == 1
    assert np.diff(starts)[0] >= 1028


def gathered(kind: str, needed: list[int]) -> np.ndarray:
    """DRAM addresses in the weights of a product of 8 features and 32 outputs, from the start of their region."""
    codes, behind = np.zeros((1, 8), np.int8), np.zeros((1, 32), np.int8)
    (codes if kind == "row_gather" else behind)[0, needed] = 5
    arch = load_arch("dense", [f"sparsity.skipping={kind}"])
    simulation = simulation_of(arch, Gemm("layer", "site", 1, 8, 32, consumer_site="behind"), codes, behind)
    weights = next(region for region in demand_regions(simulation) if region.operand == "weights")
    dram = at("dram", requests_of(simulation))
    inside = (dram.address >= weights.address) & (dram.address < weights.address + weights.bytes)
    return dram.address[inside] - weights.address


def test_gathered_features_are_read_where_they_lie():
    # Feature-major: 32 weights a feature, one burst; behind the 8 features lie the scales, 4 bursts.
    assert sorted(gathered("row_gather", [1, 6])) == [32, 6 * 32, *range(8 * 32, 12 * 32, 32)]


def test_gathered_outputs_are_read_where_they_lie():
    # Output-major: rows of 8 weights and a scale, 12 bytes. Row 20 starts inside a burst; what the model counts in
    # whole bursts (24 bytes make 32) fills up behind the last row, across the border to the next burst.
    assert gathered("output_gather", [1, 20]).tolist() == [12, 240, 256]


def test_scales_come_with_the_first_chunk_of_gathered_features():
    # 64 features of 32 outputs are 2 KiB, of which half a buffer of 1 KiB holds a quarter; scales are 128 bytes.
    arch = load_arch("dense", ["sparsity.skipping=row_gather", "sram.weight_bytes=1024"])
    simulation = simulation_of(arch, Gemm("layer", "site", 1, 64, 32), np.ones((1, 64), np.int8))
    assert simulation.time(simulation.workload.gemms[0]).plan.tiling.chunks == 4
    weights = next(region for region in demand_regions(simulation) if region.operand == "weights")
    dram = at("dram", requests_of(simulation))
    read = dram.address[(dram.address >= weights.address) & ~dram.write] - weights.address
    scales = [2048, 2080, 2112, 2144]
    assert read.tolist() == [*scales, *range(0, 2048, 32)]


def test_nothing_needed_is_one_row_all_the_same():
    assert len(gathered("row_gather", [])) == 1 + 4


def test_the_array_reads_panel_after_panel_from_halves_that_take_turns():
    # By hand: 16 panels of 32 outputs and 256 features, 8 KiB each, in blocks of 4; a tile takes 256 / 16 cycles.
    arch = load_arch("dense", ["mapping.held=weights", "mapping.block_panels=4", "sram.weight_bytes=81920"])
    simulation = simulation_of(arch, Gemm("layer", "site", 32, 256, 512))
    assert simulation.time(simulation.workload.gemms[0]).plan.tiling.replacement == "double"
    lines = at("weight_sram", requests_of(simulation))
    read, written = lines[~lines.write], lines[lines.write]
    assert read.bytes.tolist() == 16 * [8192]
    assert np.diff(read.cycle)[[0, 1, 2, 4, 5, 6]].tolist() == 6 * [16]
    half = [0, 8192, 16384, 24576]
    assert read.address.tolist() == 2 * [*half, *(40960 + place for place in half)]
    assert written.address.tolist() == [0, 40960, 0, 40960]
    assert (written.cycle < read.cycle[::4]).all()


@pytest.mark.parametrize("split", ["tokens", "outputs"])
def test_what_all_cores_need_is_fetched_once(split):
    arch = load_arch("8x16_dual_core", [f"cores.split={split}", "cores.shared_buffer_bytes=0"])
    requests = requests_of(simulation_of(arch, Gemm("layer", "site", 64, 128, 64)))
    reads = at("dram", requests)
    reads = reads[~reads.write]
    assert distinct_bytes(reads) == reads.bytes.sum()
    stored = at({"tokens": "weight_sram", "outputs": "activation_sram"}[split], requests)
    each = [stored.bytes[stored.write & (stored.core == core)].sum() for core in (0, 1)]
    assert each[0] == each[1] > 0, "every core keeps a copy"


def test_repeats_follow_each_other_in_regions_of_their_own():
    def trace(repeat):
        return at("dram", requests_of(simulation_of(load_arch("dense"), Gemm("layer", "site", 8, 64, 32, repeat))))

    once, thrice = trace(1), trace(3)
    assert len(thrice) == 3 * len(once)
    assert (thrice.cycle[: len(once)] == once.cycle).all()
    second = thrice[slice(len(once), 2 * len(once))]
    assert len(set(second.cycle - once.cycle)) == 1
    assert set(second.address - once.address) == {0x3000}, "three operands of less than a page each"


def test_software_selects_a_site_once_however_often_it_is_used():
    arch = load_arch("8x16_software")
    simulation = simulation_of(arch, Gemm("layer", "site", 8, 64, 32, repeat=3))
    requests = at("dram", requests_of(simulation))
    assert requests.bytes.sum() == simulation.result().layers[0].dram_bytes
    assert requests.cycle[0] == arch.sparsity.selector.software_launch_cycles
    operands = Counter(region.operand for region in demand_regions(simulation))
    assert operands == {
        "dense activations": 1,
        "compressed activations": 1,
        "activations": 3,
        "weights": 3,
        "outputs": 3,
    }


@pytest.mark.parametrize("arch", shipped_archs())
def test_every_shipped_machine_moves_what_its_result_says(arch):
    arch = load_arch(arch)
    simulation = simulation_of(arch, Gemm("layer", "site", 40, 256, 80), activations(40, 256, 0.97))
    requests = at("dram", requests_of(simulation))
    result = simulation.result()
    assert requests.bytes.sum() == result.layers[0].dram_bytes
    assert finished(requests, arch.dram)[-1] == pytest.approx(result.cycles, abs=1)


@pytest.mark.parametrize("arch", ["8x16", "8x16_write_back", "8x16_dual_core"])
def test_every_operation_of_a_decoder_block_agrees(arch):
    arch = load_arch(arch)
    workload = decode_workload(preset_workload("smollm2-135m", 8), 2, context=40)
    simulation = Simulation(Machine(arch, arch.pattern()), workload, settings=Settings("model", quality=False))
    for operation in [one for one in simulation.operations if one.layer == 1]:
        requests = requests_of(simulation, operation.name)
        if isinstance(operation, VectorOperation):
            activity = vector_activity(simulation.time_vector(operation))
        else:
            running = simulation.running(operation)
            activity = count_activity(operation, running.arch, running.pattern, simulation.time(operation), 0.0)
        activity = activity.times(operation.repeat)
        assert totals(requests) == {key: getattr(activity, field) for key, field in ACTIVITY.items()}, operation.name
        assert (np.diff(requests.cycle) >= 0).all()
        assert requests.cycle[-1] <= activity.cycles


def two_layers(arch) -> Simulation:
    gemms = tuple(Gemm(name, name, 8, 64, 32) for name in ("first", "second"))
    workload = Workload("drawn", "drawn", gemms, {one.site: site(activations(8, 64, 0.5)) for one in gemms})
    return Simulation(Machine(arch, arch.pattern()), workload, settings=Settings(quality=False))


def test_layers_follow_each_other_and_one_alone_starts_at_zero():
    simulation = two_layers(load_arch("dense"))
    whole, alone = requests_of(simulation), requests_of(simulation, "second")
    half = len(whole) // 2
    assert len(alone) == half
    begin = simulation.result().layers[0].cycles
    assert (whole.cycle[half:] == alone.cycle + begin).all()


def test_the_table_has_a_line_a_request(tmp_path):
    # By hand: 32 bytes of each operand (0); 28 of each, without scales, reach SRAM 50 cycles behind the load (51); the
    # array takes them as they come.
    simulation = simulation_of(load_arch("dense"), Gemm("layer", "site", 1, 28, 1))
    write_demand_trace(simulation, tmp_path / "demand.csv")
    lines = (tmp_path / "demand.csv").read_text().splitlines()
    last = simulation.result().cycles - 1
    assert lines[:3] == ["cycle,level,address,bytes,access", "0,dram,0x0,32,read", "0,dram,0x1000,32,read"]
    assert {"50,activation_sram,0x0,28,write", "51,weight_sram,0x0,28,read"} < set(lines[3:])
    assert set(lines[-2:]) == {f"{last},output_sram,0x0,1,read", f"{last},dram,0x2000,1,write"}
    assert len(lines) == 1 + 9


def test_several_cores_have_a_column(tmp_path):
    simulation = simulation_of(load_arch("8x16_dual_core"), Gemm("layer", "site", 8, 64, 64))
    write_demand_trace(simulation, tmp_path / "demand.csv")
    header, *lines = (tmp_path / "demand.csv").read_text().splitlines()
    assert header == "cycle,level,address,bytes,access,core"
    assert {line.rsplit(",", 1)[1] for line in lines} == {"0", "1"}


@pytest.mark.parametrize(
    ("format", "expected"),
    [
        ("ramulator", "LD 0x0\nLD 0x1000\nST 0x2000\n"),
        ("dramsim3", "0x0 READ 0\n0x1000 READ 0\n0x2000 WRITE {last}\n"),
    ],
)
def test_dram_simulators_get_their_own_lines(tmp_path, format, expected):
    simulation = simulation_of(load_arch("dense"), Gemm("layer", "site", 1, 28, 1))
    write_demand_trace(simulation, tmp_path / "trace", format=format)
    assert (tmp_path / "trace").read_text() == expected.format(last=simulation.result().cycles - 1)


def test_dram_simulators_are_asked_for_a_burst_once(tmp_path):
    # Three outputs of a token are three bytes of one burst, and the second token's start a burst of their own.
    simulation = simulation_of(load_arch("dense"), Gemm("layer", "site", 2, 28, 3))
    write_demand_trace(simulation, tmp_path / "trace", format="ramulator")
    stores = [line for line in (tmp_path / "trace").read_text().splitlines() if line.startswith("ST")]
    assert stores == ["ST 0x2000", "ST 0x2020"]


def test_a_compressed_trace_is_the_same_trace(tmp_path):
    simulation = two_layers(load_arch("8x16"))
    for name in ("plain.csv", "one.csv.gz", "two.csv.gz"):
        write_demand_trace(simulation, tmp_path / name)
    assert gzip.decompress((tmp_path / "one.csv.gz").read_bytes()) == (tmp_path / "plain.csv").read_bytes()
    assert (tmp_path / "one.csv.gz").read_bytes() == (tmp_path / "two.csv.gz").read_bytes()


def test_a_trace_that_fails_half_way_leaves_what_was_there(tmp_path):
    small = load_arch("dense", ["sram.weight_bytes=8192"])
    gemms = (Gemm("fits", "a", 8, 64, 32), Gemm("too.large", "b", 8, 64, 32))
    simulation = two_layers(small)
    simulation.operations = gemms
    timed = simulation.time

    def time(gemm):
        if gemm.name == "too.large":
            raise AccelSimError("sram.weight_bytes is too small")
        return timed(gemm)

    simulation.time = time
    path = tmp_path / "demand.csv"
    path.write_text("what was there")
    with pytest.raises(AccelSimError, match="too small"):
        write_demand_trace(simulation, path)
    assert path.read_text() == "what was there"
    assert list(tmp_path.iterdir()) == [path]


def test_mistakes_are_named(tmp_path):
    simulation = two_layers(load_arch("dense"))
    with pytest.raises(AccelSimError, match="layer third: no such layer; there are first, second"):
        write_demand_trace(simulation, tmp_path / "demand.csv", layer="third")
    with pytest.raises(AccelSimError, match="csv, ramulator, dramsim3"):
        write_demand_trace(simulation, tmp_path / "demand.csv", format="gem5")
    assert not list(tmp_path.iterdir())
