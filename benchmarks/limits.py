"""What the simulator is held to by itself: reading the same bytes once, a large model, many machines, memory."""

from __future__ import annotations

import itertools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from accel_sim.arch import Arch, load_arch
from accel_sim.simulation import Machine, Settings, WorkloadStatistics, run, simulate
from accel_sim.trace import Trace
from accel_sim.workload import Workload
from accel_sim.workload.from_trace import workload_from_trace
from benchmarks.children import Finished
from benchmarks.clock import median_seconds
from benchmarks.ours import simulate_command
from benchmarks.rows import Row, Wanted
from benchmarks.versions import versions

GROUP = "Our own limits"
COMMAND = "make bench PEERS=none"
ARCH = "8x16.yaml"
GIB = 2**30
LLAMA = ("--workload", "llama-3.1-8b", "--arch", ARCH)
LLAMA_PROJECTIONS = 224
MACHINES = 100
QUALITY_APART = Settings(quality=False)


def rows(trace: Path) -> list[Row]:
    """Every limit, on a stored trace of a whole model and on Llama-3.1-8B's shapes."""
    workload = workload_from_trace(Trace.open(trace))
    return [*trace_rows(workload), *many_machines_rows(workload), *llama_rows(), *memory_rows()]


def read_once(workload: Workload) -> int:
    """Every activation byte touched once."""
    return sum(int(np.sum(site.load()[0].view(np.uint8), dtype=np.int64)) for site in workload.sites.values())


def trace_rows(workload: Workload) -> list[Row]:
    arch, used = load_arch(ARCH), versions()
    reading = median_seconds(lambda: read_once(workload))
    compiled = median_seconds(lambda: simulate(arch, workload, settings=QUALITY_APART))
    event = median_seconds(lambda: simulate(arch, workload, engine="event", settings=QUALITY_APART), rounds=3)
    with_quality = median_seconds(lambda: simulate(arch, workload), rounds=3)
    name = f"{workload.name}, {len(workload.gemms)} projections on {arch.name}, warm"

    def row(what: str, ours: float, peer: float, wanted: Wanted | None = None) -> Row:
        return Row(GROUP, f"{name}: {what}", ours, peer, "s", COMMAND, used, wanted=wanted)

    return [
        row("against a limit of 1 s", compiled, 1.0, Wanted("most", 1)),
        row("against np.sum over its mapped activations", compiled, reading, Wanted("most", 5)),
        row("the SimPy engine against np.sum", event, reading),
        row("with the quality loss of every output, against np.sum", with_quality, reading),
    ]


def variants(arch: Arch, count: int) -> list[Arch]:
    """Machines that differ in DRAM bandwidth and weight buffer: nothing that the statistics of a trace depend on."""
    sizes = itertools.product(range(1, -(-count // 10) + 1), range(1, 11))
    return [
        load_arch(ARCH, [f"name={arch.name}-{i}", f"dram.bytes_per_cycle={64 * i}", f"sram.weight_bytes={j * 2**19}"])
        for i, j in itertools.islice(sizes, count)
    ]


def many_machines_rows(workload: Workload) -> list[Row]:
    arch, used = load_arch(ARCH), versions()
    several = variants(arch, MACHINES)

    def measured(machines: list[Arch], settings: Settings) -> Callable[[], None]:
        def call() -> None:
            statistics = WorkloadStatistics(workload)
            for machine in machines:
                run(Machine(machine, machine.pattern()), workload, statistics, settings)

        return call

    compared = []
    for what, settings in (("", QUALITY_APART), (", with quality loss", Settings())):
        one = median_seconds(measured([arch], settings), rounds=5)
        all_of_them = median_seconds(measured(several, settings), rounds=1)
        name = f"{MACHINES} machines that share their statistics, against one{what}"
        compared.append(Row(GROUP, name, all_of_them, one, "s", COMMAND, used, wanted=Wanted("most", 10)))
    return compared


def llama_rows() -> list[Row]:
    used = versions()
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        done = simulate_command(*LLAMA, "--tokens", "2048", "--json", str(result))
        stored = json.loads(result.read_text())
    layers = (stored[0] if isinstance(stored, list) else stored)["layers"]
    projections = sum(layer["repeat"] for layer in layers)
    if projections != LLAMA_PROJECTIONS:
        raise ValueError(f"Llama-3.1-8B: expected {LLAMA_PROJECTIONS} projections, found {projections}")
    name = f"Llama-3.1-8B, 2,048 synthetic tokens, {projections} projections, as a command"
    at_most_1 = Wanted("most", 1)
    return [
        Row(GROUP, f"{name}: against a limit of 30 s", done.seconds, 30, "s", COMMAND, used, wanted=at_most_1),
        Row(GROUP, f"{name}: against 4 GiB", done.peak_bytes, 4 * GIB, "bytes", COMMAND, used, wanted=at_most_1),
    ]


def memory_rows() -> list[Row]:
    """More cycles in the same memory: it grows with the items of the pipeline, and with nothing else."""
    model = ("--workload", "llama-3.1-8b", "--arch", "dense.yaml", "--tokens")
    short = simulate_command(*model, "2048")
    slow = simulate_command(*model, "2048", "--set", "array.lanes=1")
    long = simulate_command(*model, "16384")

    def row(name: str, done: Finished, wanted: Wanted | None = None) -> Row:
        name = f"memory of Llama-3.1-8B, dense: {name}"
        return Row(GROUP, name, done.peak_bytes, short.peak_bytes, "bytes", COMMAND, versions(), wanted=wanted)

    return [
        row("16 times the cycles on the same items (lanes: 1) against 1", slow, Wanted("most", 1.1)),
        row("8 times the tokens (about as many times the items) against 1", long),
    ]
