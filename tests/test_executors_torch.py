"""The gather form and the Triton kernels: equal to the masked dense FFN, refused where they cannot run.

Triton interprets its kernels here, so sizes are small; that they compile for a GPU is checked beside it.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from executor_helpers import as_bool, error_bound, masks, random_ffn, random_x, refuses_what_it_must

torch = pytest.importorskip("torch")

from accel_sim import AccelSimError  # noqa: E402
from accel_sim.executors import PIPELINES, QuantizedFFN, reference, run  # noqa: E402
from accel_sim.executors.gather import GatherExecutor  # noqa: E402

CASES = [(d, neurons, tokens) for d, neurons in ((70, 129), (64, 64), (1, 1)) for tokens in (1, 4)]


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize(("d", "neurons", "tokens"), CASES)
def test_gather_equals_the_masked_dense_ffn(d, neurons, tokens, pipeline):
    x = random_x(tokens, d)
    for changes in ({}, {"activation": "drelu"}, {"threshold": 0.3}):
        ffn = random_ffn(d, neurons, **changes)
        for name, mask in masks(tokens, neurons).items():
            outcome = run(ffn, x, mask, executor="gather", pipeline=pipeline)
            dense = reference.masked_dense(ffn, x, as_bool(mask))
            assert (np.abs(outcome.y - dense) <= error_bound(ffn, x, as_bool(mask))).all(), name
            wanted = as_bool(mask).any(axis=0).sum()
            assert outcome.rows.gate == wanted
            assert outcome.rows.down == outcome.rows.up == (wanted if pipeline == "parallel" else outcome.rows.up)


def test_gather_fetches_the_rows_that_the_compiled_executor_fetches():
    ffn, x, mask = random_ffn(70, 129), random_x(2, 70), masks(2, 129)["half"]
    ours, gathered = (run(ffn, x, mask, executor=name).rows for name in ("numba", "gather"))
    assert (gathered.gate, gathered.up) == (ours.gate, ours.up)


def test_triton_kernels_interpreted():
    """tests/triton_interpreted.py, in a process of its own: triton decides when it is imported who runs its kernels."""
    pytest.importorskip("triton", reason="triton is not installed (pip install 'accel_sim[gpu]')")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command.append(str(Path(__file__).with_name("triton_interpreted.py")))
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert "skipped" not in done.stdout and int(re.search(r"(\d+) passed", done.stdout)[1]) >= 20


def test_triton_kernels_compile_for_gpus_and_use_no_atomics(tmp_path):
    """tests/triton_executors_compiled.py, in a process of its own, in which nothing is interpreted."""
    pytest.importorskip("triton", reason="triton is not installed (pip install 'accel_sim[gpu]')")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:xdist"]
    command.append(str(Path(__file__).with_name("triton_executors_compiled.py")))
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET", None)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert "skipped" not in done.stdout and int(re.search(r"(\d+) passed", done.stdout)[1]) >= 10


def test_triton_without_a_gpu_says_what_it_needs():
    pytest.importorskip("triton", reason="triton is not installed (pip install 'accel_sim[gpu]')")
    code = """
import numpy as np
from accel_sim import AccelSimError
from accel_sim.executors import GatedFFN, run
try:
    run(GatedFFN.of([[1.0]], [[1.0]], [[1.0]]), np.ones((1, 1)), executor="triton")
except AccelSimError as error:
    print(error)
"""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "weights on cpu; it needs a CUDA device, or TRITON_INTERPRET=1" in done.stdout


def test_triton_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.delitem(sys.modules, "accel_sim.executors.triton_kernels", raising=False)
    monkeypatch.delattr("accel_sim.executors.triton_kernels", raising=False)
    with pytest.raises(AccelSimError, match=r"triton is not installed; pip install 'accel_sim\[gpu\]'"):
        run(random_ffn(5, 3), random_x(1, 5), executor="triton")


def test_what_tensors_cannot_be_is_refused():
    refuses_what_it_must(GatherExecutor)
    with pytest.raises(AccelSimError, match="'gather' has no INT8 form"):
        run(QuantizedFFN.of(random_ffn(5, 3)), random_x(1, 5), executor="gather")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_named():
    with pytest.raises(AccelSimError, match="torch sees no CUDA device"):
        run(random_ffn(5, 3), random_x(1, 5), executor="gather", device="cuda")


def test_predictors_with_a_method_tell_every_executor():
    class Positive:
        def predict(self, x):
            assert x.shape == (2, 70)
            return (x[:, :1] > 0).expand(-1, 129)

    ffn, x = random_ffn(70, 129), random_x(2, 70)
    expected = reference.masked_dense(ffn, x, np.broadcast_to(x[:, :1] > 0, (2, 129)))
    for executor in ("numba", "gather", "masked_dense"):
        assert np.allclose(run(ffn, x, predictor=Positive(), executor=executor).y, expected, atol=1e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("executor", ["gather", "triton"])
@pytest.mark.parametrize("tokens", [1, 4])
def test_on_a_gpu_too(tokens, executor, pipeline):
    ffn, x = random_ffn(200, 301), random_x(tokens, 200)
    for name, mask in masks(tokens, 301).items():
        outcome = run(ffn, x, mask, executor=executor, pipeline=pipeline, device="cuda")
        again = run(ffn, x, mask, executor=executor, pipeline=pipeline, device="cuda")
        assert np.array_equal(outcome.y, again.y), name
        dense = reference.masked_dense(ffn, x, as_bool(mask))
        assert (np.abs(outcome.y - dense) <= error_bound(ffn, x, as_bool(mask))).all(), name


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_narrow_weights_on_a_gpu(dtype):
    from accel_sim.executors.torch_ffn import TorchFFN
    from accel_sim.executors.triton_executor import TritonExecutor

    wide = random_ffn(200, 301)
    narrow = TorchFFN.of(wide, "cuda", dtype)
    for name in ("gate", "up", "down"):
        getattr(wide, name)[:] = getattr(narrow, name).float().cpu().numpy()
    x, mask = random_x(1, 200), masks(1, 301)["half"]
    for given in (mask, np.where(mask, 1.0, -1.0)):
        for pipeline in PIPELINES:
            scores = torch.from_numpy(given).to("cuda", None if given.dtype == bool else dtype)
            y = TritonExecutor(narrow).run(torch.from_numpy(x).cuda(), scores, pipeline).y.cpu().numpy()
            assert (np.abs(y - reference.masked_dense(wide, x, mask)) <= error_bound(wide, x, mask)).all()


@pytest.mark.gpu
@pytest.mark.parametrize("pipeline", PIPELINES)
def test_a_captured_call_answers_for_other_masks(pipeline):
    """Nothing of a mask is in the graph: other neurons, and more of them, in the same tensor."""
    from accel_sim.executors.torch_ffn import TorchFFN
    from accel_sim.executors.triton_executor import TritonExecutor

    executor = TritonExecutor(TorchFFN.of(random_ffn(200, 301), "cuda"), check_values=False)
    x = torch.from_numpy(random_x(1, 200)).cuda()
    mask = torch.zeros((1, 301), dtype=torch.bool, device="cuda")
    executor.run(x, mask, pipeline)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        y = executor.run(x, mask, pipeline).y
    for name in ("half", "none", "all", "one neuron of one token"):
        mask.copy_(torch.from_numpy(masks(1, 301)[name]))
        graph.replay()
        assert torch.equal(y, executor.run(x, mask, pipeline).y), name
