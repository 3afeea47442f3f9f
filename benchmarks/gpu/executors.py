"""What skipping neurons saves on a GPU at one token, against the dense FFN by cuBLAS, in one run.

    python -m benchmarks.gpu.executors [--shape llama2] [--rounds 10] [--limit 480] [--json FILE]
    python -m benchmarks.gpu.executors --tune [--shape llama2] [--json FILE]

One FFN of random weights, the same sparsity in all three matrices and the predictor left out, as in Table 4 of SVDP
(arXiv 2603.14110); and with a predictor of the paper's rank in front. The peer is torch's F.linear three times, with
ReLU and multiplication between. Every configuration is first compared with the masked dense FFN in float64. Copies of
the weights take turns, so that a call finds none of its own in the cache. Both sides are timed as Python launches them
and as a CUDA graph replays them; the graph's is the figure that counts, since a launch from Python takes longer than
these kernels do. A configuration that cannot be captured, or whose result is wrong, says so in its place.

`--tune` times the stages of the executor alone, at 90 %, with other block shapes than its own.

About a minute a shape, most of it compilation; behind `--limit` seconds nothing more is begun, and what was left out is
named. Exit status: 0; 1 where a result was wrong; 2 without a CUDA device and Triton, in one line.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.gpu.kernels import NoGPU, require_gpu
from benchmarks.progress import say
from benchmarks.rows import Row, Wanted, markdown, not_run, write_json
from benchmarks.versions import versions

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from benchmarks.executors import Shape
    from benchmarks.gpu.ffns import Copy
    from benchmarks.gpu.figures import Config, Figures

COMMAND = "python -m benchmarks.gpu.executors"
SHAPES = ("llama2", "mistral", "qwen2")
SPARSITIES = (0.2, 0.5, 0.8, 0.9, 0.95)
DTYPES = ("float16", "bfloat16")
EXECUTORS = ("triton", "gather")
PIPELINES = ("sequential", "parallel")
AT_20 = {"llama2": 1.30, "mistral": 1.29, "qwen2": 1.33}
"""SVDP Table 4, RTX 3090, fp16, at 20 %; the rest of it is `benchmarks.executors.PAPERS_CUDA`."""
WANTED = {("llama2", 0.9): Wanted("least", 3.3)}
"""Of the kernels without a predictor, in a graph."""
ROUNDINGS = {"triton": 1, "gather": 4}
"""How many roundings of the dtype a result may be off, of its norm: sums are float32 in the kernels; a library may keep
partial sums in the dtype. A neuron too few at 20 % skipped is off by ten roundings of float16."""


@dataclass(frozen=True)
class Part:
    """What a step of a run found out."""

    rows: list[Row]
    figures: list[Figures] = field(default_factory=list)
    wrong: int = 0


class Report:
    """All rows; written whenever some are added, so that a run that is cut short keeps them."""

    def __init__(self, path: Path | None) -> None:
        self.rows: list[Row] = []
        self.wrong = 0
        self._path = path

    def add(self, rows: Sequence[Row], wrong: int = 0) -> None:
        self.rows += rows
        self.wrong += wrong
        if self._path:
            write_json(self.rows, self._path)


class Bench:
    """One shape, in one dtype, on one device."""

    def __init__(
        self, shape: Shape, dtype: str, device: torch.device, rounds: int = 10,
        papers: dict[float, float] | None = None, wanted: dict[float, Wanted] | None = None,
    ) -> None:  # fmt: skip
        import torch

        from benchmarks.gpu.ffns import Copies, copies_that_fit
        from benchmarks.gpu.figures import RowsOf
        from benchmarks.gpu.timing import clock_of

        self.shape, self.dtype, self.papers, self._wanted = shape, dtype, papers or {}, wanted or {}
        self.clock = clock_of(device, rounds)
        kind, gpu = getattr(torch, dtype), gpu_name(device)
        needed, count = copies_that_fit(shape, kind, device, max(SPARSITIES))
        if count < needed:
            say(f"memory holds {count} copies of the weights of the {needed} of a cold cache: high sparsities may gain")
        self.copies = Copies(shape, kind, device, count)
        self.make = RowsOf(
            f"Conditional FFN on {gpu}, one token, {shape.features} × {shape.neurons}",
            COMMAND,
            used_versions(gpu) | {"copies of the weights": f"{count}; a cold cache takes {needed}"},
        )
        self.copied = copy_rate(self.clock, device)

    def parts(self, sparsities: Sequence[float], executors: Sequence[str]) -> Iterator[Part]:
        """The dense FFN, and then a part for each sparsity."""
        from benchmarks.gpu.figures import Config

        yield Part([self._dense_row()])
        for skipped in sparsities:
            plain = [Config(self.dtype, name, each, skipped) for name in executors for each in PIPELINES]
            told = [Config(self.dtype, executors[0], each, skipped, predicted=True) for each in PIPELINES]
            yield self._compared([*plain, *told])

    def tuning(self) -> Iterator[Part]:
        """Other blocks of the Triton kernels."""
        from benchmarks.gpu import tuning as tuned

        for rows, wrong in tuned.tune(self.copies, self.clock, self.make, tuned.GATES, tuned.DOWNS):
            yield Part(rows, wrong=wrong)

    def _dense_row(self) -> Row:
        seconds = self._seconds(self._dense())
        read = 3 * self.copies.each[0].ffn.gate.nbytes / seconds
        name = f"{self.dtype}, dense: weights read, against torch's copy_"
        return self.make.row(name, read / 1e9, self.copied / 1e9, "GB/s")

    def _compared(self, configs: Sequence[Config]) -> Part:
        """All configurations of a sparsity, in turns with the dense FFN."""
        from benchmarks.gpu.figures import Figures
        from benchmarks.gpu.timing import NotCaptured

        works: dict[Any, list[Callable[[], object]]] = {"dense": self._dense()}
        errors, part = {}, Part([])
        wrong = 0
        for config in configs:
            try:
                work, error = self._checked(config)
            except RuntimeError as failed:
                part.rows.append(self.make.none(str(config), f"failed: {str(failed).strip().splitlines()[0]}"))
                wrong += 1
                continue
            if error > self._allowed(config):
                part.rows.append(self.make.none(str(config), f"wrong: its error is {error:.2g} of the result's norm"))
                wrong += 1
                continue
            works[config], errors[config] = work, error
        for row in part.rows:
            say(row.name)
        launched = self.clock.launched(works)
        waits = NotCaptured("its index list is as long as the mask says, which the host waits to learn")
        graphs = {key: work for key, work in works.items() if getattr(key, "executor", "") != "gather"}
        replayed = dict.fromkeys(works, waits) | self.clock.replayed(graphs)
        for config, error in errors.items():
            figures = Figures(
                config, error, self._allowed(config), replayed[config], launched[config], replayed["dense"],
                launched["dense"], self._bytes(config),
            )  # fmt: skip
            say(f"{config}: {figures.speed_up:.2f}× over dense; launched from Python {figures.speed_up_launched:.2f}×")
            plain = not config.predicted
            wanted = self._wanted.get(config.skipped) if plain and config.executor == "triton" else None
            paper = self.papers.get(config.skipped) if plain else None
            part.rows.extend(self.make.of(figures, self.copied, paper, wanted))
            part.figures.append(figures)
            if config.predicted:
                alone = self._seconds(self._predictors(config))
                name = f"{config}: the predictor alone, against the whole"
                part.rows.append(self.make.row(name, alone, figures.seconds, "s"))
        return Part(part.rows, part.figures, wrong)

    def _seconds(self, calls: list[Callable[[], object]]) -> float:
        """Of one call in a graph; where there is none, as launched."""
        from benchmarks.gpu.timing import NotCaptured

        replayed = self.clock.replayed({"only": calls})["only"]
        return self.clock.launched({"only": calls})["only"] if isinstance(replayed, NotCaptured) else replayed

    def _dense(self) -> list[Callable[[], object]]:
        calls = [lambda copy=copy: copy.dense(self.copies.x) for copy in self.copies.each]
        calls[0]()  # what the library sets up at a first call is not timed
        return calls

    def _predictors(self, config: Config) -> list[Callable[[], object]]:
        told = [copy.predictor(self._active(config)) for copy in self.copies.each]
        return [lambda each=each: each.scores(self.copies.x) for each in told]

    def _checked(self, config: Config) -> tuple[list[Callable[[], Tensor]], float]:
        """The calls, one a copy, and the larger error of the first two."""
        from benchmarks.gpu.ffns import relative_error

        x, active = self.copies.x, self._active(config)
        calls = [_call(config, copy, x, active) for copy in self.copies.each]
        errors = [
            relative_error(call(), copy.expected(x, copy.mask(active)))
            for call, copy in zip(calls[:2], self.copies.each, strict=False)
        ]
        return calls, max(errors)

    def _active(self, config: Config) -> int:
        return round(self.shape.neurons * (1 - config.skipped))

    def _bytes(self, config: Config) -> int:
        copy = self.copies.each[0]
        row = self.shape.features * copy.ffn.gate.itemsize
        thin = (copy.thin_down.nbytes + copy.thin_up.nbytes) if config.predicted else 0
        return 3 * self._active(config) * row + thin

    def _allowed(self, config: Config) -> float:
        import torch

        return ROUNDINGS[config.executor] * torch.finfo(getattr(torch, config.dtype)).eps


def _call(config: Config, copy: Copy, x: Tensor, active: int) -> Callable[[], Tensor]:
    from accel_sim.executors.gather import GatherExecutor
    from accel_sim.executors.triton_executor import TritonExecutor

    chosen = {"triton": TritonExecutor, "gather": GatherExecutor}[config.executor](copy.ffn, check_values=False)
    if config.predicted:
        told = copy.predictor(active)
        return lambda: chosen.run(x, told.scores(x), config.pipeline).y
    mask = copy.mask(active)
    return lambda: chosen.run(x, mask, config.pipeline).y


def copy_rate(clock: Any, device: torch.device) -> float:
    """Bytes a second that torch's copy_ reads and writes together."""
    import torch

    source = torch.ones((1 << 30) // 4 if device.type == "cuda" else 1 << 16, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / clock.launched({"copy": [lambda: target.copy_(source)] * 4})["copy"]


def gpu_name(device: torch.device) -> str:
    import torch

    return torch.cuda.get_device_name(device) if device.type == "cuda" else str(device)


def used_versions(gpu: str) -> dict[str, str]:
    """Versions and machine; a checkout that is not installed says so."""
    import torch
    import triton

    peers = {"torch": torch.__version__, "triton": triton.__version__, "cuda": str(torch.version.cuda), "gpu": gpu}
    try:
        return versions(**peers)
    except (PackageNotFoundError, OSError) as missing:
        return {"accel_sim": f"not installed ({missing})", **peers}


def measure(arguments: argparse.Namespace, report: Report, on: str = "cuda") -> Iterator[str]:
    """All that was asked for, until the limit; yields what is to be printed of each shape."""
    import torch

    from benchmarks.executors import PAPERS_CUDA
    from benchmarks.executors import SHAPES as SIZES
    from benchmarks.gpu.figures import table

    end = time.monotonic() + arguments.limit
    for name in [arguments.shape] if arguments.shape else SHAPES:
        papers = {0.2: AT_20[name], **PAPERS_CUDA[name]}
        wanted = {skipped: bar for (of, skipped), bar in WANTED.items() if of == name}
        figures: list[Figures] = []
        for dtype in DTYPES[:1] if arguments.tune else DTYPES:
            if time.monotonic() > end:
                report.add([not_run(name, dtype, f"--limit {arguments.limit:g} s", COMMAND, {})])
                continue
            bench = Bench(SIZES[name], dtype, torch.device(on), arguments.rounds, papers, wanted)
            for part in bench.tuning() if arguments.tune else bench.parts(SPARSITIES, EXECUTORS):
                report.add(part.rows, part.wrong)
                figures += part.figures
                if time.monotonic() > end:
                    left = f"{dtype}, all that is not above"
                    report.add([bench.make.none(left, f"--limit {arguments.limit:g} s")])
                    break
            group = bench.make.group
            del bench, part
            torch.cuda.empty_cache()
        if figures:
            yield table(group, figures, papers)


def rest(report: Report, tuned: bool) -> str:
    """What the table of speed-ups does not show: what was wanted of rows, what is missing; all rows of a tuning."""
    kept = [row for row in report.rows if tuned or row.ours is None or row.verdict or "dense: weights" in row.name]
    return markdown(kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, help="default: all three")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--limit", type=float, default=480, help="seconds (default: 480)")
    parser.add_argument("--tune", action="store_true", help="time other block shapes instead")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    try:
        require_gpu()
    except NoGPU as why:
        print(f"not run: {why}", file=sys.stderr)
        sys.exit(2)
    report = Report(arguments.json)
    try:
        for shown in measure(arguments, report):
            print(shown, flush=True)
    finally:
        print(rest(report, arguments.tune))
    sys.exit(1 if report.wrong else 0)


if __name__ == "__main__":
    main()
