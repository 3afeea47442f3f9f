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
    cores, items = int(rng.choice([1, 1, 2, 3])), int(rng.integers(1, 30))
    return Pipeline(
        durations=rng.integers(0, rng.integers(1, 20), (cores, items, 5)),
        latencies=rng.integers(0, 6, 5),
        exclusive=rng.random(items) < rng.choice([0.0, 0.2, 1.0]),
        shared=rng.random(items) < rng.choice([0.0, 0.5, 1.0]),
        after_select=rng.random(items) < rng.choice([0.0, 0.2, 1.0]),
    )


def one_pace(items: int, durations: list[int], exclusive: bool = False) -> Pipeline:
    return Pipeline.of_one_core(np.tile(durations, (items, 1)), np.zeros(5, np.int64), np.full(items, exclusive))


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
    assert (start[..., 1:] >= end[..., :-1] + pipeline.latencies[:-1]).all(), "an item skips ahead of its stage before"
    assert (start[:, 1:] >= end[:, :-1]).all(), "a stage works on two items at once"
    assert (start[:, 2:, LOAD] >= end[:, :-2, COMPUTE]).all(), "a load overwrites an SRAM half in use"
    informed = start[:, 1:, LOAD] >= (end[:, :-1, SELECT] + pipeline.latencies[SELECT]).max(axis=0)
    assert informed[:, pipeline.after_select[1:]].all(), "a load fetches what is not selected yet"
    multicast = start[0, 2:, LOAD] >= end[:, :-2, COMPUTE].max(axis=0)
    assert multicast[pipeline.shared[2:]].all(), "a transfer to all cores overwrites what one of them still uses"
    order = dram_order(pipeline.items, pipeline.cores)
    dram = [(start[core, item, stage], end[core, item, stage]) for stage, item, core in order]
    assert all(later[0] >= earlier[1] for earlier, later in pairwise(dram))


def by_stage(path, stage: int) -> list[bool]:
    return path.occupied[0, :, stage].tolist()


def test_ties_on_the_critical_path_go_to_the_later_stage():
    # By hand: compute 0 at 0..1 and 1 at 1..3, store 0 at 1..3. Store 1 has waited for both: store 0 is charged.
    durations = np.array([[0, 0, 1, 0, 2], [0, 0, 2, 0, 1]])
    pipeline = Pipeline.of_one_core(durations, np.zeros(5, np.int64))
    path = critical_path(pipeline, compiled.run(pipeline))
    assert by_stage(path, STORE) == [True, True]
    assert by_stage(path, COMPUTE) == [True, False]


def test_a_full_double_buffer_is_charged_to_the_stage_that_should_empty_it():
    # By hand: select 0 at 0..1 and 1 at 1..4, compute 0 at 1..4. Select 2 has waited for select 1 and for the place
    # that compute 0 gives back.
    durations = np.array([[0, 1, 3, 0, 0], [0, 3, 1, 0, 0], [0, 5, 1, 0, 0]])
    pipeline = Pipeline.of_one_core(durations, np.zeros(5, np.int64))
    path = critical_path(pipeline, compiled.run(pipeline))
    assert by_stage(path, SELECT) == [True, False, True]
    assert by_stage(path, COMPUTE) == [True, False, True]


def test_dram_order_is_loads_ahead_of_stores_by_two():
    order = " ".join(f"{'load' if stage == LOAD else 'store'}{item}" for stage, item, _ in dram_order(4))
    assert order == "load0 load1 load2 store0 load3 store1 store2 store3"


def test_dram_serves_the_cores_in_turn():
    order = " ".join(f"{'load' if stage == LOAD else 'store'}{item}@{core}" for stage, item, core in dram_order(2, 2))
    assert order == "load0@0 load0@1 load1@0 load1@1 store0@0 store0@1 store1@0 store1@1"


def cores_at_one_pace(cores: int, items: int, durations: list[int], shared: bool = False) -> Pipeline:
    no = np.zeros(items, bool)
    return Pipeline(np.tile(durations, (cores, items, 1)), np.zeros(5, np.int64), no, np.full(items, shared), no)


def test_cores_contend_for_the_memory():
    # By hand: two cores with loads of 6 and little to compute take twice as long as one; the memory never rests.
    assert compiled.run(cores_at_one_pace(1, 10, [6, 0, 1, 0, 0])).makespan == 10 * 6 + 1
    assert compiled.run(cores_at_one_pace(2, 10, [6, 0, 1, 0, 0])).makespan == 20 * 6 + 1


def test_a_core_that_lags_holds_up_what_is_sent_to_all():
    # By hand: core 0 computes 1 an item, core 1 computes 10. Items come to both at once, so core 0 waits as well: its
    # third item starts when core 1 has finished its first (cycle 10), not as soon as its own place is free.
    pipeline = cores_at_one_pace(2, 3, [0, 0, 1, 0, 0], shared=True)
    pipeline.durations[1, :, COMPUTE] = 10
    assert compiled.run(pipeline).start[0, :, COMPUTE].tolist() == [0, 1, 10]


def test_a_load_that_depends_on_a_selection_waits_for_it():
    # By hand: load 2, select 5 with a latency of 3, and only then the load of 4.
    durations = np.array([[2, 5, 0, 0, 0], [4, 0, 1, 0, 0]])
    flags = np.zeros(2, bool), np.zeros(2, bool), np.array([False, True])
    pipeline = Pipeline(durations[None], np.array([0, 3, 0, 0, 0]), *flags)
    schedule = compiled.run(pipeline)
    assert schedule.start[0, 1, LOAD] == 2 + 5 + 3
    assert critical_path(pipeline, schedule).waits[SELECT] == 2, "once to the load, once to compute"


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
    delayed = Pipeline.of_one_core(pipeline.durations[0], np.array([0, 0, 7, 0, 0]))
    assert compiled.run(delayed).makespan == compiled.run(pipeline).makespan + 7


def test_malformed_pipelines_are_refused():
    with pytest.raises(AccelSimError, match="must not be negative"):
        one_pace(3, [1, 1, -1, 1, 1])
    with pytest.raises(AccelSimError, match="at least one item"):
        one_pace(0, [1, 1, 1, 1, 1])
