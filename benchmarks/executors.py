"""What skipping neurons saves at decode, against the dense FFN, in one run.

    python -m benchmarks.executors [--shape llama2] [--rounds 9] [--json FILE]
    python -m benchmarks.executors --model FOLDER [--predictors FOLDER] [--new-tokens 128]
    python -m benchmarks.executors --random 2048x5632x8 [--off 0.9] [--new-tokens 128]

First form: one FFN of random weights, one token, the same sparsity in all three matrices and the predictor left out, as
in Table 4 of SVDP (arXiv 2603.14110), and once with a predictor. Peers are torch's own F.linear and our executor with
nothing to skip. Second form: tokens a second of a ReLU model, dense and with the executors. Third: the same of a model
of random weights, of which the gates' biases turn a share off, to see what the size of a model does.

Both sides take turns in every round, and the fastest round of each counts, so that a busy machine hits both alike.
Every call finds cold caches and other neurons than the one before, as the next layer of a model would.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numba import get_num_threads

from accel_sim import AccelSimError
from accel_sim.executors import GatedFFN, LowRank, NumbaExecutor, QuantizedFFN
from benchmarks.progress import say
from benchmarks.rows import Row, markdown, write_json
from benchmarks.versions import versions

COMMAND = "python -m benchmarks.executors"


@dataclass(frozen=True)
class Shape:
    """One FFN, and the rank of its predictor: three of SVDP's Table 12, and the model of the end-to-end figures."""

    features: int
    neurons: int
    rank: int


SHAPES = {
    "llama2": Shape(4096, 11008, 256),
    "mistral": Shape(4096, 14336, 352),
    "qwen2": Shape(3584, 18944, 512),
    "smollm2": Shape(576, 1536, 31),
}
SPARSITIES = (0.5, 0.8, 0.9, 0.95)
WITH_PREDICTOR = 0.8
PAPERS_CUDA = {
    "llama2": {0.5: 1.90, 0.8: 3.34, 0.95: 4.67},
    "mistral": {0.5: 1.90, 0.8: 3.44, 0.95: 4.92},
    "qwen2": {0.5: 1.95, 0.8: 3.47, 0.95: 4.91},
    "smollm2": {},
}
"""SVDP Table 4, RTX 3090, fp16; it has none of a model this small."""
ALWAYS_ACTIVE = 1e6
"""Bias of every gate: what the mask leaves is then active, so that sequential and parallel fetch the same rows."""
_CACHE_BYTES = 256 << 20
"""More than any cache holds."""


def rows(shape: str = "llama2", rounds: int = 9) -> Iterator[Row]:
    """All rows of one shape."""
    yield from rows_of(SHAPES[shape], PAPERS_CUDA[shape], rounds)


def rows_of(shape: Shape, papers: dict[float, float], rounds: int, cache_bytes: int = _CACHE_BYTES) -> Iterator[Row]:
    """All rows of any shape; `papers` maps a sparsity to the published speed-up."""
    bench = _Bench(shape, rounds, cache_bytes)
    read = bench.read_rate()
    yield from bench.memory(read)
    ffn = bench.random_ffn()
    yield from bench.precision("float32", ffn, _torch_dense(ffn), read, papers)
    yield from bench.predictor(ffn, _torch_dense(ffn))
    narrow = ffn.in_bfloat16()
    codes = QuantizedFFN.of(ffn)
    del ffn
    yield from bench.precision("bfloat16", narrow, _torch_dense(narrow), read, {})
    del narrow
    yield from bench.precision("INT8", codes, None, read, {})


@dataclass(frozen=True)
class _Timed:
    """What is made before a call, untimed, and the call."""

    prepare: Callable[[], tuple]
    work: Callable[..., object]


class _Bench:
    def __init__(self, shape: Shape, rounds: int, cache_bytes: int) -> None:
        import torch

        self.shape, self.rounds = shape, rounds
        self.group = f"Conditional FFN at decode, one token, {shape.features} × {shape.neurons}"
        self.draw = np.random.default_rng(0)
        self.other_data = torch.ones(cache_bytes // 4)

    def random_ffn(self) -> GatedFFN:
        shape = (self.shape.neurons, self.shape.features)
        gate, up, down = (self.draw.standard_normal(shape, np.float32) for _ in range(3))
        active = np.full(self.shape.neurons, ALWAYS_ACTIVE, np.float32)
        return GatedFFN.of(gate, up, down.T, gate_bias=active)  # which transposes down back

    def read_rate(self) -> float:
        """GB/s of reading an array that no cache holds: torch's sum, by all threads."""
        seconds = self._seconds({"read": _Timed(tuple, self._read)})["read"]
        return self.other_data.nbytes / seconds / 1e9

    def memory(self, read: float) -> Iterator[Row]:
        """Reading beside copying, which moves every byte twice."""
        target = self.other_data.clone()
        seconds = self._seconds({"copy": _Timed(tuple, lambda: target.copy_(self.other_data))})["copy"]
        copied = 2 * self.other_data.nbytes / seconds / 1e9
        yield self._row("memory: reading (torch's sum), against copying (torch's copy_)", read, copied, "GB/s")

    def precision(
        self,
        name: str,
        ffn: GatedFFN | QuantizedFFN,
        torch_dense: Callable[[np.ndarray], object] | None,
        read: float,
        papers: dict[float, float],
    ) -> Iterator[Row]:
        """Each sparsity against torch's dense FFN, our own, the ideal, the paper, and the memory."""
        executor = NumbaExecutor(ffn)
        calls = {sparsity: self._masked(executor, sparsity) for sparsity in (0.0, *SPARSITIES)}
        if torch_dense is not None:
            calls["torch"] = _Timed(lambda: (self._x(),), torch_dense)
        seconds = self._seconds(calls)
        own, theirs = seconds[0.0], seconds.get("torch")
        if theirs is not None:
            yield self._row(f"{name}, nothing skipped, against torch's F.linear", own, theirs, "s", faster=True)
        for sparsity in SPARSITIES:
            taken, what = seconds[sparsity], f"{name}, {sparsity:.0%} skipped"
            if theirs is not None:
                yield self._row(f"{what}, against torch's dense F.linear", taken, theirs, "s", faster=True)
            else:
                yield self._row(f"{what}, against our own dense", taken, own, "s", faster=True)
            yield self._row(
                f"{what}: speed-up over our own dense, against 1/(1−s)", own / taken, 1 / (1 - sparsity), "×"
            )
            if sparsity in papers and theirs is not None:
                published = f"{what}: speed-up over torch, against SVDP's on an RTX 3090"
                yield self._row(published, theirs / taken, papers[sparsity], "×")
            rate = 3 * ffn.row_bytes * self._active(sparsity) / taken / 1e9
            yield self._row(f"{what}: weights fetched, against reading", rate, read, "GB/s")

    def predictor(self, ffn: GatedFFN, torch_dense: Callable[[np.ndarray], object]) -> Iterator[Row]:
        """A predictor of the published rank: alone, and in front of the FFN that it saves."""
        shape, executor = self.shape, NumbaExecutor(ffn)
        down = self.draw.standard_normal((shape.rank, shape.features), np.float32)
        up = self.draw.standard_normal((shape.neurons, shape.rank), np.float32)
        plain = LowRank.of(down, up, np.zeros(shape.neurons))

        def fitted() -> tuple[np.ndarray, LowRank]:
            """A token, and the predictor whose bias leaves exactly as many of its neurons as are wanted."""
            x = self._x()
            scores = np.sort(executor.scores(x, plain)[0])
            bias = np.full(shape.neurons, -scores[-self._active(WITH_PREDICTOR) - 1], np.float32)
            return x, LowRank(plain.down, plain.up, bias)

        seconds = self._seconds(
            {
                "torch": _Timed(lambda: (self._x(),), torch_dense),
                "alone": _Timed(fitted, executor.scores),
                "both": _Timed(fitted, executor.run_predicted),
                "ffn": self._masked(executor, WITH_PREDICTOR),
            }
        )
        what, skipped = f"float32, predictor of rank {shape.rank}", f"{WITH_PREDICTOR:.0%} skipped"
        yield self._row(f"{what} alone, against the FFN with {skipped}", seconds["alone"], seconds["ffn"], "s")
        together = f"{what} and FFN with {skipped}, against torch's dense F.linear"
        yield self._row(together, seconds["both"], seconds["torch"], "s", faster=True)

    def _masked(self, executor: NumbaExecutor, sparsity: float) -> _Timed:
        """The FFN alone, its mask given."""

        def prepare() -> tuple[np.ndarray, np.ndarray]:
            mask = np.zeros((1, self.shape.neurons), bool)
            mask[0, self.draw.permutation(self.shape.neurons)[: self._active(sparsity)]] = True
            return self._x(), mask

        return _Timed(prepare, executor.run)

    def _x(self) -> np.ndarray:
        return self.draw.standard_normal((1, self.shape.features), np.float32)

    def _active(self, sparsity: float) -> int:
        return round(self.shape.neurons * (1 - sparsity))

    def _read(self) -> object:
        return self.other_data.sum()

    def _seconds(self, calls: dict[Any, _Timed]) -> dict[Any, float]:
        """Wall time of each call's fastest round, in turns, caches cold; the first round is not counted."""
        taken: dict[Any, list[float]] = {key: [] for key in calls}
        for _ in range(self.rounds + 1):
            for key, timed in calls.items():
                arguments = timed.prepare()
                self._read()  # what the call needs leaves the caches, as it does while a model's other layers run
                begin = time.perf_counter()
                timed.work(*arguments)
                taken[key].append(time.perf_counter() - begin)
        return {key: min(times[1:]) for key, times in taken.items()}

    def _row(self, name: str, ours: float, peer: float, unit: str, faster: bool = False) -> Row:
        import torch

        say(f"{name}: {ours:.4g} / {peer:.4g} {unit}")
        used = versions(torch=torch.__version__, threads=str(get_num_threads()))
        return Row(self.group, name, ours, peer, unit, COMMAND, used, faster=faster)


def _torch_dense(ffn: GatedFFN) -> Callable[[np.ndarray], object]:
    """The dense FFN by torch in the weights' own dtype, down in the layout of `torch.nn.Linear`."""
    import torch
    from torch.nn.functional import linear

    from accel_sim.executors.torch_ffn import TorchFFN

    tensors = TorchFFN.of(ffn)
    dtype = tensors.gate.dtype
    down, bias = tensors.down.t().contiguous(), tensors.gate_bias.to(dtype)

    @torch.no_grad()
    def dense(x: np.ndarray) -> object:
        x = torch.from_numpy(x).to(dtype)
        return linear(linear(x, tensors.gate, bias).relu() * linear(x, tensors.up), down)

    return dense


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="llama2")
    parser.add_argument("--rounds", type=int, help="default: 9 of an FFN, 3 of a model")
    parser.add_argument("--model", help="a ReLU model: a folder or a hub id")
    parser.add_argument("--predictors", type=Path, help="folder with its predictors; default: none, the gate decides")
    parser.add_argument("--random", type=_three, help="features x neurons x layers of a model of random weights")
    parser.add_argument("--off", type=_share, default=0.9, help="share of its neurons that are off; default: 0.9")
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    try:
        made = list(_asked(arguments))
    except AccelSimError as error:
        parser.error(str(error))
    print(markdown(made))
    if arguments.json:
        write_json(made, arguments.json)


def _asked(arguments: argparse.Namespace) -> Iterator[Row]:
    if not arguments.model and not arguments.random:
        return rows(arguments.shape, arguments.rounds or 9)
    from benchmarks import decoding

    if arguments.random:
        return decoding.random_rows(*arguments.random, arguments.off, arguments.new_tokens, arguments.rounds or 3)
    return decoding.rows(arguments.model, arguments.predictors, arguments.new_tokens, arguments.rounds or 3)


def _share(text: str) -> float:
    share = float(text)
    if not 0 < share < 1:
        raise ValueError(text)
    return share


def _three(text: str) -> tuple[int, int, int]:
    """`2048x5632x8`, features in whole heads of the attention."""
    features, neurons, layers = (int(part) for part in text.split("x"))
    if features % 64 or min(features, neurons, layers) < 1:
        raise ValueError(text)
    return features, neurons, layers


if __name__ == "__main__":
    main()
