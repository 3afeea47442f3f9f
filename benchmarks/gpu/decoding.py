"""Tokens a second of a language model's decode on a GPU, dense and with its FFNs on an executor.

    python -m benchmarks.gpu.decoding [--size llama2-7b] [--prompt 512] [--steps 32] [--rounds 5] [--json FILE]

A Llama of LLaMA-2-7B's sizes with ReLU gates and random bfloat16 weights, made on the device: its speed is the real
model's, its text is none. Predictors are random, of rank 256, with a bias that lets a share of the neurons through. The
same decode step runs dense and through `accel_sim.executors.live`, behind the same prompt: both replayed as CUDA graphs
over a static cache, in turns, and both called from Python as `generate` does. Before that, every layer's answer in a
step is held against the same FFN under the same mask in float64 (not the logits: masks of random predictors turn a
rounding in one layer into other neurons in the next).

Behind `--limit` seconds nothing more is begun, and what was left out is named. Exit status: 0; 1 where a layer's answer
was wrong; 2 without a CUDA device and Triton. `--device cpu --size tiny --executors gather` runs the same on a CPU,
without graphs, to try it.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.gpu.kernels import NoGPU, require_gpu
from benchmarks.progress import say
from benchmarks.random_models import SIZES, random_model
from benchmarks.rows import Row, markdown

if TYPE_CHECKING:
    from torch import Tensor

    from accel_sim.executors import LowRank
    from benchmarks.gpu.steps import StaticSteps

COMMAND = "python -m benchmarks.gpu.decoding"
SKIPPED = (0.5, 0.8, 0.9)
EXECUTORS = ("triton", "gather")
PIPELINES = ("sequential", "parallel")


@dataclass(frozen=True)
class Length:
    """Of a measurement."""

    prompt: int = 512
    steps: int = 32
    rounds: int = 5
    rank: int = 256


class Decoding:
    """One model on its device."""

    def __init__(self, model: Any, name: str, length: Length) -> None:
        import torch

        from benchmarks.gpu.executors import copy_rate, gpu_name, used_versions
        from benchmarks.gpu.figures import RowsOf
        from benchmarks.gpu.steps import StaticSteps, ffn_pairs
        from benchmarks.gpu.timing import clock_of

        self.model, self.length = model, length
        self.device = next(model.parameters()).device
        draw = torch.Generator().manual_seed(0)
        self.prompt = torch.randint(model.config.vocab_size, (1, length.prompt), generator=draw).to(self.device)
        gpu = gpu_name(self.device)
        dtype = str(model.dtype).removeprefix("torch.")
        group = f"Decoding on {gpu}: {name} with ReLU, random {dtype} weights, {length.prompt} + {length.steps} tokens"
        self.make = RowsOf(group, COMMAND, used_versions(gpu))
        self.copied = copy_rate(clock_of(self.device, length.rounds), self.device)
        self.dense = StaticSteps(model, self.prompt, length.steps)
        self.thin = [self._random_predictor(layer) for layer in range(model.config.num_hidden_layers)]
        self.inputs = [x for x, _ in ffn_pairs(model, self.dense)]
        self._replay, self._why = graph_or_none(self.dense)
        self._python = self._from_python()

    def rows(self, executors: Sequence[str], skipped: Sequence[float]) -> Iterator[tuple[list[Row], int]]:
        """The dense model's, and then those of each configuration; with each, how many were wrong."""
        yield self._dense_rows(), 0
        for share in skipped:
            for executor in executors:
                for pipeline in PIPELINES:
                    yield self._of(executor, pipeline, share)

    def _dense_rows(self) -> list[Row]:
        """Graph beside Python, memory, and what is left of a step without its FFNs."""
        from benchmarks.gpu.steps import StaticSteps, instead_of_ffns

        with instead_of_ffns(self.model, [lambda x: x] * len(self.thin)):
            bare = StaticSteps(self.model, self.prompt, self.length.steps)
            rest = self._fastest({"rest": (bare, graph_or_none(bare)[0] or bare.step)})["rest"]
        taken = self._fastest({"dense": (self.dense, self._replay or self.dense.step)})["dense"]
        how = "in a CUDA graph" if self._replay else f"without a CUDA graph ({self._why})"
        read = self.bytes_of_a_step() / taken
        return [
            self.make.row(f"dense, {how}, against called from Python", 1 / taken, 1 / self._python, "tokens/s"),
            self.make.row("dense: bytes read, against torch's copy_", read / 1e9, self.copied / 1e9, "GB/s"),
            self.make.row("dense: the FFNs' share of the time (the same step without them)", taken - rest, taken, "s"),
        ]

    def _of(self, executor: str, pipeline: str, share: float) -> tuple[list[Row], int]:
        """One configuration, in turns with the dense model."""
        from accel_sim.executors.live import attach
        from benchmarks.gpu.steps import StaticSteps

        what = f"{executor}, {pipeline}, {share:.0%} told to be skipped"
        predictors = self.predictors(share)
        with attach(self.model, predictors, executor, pipeline) as attached:
            steps = StaticSteps(self.model, self.prompt, self.length.steps)
            error, allowed, told, active = self._checked(steps, predictors, executor)
            if not error <= allowed or attached.fetched.steps != len(predictors):
                why = f"wrong: {attached.fetched.steps} layers ran on it, the largest error is {error:.2g} of the norm"
                return [self.make.none(what, why)], 1
            replay, why = self._graph(steps, executor)
            if replay:
                # the dense graph holds what it replays: that the model is attached does not touch it
                taken = self._fastest({"ours": (steps, replay), "dense": (self.dense, self._replay)})
            python = self._from_python()
        name = f"{what}: in a CUDA graph, against dense"
        if replay:
            first, seconds = self.make.row(name, 1 / taken["ours"], 1 / taken["dense"], "tokens/s"), taken["ours"]
        else:
            first, seconds = self.make.none(name, why), python
        read = self.bytes_of_a_step((told, told if pipeline == "parallel" else active, active))
        whole, rate = self.bytes_of_a_step(), read / seconds
        return [
            first,
            self.make.row(f"{what}: called from Python, against dense", 1 / python, 1 / self._python, "tokens/s"),
            self.make.row(f"{what}: bytes that a token must read, against dense", read / 1e9, whole / 1e9, "GB"),
            self.make.row(f"{what}: bytes read, against torch's copy_", rate / 1e9, self.copied / 1e9, "GB/s"),
            self.make.row(f"{what}: neurons skipped, told beside in fact", 1 - told, 1 - active, "of all"),
            self.make.row(f"{what}: a layer's largest error, beside what is allowed", error, allowed, "of the norm"),
        ], 0

    def _graph(self, steps: StaticSteps, executor: str) -> tuple[Any, str]:
        """What replays a step of an attached model; or None and why it cannot be compared with the dense graph."""
        if self._replay is None:
            return None, self._why
        if executor == "gather":
            return None, "its host waits for the length of every index list"
        return graph_or_none(steps)

    def _checked(
        self, steps: StaticSteps, predictors: Sequence[LowRank], executor: str
    ) -> tuple[float, float, float, float]:
        """A layer's largest error and what is allowed; shares of the neurons told, and active."""
        import torch

        from accel_sim.capture.gated_mlps import gated_mlps
        from accel_sim.executors.torch_ffn import TorchLowRank
        from benchmarks.gpu.executors import ROUNDINGS
        from benchmarks.gpu.ffns import relative_error
        from benchmarks.gpu.steps import ffn_pairs, masked_ffn

        errors, told, active = [], [], []
        mlps = gated_mlps(self.model).values()
        for mlp, thin, (x, y) in zip(mlps, predictors, ffn_pairs(self.model, steps), strict=True):
            expected = masked_ffn(mlp, TorchLowRank.of(thin, self.device, self.model.dtype), x)
            errors.append(relative_error(y, expected.y))
            told.append(expected.told)
            active.append(expected.active)
        allowed = ROUNDINGS[executor] * torch.finfo(self.model.dtype).eps
        if self.model.dtype == torch.float32:
            allowed = 1e-4  # sums in another order
        return max(errors), allowed, sum(told) / len(told), sum(active) / len(active)

    def _fastest(self, runs: dict[str, tuple[StaticSteps, Any]]) -> dict[str, float]:
        """Seconds of a step of each, in turns; the first round is not counted."""
        from benchmarks.gpu.steps import seconds_of_steps

        taken: dict[str, list[float]] = {key: [] for key in runs}
        for _ in range(self.length.rounds + 1):
            for key, (steps, step) in runs.items():
                taken[key].append(seconds_of_steps(steps, self.length.steps, step))
        return {key: min(times[1:]) for key, times in taken.items()}

    def _from_python(self) -> float:
        """Seconds of a step of the model as it is; fewer rounds, since Python takes longer than the device."""
        from benchmarks.gpu.steps import seconds_from_python

        rounds = range(min(2, self.length.rounds) + 1)
        return min([seconds_from_python(self.model, self.prompt, self.length.steps) for _ in rounds][1:])

    def predictors(self, share: float) -> list[LowRank]:
        """One for each layer, whose bias skips this share of the neurons for what the dense model gave the layer."""
        import torch

        from accel_sim.executors import LowRank

        made = []
        for (down, up), x in zip(self.thin, self.inputs, strict=True):
            scores = x.float() @ down.T @ up.T
            bias = torch.full((up.shape[0],), -float(torch.quantile(scores, share)))
            made.append(LowRank.of(down, up, bias))
        return made

    def bytes_of_a_step(self, read: tuple[float, float, float] | None = None) -> int:
        """Weights and cache that one token must read; `read`: the shares of gate, up and down, with predictors."""
        config, size = self.model.config, self.model.dtype.itemsize
        one = config.hidden_size * config.intermediate_size * size
        embedded = self.model.get_input_embeddings().weight
        tied = embedded is self.model.get_output_embeddings().weight
        weights = sum(each.nbytes for each in self.model.parameters()) - (0 if tied else embedded.nbytes)
        heads = 2 * config.num_key_value_heads * (config.hidden_size // config.num_attention_heads)
        total = weights + config.num_hidden_layers * heads * self.dense.length * size
        if read is not None:
            thin = self.length.rank * (config.hidden_size + config.intermediate_size) * size
            total += config.num_hidden_layers * round(one * (sum(read) - 3) + thin)
        return total

    def _random_predictor(self, layer: int) -> tuple[Tensor, Tensor]:
        """B [r, d] and A [D, r] of float32 on the device, whose scores are about 1."""
        import torch

        config, rank = self.model.config, self.length.rank
        draw = torch.Generator(device=self.device).manual_seed(layer)
        shapes = (rank, config.hidden_size), (config.intermediate_size, rank)
        return tuple(torch.randn(each, generator=draw, device=self.device) / each[1] ** 0.5 for each in shapes)


def graph_or_none(steps: StaticSteps) -> tuple[Any, str]:
    """What replays a step; or None and why."""
    from benchmarks.gpu.timing import NotCaptured

    if steps.prompt.device.type != "cuda":
        return None, "no CUDA graphs on a CPU"
    try:
        return steps.graph(), ""
    except NotCaptured as why:
        say(f"no graph: {why}")
        return None, str(why)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="llama2-7b")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--executors", default=",".join(EXECUTORS), help=f"default: {','.join(EXECUTORS)}")
    for name, default in vars(Length()).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--limit", type=float, default=480, help="seconds (default: 480)")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    if arguments.prompt < 2 or min(arguments.steps, arguments.rounds, arguments.rank) < 1:
        parser.error("expected a prompt of at least 2 tokens, and at least 1 step, round and rank")
    unknown = sorted(set(arguments.executors.split(",")) - set(EXECUTORS))
    if unknown:
        parser.error(f"--executors {','.join(unknown)}: expected some of {', '.join(EXECUTORS)}")
    try:
        if arguments.device == "cuda":
            require_gpu()
    except NoGPU as why:
        print(f"not run: {why}", file=sys.stderr)
        sys.exit(2)
    sys.exit(run(arguments))


def run(arguments: argparse.Namespace) -> int:
    """Everything, until the limit; the exit status."""
    import torch

    from benchmarks.gpu.executors import Report

    end = time.monotonic() + arguments.limit
    report = Report(arguments.json)
    dtype = "bfloat16" if arguments.device == "cuda" else "float32"
    length = Length(arguments.prompt, arguments.steps, arguments.rounds, arguments.rank)
    say(f"making {arguments.size}")
    decoding = Decoding(
        random_model(arguments.size, arguments.device, dtype, hidden_act="relu"), arguments.size, length
    )
    try:
        for rows, wrong in decoding.rows(arguments.executors.split(","), SKIPPED):
            report.add(rows, wrong)
            for row in rows:
                say(f"{row.name}: {row.ours} / {row.peer} {row.unit}")
            if arguments.device == "cuda":
                torch.cuda.empty_cache()
            if time.monotonic() > end:
                report.add([decoding.make.none("all that is not above", f"--limit {arguments.limit:g} s")])
                break
    finally:
        print(markdown(report.rows))
    return 1 if report.wrong else 0


if __name__ == "__main__":
    main()
