"""Cycles of one product, worked by hand, by bounds and by properties."""

from itertools import pairwise
from math import ceil, isqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel_sim.arch import load_arch
from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern
from accel_sim.timing import CAUSES, Latencies, bottleneck, compiled, time_layer
from accel_sim.timing.explain import segments
from accel_sim.timing.formats import formats
from accel_sim.timing.items import cut
from accel_sim.timing.layer import candidates, cycles_with_more_columns, plan
from accel_sim.timing.pipeline import STORE
from accel_sim.timing.product import Product
from accel_sim.timing.tile_deal import deal
from accel_sim.timing.tiling import Tiling, tilings
from accel_sim.workload import Gemm

LATENCIES = Latencies(select=1, compute=2, requantise=2)
NO_LATENCIES = Latencies(0, 0, 0)
GENEROUS = ["dram.bytes_per_cycle=4096"]
PATTERNS = ["2x4", "4x8", "8x16", "16x32"]


def product(tokens: int, features: int, outputs: int) -> Gemm:
    return Gemm("layer", "site", tokens, features, outputs)


def timed(arch_name: str, gemm: Gemm, overrides=(), engine="compiled"):
    arch = load_arch(arch_name, overrides)
    return time_layer(gemm, arch, arch.pattern(), LATENCIES, engine)


def speedup(arch_name: str, gemm: Gemm, overrides=()) -> float:
    arch = load_arch(arch_name, overrides)
    dense = time_layer(gemm, arch.dense(), None, LATENCIES)
    return dense.cycles / time_layer(gemm, arch, arch.pattern(), LATENCIES).cycles


def test_one_dense_tile_by_hand():
    # 32 tokens and 32 outputs of 64 features with their 4-byte scales at 256 B a cycle: 2·32·68 / 256 = 17 cycles,
    # 50 of DRAM latency, 64 / 16 lanes = 4 cycles and 2 of latency, 1024 accumulators / 64 requantisers = 16 and 2,
    # 1024 bytes back: 4 cycles. A dense machine selects nothing and never waits for it.
    arch = load_arch("dense")
    timing = time_layer(product(32, 64, 32), arch, None, LATENCIES)
    assert timing.cycles == 17 + 50 + 4 + 2 + 16 + 2 + 4


def test_one_sparse_tile_by_hand():
    # 8:16: 32 rows of 4 groups through 64 selectors: 2 cycles and 1 of latency; 4 groups at 2 a cycle: 2 cycles.
    timing = timed("8x16", product(32, 64, 32))
    assert timing.cycles == 17 + 50 + 2 + 1 + 2 + 2 + 16 + 2 + 4


@pytest.mark.parametrize("name", PATTERNS)
def test_compute_bound_layer_reaches_nearly_twice_dense(name):
    assert 1.9 <= speedup(name, product(512, 4096, 4096), GENEROUS) <= 2.0


def test_starved_layer_gains_less_and_names_the_memory():
    gemm = product(512, 4096, 4096)
    assert speedup("edge", gemm) < 1.2
    assert bottleneck(timed("edge", gemm).breakdown) == "dram"


def test_one_token_has_nothing_to_gain_because_weights_stream_whole():
    gemm = product(1, 4096, 4096)
    timing = timed("8x16", gemm)
    assert speedup("8x16", gemm) == pytest.approx(1, abs=0.01)
    assert bottleneck(timing.breakdown) == "dram"
    assert timing.plan.traffic.read.sum() >= 4096 * 4096


def test_the_dense_machines_port_takes_the_gain_away():
    gemm = product(512, 4096, 4096)
    timing = timed("8x16_narrow", gemm, GENEROUS)
    assert speedup("8x16_narrow", gemm, GENEROUS) == pytest.approx(1, abs=0.01)
    assert timing.breakdown["weight_port"] == pytest.approx(timing.breakdown["ideal_compute"], rel=0.01)


def test_a_narrow_port_feeds_few_outputs_at_full_speed():
    timing = timed("8x16_narrow", product(512, 4096, 16), GENEROUS)
    assert timing.breakdown["weight_port"] == 0, "16 columns need 512 B a cycle, which is what the port has"


def test_a_narrow_activation_port_is_charged_to_sram():
    timing = timed("8x16", product(512, 1024, 1024), [*GENEROUS, "sram.activation_port_bytes_per_cycle=144"])
    assert bottleneck(timing.breakdown) == "sram"


def test_too_few_requantisers_are_named():
    timing = timed("8x16", product(512, 128, 1024), [*GENEROUS, "array.requantisers=4"])
    assert bottleneck(timing.breakdown) == "requantise"


def test_requantisers_take_no_accumulator_for_nothing():
    # 64 tiles of one cycle, four to an item; each has 1024 accumulators for 64 requantisers, 16 cycles. The first of
    # them waits for 20 bytes of 128 tokens and 64 outputs (1 cycle), memory (50), its own cycle and latency (1 + 2);
    # behind the last one come 2 more and a store of a cycle.
    timing = timed("dense", product(1024, 16, 64), GENEROUS)
    assert timing.plan.tiling.block_panels == 4
    assert timing.cycles == 64 * 16 + 1 + 50 + 1 + 2 + 2 + 1


def test_too_few_selectors_are_named():
    timing = timed("8x16", product(512, 4096, 64), [*GENEROUS, "sparsity.selector.units=1"])
    assert bottleneck(timing.breakdown) == "selector"


def test_serial_drain_waits_for_every_tile():
    gemm = product(64, 256, 64)
    arch = load_arch("dense", GENEROUS)
    serial = load_arch("dense", [*GENEROUS, "array.drain=serial"])
    timing = time_layer(gemm, serial, None, NO_LATENCIES)
    assert timing.cycles > time_layer(gemm, arch, None, NO_LATENCIES).cycles
    assert timing.breakdown["fill_drain"] == 4 * 1024 / 64


@pytest.mark.parametrize(
    ("shape", "cycles"),  # (tokens, features, outputs), compute cycles that SCALE-Sim 3.0.0 printed
    [((64, 576, 192), 7_655), ((100, 33, 70), 1_139), ((512, 576, 192), 61_247), ((128, 1536, 576), 115_055)],
)
def test_the_systolic_array_counts_what_scale_sim_counts(shape, cycles):
    # 32×32 elements of one lane, output-stationary (make bench PEERS=scalesim). It counts from cycle 0: one less.
    arch = load_arch("systolic32_os")
    timing = time_layer(product(*shape), arch, None, NO_LATENCIES)
    assert (timing.plan.compute.array + timing.plan.compute.fill).sum() == cycles + 1
    assert timing.breakdown["requantise"] == 0


def test_skew_is_paid_once_where_tiles_overlap_and_for_every_tile_where_not():
    gemm, generous = product(128, 64, 128), [*GENEROUS, "array.interconnect=systolic"]  # 16 tiles of 4 cycles
    overlapping, waiting = (
        time_layer(gemm, load_arch("dense", [*generous, f"array.fold_overlap={overlap}"]), None, NO_LATENCIES)
        for overlap in ("true", "false")
    )
    items = overlapping.plan.pipeline.items
    assert overlapping.plan.compute.fill.sum() == 0
    assert overlapping.breakdown["fill_drain"] % 62 == 0 and overlapping.breakdown["fill_drain"] <= 62 * items
    assert waiting.plan.compute.fill.sum() == 16 * 62


def test_tiles_that_do_not_overlap_wait_for_the_pipeline_of_a_broadcast_array():
    arch = load_arch("dense", [*GENEROUS, "array.fold_overlap=false"])
    assert time_layer(product(128, 64, 128), arch, None, LATENCIES).plan.compute.fill.sum() == 16 * LATENCIES.compute


@pytest.mark.parametrize("interconnect", ["broadcast", "systolic"])
def test_a_single_tile_has_nothing_to_overlap_with(interconnect):
    overlapping, waiting = (
        timed("dense", product(32, 64, 32), [f"array.interconnect={interconnect}", f"array.fold_overlap={overlap}"])
        for overlap in ("true", "false")
    )
    assert overlapping.cycles == waiting.cycles


def test_write_back_moves_compressed_activations():
    gemm = product(512, 4096, 4096)
    at_load, at_write_back = load_arch("8x16"), load_arch("8x16", ["sparsity.selector.placement=write_back"])
    tiling = time_layer(gemm, at_write_back, Pattern("8:16"), LATENCIES).plan.tiling
    dense_rows, compressed_rows = (
        plan(Product.of(gemm), arch, Pattern("8:16"), tiling, LATENCIES).traffic.read.sum()
        for arch in (at_load, at_write_back)
    )
    assert compressed_rows < dense_rows
    assert time_layer(gemm, at_write_back, Pattern("8:16"), LATENCIES).breakdown["selector"] == 0


def test_all_four_patterns_share_one_ceiling():
    cycles = {timed(name, product(512, 4096, 4096), GENEROUS).cycles for name in PATTERNS}
    assert len(cycles) == 1


def test_more_slots_than_lanes_take_several_cycles_a_group():
    # 32:64 on 16 lanes: each group takes 2 cycles, and 64 weights in 2 cycles are 32 a cycle, as for 8:16.
    arch = load_arch("8x16", [*GENEROUS, "sparsity.patterns=['32:64']"])
    wide = time_layer(product(512, 4096, 4096), arch, Pattern("32:64"), LATENCIES)
    assert wide.breakdown["weight_port"] == 0
    assert wide.cycles == timed("8x16", product(512, 4096, 4096), GENEROUS).cycles


sizes = st.integers(1, 700)
arrays = st.fixed_dictionaries(
    {
        "array.rows": st.integers(1, 40),
        "array.cols": st.integers(1, 40),
        "array.lanes": st.sampled_from([1, 4, 8, 16, 24]),
        "array.requantisers": st.integers(1, 64),
        "array.drain": st.sampled_from(["overlapped", "serial", "none"]),
        "array.interconnect": st.sampled_from(["broadcast", "systolic"]),
        "array.fold_overlap": st.booleans(),
        "sram.activation_bytes": st.integers(8000, 60000),
        "sram.weight_bytes": st.integers(8000, 60000),
        "sram.output_bytes": st.integers(3300, 20000),
        "dram.bytes_per_cycle": st.sampled_from([3.7, 64, 1000]),
        "sparsity.patterns": st.sampled_from(
            ["[]", "['1:4']", "['2:4']", "['3:4']", "['7:16']", "['16:32']", "['4:4']"]
        ),
        "sparsity.metadata": st.sampled_from(["bitmap", "index", "enumerative"]),
        "sparsity.selector.placement": st.sampled_from(["load", "write_back"]),
    }
)


def machine(settings_: dict):
    return load_arch("dense", [f"{key}={value}" for key, value in settings_.items()])


@settings(max_examples=60)
@given(sizes, sizes, sizes, arrays)
def test_engines_agree_and_breakdowns_add_up_on_any_machine(tokens, features, outputs, settings_):
    arch, gemm = machine(settings_), product(tokens, features, outputs)
    timing = time_layer(gemm, arch, arch.pattern(), LATENCIES)
    by_events = time_layer(gemm, arch, arch.pattern(), LATENCIES, "event")
    np.testing.assert_array_equal(timing.schedule.end, by_events.schedule.end)
    assert by_events.breakdown == timing.breakdown
    assert tuple(timing.breakdown) == CAUSES
    assert sum(timing.breakdown.values()) == timing.cycles
    assert min(timing.breakdown.values()) >= 0
    pattern = arch.pattern()
    kept = features if pattern is None else features // pattern.m * pattern.n
    assert timing.cycles >= tokens * outputs * kept / (arch.array.rows * arch.array.cols * arch.array.lanes)
    if arch.array.drain != "none":
        assert timing.cycles >= tokens * outputs // arch.array.requantisers
    assert timing.cycles >= timing.plan.traffic.read.sum() / arch.dram.bytes_per_cycle


@settings(max_examples=30)
@given(sizes, sizes, sizes, arrays)
def test_the_critical_path_is_told_without_a_gap(tokens, features, outputs, settings_):
    arch = machine(settings_)
    timing = time_layer(product(tokens, features, outputs), arch, arch.pattern(), LATENCIES)
    path = segments(timing)
    assert path[0].start == 0 and path[-1].end == timing.cycles and path[-1].stage == STORE
    assert all(after.start == before.end and after.stage != before.stage for before, after in pairwise(path))


@settings(max_examples=60)
@given(sizes, sizes, sizes, arrays)
def test_every_tiling_does_all_the_work_and_stays_in_its_buffers(tokens, features, outputs, settings_):
    arch, gemm = machine(settings_), product(tokens, features, outputs)
    stored = formats(Product.of(gemm), arch, arch.pattern())
    for tiling in tilings(Product.of(gemm), arch, arch.pattern()):
        items = cut(Product.of(gemm), arch, arch.pattern(), tiling)
        assert (items.tokens * items.outputs * items.features).sum() == gemm.macs
        assert items.loaded_activations.sum() >= tokens * features
        assert items.loaded_weights.sum() >= features * outputs
        assert (items.tokens * items.outputs)[:, items.completes].sum() == tokens * outputs
        rows, cols = min(arch.array.rows, tokens), min(arch.array.cols, outputs)
        block = tiling.block_panels * (cols * stored.weight_sram_bytes)
        capacity = arch.sram.weight_bytes
        if tiling.held == "activations":
            block, capacity = tiling.block_panels * rows * stored.activation_sram_bytes, arch.sram.activation_bytes
        if tiling.chunks > 1:
            stream_bytes = rows * stored.activation_sram_bytes if tiling.held == "weights" else cols * features
            stream_capacity = arch.sram.activation_bytes if tiling.held == "weights" else arch.sram.weight_bytes
            assert 2 * stream_bytes * items.features.max() <= stream_capacity * features
        if tiling.replacement == "double":
            assert 2 * block <= capacity
        elif tiling.replacement == "single":
            assert block <= capacity


@settings(max_examples=40)
@given(sizes, sizes, sizes, arrays, st.sampled_from([2, 3.3, 10]))
def test_more_bandwidth_is_never_slower_at_the_same_tiling(tokens, features, outputs, settings_, factor):
    arch, gemm = machine(settings_), product(tokens, features, outputs)
    tiling = time_layer(gemm, arch, arch.pattern(), LATENCIES).plan.tiling
    faster = machine(settings_ | {"dram.bytes_per_cycle": settings_["dram.bytes_per_cycle"] * factor})
    slow, fast = (plan(Product.of(gemm), a, a.pattern(), tiling, LATENCIES).pipeline.durations for a in (arch, faster))
    assert (fast <= slow).all(), "the recurrence only takes maxima and sums of these, so no cycle count can grow"


@pytest.mark.parametrize("name", ["dense", "8x16", "edge"])
def test_the_plan_is_within_one_percent_of_the_fastest_and_fetches_least_of_those(name):
    gemm, arch = product(512, 4096, 1024), load_arch(name)
    whole, pattern = Product.of(gemm), arch.pattern()
    plans = [plan(whole, arch, pattern, tiling, LATENCIES) for tiling in tilings(whole, arch, pattern)]
    cycles = [compiled.run(each.pipeline).makespan for each in plans]
    traffic = [each.traffic.read.sum() for each in plans]
    chosen = timed(name, gemm)
    assert chosen.cycles <= 1.01 * min(cycles)
    assert chosen.plan.traffic.read.sum() == min(
        t for t, c in zip(traffic, cycles, strict=True) if c <= 1.01 * min(cycles)
    )
    assert len(set(traffic)) > 1, "there is something to choose"


def test_a_buffer_that_is_too_small_says_how_much_is_missing():
    arch = load_arch("dense", ["sram.output_bytes=2000"])
    with pytest.raises(AccelSimError, match=r"sram.output_bytes is 48 bytes too small"):
        time_layer(product(512, 64, 64), arch, None, LATENCIES)
    arch = load_arch("dense", ["sram.weight_bytes=100"])
    with pytest.raises(AccelSimError, match=r"layer: sram.weight_bytes is \d+ bytes too small"):
        time_layer(product(512, 64, 64), arch, None, LATENCIES)


def test_a_panel_larger_than_its_buffer_is_cut_into_chunks():
    timing = timed("dense", product(64, 40000, 64))
    assert timing.plan.tiling.chunks > 1
    assert timing.breakdown["dram"] > 0


def test_products_too_large_to_hold_are_refused_before_anything_runs():
    arch = load_arch("dense")
    with pytest.raises(AccelSimError, match=r"layer: [\d,]+ pipeline items, at most 4,000,000 are simulated"):
        time_layer(product(10**9, 64, 10**6), arch, None, LATENCIES)
    many_cores = load_arch("dense", ["cores.count=1024"])
    with pytest.raises(AccelSimError, match=r"layer: [\d,]+ pipeline items, at most 4,000,000 are simulated"):
        time_layer(product(10**8, 64, 1000), many_cores, None, LATENCIES)
    with pytest.raises(AccelSimError, match="200000 features can overflow the INT32 sums"):
        product(1, 200_000, 16)


def test_more_columns_shorten_compute_alone():
    gemm = product(512, 4096, 4096)
    arch = load_arch("dense", GENEROUS)
    timing = time_layer(gemm, arch, None, LATENCIES)
    assert cycles_with_more_columns(timing, arch, 1) == timing.cycles
    compute = timing.breakdown["ideal_compute"]
    faster = cycles_with_more_columns(timing, arch, 1.25)
    assert faster == pytest.approx(timing.cycles - compute * (1 - 1 / 1.25), rel=0.01)
    starved = timed("dense", product(1, 4096, 4096))
    assert cycles_with_more_columns(starved, load_arch("dense"), 1.25) == pytest.approx(starved.cycles, rel=0.002)


def test_the_slowest_memory_still_counts_in_64_bits():
    slowest = ["dram.bytes_per_cycle=0.001", "dram.latency_cycles=1000000"]
    timing = timed("dense", product(16384, 8192, 28672), slowest)
    assert timing.cycles > 10**12
    assert cycles_with_more_columns(timing, load_arch("dense", slowest), 1.25) == pytest.approx(timing.cycles, rel=1e-3)


@pytest.mark.parametrize("drain", ["overlapped", "serial"])
def test_more_columns_do_not_bring_more_requantisers(drain):
    # 1024 tiles of 4 cycles, each with 1024 accumulators for 64 requantisers: 16 cycles.
    arch = load_arch("dense", [*GENEROUS, f"array.drain={drain}"])
    timing = time_layer(product(1024, 64, 1024), arch, None, LATENCIES)
    saved = timing.cycles - cycles_with_more_columns(timing, arch, 1.25)
    if drain == "overlapped":
        assert saved < 16, "all of the array's time hides behind the requantisers"
    else:
        assert saved == pytest.approx(1024 * 4 * (1 - 1 / 1.25), rel=0.01), "the drains take as long as before"


def test_the_first_candidate_is_the_one_that_is_taken():
    gemm, arch = product(512, 4096, 4096), load_arch("8x16")
    tried = candidates(Product.of(gemm), arch, Pattern("8:16"), LATENCIES)
    timing = time_layer(gemm, arch, Pattern("8:16"), LATENCIES)
    fastest = min(candidate.cycles for candidate in tried)
    close = [candidate for candidate in tried if candidate.cycles <= 1.01 * fastest]
    assert (tried[0].tiling, tried[0].cycles) == (timing.plan.tiling, timing.cycles)
    assert tried[0].dram_read_bytes == min(candidate.dram_read_bytes for candidate in close)


def test_ties_for_the_bottleneck_go_to_the_array():
    breakdown = dict.fromkeys(CAUSES, 0) | {"ideal_compute": 3, "array_underuse": 2, "dram": 5}
    assert bottleneck(breakdown) == "compute"


def test_a_block_that_fills_its_buffer_waits_for_the_one_before():
    tiling = Tiling("weights", block_panels=2, panel_tokens=32, replacement="single", streaming="double")
    items = cut(Product.of(product(96, 64, 192)), load_arch("8x16"), Pattern("8:16"), tiling)
    assert items.exclusive.tolist() == [False, False, False, True, False, False, True, False, False]


def test_a_part_of_a_group_counts_as_the_work_it_is():
    # 2040 features are 127 groups of 8 slots and half a group, which fills 8 slots as well: 1024 slots in 64 cycles.
    timing = timed("8x16", product(32, 2040, 32))
    assert timing.breakdown["ideal_compute"] == 64
    assert timing.breakdown["array_underuse"] == 0


def test_a_tile_row_rounds_up_to_whole_groups():
    # 7:16 on 16 lanes: 2 groups a cycle, 100 features are 7 groups: 4 cycles; 9 tiles of 32×32.
    arch = load_arch("8x16", [*GENEROUS, "sparsity.patterns=['7:16']"])
    timing = time_layer(product(96, 100, 96), arch, Pattern("7:16"), LATENCIES)
    assert timing.plan.compute.array.sum() == 9 * ceil(7 / 2)


def test_tiles_dealt_by_hand():
    # Three panels of tokens and two of outputs on four cores: bands of two panels, so the tiles are (0, 0), (1, 0),
    # (0, 1), (1, 1) in the first wave and (2, 0), (2, 1) in the second, which fetches both panels of weights again.
    dealt = deal(token_panels=3, output_panels=2, cores=4)
    assert dealt.token_panel.tolist() == [[0, 2], [1, 2], [0, -1], [1, -1]]
    assert dealt.output_panel.tolist() == [[0, 0], [0, 1], [1, -1], [1, -1]]
    assert dealt.fetches_activations.tolist() == [[True, True], [True, False], [False, False], [False, False]]
    assert dealt.fetches_weights.tolist() == [[True, True], [False, True], [True, False], [False, False]]
    assert not dealt.activations_again.any()
    assert dealt.weights_again.tolist() == [[False, True], [False, True], [False, False], [False, False]]


def dealt_plainly(token_panels: int, output_panels: int, cores: int) -> list[list[tuple[int, int] | None]]:
    """The tile of every core in every wave."""
    band = min(token_panels, max(1, isqrt(cores)))
    bands = ceil(token_panels / band)
    band, tiles = ceil(token_panels / bands), []
    for first in range(0, token_panels, band):
        for output in range(output_panels):
            tiles += [(token, output) for token in range(first, min(first + band, token_panels))]
    waves = []
    while tiles:
        waves.append((tiles[:cores] + [None] * cores)[:cores])
        tiles = tiles[cores:]
    return waves


@settings(max_examples=60, deadline=None)
@given(
    tokens=st.integers(1, 300),
    features=st.integers(1, 700),
    outputs=st.integers(1, 300),
    name=st.sampled_from(["dense", "2x4", "8x16", "weights_2x4"]),
    panel=st.sampled_from([8, 32, 100]),
    dataflow=st.sampled_from(["weight_stationary", "output_stationary"]),
    cores=st.integers(1, 12),
    buffer=st.sampled_from([0, 20000, 10**7]),
    drain=st.sampled_from(["overlapped", "serial", "none"]),
)
def test_tiles_are_dealt_as_in_plain_loops(tokens, features, outputs, name, panel, dataflow, cores, buffer, drain):
    overrides = [f"cores.count={cores}", "cores.split=tiles", "mapping.held=neither", "array.cols=16"]
    overrides += [f"array.dataflow={dataflow}", f"cores.shared_buffer_bytes={buffer}", f"array.drain={drain}"]
    overrides += [f"mapping.panel_tokens={panel}"] * (dataflow == "weight_stationary")
    arch = load_arch(name, overrides)
    work = Product.of(product(tokens, features, outputs))
    (tiling,) = tilings(work, arch, arch.pattern())
    made = plan(work, arch, arch.pattern(), tiling, LATENCIES)
    items, chunks = made.items, made.items.completes.argmax() + 1
    size, waves = tiling.panel_tokens, dealt_plainly(ceil(tokens / tiling.panel_tokens), ceil(outputs / 16), cores)
    assert items.tokens.shape == (cores, len(waves) * chunks)
    stored = formats(work, arch, arch.pattern())
    seen: tuple[set, set] = set(), set()
    left = np.zeros(cores, dtype=np.int64)
    for number, wave in enumerate(waves):
        fetched: tuple[set, set] = set(), set()
        for core, tile in enumerate(wave):
            mine = slice(number * chunks, (number + 1) * chunks)
            sizes = (0, 0) if tile is None else (min(size, tokens - tile[0] * size), min(16, outputs - tile[1] * 16))
            assert (items.tokens[core, mine] == sizes[0]).all() and (items.outputs[core, mine] == sizes[1]).all()
            assert items.loaded_activations[core, mine].sum() == sizes[0] * features
            assert items.loaded_weights[core, mine].sum() == sizes[1] * features
            last = tile is None or number + 1 == len(waves) or waves[number + 1][core] is None
            wrote = made.traffic.write[core, mine].sum()
            assert wrote == left[core] + (sizes[0] * sizes[1] if last else 0)
            left[core] = 0 if last else sizes[0] * sizes[1]
            for operand, brought, again, row in (
                (0, items.activation_bytes, items.activations_again, stored.activation_dram_bytes),
                (1, items.weight_bytes, items.weights_again, stored.weight_dram_bytes),
            ):
                first = tile is not None and tile[operand] not in fetched[operand]
                assert (brought[core, mine].sum() >= sizes[operand] * row) if first else not brought[core, mine].any()
                assert (again[core, mine] == (tile is not None and tile[operand] in seen[operand])).all()
                if tile is not None:
                    fetched[operand].add(tile[operand])
        for operand in (0, 1):
            seen[operand].update(fetched[operand])
        several = any(len({tile[n] for tile in wave if tile}) < len([tile for tile in wave if tile]) for n in (0, 1))
        assert (items.shared[number * chunks : (number + 1) * chunks] == several).all()
    total = tokens * outputs * arch.array.stored_output_bytes
    assert made.traffic.write.sum() == total
    timing = timed(name, product(tokens, features, outputs), overrides)
    assert timing.cycles == timed(name, product(tokens, features, outputs), overrides, "event").cycles
    assert sum(timing.breakdown.values()) == timing.cycles and min(timing.breakdown.values()) >= 0


def test_dealt_tiles_leave_the_busiest_core_no_more_than_its_share():
    """25 × 4 tiles on 7 cores: 15 waves; in any grid of 7 cores the busiest has at least 16 (7 × 1 cores: 4 × 4)."""
    overrides = ["cores.count=7", "mapping.held=neither", "array.rows=10", "array.cols=10", *GENEROUS]
    work = product(250, 640, 40)
    dealt, grid = (timed("dense", work, [*overrides, f"cores.split={split}"]) for split in ("tiles", "grid"))
    tiles = [int(one.plan.items.tiles[:, one.plan.items.completes].sum(axis=1).max()) for one in (dealt, grid)]
    assert tiles == [15, 16] and dealt.cycles < grid.cycles


def test_tiles_can_be_dealt_only_where_nothing_is_held():
    with pytest.raises(AccelSimError, match=r"cores\.split tiles: needs mapping\.held neither"):
        load_arch("dense", ["cores.split=tiles"])


def test_a_chunk_has_the_depth_that_is_asked_for_as_long_as_it_fits():
    overrides = ["mapping.held=neither", "sram.weight_bytes=65536", "sram.activation_bytes=65536"]
    work = product(32, 5000, 32)

    def chunks(*asked: str) -> int:
        arch = load_arch("dense", [*overrides, *asked])
        return time_layer(work, arch, None, LATENCIES).plan.tiling.chunks

    assert chunks() == 5  # 65,536 / 2 / 32 rows: 1,024 features
    assert chunks("mapping.chunk_features=256") == 20
    assert chunks("mapping.chunk_features=4000") == 5
    dense = load_arch("2x4", [*overrides, "mapping.chunk_features=256"]).dense()
    assert dense.mapping.chunk_features == 256, "the counterpart is cut as the machine is"
    with pytest.raises(AccelSimError, match=r"mapping\.chunk_features: needs mapping\.held neither"):
        load_arch("dense", ["mapping.chunk_features=256"])


def test_a_free_search_on_a_card_still_deals_tiles():
    card = load_arch("h200", ["mapping.panel_tokens=64"])
    assert card.free_mapping.held == "neither" and card.free_mapping.panel_tokens is None
    free = card.model_copy(update={"mapping": card.free_mapping})
    sizes = {one.tiling.panel_tokens for one in candidates(Product.of(product(64, 512, 256)), free, None, LATENCIES)}
    assert sizes == {64, 32, 16, 8}
