"""Executors of the conditional FFN in NumPy and Numba: equal to the masked dense FFN, whatever the mask and threads."""

import itertools
import re
from pathlib import Path

import numba
import numpy as np
import pytest
from executor_helpers import SIZES, as_bool, error_bound, masks, random_ffn, random_x
from hypothesis import given
from hypothesis import strategies as st

from accel_sim import AccelSimError
from accel_sim.executors import PIPELINES, GatedFFN, LowRank, NumbaExecutor, QuantizedFFN, bfloat16, reference, run

ACTIVATIONS = ({}, {"activation": "drelu"}, {"threshold": 0.3}, {"activation": "drelu", "threshold": 0.3})


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("tokens", [1, 4])
@pytest.mark.parametrize(("d", "neurons"), SIZES)
def test_float_has_the_bits_of_the_reference_and_is_near_the_masked_dense_ffn(d, neurons, tokens, pipeline):
    x = random_x(tokens, d)
    for changes in ACTIVATIONS:
        for ffn in (random_ffn(d, neurons, **changes), random_ffn(d, neurons, **changes).in_bfloat16()):
            executor = NumbaExecutor(ffn)
            for name, mask in masks(tokens, neurons).items():
                y = executor.run(x, mask, pipeline).y
                assert np.array_equal(y, reference.float_in_order(ffn, x, as_bool(mask))), name
                dense = reference.masked_dense(ffn, x, as_bool(mask))
                assert (np.abs(y - dense) <= error_bound(ffn, x, as_bool(mask))).all(), name


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("tokens", [1, 4])
@pytest.mark.parametrize(("d", "neurons"), SIZES)
def test_int8_has_the_bits_of_the_functional_mode(d, neurons, tokens, pipeline):
    x = random_x(tokens, d)
    for changes in ACTIVATIONS:
        ffn = QuantizedFFN.of(random_ffn(d, neurons, **changes))
        for name, mask in masks(tokens, neurons).items():
            y = NumbaExecutor(ffn).run(x, mask, pipeline).y
            assert np.array_equal(y, reference.int8(ffn, x, as_bool(mask))), name


@given(seed=st.integers(0, 2**32 - 1), tokens=st.integers(1, 3), d=st.integers(1, 150), neurons=st.integers(1, 40))
def test_any_small_ffn(seed, tokens, d, neurons):
    draw = np.random.default_rng(seed)
    ffn = random_ffn(d, neurons, seed, biases=bool(seed % 2))
    x = random_x(tokens, d, seed) * draw.choice([0, 1e-20, 1, 1e3], (tokens, 1)).astype(np.float32)
    mask = draw.random((tokens, neurons)) < draw.random()
    pipeline = PIPELINES[seed % 2]
    assert np.array_equal(NumbaExecutor(ffn).run(x, mask, pipeline).y, reference.float_in_order(ffn, x, mask))
    codes = QuantizedFFN.of(ffn)
    assert np.array_equal(NumbaExecutor(codes).run(x, mask, pipeline).y, reference.int8(codes, x, mask))


def test_saturating_codes_are_summed_exactly():
    d, neurons = 4096, 3
    ffn = GatedFFN.of(np.ones((neurons, d)), -np.ones((neurons, d)), np.ones((d, neurons)))
    codes = QuantizedFFN.of(ffn)
    assert (codes.gate == 127).all()
    x = np.ones((1, d), np.float32)
    y = NumbaExecutor(codes).run(x, np.ones((1, neurons), bool)).y
    assert np.array_equal(y, reference.int8(codes, x, np.ones((1, neurons), bool)))
    assert np.allclose(y, -3 * d**2)


def test_an_empty_mask_leaves_the_bias():
    ffn = random_ffn(70, 129)
    outcome = NumbaExecutor(ffn).run(random_x(2, 70), np.zeros((2, 129), bool))
    assert np.array_equal(outcome.y, np.tile(ffn.down_bias, (2, 1)))
    assert outcome.rows.total == 0


def test_a_score_of_zero_is_not_active_and_a_gate_of_zero_neither():
    ffn = GatedFFN.of([[1.0], [0.0], [-1.0]], [[2.0]] * 3, [[1.0, 10.0, 100.0]])
    x = np.ones((1, 1), np.float32)
    outcome = NumbaExecutor(ffn).run(x, np.array([[1, 1, 1]], np.float32))
    assert outcome.y.tolist() == [[2.0]]  # the gates 0 and −1 give nothing
    assert (outcome.rows.gate, outcome.rows.up, outcome.rows.down) == (3, 1, 1)
    assert NumbaExecutor(ffn).run(x, np.array([[0, 1, 1]], np.float32)).y.tolist() == [[0.0]]
    assert NumbaExecutor(ffn).run(x, np.array([[-0.0, -1, -np.inf]], np.float32)).rows.gate == 0


@pytest.mark.parametrize("make", [lambda ffn: ffn, GatedFFN.in_bfloat16, QuantizedFFN.of])
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_batch_fetches_the_union_and_gives_every_token_what_it_gets_alone(pipeline, make):
    ffn = make(random_ffn(70, 129))
    x, mask = random_x(4, 70), masks(4, 129)["half"] & masks(4, 129)["half"][::-1]
    executor = NumbaExecutor(ffn)
    together = executor.run(x, mask, pipeline)
    alone = [executor.run(x[t : t + 1], mask[t : t + 1], pipeline) for t in range(4)]
    assert np.array_equal(together.y, np.concatenate([each.y for each in alone]))
    assert together.rows.gate == mask.any(axis=0).sum()
    assert max(each.rows.up for each in alone) < together.rows.up < sum(each.rows.up for each in alone)
    assert together.rows.up == together.rows.gate if pipeline == "parallel" else together.rows.up < together.rows.gate


def test_rows_are_those_that_the_masked_dense_ffn_needs():
    ffn, x = random_ffn(70, 129, activation="drelu"), random_x(1, 70)
    mask = masks(1, 129)["half"]
    gate, up = (x @ w.T + b for w, b in ((ffn.gate, ffn.gate_bias), (ffn.up, ffn.up_bias)))
    rows = NumbaExecutor(ffn).run(x, mask, "sequential").rows
    assert (rows.gate, rows.up) == (mask.sum(), (mask & (gate > 0)).sum())
    assert rows.down == (mask & (gate > 0) & (up > 0)).sum() < rows.up


def test_no_mask_computes_gate_whole_and_skips_the_rest():
    ffn, x = random_ffn(70, 129), random_x(2, 70)
    outcome = run(ffn, x)
    assert np.array_equal(outcome.y, run(ffn, x, np.ones((2, 129), bool)).y)
    assert outcome.rows.gate == 129 > outcome.rows.up
    with pytest.raises(AccelSimError, match="'parallel' without a mask"):
        run(ffn, x, pipeline="parallel")


@pytest.mark.parametrize("make", [lambda ffn: ffn, GatedFFN.in_bfloat16, QuantizedFFN.of])
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_threads_change_nothing(pipeline, make):
    ffn, x, mask = make(random_ffn(200, 301)), random_x(3, 200), masks(3, 301)["half"]
    before = numba.get_num_threads()
    seen = []
    try:
        for threads in (1, min(2, before), before):
            numba.set_num_threads(threads)
            seen += [NumbaExecutor(ffn).run(x, mask, pipeline).y for _ in range(3)]
    finally:
        numba.set_num_threads(before)
    assert all(np.array_equal(each, seen[0]) for each in seen)


@pytest.mark.parametrize("parts", [1, 2, 3, 7, 64, 500])
def test_no_partition_changes_anything(parts, monkeypatch):
    """More threads than this machine has: the partition that they would work on."""
    for ffn in (random_ffn(200, 301), QuantizedFFN.of(random_ffn(200, 301))):
        x, mask = random_x(2, 200), masks(2, 301)["half"]
        y = NumbaExecutor(ffn).run(x, mask).y
        with monkeypatch.context() as patch:
            patch.setattr(numba, "get_num_threads", lambda: parts)
            assert np.array_equal(NumbaExecutor(ffn).run(x, mask).y, y)


def test_a_predictor_runs_in_the_same_call():
    ffn, x = random_ffn(70, 129), random_x(3, 70)
    draw = np.random.default_rng(3)
    thin = LowRank.of(draw.standard_normal((8, 70)), draw.standard_normal((129, 8)), draw.standard_normal(129))
    executor = NumbaExecutor(ffn)
    scores = executor.scores(x, thin)
    assert np.allclose(scores, x @ thin.down.T @ thin.up.T + thin.bias, atol=1e-3)
    fused = executor.run_predicted(x, thin)
    assert np.array_equal(fused.y, executor.run(x, scores > 0).y)
    assert 0 < fused.rows.gate < 129
    for name in ("numba", "masked_dense"):
        assert np.allclose(run(ffn, x, predictor=thin, executor=name).y, fused.y, atol=1e-2)


def test_the_fused_call_is_the_predictor_and_then_the_ffn():
    """Ranks beside the lanes, more pieces than neurons or ranks, batches, and both pipelines."""
    draw = np.random.default_rng(4)
    for (d, neurons), rank, tokens in itertools.product(SIZES, (1, 3, 64, 67), (1, 3)):
        x = random_x(tokens, d)
        parts = (draw.standard_normal(shape) for shape in ((rank, d), (neurons, rank), neurons))
        thin = LowRank.of(*parts)
        ffn = random_ffn(d, neurons)
        for stored, pipeline in itertools.product((ffn, ffn.in_bfloat16(), QuantizedFFN.of(ffn)), PIPELINES):
            executor = NumbaExecutor(stored)
            scores = executor.scores(x, thin)
            assert np.allclose(scores, x @ thin.down.T @ thin.up.T + thin.bias, atol=1e-3)
            fused, given = executor.run_predicted(x, thin, pipeline), executor.run(x, scores, pipeline)
            assert np.array_equal(fused.y, given.y) and fused.rows == given.rows
            assert fused.rows.gate == (scores > 0).any(axis=0).sum()


def test_scores_that_overflow_are_refused_in_the_fused_call_too():
    thin = LowRank.of(np.full((2, 3), 3e38), [[0.0, 0.0], [1.0, -1.0]], np.zeros(2))
    executor, x = NumbaExecutor(random_ffn(3, 2)), np.ones((1, 3), np.float32)
    for call in (executor.run_predicted, lambda x, thin: executor.run(x, executor.scores(x, thin))):
        with pytest.raises(AccelSimError, match="score of token 0, neuron 0 is nan"):
            call(x, thin)


def test_a_predictor_in_rows_gives_the_same_bits():
    """`LowRank.of` stores its columns contiguously; one that was built without it may not."""
    draw = np.random.default_rng(5)
    thin = LowRank.of(draw.standard_normal((8, 70)), draw.standard_normal((129, 8)), np.zeros(129))
    other = LowRank(thin.down, np.ascontiguousarray(thin.up), thin.bias)
    executor, x = NumbaExecutor(random_ffn(70, 129)), random_x(2, 70)
    assert thin.up.flags.f_contiguous and not other.up.flags.f_contiguous
    assert np.array_equal(executor.scores(x, thin), executor.scores(x, other))
    assert np.array_equal(executor.run_predicted(x, thin).y, executor.run_predicted(x, other).y)


def test_arrays_that_may_not_be_written_are_taken():
    ffn, x, mask = random_ffn(70, 129), random_x(2, 70), masks(2, 129)["half"]
    y = NumbaExecutor(ffn).run(x, mask).y
    for array in (ffn.gate, ffn.up_bias, x, mask):
        array.flags.writeable = False
    assert np.array_equal(NumbaExecutor(ffn).run(x, mask).y, y)
    assert np.array_equal(mask, masks(2, 129)["half"])


def test_a_product_too_large_for_float32_does_not_spoil_a_neuron_that_is_off():
    """In the parallel pipeline up is computed for a gate of 0 as well; 0 times its infinity is no number."""
    ffn = GatedFFN.of([[-1.0], [1.0]], [[3e38], [1.0]], [[1.0, 1.0]])
    x = np.full((1, 1), 10, np.float32)
    for pipeline in PIPELINES:
        assert NumbaExecutor(ffn).run(x, np.ones((1, 2), bool), pipeline).y.tolist() == [[100.0]]


def test_bfloat16_rounds_to_even_and_widens_exactly():
    values = np.array([1.0, 1 + 2**-8, 1 + 3 * 2**-8, -(1 + 2**-8 + 2**-20), 0.0, -0.0], np.float32)
    assert bfloat16.widened(bfloat16.rounded(values)).tolist() == [1.0, 1.0, 1 + 2**-6, -(1 + 2**-7), 0.0, -0.0]
    with pytest.raises(AccelSimError, match=r"up\[0, 1\] is inf"):
        GatedFFN.of([[1.0, 1.0]], [[1.0, 3.4e38]], [[1.0], [1.0]]).in_bfloat16()


@pytest.mark.parametrize("executor", ["numba", "masked_dense"])
@pytest.mark.parametrize("make", [lambda ffn: ffn, QuantizedFFN.of])
def test_bad_values_are_named(executor, make):
    ffn = make(random_ffn(5, 3))
    x, scores = random_x(2, 5), np.ones((2, 3), np.float32)
    for value in (np.nan, np.inf):
        bad = x.copy()
        bad[1, 4] = value
        with pytest.raises(AccelSimError, match=f"x: token 1, feature 4 is {value}"):
            run(ffn, bad, scores, executor=executor)
    scores[1, 2] = np.nan
    with pytest.raises(AccelSimError, match="score of token 1, neuron 2 is nan"):
        run(ffn, x, scores, executor=executor)


def test_what_cannot_be_used_is_refused():
    ffn, x, mask = random_ffn(5, 3), random_x(2, 5), np.ones((2, 3), bool)
    for arguments, message in (
        ((x[0],), r"x: got float32 \[5\], expected floats \[tokens, 5\]"),
        ((x[:, :4],), r"x: got float32 \[2, 4\]"),
        ((x.astype(int),), "x: got int64"),
        ((x, mask[:, :2]), r"mask: got bool \[2, 2\], expected bool or float scores \[2, 3\]"),
        ((x, mask.astype(int)), "mask: got int64"),
    ):
        with pytest.raises(AccelSimError, match=message):
            run(ffn, *arguments)
    thin = LowRank.of(np.ones((2, 5)), np.ones((3, 2)), np.ones(3))
    for changes, message in (
        ({"executor": "cuda"}, "executor 'cuda': expected one of numba, gather, triton, masked_dense"),
        ({"pipeline": "both"}, "pipeline 'both': expected one of sequential, parallel"),
        ({"mask": mask, "predictor": thin}, "both a mask and a predictor"),
        ({"predictor": object()}, "predictor object: expected arrays down, up and bias, or a method predict"),
        ({"predictor": LowRank.of(np.ones((2, 4)), np.ones((3, 2)), np.ones(3))}, "made for 4 features and 3 neurons"),
    ):
        with pytest.raises(AccelSimError, match=message):
            run(ffn, x, **changes)
    with pytest.raises(AccelSimError, match=r"down \[2, 5\], up \[3, 4\], bias \[3\], expected down \[r, d\]"):
        LowRank.of(np.ones((2, 5)), np.ones((3, 4)), np.ones(3))
    with pytest.raises(AccelSimError, match="up holds a NaN"):
        LowRank.of(np.ones((2, 5)), np.full((3, 2), np.nan), np.ones(3))


def test_weights_that_cannot_be_used_are_refused():
    gate, down = np.ones((3, 5)), np.ones((5, 3))
    for parts, message in (
        ((gate, gate.T, down), r"up: got \[5, 3\], expected \[3, 5\]"),
        ((gate, gate, gate), r"down: got \[3, 5\], expected \[5, 3\]"),
        ((gate.astype(int), gate, down), "gate: got int64"),
        ((gate.astype(np.uint16), gate, down), "up: got float32, expected uint16 as in gate"),
        ((gate, np.where(np.eye(3, 5), np.nan, 1), down), r"up\[0, 0\] is nan"),
        ((gate[0], gate, down), r"gate: got \[5\], expected a matrix"),
    ):
        with pytest.raises(AccelSimError, match=message):
            GatedFFN.of(*parts)
    for changes, message in (
        ({"activation": "silu"}, "activation 'silu': expected one of relu, drelu"),
        ({"threshold": -1}, "threshold -1"),
        ({"threshold": np.nan}, "threshold nan"),
        ({"gate_bias": np.ones(5)}, r"gate_bias: got \[5\], expected \[3\]"),
        ({"down_bias": np.full(5, np.inf)}, r"down_bias\[0\] is inf"),
    ):
        with pytest.raises(AccelSimError, match=message):
            GatedFFN.of(gate, gate, down, **changes)
    wide = np.zeros((1, 133_145), np.float32)
    with pytest.raises(AccelSimError, match="133,145 products of INT8 codes can overflow INT32; at most 133,144"):
        QuantizedFFN.of(GatedFFN.of(wide, wide, wide.T))


def test_weights_are_shared_and_not_copied():
    gate = np.ones((3, 5), np.float32)
    assert np.shares_memory(GatedFFN.of(gate, gate, np.ones((5, 3))).gate, gate)


def test_the_example_of_the_page_runs():
    page = (Path(__file__).parent.parent / "docs" / "executors.md").read_text(encoding="utf-8")
    example = re.search(r"```python\n(.*?)```", page, re.DOTALL)[1]
    names = {}
    exec(example, names)
    assert names["y"].shape == names["codes"].shape == (1, names["d"])
