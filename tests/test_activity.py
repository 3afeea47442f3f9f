"""Event counts of one product, worked by hand: what energy is charged for."""

from dataclasses import asdict

import pytest

from accel_sim.arch import load_arch
from accel_sim.pattern import Pattern
from accel_sim.timing import Activity, Latencies, LayerTiming, compiled, count_activity
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


def counted(pattern: Pattern | None, placement: str = "load", first_use_of_site: bool = True) -> Activity:
    arch = load_arch("8x16", [f"sparsity.selector.placement={placement}"])
    arch = arch if pattern else arch.dense()
    tiling = Tiling("weights", block_panels=1, panel_tokens=32, replacement="double", streaming="double")
    chosen = plan(Product.of(GEMM), arch, pattern, tiling, Latencies(1, 2, 2))
    schedule = compiled.run(chosen.pipeline)
    timing = LayerTiming(chosen, schedule, schedule.makespan, {})
    return count_activity(GEMM, arch, pattern, timing, zero_slots=0.25, first_use_of_site=first_use_of_site)


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
    assert done.selected_groups == TOKENS * GROUPS
    assert counted(PATTERN, "write_back", first_use_of_site=False).selected_groups == 0
    compressed = SLOTS + METADATA_BYTES + SCALE_BYTES
    assert done.dram_read_bytes == FETCHED_ROWS * compressed + OUTPUTS * (FEATURES + SCALE_BYTES)


def test_equal_layers_count_as_often_as_they_stand_for():
    once = counted(PATTERN)
    assert once.times(3) == once + once + once


@pytest.mark.parametrize("first_use_of_site", [True, False])
def test_selecting_at_load_does_not_depend_on_who_used_the_site_before(first_use_of_site):
    assert counted(PATTERN, "load", first_use_of_site).selected_groups == FETCHED_ROWS * GROUPS
