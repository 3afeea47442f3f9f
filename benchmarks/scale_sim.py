"""Compute cycles and wall time beside SCALE-Sim v3, a systolic-array simulator: output- and weight-stationary.

Its compute cycles count from 0, so a product that it gives as c lasts c + 1. With an array of R×C and T tokens, each
output-stationary fold takes K + R + C − 2 cycles and each weight-stationary one 2R + C + T − 2; folds never overlap.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template

from accel_sim.arch import load_arch
from accel_sim.workload import Gemm
from benchmarks.children import Finished, run_child
from benchmarks.clock import median_seconds
from benchmarks.ours import compute_cycles, gemm_arguments, simulate_command, timings
from benchmarks.peers import Environment
from benchmarks.products import LLAMA_REDUCED, SMOLLM2_LAYER
from benchmarks.progress import say
from benchmarks.rows import Row, Wanted
from benchmarks.versions import versions

INPUTS = Path(__file__).parent / "scalesim"
MACHINES = {"os": "systolic32_os.yaml", "ws": "systolic32_ws.yaml"}
SPELLED = {"os": "output-stationary", "ws": "weight-stationary"}
SAME_CYCLES, TIMES_FASTER = Wanted("within", 0.01), Wanted("least", 10_000)
COMMAND = "make bench PEERS=scalesim"


@dataclass(frozen=True)
class ScaleSimRun:
    """One run of SCALE-Sim over a list of products."""

    cycles: tuple[int, ...]
    """Compute cycles of each product, as COMPUTE_REPORT.csv has them."""
    seconds: float
    """Wall time of the process."""
    peak_bytes: int


def rows(environment: Environment) -> list[Row]:
    """Every comparison with SCALE-Sim: about nine minutes, nearly all of them its own."""
    return [row for dataflow in MACHINES for row in _dataflow_rows(environment, dataflow)]


def run_scale_sim(python: Path, dataflow: str, products: Sequence[Gemm]) -> ScaleSimRun:
    """All `products` in one SCALE-Sim process; `dataflow` is `os` or `ws`. Raises ChildFailed when it gives up."""
    say(f"SCALE-Sim, {SPELLED[dataflow]}: {', '.join(gemm.name for gemm in products)}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_inputs(folder, dataflow, products)
        finished = run_child([python, INPUTS / "run.py"], folder)
        (report,) = folder.rglob("COMPUTE_REPORT.csv")
        return ScaleSimRun(parse_compute_report(report.read_text()), finished.seconds, finished.peak_bytes)


def write_inputs(folder: Path, dataflow: str, products: Sequence[Gemm]) -> None:
    """The config, the topology and a layout in which nothing is laid out specially (21 columns of 1)."""
    config = Template((INPUTS / "config.cfg").read_text()).substitute(dataflow=dataflow)
    layers = "".join(f"l{i}, {gemm.tokens}, {gemm.outputs}, {gemm.features},\n" for i, gemm in enumerate(products))
    layouts = "".join(f"l{i},{','.join(['1'] * 21)},\n" for i in range(len(products)))
    (folder / "config.cfg").write_text(config)
    (folder / "topology.csv").write_text(f"Layer, M, N, K,\n{layers}")
    (folder / "layout.csv").write_text(f"Layer,{','.join(['x'] * 21)},\n{layouts}")


def parse_compute_report(text: str) -> tuple[int, ...]:
    """`Total Cycles` of every layer in a COMPUTE_REPORT.csv."""
    return tuple(int(float(row["Total Cycles"])) for row in csv.DictReader(text.splitlines(), skipinitialspace=True))


def _dataflow_rows(environment: Environment, dataflow: str) -> list[Row]:
    arch, group = load_arch(MACHINES[dataflow]), f"SCALE-Sim v3, {SPELLED[dataflow]}"
    used = versions(scalesim=environment.version)
    warm = median_seconds(lambda: timings(arch, SMOLLM2_LAYER))
    singly = median_seconds(lambda: [timings(arch, [gemm]) for gemm in SMOLLM2_LAYER])
    cold = simulate_command("--arch", arch.name, *gemm_arguments(SMOLLM2_LAYER))
    peer = run_scale_sim(environment.python, dataflow, SMOLLM2_LAYER)
    cycles = _cycle_rows(group, dataflow, SMOLLM2_LAYER, "SmolLM2-135M", peer.cycles, used)
    for gemm in LLAMA_REDUCED:
        cycles += _cycle_rows(
            group, dataflow, [gemm], "Llama-3.1-8B", run_scale_sim(environment.python, dataflow, [gemm]).cycles, used
        )
    overlapping = timings(load_arch(arch.name, ["array.fold_overlap=true"]), SMOLLM2_LAYER)
    overlapped = Row(
        group,
        "SmolLM2-135M, the seven projections, our folds overlapping",
        sum(map(compute_cycles, overlapping)),
        sum(peer.cycles),
        "cycles",
        COMMAND,
        used,
    )
    return [*cycles, overlapped, *_cost_rows(group, warm, singly, cold, peer, used)]


def _cycle_rows(
    group: str, dataflow: str, products: Sequence[Gemm], model: str, theirs: Sequence[int], used: dict[str, str]
) -> list[Row]:
    ours = map(compute_cycles, timings(load_arch(MACHINES[dataflow]), products))
    return [
        Row(group, f"{model} {gemm.name}", here, there, "cycles", COMMAND, used, wanted=SAME_CYCLES)
        for gemm, here, there in zip(products, ours, theirs, strict=True)
    ]


def _cost_rows(
    group: str, warm: float, singly: float, cold: Finished, peer: ScaleSimRun, used: dict[str, str]
) -> list[Row]:
    def faster(name: str, seconds: float, wanted: Wanted | None = None) -> Row:
        return Row(group, name, seconds, peer.seconds, "s", COMMAND, used, faster=True, wanted=wanted)

    return [
        faster("SmolLM2-135M, the seven projections, planned and scheduled warm", warm, TIMES_FASTER),
        faster("SmolLM2-135M, the seven projections, warm, equal shapes scheduled again", singly),
        faster("SmolLM2-135M, the seven projections, whole `simulate` command", cold.seconds),
        Row(
            group,
            "SmolLM2-135M, the seven projections, memory of the command",
            cold.peak_bytes,
            peer.peak_bytes,
            "bytes",
            COMMAND,
            used,
        ),
    ]
