"""Event counts of one product, worked by hand: what energy is charged for."""

from dataclasses import asdict

from accel_sim.arch import load_arch
from accel_sim.pattern import Pattern
from accel_sim.timing import (
    Activity,
    Latencies,
    LayerTiming,
    Nonzeros,
    SiteSelection,
    compiled,
    count_activity,
    select_site,
    time_layer,
)
from accel_sim.timing.layer import plan
from accel_sim.timing.product import Product
from accel_sim.timing.tiling import Tiling
from accel_sim.workload import Gemm

TOKENS, FEATURES, OUTPUTS = 64, 100, 96  # 2 panels of tokens, 3 of outputs on 32×32 processing elements
GEMM = Gemm("layer", "site", TOKENS, FEATURES, OUTPUTS)
FETCHED_ROWS = 3 * TOKENS  # every panel of weights is held once, and the activations stream past each of them
PATTERN = Pattern("8:16")
GROUPS, SLOTS, PADDED = 7, 7 * 8, 7 * 16
METADATA_BYTES = GROUPS * 16 // 8
SCALE_BYTES = 4


def counted(pattern: Pattern | None, placement: str = "load") -> Activity:
    arch = load_arch("8x16", [f"sparsity.selector.placement={placement}"])
    arch = arch if pattern else arch.dense()
    tiling = Tiling("weights", block_panels=1, panel_tokens=32, replacement="double", streaming="double")
    chosen = plan(Product.of(GEMM), arch, pattern, tiling, Latencies(1, 2, 2))
    schedule = compiled.run(chosen.pipeline)
    timing = LayerTiming(chosen, schedule, schedule.makespan, {})
    return count_activity(GEMM, arch, pattern, timing, zero_slots=0.25)


def test_a_sparse_product_by_hand():
    done = counted(PATTERN)
    assert done.cycles > 0
    assert asdict(done) == {
        "cycles": done.cycles,
        "multiplies": TOKENS * OUTPUTS * SLOTS,
        "zero_multiplies": TOKENS * OUTPUTS * SLOTS // 4,
        "selected_groups": FETCHED_ROWS * GROUPS,
        "decoded_groups": TOKENS * GROUPS * 3,
        "activation_sram_read_bytes": TOKENS * (SLOTS + METADATA_BYTES) * 3,
        "activation_sram_write_bytes": FETCHED_ROWS * (SLOTS + METADATA_BYTES),
        "metadata_sram_read_bytes": TOKENS * METADATA_BYTES * 3,
        "metadata_sram_write_bytes": FETCHED_ROWS * METADATA_BYTES,
        "weight_sram_read_bytes": OUTPUTS * PADDED * 2,
        "weight_sram_write_bytes": OUTPUTS * FEATURES,
        "output_sram_write_bytes": TOKENS * OUTPUTS,
        "output_sram_read_bytes": TOKENS * OUTPUTS,
        "requantised": TOKENS * OUTPUTS,
        "dram_read_bytes": (FETCHED_ROWS + OUTPUTS) * (FEATURES + SCALE_BYTES),
        "dram_write_bytes": TOKENS * OUTPUTS,
        "accumulator_sram_read_bytes": 0,
        "accumulator_sram_write_bytes": 0,
        "shared_buffer_read_bytes": 0,
        "shared_buffer_write_bytes": 0,
        "vector_operations": 0,
        "thresholded": 0,
        "predictor_sram_read_bytes": 0,
    }


def test_a_dense_product_by_hand():
    done = counted(None)
    assert done.multiplies == 4 * done.zero_multiplies == TOKENS * OUTPUTS * FEATURES
    assert done.selected_groups == done.decoded_groups == 0
    assert done.metadata_sram_read_bytes == done.metadata_sram_write_bytes == 0
    assert done.activation_sram_read_bytes == TOKENS * FEATURES * 3
    assert done.activation_sram_write_bytes == FETCHED_ROWS * FEATURES
    assert done.weight_sram_read_bytes == OUTPUTS * FEATURES * 2
    assert done.dram_read_bytes == counted(PATTERN).dram_read_bytes, "activations cross DRAM dense, weights always do"


def test_write_back_selects_a_site_once_and_moves_it_compressed():
    done = counted(PATTERN, "write_back")
    assert done.selected_groups == 0, "not by the products that read it"
    arch = load_arch("8x16", ["sparsity.selector.placement=write_back"])
    assert select_site(TOKENS, FEATURES, arch, PATTERN) == SiteSelection(selected_groups=TOKENS * GROUPS)
    compressed = SLOTS + METADATA_BYTES + SCALE_BYTES
    assert done.dram_read_bytes == FETCHED_ROWS * compressed + OUTPUTS * (FEATURES + SCALE_BYTES)


def test_a_kernel_that_selects_moves_a_site_out_and_back_by_hand():
    # 64 rows: 104 bytes in, 56 + 14 + 4 bytes out, at 256 a cycle: 26 and 18.5 cycles, after 50 of memory latency and a
    # launch of 2500; the product then reads it compressed.
    arch = load_arch("8x16_software")
    read, written = TOKENS * (FEATURES + SCALE_BYTES), TOKENS * (SLOTS + METADATA_BYTES + SCALE_BYTES)
    assert select_site(TOKENS, FEATURES, arch, PATTERN) == SiteSelection(2500 + 50 + 26 + 19, 0, read, written)
    turned = load_arch("8x16_software", ["dram.turnaround=2"])
    assert select_site(TOKENS, FEATURES, turned, PATTERN).cycles == 2500 + 50 + 26 + 37
    assert counted(PATTERN, "software").dram_read_bytes == counted(PATTERN, "write_back").dram_read_bytes


def test_nothing_is_selected_once_where_loads_select_or_nothing_is_pruned():
    for name, pattern in (("8x16", PATTERN), ("8x16_software", None), ("weights_8x16", PATTERN)):
        assert select_site(TOKENS, FEATURES, load_arch(name), pattern) == SiteSelection()


def test_equal_layers_count_as_often_as_they_stand_for():
    once = counted(PATTERN)
    assert once.times(3) == once + once + once


def test_selecting_at_load_happens_at_every_fetch():
    assert counted(PATTERN).selected_groups == FETCHED_ROWS * GROUPS


def test_what_was_read_to_know_the_needed_features_is_written_once():
    arch = load_arch("8x16_row_gather")
    gemm = Gemm("layer", "site", 2, 100, 96)
    timing = time_layer(gemm, arch, arch.pattern(), Latencies(1, 2, 2), nonzeros=Nonzeros(features=30))
    assert timing.plan.items.loaded_activations.sum() == 0, "they stay where they were read to"
    done = count_activity(gemm, arch, arch.pattern(), timing, 0.0)
    assert done.activation_sram_write_bytes == 2 * 30
    assert done.selected_groups == 2 * GROUPS, "all of them, to know what is needed"
    # A tenth of 2 · 56 slots is not zero, and all of those are among the 30 features that are multiplied.
    sparse = count_activity(gemm, arch, arch.pattern(), timing, zero_slots=0.9)
    assert sparse.zero_multiplies == 2 * 30 * 96 - round(2 * SLOTS * 96 * 0.1)


def test_metadata_of_static_weights_are_decoded_for_every_panel_of_tokens():
    arch, gemm = load_arch("weights_8x16"), Gemm("layer", "site", 40, FEATURES, OUTPUTS)
    timing = time_layer(gemm, arch, PATTERN, Latencies(1, 2, 2))
    done = count_activity(gemm, arch, PATTERN, timing, 0.0)
    assert done.decoded_groups == OUTPUTS * GROUPS * 2, "2 panels of tokens"
    assert done.metadata_sram_read_bytes == OUTPUTS * METADATA_BYTES * 2


def test_gathering_reads_a_compressed_site_to_know_what_is_needed():
    # 2 rows of 56 + 14 + 4 bytes are 148, five bursts of 32, however few of the features are needed.
    arch = load_arch("8x16_row_gather", ["sparsity.selector.placement=write_back"])
    gemm = Gemm("layer", "site", 2, FEATURES, OUTPUTS)
    timing = time_layer(gemm, arch, PATTERN, Latencies(1, 2, 2), nonzeros=Nonzeros(features=30))
    assert timing.plan.scanned_bytes == 160
