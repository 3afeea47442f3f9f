"""The Triton kernels on the CPU; test_executors_torch.py runs this with TRITON_INTERPRET=1. Small sizes: it is slow."""

import numpy as np
import pytest
import torch
from executor_helpers import as_bool, error_bound, masks, random_ffn, random_x, refuses_what_it_must

from accel_sim import AccelSimError
from accel_sim.executors import PIPELINES, GatedFFN, reference, run
from accel_sim.executors.torch_ffn import TorchFFN
from accel_sim.executors.triton_executor import Blocks, TritonExecutor

SMALL = Blocks(segment=8, programs=2, features=16, down_segment=4, down_rows=2, down_outputs=16)
"""Of 10 neurons and 37 features several segments, the last one not full, several turns of a program, several blocks."""


@pytest.fixture(autouse=True)
def nothing_is_zero_by_chance(monkeypatch):
    """Memory that nobody wrote holds no number."""
    empty = torch.empty
    monkeypatch.setattr(torch, "empty", lambda *size, **options: empty(*size, **options).fill_(torch.nan))


def answer(ffn, x, mask=None, pipeline="sequential", blocks=SMALL):
    given = None if mask is None else torch.from_numpy(mask.copy())
    tensors = ffn if isinstance(ffn, TorchFFN) else TorchFFN.of(ffn)
    y = TritonExecutor(tensors, blocks=blocks).run(torch.from_numpy(x), given, pipeline).y.numpy()
    assert mask is None or np.array_equal(given.numpy(), mask)  # what was given is not written to
    return y


def agrees(ffn, x, mask, **how):
    y = answer(ffn, x, mask, **how)
    wanted = np.ones((x.shape[0], ffn.neurons), bool) if mask is None else as_bool(mask)
    return (np.abs(y - reference.masked_dense(ffn, x, wanted)) <= error_bound(ffn, x, wanted)).all()


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize("changes", [{}, {"activation": "drelu", "threshold": 0.3}])
def test_triton_equals_the_masked_dense_ffn(changes, tokens, pipeline):
    ffn, x = random_ffn(37, 10, **changes), random_x(tokens, 37)
    for name, mask in masks(tokens, 10).items():
        assert agrees(ffn, x, mask, pipeline=pipeline), name


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("tokens", [1, 3])
def test_the_blocks_of_a_real_run(tokens, pipeline):
    """Whole rows at once, more programs than neurons, fewer neurons than rows of a block."""
    ffn, x = random_ffn(37, 130), random_x(tokens, 37)
    for name in ("half", "one neuron of one token"):
        assert agrees(ffn, x, masks(tokens, 130)[name], pipeline=pipeline, blocks=Blocks()), name


@pytest.mark.parametrize(("d", "neurons"), [(1, 1), (16, 8), (17, 9)])
def test_one_neuron_whole_blocks_and_one_more(d, neurons):
    ffn, x = random_ffn(d, neurons), random_x(1, d)
    for name, mask in masks(1, neurons).items():
        assert agrees(ffn, x, mask), name


def test_nothing_wanted_leaves_the_bias_of_down():
    ffn, x = random_ffn(37, 10), random_x(3, 37)
    for pipeline in PIPELINES:
        assert np.array_equal(answer(ffn, x, masks(3, 10)["none"], pipeline), np.tile(ffn.down_bias, (3, 1)))


def test_skipped_neurons_are_not_read():
    """A weight that is no number is not met, and zeros of both signs are no scores above 0."""
    ffn, x = random_ffn(37, 10), random_x(1, 37)
    scores = np.array([[0.0, -0.0, 1.0, 2.0, -1.0, 0.5, -0.0, 3.0, 0.0, 1e-30]], np.float32)
    expected = answer(ffn, x, scores)
    for name in ("gate", "up", "down"):
        getattr(ffn, name)[~(scores[0] > 0)] = np.nan
    for pipeline in PIPELINES:
        assert np.array_equal(answer(ffn, x, scores, pipeline), expected)


def test_a_gate_that_is_a_zero_of_either_sign_is_not_active():
    gate = np.array([[0.0, 0.0], [-0.0, -0.0], [1.0, 0.0]], np.float32)
    up = np.array([[1.0, 1.0], [1.0, 1.0], [-1.0, 0.0]], np.float32)
    ffn = GatedFFN.of(gate, up, np.ones((2, 3), np.float32))
    ffn.up[:2] = ffn.down[:2] = np.nan  # never met: the gate is not above 0
    y = answer(ffn, np.array([[2.0, -0.0]], np.float32))
    assert np.array_equal(y, [[-4.0, -4.0]])


def test_the_same_bits_again_and_in_other_programs():
    """Who computes a neuron changes no sum; only blocks of features and segments of down do."""
    ffn, x, mask = random_ffn(37, 10), random_x(1, 37), masks(1, 10)["half"]
    expected = answer(ffn, x, mask)
    for segment, programs in ((8, 2), (8, 16), (2, 1)):
        changed = Blocks(segment, programs, features=16, down_segment=4, down_rows=2, down_outputs=16)
        assert np.array_equal(answer(ffn, x, mask, blocks=changed), expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_triton_takes_narrow_weights_and_sums_in_float32(dtype):
    ffn, x, mask = random_ffn(37, 10), random_x(1, 37), masks(1, 10)["half"]
    narrow = TorchFFN.of(ffn, dtype=dtype)
    wide = random_ffn(37, 10)
    for name in ("gate", "up", "down"):
        getattr(wide, name)[:] = getattr(narrow, name).float().numpy()
    y = answer(narrow, x, mask)
    assert (np.abs(y - reference.masked_dense(wide, x, mask)) <= error_bound(wide, x, mask)).all()
    scores = torch.from_numpy(np.where(mask, 1.0, -1.0)).to(dtype)  # as a predictor in that dtype tells them
    low = TritonExecutor(narrow, blocks=SMALL).run(torch.from_numpy(x).to(dtype), scores).y
    assert low.dtype == dtype and np.allclose(low.float().numpy(), y, rtol=0.1, atol=0.1 * np.abs(y).max())


def test_triton_without_a_mask_skips_by_the_gate():
    ffn, x = random_ffn(20, 11), random_x(1, 20)
    assert agrees(ffn, x, None)
    with pytest.raises(AccelSimError, match="'parallel' without a mask"):
        run(ffn, x, executor="triton", pipeline="parallel")


def test_what_tensors_cannot_be_is_refused():
    refuses_what_it_must(TritonExecutor)
    with pytest.raises(AccelSimError, match=r"Blocks\.programs: got 12, expected a power of two"):
        Blocks(programs=12)
    with pytest.raises(AccelSimError, match=r"Blocks\.gate_registers: got 512, expected 16 to 255"):
        Blocks(gate_registers=512)
