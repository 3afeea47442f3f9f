"""The five-stage pipeline: both engines, and the walk along the critical path."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel_sim.errors import AccelSimError
from accel_sim.timing import compiled, event
from accel_sim.timing.critical_path import critical_path
from accel_sim.timing.pipeline import COMPUTE, LOAD, SELECT, STORE, Pipeline, dram_order


def random_pipeline(rng: np.random.Generator) -> Pipeline:
    items = int(rng.integers(1, 30))
    return Pipeline(
        durations=rng.integers(0, rng.integers(1, 20), (items, 5)),
        latencies=rng.integers(0, 6, 5),
        exclusive=rng.random(items) < rng.choice([0.0, 0.2, 1.0]),
    )


def one_pace(items: int, durations: list[int], exclusive: bool = False) -> Pipeline:
    return Pipeline(np.tile(durations, (items, 1)), np.zeros(5, np.int64), np.full(items, exclusive))


def test_engines_agree_cycle_for_cycle_on_a_thousand_random_pipelines():
    rng = np.random.default_rng(20260101)
    for _ in range(1000):
        pipeline = random_pipeline(rng)
        compiled_schedule, event_schedule = compiled.run(pipeline), event.run(pipeline)
        np.testing.assert_array_equal(compiled_schedule.start, event_schedule.start)
        np.testing.assert_array_equal(compiled_schedule.end, event_schedule.end)


@given(st.integers(0, 2**32 - 1))
def test_critical_path_adds_up_to_the_makespan(seed):
    pipeline = random_pipeline(np.random.default_rng(seed))
    schedule = compiled.run(pipeline)
    path = critical_path(pipeline, schedule)
    occupied = pipeline.durations[path.occupied].sum()
    assert occupied + (path.waits * pipeline.latencies).sum() == schedule.makespan


@given(st.integers(0, 2**32 - 1))
def test_nothing_starts_before_what_it_waits_for(seed):
    pipeline = random_pipeline(np.random.default_rng(seed))
    schedule = compiled.run(pipeline)
    start, end = schedule.start, schedule.end
    assert (start[:, 1:] >= end[:, :-1] + pipeline.latencies[:-1]).all(), "an item skips ahead of its own stage before"
    assert (start[1:] >= end[:-1]).all(), "a stage works on two items at once"
    assert (start[2:, LOAD] >= end[:-2, COMPUTE]).all(), "a load overwrites an SRAM half in use"
    dram = [(start[item, stage], end[item, stage]) for stage, item in dram_order(pipeline.items)]
    assert all(later[0] >= earlier[1] for earlier, later in pairwise(dram))


def by_stage(path, stage: int) -> list[bool]:
    return path.occupied[:, stage].tolist()


def test_ties_on_the_critical_path_go_to_the_later_stage():
    # By hand: compute 0 at 0..1 and 1 at 1..3, store 0 at 1..3. Store 1 has waited for both: store 0 is charged.
    durations = np.array([[0, 0, 1, 0, 2], [0, 0, 2, 0, 1]])
    pipeline = Pipeline(durations, np.zeros(5, np.int64), np.zeros(2, bool))
    path = critical_path(pipeline, compiled.run(pipeline))
    assert by_stage(path, STORE) == [True, True]
    assert by_stage(path, COMPUTE) == [True, False]


def test_a_full_double_buffer_is_charged_to_the_stage_that_should_empty_it():
    # By hand: select 0 at 0..1 and 1 at 1..4, compute 0 at 1..4. Select 2 has waited for select 1 and for the place
    # that compute 0 gives back.
    durations = np.array([[0, 1, 3, 0, 0], [0, 3, 1, 0, 0], [0, 5, 1, 0, 0]])
    pipeline = Pipeline(durations, np.zeros(5, np.int64), np.zeros(3, bool))
    path = critical_path(pipeline, compiled.run(pipeline))
    assert by_stage(path, SELECT) == [True, False, True]
    assert by_stage(path, COMPUTE) == [True, False, True]


def test_dram_order_is_loads_ahead_of_stores_by_two():
    order = " ".join(f"{'load' if stage == LOAD else 'store'}{item}" for stage, item in dram_order(4))
    assert order == "load0 load1 load2 store0 load3 store1 store2 store3"


def test_steady_state_runs_at_the_slowest_stage():
    # By hand: load 3, compute 10, store 2; nine more items at one compute each, then the tail.
    assert compiled.run(one_pace(10, [3, 0, 10, 0, 2])).makespan == 3 + 10 * 10 + 2


def test_loads_and_stores_share_the_dram():
    # By hand: ten loads of 6 and ten stores of 6 behind one another, with the first load and last store exposed anyway.
    assert compiled.run(one_pace(10, [6, 0, 1, 0, 6])).makespan == 20 * 6


def test_exclusive_items_take_turns_with_the_array():
    # By hand: no load may overlap the compute before it.
    assert compiled.run(one_pace(10, [3, 0, 10, 0, 0], exclusive=True)).makespan == 10 * 13


def test_a_latency_delays_the_item_but_not_the_stage():
    pipeline = one_pace(10, [3, 0, 10, 0, 2])
    delayed = Pipeline(pipeline.durations, np.array([0, 0, 7, 0, 0]), pipeline.exclusive)
    assert compiled.run(delayed).makespan == compiled.run(pipeline).makespan + 7


def test_malformed_pipelines_are_refused():
    with pytest.raises(AccelSimError, match="must not be negative"):
        one_pace(3, [1, 1, -1, 1, 1])
    with pytest.raises(AccelSimError, match="at least one item"):
        one_pace(0, [1, 1, 1, 1, 1])
