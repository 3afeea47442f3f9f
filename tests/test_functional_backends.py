"""The backends as such: found by name, imported late, honest about what they fall back to."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from accel_sim import AccelSimError
from accel_sim.functional import BACKENDS, backend_notes, backends, select, sparse_matmul


def test_the_documented_example_runs():
    page = Path(__file__).parents[1] / "docs" / "functional.md"
    example = re.search(r"```python\n(.*?)```", page.read_text(), re.DOTALL)[1]
    names: dict = {}
    exec(example, names)
    assert names["stored"].metadata.shape == (512, 63) and names["stored"].values.shape == (512, 36, 8)
    assert names["codes"].shape == names["floats"].shape == (512, 1536)


def test_unknown_name():
    with pytest.raises(AccelSimError, match=f"expected one of {', '.join(BACKENDS)}"):
        select(np.zeros((1, 4), dtype=np.int8), "2:4", backend="jax")


def test_importing_and_the_compiled_backend_leave_torch_alone():
    script = (
        "import sys, numpy, accel_sim; assert 'numpy' in sys.modules\n"
        "accel_sim.functional.select(numpy.zeros((1, 4), 'int8'), '2:4', backend='numba')\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_importing_the_package_imports_nothing_heavy():
    script = "import sys, accel_sim; assert not {'numpy', 'numba', 'torch', 'pydantic'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_notes_say_why_a_backend_is_not_there(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    backends.backend.cache_clear()
    try:
        notes = backend_notes()
        with pytest.raises(AccelSimError, match=r"torch is not installed; pip install 'accel_sim\[llm\]'"):
            select(np.zeros((1, 4), dtype=np.int8), "2:4", backend="torch")
    finally:
        backends.backend.cache_clear()
    assert list(notes) == list(BACKENDS)
    assert notes["torch"].startswith("not there") and notes["torch:cuda"].startswith("not there")
    assert "Numba" in notes["numba"]


def saturating(x, w):
    """What a CPU without VNNI computes: unsigned times signed, pairs of products saturated in 16 bits, sign mended."""
    import torch

    odd = x.shape[1] % 2
    unsigned = torch.nn.functional.pad(x.to(torch.int32) + 128, (0, odd)).unflatten(1, (-1, 2))
    rows = torch.nn.functional.pad(w.to(torch.int32), (0, 0, 0, odd)).unflatten(0, (-1, 2))
    pairs = sum(unsigned[:, :, i, None] * rows[None, :, i] for i in range(2))
    return (pairs.clamp(-(2**15), 2**15 - 1).sum(dim=1) - 128 * w.to(torch.int32).sum(dim=0)).to(torch.int32)


def failing(x, w):
    raise RuntimeError("not implemented for this device\nand more")


@pytest.mark.parametrize(
    ("broken", "reason"), [(saturating, "wrong sums"), (failing, "not implemented for this device")]
)
def test_torch_leaves_a_wrong_int_mm_alone_and_says_so(monkeypatch, broken, reason):
    torch = pytest.importorskip("torch")
    from accel_sim.functional.torch_backend import TorchBackend

    monkeypatch.setattr(torch, "_int_mm", broken)
    unit = TorchBackend("cpu")
    assert "float64" in unit.note and reason in unit.note
    monkeypatch.setitem(backends._BACKENDS, "mended", lambda: unit)
    x, w = np.full((2, 64), 127, dtype=np.int8), np.full((64, 3), 127, dtype=np.int8)
    np.testing.assert_array_equal(sparse_matmul(x, w, "2:4", backend="mended"), np.full((2, 3), 32 * 127**2))
