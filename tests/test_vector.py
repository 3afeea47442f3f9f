"""The time of vector operations."""

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel_sim.arch import load_arch
from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern
from accel_sim.timing import Latencies
from accel_sim.timing.vector import CHUNKS, time_vector, vector_activity
from accel_sim.workload import VectorOperation

LATENCIES = Latencies(select=3, compute=2, requantise=2)
SPARSE = Pattern("8:16")


def operation(**changes) -> VectorOperation:
    sizes = {"rows": 1, "elements": 512, "operations_per_element": 4, "read_bytes": 1024, "written_bytes": 512}
    return VectorOperation(**{"name": "norm", "kind": "norm", **sizes, **changes})


@cache
def arch(machine: str, *settings: str):
    return load_arch(machine, settings)


def timing(one: VectorOperation, *settings: str, pattern=None, machine="dense", engine="compiled"):
    return time_vector(one, arch(machine, *settings), pattern, LATENCIES, engine)


def operations():
    return st.builds(
        lambda rows, width, element, row, read, written, chip_in, chip_out: operation(
            rows=rows,
            elements=rows * width,
            operations_per_element=element,
            operations_per_row=row,
            read_bytes=rows * width * read,
            written_bytes=rows * width * written,
            inputs_on_chip=chip_in,
            outputs_on_chip=chip_out,
            site="s",
        ),
        st.integers(1, 500),
        st.integers(1, 2000),
        st.integers(0, 30),
        st.integers(0, 20),
        st.integers(0, 3),
        st.integers(1, 3),
        st.booleans(),
        st.booleans(),
    )


def test_one_row_with_a_pencil():
    # By hand: 1,024 bytes at 256 a cycle 4, DRAM latency 50, 512·4 operations on 512 lanes 4, 512 bytes 2.
    result = timing(operation())
    assert result.cycles == 4 + 50 + 4 + 2
    assert {cause: cycles for cause, cycles in result.breakdown.items() if cycles} == {
        "dram": 54,
        "ideal_compute": 4,
        "write_back": 2,
    }


def test_lanes_that_idle_in_the_last_cycle_are_underuse():
    # By hand: 2,052 operations on 512 lanes are 5 cycles, 4 of them full.
    result = timing(operation(operations_per_row=4))
    assert (result.breakdown["ideal_compute"], result.breakdown["array_underuse"]) == (4, 1)


def test_many_rows_run_at_the_slowest_stage():
    # By hand: 64 rows in 32 chunks of 2; each loads 8 cycles, computes 80, stores 4.
    result = timing(
        operation(rows=64, elements=64 * 512, operations_per_element=40, read_bytes=65536, written_bytes=32768)
    )
    assert result.cycles == 8 + 50 + 32 * 80 + 4


def test_what_stays_on_chip_takes_no_dram():
    result = timing(operation(inputs_on_chip=True, outputs_on_chip=True))
    assert result.cycles == result.breakdown["ideal_compute"] == 4
    done = vector_activity(result)
    assert (done.dram_read_bytes, done.dram_write_bytes) == (0, 0)
    assert (done.activation_sram_read_bytes, done.output_sram_write_bytes) == (1024, 512)


def test_an_array_has_a_lane_for_every_32_multipliers_unless_set():
    assert arch("dense").vector.lanes_beside(arch("dense").array) == 32 * 32 * 16 // 32
    tiny = arch("dense", "array.rows=1", "array.cols=1", "array.lanes=1")
    assert tiny.vector.lanes_beside(tiny.array) == 1
    assert timing(operation(), "vector.lanes=64").breakdown["ideal_compute"] == 2048 // 64


def test_energy_is_charged_for_lane_operations():
    done = vector_activity(timing(operation(rows=4, operations_per_row=7)))
    assert done.vector_operations == 512 * 4 + 4 * 7
    assert (done.multiplies, done.requantised, done.weight_sram_read_bytes) == (0, 0, 0)


def test_a_selector_at_write_back_throttles_the_store_and_compresses_it():
    # By hand: 512 features are 32 groups of 16; one selector takes 32 cycles, and 3 more until the last is through.
    # Stored: 32·8 codes and 32·2 bytes of bitmap, 320 bytes or 2 cycles.
    placed = ("sparsity.selector.placement=write_back", "sparsity.selector.units=1")
    result = timing(operation(site="s"), *placed, pattern=SPARSE, machine="8x16")
    assert result.breakdown["selector"] == 32 + 3
    assert result.cycles == 4 + 50 + 4 + 35 + 2
    done = vector_activity(result)
    assert (done.selected_groups, done.dram_write_bytes) == (32, 320)


@pytest.mark.parametrize(
    ("changes", "placement", "pattern"),
    [
        ({"site": None}, "write_back", SPARSE),  # produces no site
        ({"site": "s"}, "write_back", None),  # its readers run dense
        ({"site": "s"}, "load", SPARSE),  # its readers select for themselves
        ({"site": "s"}, "software", SPARSE),  # a kernel of its own selects
    ],
)
def test_nothing_is_selected_otherwise(changes, placement, pattern):
    one = operation(**changes)
    result = timing(one, f"sparsity.selector.placement={placement}", pattern=pattern, machine="8x16")
    assert vector_activity(result).selected_groups == 0
    assert result.cycles == timing(one).cycles


def test_bursts_and_the_turning_bus_lengthen_transfers():
    # By hand: 1,000 bytes in bursts of 64 are 1,024: 4 cycles; 500 are 512, and 2 cycles become 3 at 1.5.
    one = operation(read_bytes=1000, written_bytes=500)
    result = timing(one, "dram.burst_bytes=64", "dram.turnaround=1.5")
    assert (vector_activity(result).dram_read_bytes, vector_activity(result).dram_write_bytes) == (1024, 512)
    assert result.cycles == 4 + 50 + 4 + 3


def test_a_row_that_does_not_fit_is_refused_with_the_missing_bytes():
    with pytest.raises(
        AccelSimError, match=r"operation norm: sram.activation_bytes is 48 bytes too small for two rows"
    ):
        timing(operation(), "sram.activation_bytes=2000")


def test_cores_share_the_rows():
    one = operation(rows=64, elements=64 * 512, operations_per_element=400, read_bytes=65536, written_bytes=32768)
    alone, together = timing(one), timing(one, "cores.count=4")
    assert together.work.groups.shape == (4, 16)
    assert together.breakdown["ideal_compute"] == pytest.approx(alone.breakdown["ideal_compute"] / 4, rel=0.1)
    assert vector_activity(together).vector_operations == vector_activity(alone).vector_operations


@given(one=operations(), cores=st.integers(1, 3), units=st.integers(1, 8))
def test_the_breakdown_adds_up_and_both_engines_agree(one, cores, units):
    settings = (f"cores.count={cores}", f"sparsity.selector.units={units}", "sparsity.selector.placement=write_back")
    result = timing(one, *settings, pattern=SPARSE, machine="8x16")
    again = timing(one, *settings, pattern=SPARSE, machine="8x16", engine="event")
    np.testing.assert_array_equal(result.schedule.end, again.schedule.end)
    assert result.cycles == again.cycles == sum(result.breakdown.values())
    assert min(result.breakdown.values()) >= 0
    assert result.breakdown["ideal_compute"] * result.work.lanes <= one.lane_operations


@given(one=operations())
def test_all_work_is_done_whatever_the_chunks(one):
    result = timing(one, "sram.activation_bytes=65536", "sram.output_bytes=65536", "dram.burst_bytes=1")
    work = result.work
    assert int(work.lane_operations.sum()) == one.lane_operations
    assert int(work.read_bytes.sum()) == one.dram_read_bytes
    assert int(work.written_bytes.sum()) == one.dram_written_bytes
    assert work.groups.shape[1] >= min(one.rows, CHUNKS)


@given(one=operations(), which=st.sampled_from(["vector.lanes", "dram.bytes_per_cycle", "sparsity.selector.units"]))
def test_more_of_anything_is_never_slower(one, which):
    placed = ("sparsity.selector.placement=write_back",)
    times = [
        timing(one, *placed, f"{which}={2**power}", pattern=SPARSE, machine="8x16").cycles for power in range(3, 12)
    ]
    assert times == sorted(times, reverse=True)
