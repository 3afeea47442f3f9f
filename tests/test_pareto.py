"""Which designs are worth having."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from accel_sim.errors import AccelSimError
from accel_sim.study.pareto import ENERGY_AND_AREA, front, non_dominated
from accel_sim.study.points import ALL_WORKLOADS, Point, combine

DENSE = Point(
    label="dense", arch="dense", pattern="dense", workload="trace", cycles=2000, dense_cycles=2000, time_s=4e-6,
    dense_time_s=4e-6, speedup=1.0, speedup_time=1.0, speedup_iso_area=1.0, area_um2=20e6, area_overhead=0.0,
    energy_pj=1e6, dense_energy_pj=1e6, edp_joule_seconds=4e-12, gops_per_mm2=50.0, quality_loss=0.0,
    quality_kind="input", quality_standard_error=None, bottleneck="compute",
)  # fmt: skip
SPARSE = replace(
    DENSE, label="8x16", arch="8x16", pattern="8:16", cycles=1000, time_s=2e-6, speedup=2.0, speedup_time=2.0,
    speedup_iso_area=1.25, area_um2=25e6, area_overhead=0.25, energy_pj=0.9e6, edp_joule_seconds=1.8e-12,
    gops_per_mm2=80.0, quality_loss=0.05,
)  # fmt: skip


def by_definition(costs: np.ndarray) -> list[bool]:
    """A row stays when no other is at least as good everywhere and better somewhere."""
    return [not any((other <= row).all() and (other < row).any() for other in costs) for row in costs]


# Few distinct values, so that ties and duplicates are common.
few_values = st.integers(0, 4).map(float)


@given(
    st.tuples(st.integers(0, 25), st.integers(1, 4)).flatmap(lambda shape: arrays(float, shape, elements=few_values))
)
def test_the_front_is_the_one_of_the_definition(costs):
    assert non_dominated(costs).tolist() == by_definition(costs)


@given(arrays(float, (12, 3), elements=st.floats(allow_nan=False)))
def test_the_front_is_the_one_of_the_definition_for_any_floats(costs):
    assert non_dominated(costs).tolist() == by_definition(costs)


@given(arrays(float, (10, 3), elements=few_values), st.permutations(range(10)))
def test_the_order_of_points_does_not_matter(costs, order):
    assert non_dominated(costs)[order].tolist() == non_dominated(costs[order]).tolist()


def test_equal_points_do_not_dominate_each_other():
    assert non_dominated([[1, 2], [1, 2], [2, 2]]).tolist() == [True, True, False]


def test_a_point_without_a_value_is_refused():
    with pytest.raises(AccelSimError, match="point 1 has no value"):
        non_dominated([[1.0, 2.0], [1.0, float("nan")]])


def test_faster_smaller_and_truer_are_each_worth_something():
    slow_and_lossy = replace(SPARSE, label="bad", speedup_iso_area=0.9)
    assert front([DENSE, SPARSE, slow_and_lossy]) == (True, True, False)
    assert front([SPARSE, replace(slow_and_lossy, quality_loss=0.01)]) == (True, True)
    assert front([SPARSE, replace(slow_and_lossy, area_um2=21e6)]) == (True, True)


def test_energy_and_area_ignore_speed_and_quality():
    larger = replace(SPARSE, label="larger", area_um2=26e6, speedup_iso_area=9.0, quality_loss=0.0)
    assert front([DENSE, SPARSE, larger], ENERGY_AND_AREA) == (True, True, False)


def test_workloads_in_sequence_add_their_times():
    # Twice 2 µs against 4 µs, and 6 µs against 6 µs: 14 µs of dense work in 10 µs.
    other = replace(
        SPARSE, workload="other", cycles=3000, dense_cycles=3000, time_s=6e-6, dense_time_s=6e-6, speedup_iso_area=0.5
    )
    total = combine([SPARSE, replace(SPARSE, workload="again"), other])
    assert total.workload == ALL_WORKLOADS
    assert total.speedup == pytest.approx(7000 / 5000)
    assert total.speedup_time == pytest.approx(14 / 10)
    # The enlarged dense arrays take 2.5, 2.5 and 3 µs.
    assert total.speedup_iso_area == pytest.approx(8 / 10)
    assert total.energy_pj == pytest.approx(2.7e6)
    assert total.edp_joule_seconds == pytest.approx(2.7e-6 * 10e-6)


def test_a_workload_twice_changes_no_ratio():
    once, twice = SPARSE, combine([SPARSE, replace(SPARSE, workload="again")])
    for quantity in ("speedup", "speedup_time", "speedup_iso_area", "gops_per_mm2", "quality_loss", "area_um2"):
        assert getattr(twice, quantity) == pytest.approx(getattr(once, quantity))


def test_qualities_measured_differently_are_not_averaged():
    with pytest.raises(AccelSimError, match="as input and as output"):
        combine([SPARSE, replace(SPARSE, workload="other", quality_kind="output")])


def test_different_designs_are_not_added_up():
    with pytest.raises(AccelSimError, match="dense: cannot be combined with 8x16"):
        combine([DENSE, SPARSE])
