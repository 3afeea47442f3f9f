"""The benchmark of the executors, on a small FFN and a tiny model: every row is there, and says what it should."""

import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

ROOT = Path(__file__).parent.parent
if str(ROOT) not in sys.path:  # the benchmarks are scripts of the checkout, not part of the package
    sys.path.append(str(ROOT))

from capture_helpers import PROMPT, tiny_model  # noqa: E402

from benchmarks import decoding, executors  # noqa: E402

SMALL = executors.Shape(features=96, neurons=200, rank=8)


def test_every_sparsity_is_held_against_torch_the_ideal_the_paper_and_the_memory():
    rows = list(executors.rows_of(SMALL, {0.5: 1.9, 0.95: 4.67}, rounds=1, cache_bytes=1 << 16))
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    assert all(row.ours > 0 and row.peer > 0 for row in rows)
    ideal = {row.name.split(": ")[0]: row.peer for row in rows if "against 1/(1−s)" in row.name}
    assert ideal["float32, 50% skipped"] == pytest.approx(2) and ideal["INT8, 95% skipped"] == pytest.approx(20)
    assert len(ideal) == 3 * len(executors.SPARSITIES)
    assert [row.peer for row in rows if "RTX 3090" in row.name] == [1.9, 4.67]
    assert sum("weights fetched" in name for name in names) == 3 * len(executors.SPARSITIES)
    assert sum("predictor of rank 8" in name for name in names) == 2


def test_the_random_ffn_fetches_the_same_rows_of_all_three_matrices():
    bench = executors._Bench(SMALL, rounds=1, cache_bytes=1 << 16)
    ffn = bench.random_ffn()
    for pipeline in ("sequential", "parallel"):
        timed = bench._masked(executors.NumbaExecutor(ffn), 0.8)
        rows = executors.NumbaExecutor(ffn).run(*timed.prepare(), pipeline).rows
        assert rows.gate == rows.up == rows.down == 40
    x = bench._x()
    ours = executors.NumbaExecutor(ffn).run(x).y
    assert np.allclose(executors._torch_dense(ffn)(x).numpy(), ours, rtol=1e-3, atol=1e-3 * np.abs(ours).max())


def test_every_shape_has_the_papers_figures():
    assert executors.PAPERS_CUDA.keys() == executors.SHAPES.keys()


def test_a_model_decodes_with_and_without():
    model = tiny_model("llama", hidden_act="relu")
    rows = list(decoding.rows_of(model, np.array(PROMPT), None, new_tokens=6, rounds=1, name="tiny", command="this"))
    assert len(rows) == 6 * len(decoding.EXECUTORS)
    for speed, fetched, same, ffns, rest, amdahl in zip(*[iter(rows)] * 6, strict=True):
        assert speed.unit == "tokens/s" and speed.ours > 0
        assert 0 < fetched.ours < fetched.peer == 3 * 3 * 5 * 24  # matrices, layers, decode steps, neurons
        assert same.ours == same.peer == 6
        for side in ("ours", "peer"):  # the FFNs and the rest are the whole, and each is some of it
            parts = [getattr(each, side) for each in (ffns, rest)]
            assert min(parts) > 0 and sum(parts) == pytest.approx(1e3 / getattr(speed, side))
        assert amdahl.ours == pytest.approx(speed.ratio)
        assert amdahl.peer == pytest.approx((ffns.peer + rest.peer) / (rest.peer + fetched.ratio * ffns.peer))
    assert "forward" not in vars(model.model.layers[0].mlp)


@pytest.mark.parametrize("off", [0.5, 0.9])
def test_a_random_model_has_as_many_neurons_off_as_it_is_told(off):
    rows = list(decoding.random_rows(128, 256, 2, off, new_tokens=6, rounds=1))
    fetched = next(row for row in rows if "rows fetched" in row.name)
    assert fetched.ratio == pytest.approx(
        (1 + 2 * (1 - off)) / 3, abs=0.05
    )  # gate whole; what it leaves of up and down
    assert f"--random 128x256x2 --off {off}" in fetched.command


@pytest.mark.parametrize("text", ["100x256x2", "128x256", "128x0x2", "128xmanyx2"])
def test_a_shape_that_is_none_is_refused(text):
    with pytest.raises(ValueError):
        executors._three(text)


@pytest.mark.parametrize("text", ["0", "1", "nan"])
def test_a_share_that_is_none_is_refused(text):
    with pytest.raises(ValueError):
        executors._share(text)


def test_a_prefill_that_is_held_up_does_not_make_the_decode_faster():
    model = tiny_model("llama", hidden_act="relu")
    held_up = 0.5

    def slow_prefill(module, args, kwargs):
        if kwargs["input_ids"].shape[1] > 1:
            time.sleep(held_up)

    model.register_forward_pre_hook(slow_prefill, with_kwargs=True)
    begin = time.perf_counter()
    made = decoding._one_round(model, torch.tensor([PROMPT]), None, "numba", new_tokens=6)
    whole = time.perf_counter() - begin
    assert 0 < made.ffn_seconds < made.seconds < whole - held_up
