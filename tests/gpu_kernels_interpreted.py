"""The benchmark of the Triton kernels on the CPU, interpreted; test_functional_triton_benchmark.py runs this.

Its checks are the real ones. What only a GPU has stands in for it: times, the code's length, and the rate of issue.
"""

import sys
from pathlib import Path

import pytest
import torch

sys.path.append(str(Path(__file__).parent.parent))

from accel_sim.functional.gpu import device
from benchmarks.gpu import kernels as gpu_kernels

SMALL = gpu_kernels.Sizes(tokens=3, features=64, product=64)


@pytest.fixture
def bench(monkeypatch):
    def called_once(calls):
        for call in calls.values():
            call()
        return {key: 1e-3 for key in calls}

    made = gpu_kernels._Bench(1, SMALL, torch.device("cpu"), "interpreted")
    monkeypatch.setattr(made, "_seconds", called_once)
    monkeypatch.setattr(made, "_issued", lambda compiled, groups, pattern: groups and 0.5)
    monkeypatch.setattr(gpu_kernels, "_issue_rate", lambda: 1e12)
    return made


def test_selection_has_a_row_for_every_input_pattern_and_encoding(bench):
    rows = list(bench.selection())
    assert sum("torch's copy_" in row.name for row in rows) == 4 * (3 + 1 + 1)
    assert sum("issuing its instructions" in row.name for row in rows) == 4 * 3
    by_name = {row.name: row for row in rows}
    codes = by_name["2:4 of INT8 codes, bitmap: bytes moved, against torch's copy_"]
    assert codes.ours == pytest.approx(3 * 64 * (1 + 0.5 + 0.125) / 1e-3 / 1e9)
    assert codes.peer == pytest.approx(2 * 4 * 3 * 64 / 1e-3 / 1e9)
    assert codes.wanted == gpu_kernels.MEMORY_BOUND["2:4"]
    assert by_name["8:16 of INT8 codes, bitmap: bytes moved, against torch's copy_"].wanted is None
    issuing = by_name["8:16 of INT8 codes, index: issuing its instructions, against the time taken"]
    assert issuing.ours == pytest.approx(0.5 * 3 * 64 / 1e12) and issuing.peer == 1e-3


def test_products_are_checked_and_held_against_the_dense_one(bench):
    rows = list(bench.products())
    assert len(rows) == 4 * 3
    assert all(row.ours == row.peer == pytest.approx(2 * 64**3 / 1e9 / 1e-3) for row in rows)
    assert sum(row.wanted == gpu_kernels.PRODUCT for row in rows) == 4 * 2


def test_a_wrong_product_is_noticed(bench, monkeypatch):
    right = device.multiply
    monkeypatch.setattr(device, "multiply", lambda *arguments, **options: right(*arguments, **options) + 1)
    with pytest.raises(gpu_kernels.Wrong, match="the product at 2:4"):
        list(bench.products())


def test_wrong_compression_is_noticed(bench, monkeypatch):
    right = device.compress

    def shifted(*arguments, **options):
        slots, scales = right(*arguments, **options)
        slots.metadata[0, 0] ^= 1
        return slots, scales

    monkeypatch.setattr(device, "compress", shifted)
    with pytest.raises(gpu_kernels.Wrong, match=r"compression of torch\.int8 at 2:4"):
        list(bench.selection())
