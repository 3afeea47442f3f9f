"""One product worked with a pencil for every dataflow, split and way of skipping; docs/timing.md tells the same."""

import numpy as np
import pytest

from accel_sim.arch import load_arch
from accel_sim.errors import AccelSimError
from accel_sim.occupancy import REAL_MASKS
from accel_sim.pattern import Pattern
from accel_sim.simulation.nonzeros import Skipping, windows
from accel_sim.timing import Latencies, Nonzeros, bottleneck, count_activity, time_layer
from accel_sim.timing.array_time import full_windows
from accel_sim.timing.items import cut
from accel_sim.timing.layer import candidates, plan
from accel_sim.timing.pipeline import SELECT
from accel_sim.timing.product import Product
from accel_sim.timing.tiling import Tiling, panel_tokens, tilings
from accel_sim.workload import Gemm

NONE = Latencies(0, 0, 0)
SMALL = ["array.rows=4", "array.cols=4", "array.lanes=2", "dram.bytes_per_cycle=4096", "dram.latency_cycles=0"]
STATIONARY = [*SMALL, "array.dataflow=weight_stationary", "array.drain=none"]
PRODUCT = Gemm("layer", "site", 10, 16, 8)


def timed(name: str, overrides: list[str], gemm: Gemm = PRODUCT, latencies=NONE, nonzeros=None):
    arch = load_arch(name, overrides)
    return time_layer(gemm, arch, arch.pattern(), latencies, nonzeros=nonzeros)


def in_array(timing) -> int:
    return int(timing.plan.compute.total.sum())


def test_weight_stationary_folds_by_hand():
    # Rows span 4 elements · 2 lanes = 8 of 16 features, columns 4 of 8 outputs: 2 · 2 folds. In each, 4 cycles load the
    # weights, 10 tokens stream past, and the last one takes 4 + 4 − 2 cycles more through the array.
    serial = timed("dense", [*STATIONARY, "array.interconnect=systolic", "array.fold_overlap=false"])
    assert in_array(serial) == 4 * (4 + 10 + 6)
    # Overlapping, only the first load of weights is seen.
    assert in_array(timed("dense", [*STATIONARY, "array.interconnect=systolic"])) == 4 * 10 + 4


def test_weight_stationary_takes_half_the_folds_at_half_the_density():
    # 2:4 on 2 lanes: a group of 4 features an element, so 4 elements span all 16 features in one fold of each panel.
    timing = timed("dense", [*STATIONARY, "sparsity.patterns=2:4"])
    assert int(timing.plan.compute.array.sum()) == 2 * 10


def test_weight_stationary_waits_for_weights_where_few_tokens_stream():
    # One token: a fold of one cycle, and four to load the next one's weights: three of waiting in each of four folds.
    timing = timed("dense", STATIONARY, Gemm("layer", "site", 1, 16, 8))
    assert int(timing.plan.compute.weight_port.sum()) == 4 * 3
    assert int(timing.plan.compute.array.sum()) == 4


@pytest.mark.parametrize(
    ("shape", "cycles"),  # (tokens, features, outputs), compute cycles that SCALE-Sim 3.0.0 printed
    [((64, 576, 192), 17_063), ((100, 33, 70), 1_163), ((512, 576, 192), 65_447), ((128, 1536, 576), 191_807)],
)
def test_the_weight_stationary_array_counts_what_scale_sim_counts(shape, cycles):
    arch = load_arch("systolic32_ws")
    timing = time_layer(Gemm("layer", "site", *shape), arch, None, NONE)
    assert in_array(timing) == cycles + 1, "it counts from cycle 0"


def test_partial_sums_must_fit_their_accumulators():
    # 4 columns · 4 bytes · 2 halves for one token.
    with pytest.raises(AccelSimError, match=r"sram.accumulator_bytes is 12 bytes too small for one token"):
        timed("dense", [*SMALL, "array.dataflow=weight_stationary", "sram.accumulator_bytes=20"])
    with pytest.raises(AccelSimError, match=r"mapping.panel_tokens 9: sums of at most 8 tokens fit"):
        timed("dense", [*STATIONARY, "sram.accumulator_bytes=128", "mapping.panel_tokens=9"])


def test_a_fold_waits_for_activations_as_long_as_they_stream():
    # Four rows take 8 bytes a cycle; a port of 4 lets 10 tokens take 20 cycles in each of four folds.
    timing = timed("dense", [*STATIONARY, "sram.activation_port_bytes_per_cycle=4"])
    assert int(timing.plan.compute.sram.sum()) == 4 * 10


def test_panels_of_tokens_shrink_to_what_outputs_and_cores_leave():
    # Two halves of 4 outputs each for 5 tokens are 40 bytes. On three cores the largest share of 10 tokens is 4.
    def most(*overrides: str) -> int:
        return panel_tokens(Product.of(PRODUCT), load_arch("dense", [*STATIONARY, *overrides]))[0]

    assert most() == 10
    assert most("sram.output_bytes=40") == 5
    assert most("cores.count=3", "cores.split=tokens") == 4


def test_tokens_beyond_the_accumulators_load_the_weights_again():
    # Sums of 4 columns · 4 bytes for 5 tokens: two panels of tokens, each past all four folds.
    timing = timed("dense", [*STATIONARY, "sram.accumulator_bytes=80", "array.fold_overlap=false"])
    assert timing.plan.tiling.panel_tokens == 5
    assert int(timing.plan.compute.array.sum()) == 2 * 4 * 5
    assert int(timing.plan.compute.fill.sum()) == 2 * 4 * 4


def test_cores_share_the_outputs_by_hand():
    # 8 outputs are 2 panels, one a core; 3 panels of tokens of 16 / 2 = 8 cycles each; the second core's are as many.
    timing = timed("dense", [*SMALL, "cores.count=2", "array.drain=none"])
    assert timing.plan.compute.array.sum(axis=1).tolist() == [3 * 8, 3 * 8]


def test_a_core_may_have_less_to_do():
    # 3 panels of tokens on 2 cores: two and one; the third core of three outputs' panels has nothing.
    timing = timed("dense", [*SMALL, "cores.count=2", "cores.split=tokens"])
    assert timing.plan.compute.array.sum(axis=1).tolist() == [2 * 2 * 8, 1 * 2 * 8]
    timing = timed("dense", [*SMALL, "cores.count=3"])
    assert timing.plan.compute.array.sum(axis=1).tolist() == [24, 24, 0]


@pytest.mark.parametrize("split", ["tokens", "outputs"])
def test_what_all_cores_need_is_fetched_once(split):
    gemm = Gemm("layer", "site", 256, 1024, 1024)
    one, two = (
        timed("dense", [f"cores.count={n}", f"cores.split={split}", "mapping.block_panels=1"], gemm) for n in (1, 2)
    )
    common = two.plan.items.weight_bytes if split == "tokens" else two.plan.items.activation_bytes
    assert common[0].sum() > 0 and common[1].sum() == 0
    assert two.plan.dram_read_bytes <= one.plan.dram_read_bytes


def test_cores_contend_for_the_memory():
    starved = ["dram.bytes_per_cycle=16", "dram.latency_cycles=0"]
    gemm = Gemm("layer", "site", 512, 1024, 1024)
    one, four = (timed("dense", [*starved, f"cores.count={count}"], gemm) for count in (1, 4))
    assert four.cycles > 0.8 * one.cycles, "a memory that is busy all the time feeds four cores no faster than one"
    assert bottleneck(four.breakdown) == "dram"


def test_the_shared_buffer_serves_what_is_fetched_again():
    gemm = Gemm("layer", "site", 512, 4096, 4096)
    small, large = (
        timed("dense", ["cores.count=2", f"cores.shared_buffer_bytes={size}"], gemm) for size in (1, 32 * 2**20)
    )
    assert large.plan.dram_read_bytes == 512 * 4100 + 4096 * 4100, "each operand once, with its scales"
    assert small.plan.dram_read_bytes > large.plan.dram_read_bytes
    assert large.plan.traffic.buffered.sum() > large.plan.dram_read_bytes
    narrow = timed(
        "dense", ["cores.count=2", "cores.shared_buffer_bytes=33554432", "cores.shared_buffer_bytes_per_cycle=16"], gemm
    )
    assert narrow.cycles > 2 * large.cycles


@pytest.mark.parametrize("size", [600_000, 1_100_000])
def test_the_shared_buffer_keeps_what_would_be_fetched_again(size):
    # 512 rows of 1028 bytes stream past each of 32 panels of 1024 columns. They fit in 600,000 bytes; in 1,100,000 the
    # columns would fit as well, but not both, and columns are fetched once anyhow.
    arch = load_arch("dense", [f"cores.shared_buffer_bytes={size}"])
    tiling = Tiling("weights", block_panels=1, panel_tokens=32, replacement="double", streaming="double")
    one = plan(Product.of(Gemm("layer", "site", 512, 1024, 1024)), arch, None, tiling, NONE)
    assert one.dram_read_bytes == (512 + 1024) * 1028


def skipping(kind: str, overrides: list[str], codes: list[list[int]]):
    """One tile of as many rows as `codes`, 8 outputs on 8 columns."""
    rows, features = len(codes), len(codes[0])
    arch = load_arch("dense", [*SMALL, "array.cols=8", f"array.rows={rows}", f"sparsity.skipping={kind}", *overrides])
    gemm = Gemm("layer", "site", rows, features, 8)
    found = windows(np.array(codes, np.int8), rows, arch.pattern(), Skipping.of(arch), REAL_MASKS)
    return time_layer(gemm, arch, arch.pattern(), NONE, nonzeros=Nonzeros(windows=found))


ELASTIC = ["sparsity.operand_mux=full", "sparsity.patterns=2:4", "sparsity.sync_window=2"]


def test_elastic_groups_by_hand():
    # Two slices of one lane. First window: groups of 2 and 1 non-zeros in row 0, none in row 1: 2 cycles. Second: 1 and
    # 1 beside 0 and 0: 1 cycle. Fixed 2:4 on two lanes takes a cycle a group: 4. Rows · slices work 2+1+1+1, 1+1+1+1 of
    # 4 each, so of 3 cycles ceil(5/4) + ceil(4/4) = 3 are work and none is waiting for others.
    codes = [[9, 8, 7, 0, 0, 0, 1, 0, 0, 0, 0, 5, 6, 0, 0, 0], [0] * 16]
    timing = skipping("elastic", ELASTIC, codes)
    assert int((timing.plan.compute.array + timing.plan.compute.synchronisation).sum()) == 2 + 1
    assert int(timing.plan.compute.synchronisation.sum()) == 0


def test_elastic_slices_wait_for_each_other():
    # One group of two non-zeros in each window, beside three empty ones: 2 cycles a window, of which ceil(5/4) = 2 are
    # work. With four rows of which one has it: 9 of 16 slice cycles, ceil(9/8) = 2. With eight: 17 of 32, ceil(17/16).
    busy, idle = [9, 9, 0, 0, 0, 0, 0, 0] * 2, [0] * 16
    timing = skipping("elastic", [*ELASTIC, "sparsity.sync_window=4", "array.lanes=4"], [busy] + [idle] * 7)
    # One window of 4 groups on 4 slices: 2 cycles; 8 · 4 slices work 2·2 + 30 = 34 of 64: ceil(34/32) = 2.
    assert int(timing.plan.compute.array.sum()) == 2
    slow = skipping("elastic", [*ELASTIC, "sparsity.patterns=4:4"], [[1] * 16] + [idle] * 7)
    # Two slices, groups of four non-zeros: 4 cycles in each of two windows. 16 slices work 8 + 14 of 64 a window:
    # ceil(22/16) = 2 of work and 2 of waiting.
    assert int(slow.plan.compute.array.sum()) == 2 * 2
    assert slow.breakdown["synchronisation"] == 2 * 2


def test_unstructured_windows_by_hand():
    # Windows of 8 features, 2 lanes: 5 non-zeros are 3 cycles, 0 are one.
    codes = [[1, 2, 3, 4, 5, 0, 0, 0] + [0] * 8, [0] * 8 + [1] + [0] * 7]
    timing = skipping("unstructured", ["sparsity.patterns=4:4", "sparsity.sync_window=2"], codes)
    assert int((timing.plan.compute.array + timing.plan.compute.synchronisation).sum()) == 3 + 1
    # In 4 banks of one weight a cycle, features 0 and 4 of the window share one; 3 cycles are enough for that too.
    # With all five in one bank of two they would not be: features 0, 2, 4 in one and 1, 3 in the other take 3.
    alternating = [[1, 0, 2, 0, 3, 0, 4, 0] + [0] * 8]
    banked = skipping(
        "unstructured", ["sparsity.patterns=4:4", "sparsity.sync_window=2", "sparsity.window_banks=2"], alternating
    )
    assert int((banked.plan.compute.array + banked.plan.compute.synchronisation).sum()) == 4 + 1


@pytest.mark.parametrize(
    ("kind", "overrides"),
    [
        ("elastic", [*ELASTIC, "sparsity.patterns=4:4", "array.lanes=4", "sparsity.sync_window=3"]),
        ("unstructured", ["sparsity.patterns=4:4", "sparsity.sync_window=2"]),
        ("unstructured", ["sparsity.patterns=4:4", "sparsity.sync_window=2", "sparsity.window_banks=1"]),
    ],
)
def test_a_product_is_cut_for_activations_without_a_zero(kind, overrides):
    arch = load_arch("dense", [*SMALL, f"sparsity.skipping={kind}", *overrides])
    found = windows(np.ones((10, 16), np.int8), 10, arch.pattern(), Skipping.of(arch), REAL_MASKS)
    full = full_windows(Product.of(Gemm("layer", "site", 10, 16, 8)), arch, arch.pattern())
    assert full.cycles.tolist() == found.cycles.tolist()


def test_skipped_groups_still_need_their_weights():
    # Empty groups take a cycle in each of two slices, two groups a cycle; a port of one group a cycle halves that.
    wide, narrow = (
        skipping("elastic", [*ELASTIC, f"sparsity.weight_groups_per_cycle={groups}"], [[0] * 16]) for groups in (2, 1)
    )
    assert int(wide.plan.compute.total.sum()) == 2
    assert narrow.breakdown["weight_port"] == 2


def test_gathered_rows_by_hand():
    # 3 of 16 features are needed by one token: 3 rows of 8 weights, each a burst of 32, and a burst of scales; the
    # array takes ceil(3/2) cycles for each of 2 panels. The activations (20 bytes, a burst) come first.
    arch = load_arch("dense", [*SMALL, "sparsity.skipping=row_gather"])
    gemm = Gemm("layer", "site", 1, 16, 8)
    timing = time_layer(gemm, arch, None, NONE, nonzeros=Nonzeros(features=3))
    assert timing.plan.scanned_bytes == 32
    assert timing.plan.traffic.read.sum() == 3 * 32 + 32
    assert timing.plan.dram_read_bytes == 3 * 32 + 32 + 32
    assert int(timing.plan.compute.array.sum()) == 2 * 2
    assert timing.plan.pipeline.after_select[:2].tolist() == [False, True]


def test_gathering_selects_all_features_to_know_which_are_needed():
    # 40 features are three groups of 16 for each of 2 tokens, whatever is needed of them; one selector.
    overrides = [*SMALL, "sparsity.skipping=row_gather", "sparsity.patterns=8:16", "sparsity.selector.units=1"]
    timing = timed("dense", overrides, Gemm("layer", "site", 2, 40, 8), nonzeros=Nonzeros(features=5))
    assert int(timing.plan.pipeline.durations[..., SELECT].sum()) == 2 * 3


def test_gathered_columns_by_hand():
    # 5 of 8 outputs are needed: 5 columns of 16 + 4 bytes in whole bursts, two panels of 4 and 1.
    arch = load_arch("dense", [*SMALL, "sparsity.skipping=output_gather"])
    timing = time_layer(Gemm("layer", "site", 1, 16, 8), arch, None, NONE, nonzeros=Nonzeros(outputs=5))
    assert timing.plan.items.weight_bytes.sum() in (128, 160), "one run of 100 bytes, or two of 80 and 20"
    assert timing.plan.traffic.write.sum() == 5


def test_static_weights_shrink_where_activations_do_not():
    gemm = Gemm("layer", "site", 64, 1024, 1024)
    arch = load_arch("weights_8x16")
    timing = time_layer(gemm, arch, arch.pattern(), NONE)
    assert timing.plan.items.weight_bytes.sum() == 1024 * (512 + 128 + 4)
    assert timing.plan.items.activation_bytes.sum() == 64 * (1024 + 4)
    assert timing.breakdown["selector"] == 0


def test_two_levels_run_at_the_rate_of_all_their_slots():
    # 2:4 of 2:4 keeps 4 of 16: four groups of 16 a cycle on 16 lanes, 512 features in 8 cycles.
    timing = timed("2x4_of_2x4", ["array.drain=none"], Gemm("layer", "site", 32, 512, 32))
    assert int(timing.plan.compute.array.sum()) == 8


def test_bursts_round_every_run_up():
    # 10 rows of 20 bytes in one run are 200 bytes: 4 bursts of 64. 8 columns of 20: 160, 3 bursts.
    timing = timed("dense", [*SMALL, "dram.burst_bytes=64"])
    assert timing.plan.tiling.streaming == "resident"
    assert timing.plan.traffic.read.sum() >= 7 * 64


def test_an_operand_is_resident_down_to_its_last_byte():
    # 7 outputs of 16 weights: 112 bytes, in panels of 64.
    def streams(size: int) -> set[str]:
        arch = load_arch("dense", [*SMALL, "mapping.held=activations", f"sram.weight_bytes={size}"])
        return {tiling.streaming for tiling in tilings(Product.of(Gemm("layer", "site", 10, 16, 7)), arch, None)}

    assert streams(112) == {"resident"}
    assert streams(111) == {"single", "chunks"}, "nor do two panels fit"


def test_two_panels_too_large_are_cut_alike():
    # 4 rows and 4 columns of 1000 features: halves of 400 bytes take them in 10 pieces, halves of 1000 in 4.
    arch = load_arch("dense", [*SMALL, "sram.activation_bytes=800", "sram.weight_bytes=2000"])
    assert [tiling.chunks for tiling in tilings(Product.of(Gemm("layer", "site", 4, 1000, 4)), arch, None)] == [10]


def test_a_block_that_is_held_whole_is_one_run_of_bursts():
    # The activations come in two pieces of 50 features: 4 rows of 52 bytes, each a burst of 64. The 4 columns of 104
    # bytes that are held come at once, 416 bytes, whatever is done to the activations.
    arch = load_arch("dense", [*SMALL, "dram.burst_bytes=64"])
    tiling = Tiling("weights", block_panels=1, panel_tokens=4, replacement="never", streaming="chunks", chunks=2)
    items = cut(Product.of(Gemm("layer", "site", 4, 100, 4)), arch, None, tiling)
    assert items.activation_bytes.tolist() == [[4 * 64, 4 * 64]]
    assert items.weight_bytes.tolist() == [[7 * 64, 0]]


def test_turning_the_bus_round_takes_longer_for_stores_alone():
    gemm = Gemm("layer", "site", 512, 64, 512)
    plain, turned = (timed("dense", [f"dram.turnaround={factor}"], gemm) for factor in (1, 2))
    before, after = (timing.plan.pipeline.durations for timing in (plain, turned))
    assert (after[..., 4] == 2 * before[..., 4]).all() and (after[..., :4] == before[..., :4]).all()


def test_the_mapping_holds_the_search_to_what_was_asked():
    gemm = Gemm("layer", "site", 512, 1024, 1024)
    free = candidates(Product.of(gemm), load_arch("dense"), None, NONE)
    held = candidates(Product.of(gemm), load_arch("dense", ["mapping.held=activations"]), None, NONE)
    assert {one.tiling.held for one in free} == {"activations", "weights"}
    assert {one.tiling.held for one in held} == {"activations"}
    three = candidates(
        Product.of(gemm), load_arch("dense", ["mapping.held=weights", "mapping.block_panels=3"]), None, NONE
    )
    assert {(one.tiling.held, one.tiling.block_panels) for one in three} == {("weights", 3)}
    with pytest.raises(AccelSimError, match=r"mapping.panel_tokens: needs array.dataflow weight_stationary"):
        load_arch("dense", ["mapping.panel_tokens=8"])
    with pytest.raises(AccelSimError, match="mapping fits no tiling; there are: activations in blocks of 1"):
        timed("dense", ["mapping.block_panels=999"], gemm)


def test_the_dense_counterpart_chooses_for_itself():
    arch = load_arch("8x16", ["mapping.held=activations", "mapping.block_panels=1"])
    assert arch.dense().mapping == load_arch("dense").mapping


def test_windows_of_another_number_of_tokens_are_refused():
    arch = load_arch("16x16_elastic")
    codes = np.ones((64, 64), np.int8)
    found = windows(codes, 64, Pattern("16:16"), Skipping.of(arch), REAL_MASKS)
    with pytest.raises(AccelSimError, match="layer layer: non-zeros of 2 panels of 32 tokens, expected 3"):
        time_layer(Gemm("layer", "site", 96, 64, 64), arch, arch.pattern(), NONE, nonzeros=Nonzeros(windows=found))


def test_every_core_stores_the_activations_that_a_gather_brought_ahead():
    gemm = Gemm("layer", "site", 4, 64, 64)
    written = {}
    for split in ("tokens", "outputs"):
        arch = load_arch("8x16_row_gather", ["cores.count=2", f"cores.split={split}"])
        timing = time_layer(gemm, arch, arch.pattern(), NONE, nonzeros=Nonzeros(features=48))
        written[split] = count_activity(gemm, arch, arch.pattern(), timing, 0).activation_sram_write_bytes
    assert written == {"tokens": 4 * 48, "outputs": 2 * 4 * 48}


def test_a_slightly_slower_tiling_is_taken_for_far_less_traffic():
    arch = load_arch("datacenter")
    product = Product.of(Gemm("layer", "site", 512, 4096, 4096))
    taken, *others = candidates(product, arch, arch.pattern(), Latencies(1, 2, 2))
    fastest = min(others, key=lambda one: one.cycles)
    assert fastest.cycles < taken.cycles <= 1.01 * fastest.cycles
    assert 3 * taken.dram_read_bytes < fastest.dram_read_bytes


def test_smaller_panels_are_tried_where_the_array_waits_for_the_first_one():
    # A panel of all 512 tokens is loaded before anything is computed; of 64 tokens an eighth of that.
    gemm = Gemm("layer", "site", 512, 576, 1536)
    free, whole = (timed("8x16_weight_stationary", over, gemm) for over in ([], ["mapping.panel_tokens=512"]))
    assert free.plan.tiling.panel_tokens < 512
    assert free.cycles < whole.cycles
