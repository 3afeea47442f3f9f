"""The benchmark of the Triton kernels: what it says without a GPU, and that its rows and checks work, interpreted."""

import subprocess
import sys
from pathlib import Path

import pytest
from test_functional_triton import run_tests

ROOT = Path(__file__).parent.parent
if str(ROOT) not in sys.path:  # the benchmarks are scripts of the checkout, not part of the package
    sys.path.append(str(ROOT))

from benchmarks.gpu import kernels as gpu_kernels  # noqa: E402


def test_rows_and_checks_interpreted():
    run_tests("gpu_kernels_interpreted.py", 4, TRITON_INTERPRET="1")


def without_a_gpu():
    try:
        gpu_kernels.require_gpu()
    except gpu_kernels.NoGPU as why:
        return str(why)
    pytest.skip("there is a GPU")


def test_without_a_gpu_one_line_and_status_2():
    why = without_a_gpu()
    command = [sys.executable, "-m", "benchmarks.gpu.kernels"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"not run: {why}\n")


def test_without_a_gpu_the_report_of_all_benchmarks_says_why():
    why = without_a_gpu()
    (row,) = gpu_kernels.gpu_rows()
    assert row.name == f"all kernels: not run ({why})" and row.ours is None


@pytest.mark.gpu
def test_on_a_gpu():
    rows = list(gpu_kernels.rows(2, gpu_kernels.Sizes(tokens=256, features=1024, product=512)))
    assert len(rows) == 4 * (3 + 1 + 1) + 4 * 3 + 4 * 3
    assert all(row.ours > 0 and row.peer > 0 for row in rows)
