"""The Triton backend: equal to the reference where it is interpreted, compiled for GPUs, there only where it can be.

Triton decides when it is imported who runs its kernels, so each form has a process of its own.
"""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from accel_sim import AccelSimError
from accel_sim.functional import backends, select

HERE = Path(__file__).parent


def run_tests(name: str, at_least: int, workers: int = 0, **environment: str) -> None:
    """Run the tests of a file that pytest does not collect by itself; by several workers if it has pytest-xdist."""
    pytest.importorskip("torch")
    pytest.importorskip("triton", reason="triton is not installed (pip install 'accel_sim[gpu]')")
    parallel = ["-n", str(workers)] if workers and find_spec("xdist") else ["-p", "no:xdist"]
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *parallel, str(HERE / name)]
    inherited = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    done = subprocess.run(
        command, env={**inherited, "OMP_NUM_THREADS": "1", **environment}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr
    assert "skipped" not in done.stdout and int(re.search(r"(\d+) passed", done.stdout)[1]) >= at_least


def test_interpreted():
    run_tests("functional_triton_cases.py", 60, TRITON_INTERPRET="1")


def test_compiled_for_gpus_that_are_not_there(tmp_path):
    run_tests("functional_triton_compiled.py", 15, TRITON_CACHE_DIR=str(tmp_path))


@pytest.mark.gpu
def test_on_a_gpu():
    run_tests("functional_triton_cases.py", 60, workers=min(8, os.cpu_count() or 1))


def test_a_product_in_float64_rounds_to_the_float32_quotient():
    """What the quantising kernel rests on, where it is hardest: beside the middle between two float32."""
    draw = np.random.default_rng(0)
    scale = np.exp2(draw.uniform(-149, 120, 200_000)).astype(np.float32)
    halves = draw.integers(-254, 255, scale.size) / np.float32(2)  # where codes change
    middles = np.nextafter(halves, np.float32(0)).astype(np.float64) / 2 + halves.astype(np.float64) / 2
    near = (scale.astype(np.float64) * middles).astype(np.float32)
    exact = (scale.astype(np.float64) * halves).astype(np.float32)
    anything = scale * draw.uniform(-127, 127, scale.size).astype(np.float32)
    for x in (near, np.nextafter(near, np.float32(np.inf)), np.nextafter(near, np.float32(-np.inf)), exact, anything):
        product = (x.astype(np.float64) * (1.0 / scale.astype(np.float64))).astype(np.float32)
        np.testing.assert_array_equal(product, x / scale)


@pytest.fixture
def fresh_backends():
    backends.backend.cache_clear()
    yield
    backends.backend.cache_clear()


@pytest.mark.parametrize("package", ["torch", "triton"])
def test_a_package_that_is_not_installed_is_named(package, monkeypatch, fresh_backends):
    pytest.importorskip("torch")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(AccelSimError, match=rf"{package} is not installed; pip install 'accel_sim\[gpu\]'"):
        select(np.zeros((1, 4), np.int8), "2:4", backend="triton")


def test_without_a_gpu_it_says_what_it_needs():
    torch = pytest.importorskip("torch")
    pytest.importorskip("triton", reason="triton is not installed (pip install 'accel_sim[gpu]')")
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    code = "from accel_sim.functional import backend_notes; print(backend_notes()['triton'])"
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "not there" in done.stdout and "no CUDA device; TRITON_INTERPRET=1" in done.stdout
