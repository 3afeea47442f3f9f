"""Times of dense and 2:4-sparse products on a card, each with a cold L2, and whether the INT8 sums are exact.

A repetition first overwrites a buffer several times the L2, which also keeps the card busy until the kernels behind it
are queued, so that the time between the two CUDA events is the card's alone.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterable
from statistics import median
from typing import Any

import numpy as np
import torch

from accel_sim import functional
from accel_sim.errors import AccelSimError
from accel_sim.silicon.kernels import TORCH_DTYPES, Kernels, compiled_selection, kernels_on_card, sparse_library
from accel_sim.silicon.result import Machine, Measurements, Row
from accel_sim.silicon.shapes import Shape

REPETITIONS, WARM_UP = 21, 5
FLUSHED_BYTES = 2**30
CHECKED_TOKENS = 32
"""Tokens of every shape, drawn with a seed, whose sums are compared with the functional mode's."""
Timer = Callable[[Callable[[], Any]], float]


def require_cuda() -> None:
    """Raises AccelSimError without a CUDA device."""
    if not torch.cuda.is_available():
        raise AccelSimError(
            "silicon measure: torch sees no CUDA device; `silicon compare` needs none, but a measurements file"
        )


def measure(shapes: Iterable[Shape], command: str, progress: Callable[[str], None] = lambda step: None) -> Measurements:
    """Every shape in INT8 and FP16 on the first CUDA device. Raises AccelSimError without one."""
    require_cuda()
    shapes = tuple(shapes)
    select, how = compiled_selection()
    timer, clocks = _event_timer(), [_clocks()]
    rows: list[Row] = []
    for dtype in TORCH_DTYPES:
        kernels = kernels_on_card(dtype, select)
        for shape in shapes:
            progress(f"{dtype} {shape}")
            rows.append(measure_shape(shape, kernels, timer, "cuda"))
        clocks.append(_clocks())
    return Measurements(command=command, machine=_machine(how, clocks), repetitions=REPETITIONS, rows=tuple(rows))


def measure_shape(shape: Shape, kernels: Kernels, timer: Timer, device: str) -> Row:
    """One row. What a library refuses stays None, with its reason."""
    dense_tokens, sparse_tokens = (
        -(-shape.tokens // multiple) * multiple for multiple in (kernels.dense_multiple, kernels.sparse_multiple)
    )
    x, wt = _drawn(shape, max(dense_tokens, sparse_tokens), kernels, device)
    found: dict[str, Any] = {}
    refused: dict[str, str] = {}

    def attempt(name: str, run: Callable[[], Any]) -> Any:
        try:
            found[name] = run()
        except RuntimeError as error:
            refused[name] = (str(error).splitlines() or [type(error).__name__])[0][:200]

    of_dense, of_sparse = x[:dense_tokens], x[:sparse_tokens]
    attempt("dense_s", lambda: timer(lambda: kernels.dense(of_dense, wt)))
    attempt("packed", lambda: kernels.pack(kernels.select(of_sparse)))
    if "packed" in found:
        packed = found.pop("packed")
        attempt("select_pack_s", lambda: timer(lambda: kernels.pack(kernels.select(of_sparse))))
        attempt("algorithm", lambda: kernels.tune(packed, wt))
        algorithm = found.pop("algorithm", 0)
        attempt("sparse_s", lambda: timer(lambda: kernels.sparse(packed, wt, algorithm)))
    if "sparse_s" in found:

        def whole() -> torch.Tensor:
            return kernels.sparse(kernels.pack(kernels.select(of_sparse)), wt, algorithm)

        attempt("on_the_fly_s", lambda: timer(whole))
        if kernels.dtype == "int8":
            attempt("exact", lambda: is_exact(of_sparse, wt, whole()))
    sizes = {"tokens": shape.tokens, "features": shape.features, "outputs": shape.outputs}
    padded = {"dense_tokens": dense_tokens, "sparse_tokens": sparse_tokens}
    return Row(dtype=kernels.dtype, **sizes, **padded, **found, refused=refused)


def is_exact(x: torch.Tensor, wt: torch.Tensor, sums: torch.Tensor) -> bool:
    """Whether INT32 `sums` [T, F] of the codes X [T, K] and Wᵀ [F, K] are those of the functional mode at 2:4, on
    `CHECKED_TOKENS` tokens drawn with a seed and all outputs."""
    tokens = np.sort(np.random.default_rng(0).permutation(x.shape[0])[:CHECKED_TOKENS])
    codes = x[torch.from_numpy(tokens).to(x.device)].cpu().numpy()
    expected = functional.sparse_matmul(codes, np.ascontiguousarray(wt.t().cpu().numpy()), "2:4", backend="torch")
    got = sums[torch.from_numpy(tokens).to(sums.device)].cpu().numpy()
    return got.dtype == np.int32 and np.array_equal(got, expected)


def _drawn(shape: Shape, tokens: int, kernels: Kernels, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """X [tokens, K], zero beyond the shape's tokens, and Wᵀ [F, K], from a seed: normal, 32 codes a deviation."""
    generator = torch.Generator(device=device).manual_seed(0)

    def normal(rows: int) -> torch.Tensor:
        values = torch.randn(rows, shape.features, generator=generator, device=device)
        if kernels.dtype == "int8":
            values = (values * 32).round().clamp(-127, 127)
        return values.to(TORCH_DTYPES[kernels.dtype])

    x = normal(tokens)
    x[shape.tokens :] = 0
    return x, normal(shape.outputs)


def _event_timer() -> Timer:
    flushed = torch.empty(FLUSHED_BYTES, dtype=torch.int8, device="cuda")

    def timer(run: Callable[[], Any]) -> float:
        for _ in range(WARM_UP):
            run()
        times = []
        for _ in range(REPETITIONS):
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            flushed.zero_()
            begin.record()
            run()
            end.record()
            end.synchronize()
            times.append(begin.elapsed_time(end) / 1e3)
        return median(times)

    return timer


def _machine(how: str, clocks: list[str]) -> Machine:
    device = torch.cuda.get_device_properties(0)
    return Machine(
        device=device.name,
        multiprocessors=device.multi_processor_count,
        l2_bytes=device.L2_cache_size,
        driver=_smi("driver_version") or "unknown",
        torch=torch.__version__,
        cuda=torch.version.cuda or "unknown",
        sparse_library=sparse_library(),
        selection=how,
        clocks=tuple(clock for clock in clocks if clock),
    )


def _clocks() -> str:
    return _smi("clocks.sm,clocks.mem,power.draw,temperature.gpu")


def _smi(query: str) -> str:
    """One line of nvidia-smi; empty where it is not there."""
    try:
        command = ["nvidia-smi", f"--query-gpu={query}", "--format=csv,noheader", "--id=0"]
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
