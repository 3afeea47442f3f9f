"""The benchmark of sparsified models, on a tiny one: every row is there, and the model is itself again."""

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

ROOT = Path(__file__).parent.parent
if str(ROOT) not in sys.path:  # the benchmarks are scripts of the checkout, not part of the package
    sys.path.append(str(ROOT))

from capture_helpers import PROMPT, tiny_model  # noqa: E402

from benchmarks import sparsify  # noqa: E402


@pytest.fixture
def model():
    return tiny_model("llama")


def test_a_twin_shares_the_weights_but_not_the_modules(model):
    other = sparsify.twin(model)
    assert other is not model
    for own, others in zip(model.parameters(), other.parameters(), strict=True):
        assert own is others
    for own, others in zip(model.modules(), other.modules(), strict=True):
        assert own is not others


def test_activations_are_those_that_linears_read_each_once(model):
    found = sparsify.activations_of(model, torch.tensor([PROMPT]))
    assert [tuple(x.shape) for x in found] == 3 * [(12, 16), (12, 16), (12, 16), (12, 24)]  # q/k/v, o, gate/up, down
    assert sum(np.prod(x.shape) for x in found) == 3 * 12 * (16 + 16 + 16 + 24)


def test_every_treatment_is_timed_against_the_dense_model_and_none_is_left_behind(model, monkeypatch):
    monkeypatch.setattr(sparsify, "PROMPT_TOKENS", 4)
    monkeypatch.setattr(
        sparsify, "OTHERS", {**sparsify.OTHERS, "8:16 and rank 64": {"pattern": "8:16", "low_rank": {"rank": 3}}}
    )
    low_rank = {"pattern": "8:16", "low_rank": {"rank": 3, "factors": "fitted"}}
    monkeypatch.setattr(sparsify, "LEARNED", {**sparsify.LEARNED, "low-rank factors (R-Sparse, rank 64)": low_rank})
    ids = np.array(PROMPT)
    before = sparsify.forward(model, torch.tensor([PROMPT]))
    rows = list(sparsify.rows_of(model, ids, ids[::-1].copy(), np.roll(ids, 3), rounds=1))
    assert torch.equal(sparsify.forward(model, torch.tensor([PROMPT])), before)
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    held = [row.name for row in rows if row.wanted is sparsify.TWICE]
    assert [name.split("magnitude ")[1].split()[0] for name in held] == list(sparsify.PATTERNS)
    for treatment in sparsify.OTHERS:
        assert f"forward pass, {treatment}" in names
    assert sum("selection alone" in name for name in names) == 5
    assert all(row.ours > 0 and row.peer > 0 and row.unit == "s" for row in rows)
    assert "8 tokens behind 2 prompts of 4" in next(name for name in names if "greedy" in name)
    assert sum(name.startswith("fitting ") for name in names) == len(sparsify.FITTED)
    assert sum(name.startswith("learning ") for name in names) == len(sparsify.LEARNED)


def test_a_model_that_is_not_there_stands_in_the_report_by_name(monkeypatch):
    from accel_sim import AccelSimError
    from benchmarks.__main__ import live_model

    def missing():
        raise AccelSimError("the default model cannot be fetched")
        yield

    monkeypatch.setattr(sparsify, "rows", missing)
    (row,) = live_model()
    assert row.ours is None and "cannot be fetched" in row.name
