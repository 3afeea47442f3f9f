"""How fast the Triton kernels of the functional mode are, beside the memory and the tensor cores of the same GPU.

    python -m benchmarks.gpu.kernels [--rounds 20] [--json FILE]

Selection with compression is held against the rate at which torch copies: it reads the activations once, and writes
slots and metadata. The N:M product is held against torch._int_mm, the dense INT8 product of the library, at 4096
tokens, features and outputs. Everything takes turns in every round, the fastest round counts, and every result is
compared with another way to it before anything is timed. A few minutes, most of them compilation. Without a CUDA device
and Triton it says so in one line and ends with exit status 2.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accel_sim.pattern import ENCODINGS, Pattern
from benchmarks.progress import say
from benchmarks.rows import Row, Wanted, markdown, not_run, write_json
from benchmarks.versions import versions

if TYPE_CHECKING:
    import torch

COMMAND = "python -m benchmarks.gpu.kernels"
GROUP = "Triton kernels of the functional mode"
PATTERNS = ("2:4", "4:8", "8:16", "16:32")
MEMORY_BOUND = {pattern: Wanted("least", 0.6) for pattern in ("2:4", "4:8")}
"""Share of the copy rate that selection and compression should reach; of larger groups the limit is reported."""
PRODUCT = Wanted("least", 0.5)
"""Of the dense product's rate: no more than twice its time."""
SCHEDULERS = 4
"""Of a streaming multiprocessor, each issuing one instruction of a warp a cycle (NVIDIA, from Volta to Hopper)."""


@dataclass(frozen=True)
class Sizes:
    """Tokens and features that are selected from: more bytes than any cache holds; and all three sides of a product."""

    tokens: int = 16384
    features: int = 8192
    product: int = 4096


class NoGPU(Exception):
    """What is missing, in one line."""


class Wrong(Exception):
    """A kernel's result is not what another way gives."""


def require_gpu() -> None:
    """Raise NoGPU unless torch, Triton and a CUDA device are there."""
    for package in ("torch", "triton"):
        try:
            __import__(package)
        except ModuleNotFoundError:
            raise NoGPU(f"{package} is not installed; pip install 'accel_sim[gpu]'") from None
    import torch

    if not torch.cuda.is_available():
        raise NoGPU("torch sees no CUDA device")


def rows(rounds: int = 20, sizes: Sizes | None = None) -> Iterator[Row]:
    """All rows. Raises NoGPU, and Wrong where a kernel does not compute what it should."""
    require_gpu()
    import torch

    bench = _Bench(rounds, sizes or Sizes(), torch.device("cuda"), torch.cuda.get_device_name())
    yield from bench.selection()
    yield from bench.products()


class _Bench:
    def __init__(self, rounds: int, sizes: Sizes, device: torch.device, name: str) -> None:
        import torch
        import triton

        self.rounds, self.sizes, self.device = rounds, sizes, device
        self.group = f"{GROUP}, {name}"
        self.versions = versions(torch=torch.__version__, triton=triton.__version__, gpu=name)
        self.draw = torch.Generator(device=device).manual_seed(0)

    def selection(self) -> Iterator[Row]:
        """Codes and floats to slots and metadata, against copying; and how much of the time is issuing instructions."""
        import torch

        from accel_sim.functional.gpu import device

        shape = (self.sizes.tokens, self.sizes.features)
        x = torch.randn(shape, generator=self.draw, device=self.device)
        inputs = {
            "INT8 codes": torch.clamp(x * 30, -127, 127).round().to(torch.int8),
            "bfloat16, quantised on the way": x.to(torch.bfloat16),
            "float32, quantised on the way": x,
        }
        target = torch.empty_like(x)
        calls: dict[Any, Callable[[], object]] = {"copy": lambda: target.copy_(x)}
        moved, issued = {}, {}
        for name, given in inputs.items():
            for text in PATTERNS:
                for encoding in ENCODINGS if name == "INT8 codes" else ENCODINGS[:1]:
                    key, pattern = (name, text, encoding), Pattern(text)
                    with launches("compress_kernel") as made:
                        slots, scales = device.compress(given, pattern, encoding)
                    self._check_selection(given, slots, scales, encoding)
                    moved[key] = sum(each.nbytes for each in (given, slots.values, slots.metadata))
                    moved[key] += 0 if scales is None else scales.nbytes
                    issued[key] = self._issued(*made[-1], pattern)
                    calls[key] = lambda g=given, p=pattern, e=encoding: device.compress(g, p, e)
        seconds = self._seconds(calls)
        copied = 2 * x.nbytes / seconds["copy"] / 1e9
        for (name, text, encoding), taken in ((key, seconds[key]) for key in calls if key != "copy"):
            what = f"{text} of {name}, {encoding}"
            rate = moved[name, text, encoding] / taken / 1e9
            wanted = MEMORY_BOUND.get(text) if encoding == "bitmap" else None
            yield self._row(f"{what}: bytes moved, against torch's copy_", rate, copied, "GB/s", wanted=wanted)
            if name == "INT8 codes":  # floats are read in a loop, so the code's length does not say what is issued
                least = issued[name, text, encoding] * x.numel() / _issue_rate()
                yield self._row(f"{what}: issuing its instructions, against the time taken", least, taken, "s")

    def products(self) -> Iterator[Row]:
        """The product, its operand expanded tile by tile or first, and from activations on, against torch._int_mm."""
        import torch

        from accel_sim.functional.gpu import device

        side = (self.sizes.product, self.sizes.product)
        x, w = (
            torch.randint(-127, 128, side, generator=self.draw, device=self.device, dtype=torch.int8) for _ in range(2)
        )
        by_column = w.t().contiguous().t()  # as the library wants them
        calls: dict[Any, Callable[[], object]] = {"dense": lambda: torch._int_mm(x, by_column)}
        for text in PATTERNS:
            pattern = Pattern(text)
            left, weights = device.operand(x, pattern), device.stored_weights(w, pattern)
            pruned = x * device.select(x, pattern, None)
            expected = torch._int_mm(pruned, by_column)
            for first in (False, True):
                if not torch.equal(device.multiply(left, weights, expand_first=first), expected):
                    raise Wrong(f"the product at {text} is not torch._int_mm's of the pruned codes")
            calls[text, "expanded tile by tile"] = lambda left=left, weights=weights: device.multiply(left, weights)
            calls[text, "expanded first"] = lambda left=left, weights=weights: device.multiply(
                left, weights, expand_first=True
            )
            calls[text, "selected, compressed, expanded first"] = lambda p=pattern, weights=weights: device.multiply(
                device.operand(x, p), weights, expand_first=True
            )
        seconds = self._seconds(calls)
        operations = 2 * self.sizes.product**3 / 1e9
        for key in calls:
            if key != "dense":
                ours, dense = operations / seconds[key], operations / seconds["dense"]
                wanted = PRODUCT if "selected" not in key[1] else None
                name = f"{key[0]} product of {self.sizes.product}³, {key[1]}, against torch._int_mm, dense"
                yield self._row(name, ours, dense, "GOPS", wanted=wanted)

    def _check_selection(self, given: torch.Tensor, slots: Any, scales: Any, encoding: str) -> None:
        """The first tokens against the compiled backend on the CPU."""
        import numpy as np

        from accel_sim.functional import compress, select
        from accel_sim.quantize import quantize_tokens

        few = given[:64].float().cpu().numpy()
        codes = few.astype(np.int8) if scales is None else quantize_tokens(few)[0]
        mask = select(codes, slots.pattern, backend="numba")
        expected = compress(codes, mask, slots.pattern, encoding, backend="numba")
        values = slots.values[:64].cpu().numpy().reshape(expected.values.shape)
        same = np.array_equal(values, expected.values)
        if not same or not np.array_equal(slots.metadata[:64].cpu().numpy(), expected.metadata):
            raise Wrong(f"compression of {given.dtype} at {slots.pattern}, {encoding}, is not the CPU's")

    def _issued(self, compiled: Any, groups: int, pattern: Pattern) -> float:
        """Instructions of a warp for each element, of a kernel that handles `groups` groups in one pass of its code."""
        from benchmarks.triton_ahead import instructions

        return instructions(compiled.asm["cubin"]) * compiled.metadata.num_warps / (groups * pattern.m)

    def _seconds(self, calls: dict[Any, Callable[[], object]]) -> dict[Any, float]:
        """Device time of each call's fastest round, all in turns; the first round compiles and is not counted."""
        import torch

        taken: dict[Any, list[float]] = {key: [] for key in calls}
        for _ in range(self.rounds + 1):
            for key, call in calls.items():
                begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
                torch.cuda.synchronize()
                torch.cuda._sleep(
                    2_000_000
                )  # the host queues all of the call meanwhile, so its own time is not counted
                begin.record()
                call()
                end.record()
                torch.cuda.synchronize()
                taken[key].append(begin.elapsed_time(end) / 1e3)
        return {key: min(times[1:]) for key, times in taken.items()}

    def _row(self, name: str, ours: float, peer: float, unit: str, wanted: Wanted | None = None) -> Row:
        say(f"{name}: {ours:.4g} / {peer:.4g} {unit}")
        return Row(self.group, name, ours, peer, unit, COMMAND, self.versions, wanted=wanted)


@contextmanager
def launches(name: str) -> Iterator[list]:
    """What launches of the selection kernel `name` inside the block ran: compiled kernel, groups of a program."""
    from accel_sim.functional.gpu import select_kernels

    kernel, made = getattr(select_kernels, name), []

    class Watched:
        def __getitem__(self, grid: Any) -> Callable:
            def launch(*arguments: Any, **constants: Any) -> Any:
                compiled = kernel[grid](*arguments, **constants)
                made.append((compiled, constants["BLOCK_T"] * constants["BLOCK_G"]))
                return compiled

            return launch

    setattr(select_kernels, name, Watched())
    try:
        yield made
    finally:
        setattr(select_kernels, name, kernel)


def _issue_rate() -> float:
    """Instructions of a warp that the GPU can issue in a second at its highest clock."""
    import torch
    from triton.runtime import driver

    facts = driver.active.utils.get_device_properties(torch.cuda.current_device())
    return facts["multiprocessor_count"] * SCHEDULERS * facts["sm_clock_rate"] * 1e3


def gpu_rows() -> Iterator[Row]:
    """`rows`, or one that says why there are none."""
    try:
        yield from rows()
    except NoGPU as why:
        yield not_run(GROUP, "all kernels", str(why), COMMAND, versions())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    try:
        made = list(rows(arguments.rounds))
    except NoGPU as why:
        print(f"not run: {why}", file=sys.stderr)
        sys.exit(2)
    except Wrong as why:
        print(f"wrong: {why}", file=sys.stderr)
        sys.exit(1)
    print(markdown(made))
    if arguments.json:
        write_json(made, arguments.json)


if __name__ == "__main__":
    main()
