"""The Triton kernels on the CPU; test_executors_torch.py runs this with TRITON_INTERPRET=1. Small sizes: it is slow."""

import numpy as np
import pytest
import torch
from executor_helpers import as_bool, error_bound, masks, random_ffn, random_x, refuses_what_it_must

from accel_sim import AccelSimError
from accel_sim.executors import PIPELINES, reference, run, triton_executor
from accel_sim.executors.torch_ffn import TorchFFN


@pytest.fixture(autouse=True)
def several_chunks(monkeypatch):
    """The last one not full."""
    monkeypatch.setattr(triton_executor, "CHUNK", 4)


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("tokens", [1, 3])
@pytest.mark.parametrize("changes", [{}, {"activation": "drelu", "threshold": 0.3}])
def test_triton_equals_the_masked_dense_ffn(changes, tokens, pipeline):
    ffn, x = random_ffn(37, 10, **changes), random_x(tokens, 37)
    tensors = TorchFFN.of(ffn)
    for name in ("scores with ties at zero", "one neuron of one token"):
        mask = masks(tokens, 10)[name]
        given = torch.from_numpy(mask.copy())
        y = triton_executor.TritonExecutor(tensors).run(torch.from_numpy(x), given, pipeline).y.numpy()
        dense = reference.masked_dense(ffn, x, as_bool(mask))
        assert (np.abs(y - dense) <= error_bound(ffn, x, as_bool(mask))).all(), name
        assert np.array_equal(given.numpy(), mask)  # the gate overwrites the executor's own copy of the scores


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_triton_takes_narrow_weights_and_sums_in_float32(dtype):
    ffn, x, mask = random_ffn(37, 10), random_x(1, 37), masks(1, 10)["half"]
    narrow = TorchFFN.of(ffn, dtype=dtype)
    wide = random_ffn(37, 10)
    for name in ("gate", "up", "down"):
        getattr(wide, name)[:] = getattr(narrow, name).float().numpy()
    y = triton_executor.TritonExecutor(narrow).run(torch.from_numpy(x), torch.from_numpy(mask)).y
    assert (np.abs(y.numpy() - reference.masked_dense(wide, x, mask)) <= error_bound(wide, x, mask)).all()
    low = triton_executor.TritonExecutor(narrow).run(torch.from_numpy(x).to(dtype), torch.from_numpy(mask)).y
    assert low.dtype == dtype


def test_triton_without_a_mask_skips_by_the_gate():
    ffn, x = random_ffn(20, 11), random_x(1, 20)
    everything = np.ones((1, 11), bool)
    y = run(ffn, x, executor="triton").y
    assert (np.abs(y - reference.masked_dense(ffn, x, everything)) <= error_bound(ffn, x, everything)).all()
    with pytest.raises(AccelSimError, match="'parallel' without a mask"):
        run(ffn, x, executor="triton", pipeline="parallel")


def test_what_tensors_cannot_be_is_refused():
    refuses_what_it_must(triton_executor.TritonExecutor)
