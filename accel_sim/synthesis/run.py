"""All units of a library, on several processes, in a folder that a stopped run leaves to be resumed."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import asdict, dataclass
from importlib.metadata import version as package_version
from pathlib import Path

from accel_sim import rtl
from accel_sim.errors import AccelSimError
from accel_sim.files import replacing
from accel_sim.pattern import Pattern
from accel_sim.synthesis.catalogue import PATTERNS, catalogue, chosen
from accel_sim.synthesis.flip_flop import measure_flip_flop
from accel_sim.synthesis.liberty import Library, read_liberty
from accel_sim.synthesis.measure import MEASURED_CYCLES, Measurement, measure
from accel_sim.synthesis.operands import Operands
from accel_sim.synthesis.unit import Unit
from accel_sim.synthesis.yosys import AREA, Flow, yosys_version

JOURNAL = "measurements.jsonl"
"""In a run's folder: what it is of in the first line, then a line a unit, as it was finished."""


@dataclass(frozen=True)
class Request:
    """What a run is asked for."""

    liberty: Path
    name: str
    out: Path
    trace: Path
    units: tuple[str, ...] = ()
    """Names of units; all where there are none."""
    patterns: tuple[Pattern, ...] = PATTERNS
    jobs: int = 2
    flow: Flow = AREA
    remappings: int = 4
    """How often each processing element is mapped again in another order."""
    node_nm: float | None = None
    resume: bool = False


@dataclass(frozen=True)
class Run:
    """What a run found."""

    request: Request
    library: Library
    units: list[Unit]
    measurements: dict[str, Measurement]
    """By the key of a unit."""
    flip_flop: dict[str, str | float]
    operands: dict[str, str | int]
    yosys: str
    wall_s: float
    """Of this run, without what it took over from a stopped one."""


def synthesise_library(request: Request, on_done: Callable[[str], None] | None = None) -> Run:
    """Measure the units of a request, in processes of their own.

    `on_done` is called with the key of each unit that was measured. Raises AccelSimError for anything about the request
    that cannot be, before any unit is mapped, and for a netlist that returns wrong bits.
    """
    started = time.monotonic()
    units = planned(request)
    library = read_liberty(request.liberty)
    real, uniform = Operands.from_trace(request.trace), Operands.uniform()
    operands = {
        "trace": request.trace.resolve().name,
        "sites": real.description,
        "random": uniform.description,
        "seed": real.seed,
        "streams": 64,
        "cycles": MEASURED_CYCLES,
    }
    version = yosys_version()
    flip_flop = measure_flip_flop(library, request.flow)
    header = {
        "liberty_sha256": library.sha256,
        "flow": asdict(request.flow),
        "options": request.flow.options,
        "yosys": version,
        "amaranth": package_version("amaranth"),
        "rtl_sha256": _rtl_digest(),
        "remappings": request.remappings,
        "operands": operands,
    }
    measured = _journal(request, header)
    wanted = {unit.key for unit in units}
    measured = {key: each for key, each in measured.items() if key in wanted}
    with (request.out / JOURNAL).open("a", encoding="utf-8") as journal:
        for done in _measure_all(request, [unit.key for unit in units if unit.key not in measured]):
            journal.write(json.dumps(asdict(done)) + "\n")
            journal.flush()
            measured[done.key] = done
            if on_done:
                on_done(done.key)
    return Run(request, library, units, measured, flip_flop, operands, version, time.monotonic() - started)


def planned(request: Request) -> list[Unit]:
    """The units of a request. Raises AccelSimError for an unknown unit, and when none has these patterns."""
    units = chosen(catalogue(request.patterns), request.units)
    if not units:
        raise AccelSimError("nothing to synthesise: no unit has these patterns")
    return units


def remaining(request: Request) -> int:
    """How many units a run still has to measure, as far as its journal says."""
    path = request.out / JOURNAL
    there = set()
    if request.resume and path.exists():
        there = {entry.get("key") for entry in _entries(path)}
    return sum(unit.key not in there for unit in planned(request))


def _journal(request: Request, header: dict) -> dict[str, Measurement]:
    """What a stopped run left, or nothing and a new journal. Raises AccelSimError rather than lose an earlier one."""
    request.out.mkdir(parents=True, exist_ok=True)
    path = request.out / JOURNAL
    if path.exists() and not request.resume:
        raise AccelSimError(f"{path}: holds an earlier run; go on with --resume, give another --out, or remove it")
    if not path.exists():
        path.write_text(json.dumps(header) + "\n", encoding="utf-8")
        return {}
    first, *rest = _entries(path)
    try:
        left = {each["key"]: Measurement(**each) for each in rest}
    except (TypeError, KeyError):
        raise _no_journal(path) from None
    if first != header:
        changed = [name for name in header if first.get(name) != header[name]]
        raise AccelSimError(f"{path}: was made with another {', '.join(changed)}; remove it, or give another --out")
    with replacing(path) as whole:  # without a line that was cut short, which the next one would be appended to
        whole.writelines(json.dumps(entry) + "\n" for entry in (first, *rest))
    return left


def _entries(path: Path) -> list[dict]:
    """A journal's lines, at least its first. A last line without its end is what a killed run was writing: none."""
    try:
        *lines, _cut_short = path.read_text(encoding="utf-8").split("\n")
        entries = [json.loads(line) for line in lines]
    except ValueError:
        raise _no_journal(path) from None
    if not entries or not all(isinstance(entry, dict) for entry in entries):
        raise _no_journal(path)
    return entries


def _rtl_digest() -> str:
    """What the circuits are generated from: measurements of other ones are not to be mixed with these."""
    digest = hashlib.sha256()
    for file in sorted(Path(rtl.__file__).parent.glob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _no_journal(path: Path) -> AccelSimError:
    return AccelSimError(f"{path}: is no journal of a run; remove it, or give another --out")


_worker: dict[str, object] = {}
"""What a process needs for every unit, set when it starts."""


_GRACE_S = 2.0


def _start_worker(request: Request) -> None:
    signal.signal(signal.SIGINT, _stop)
    threading.Thread(target=_end_with_run, daemon=True).start()
    _worker["request"] = request
    _worker["library"] = read_liberty(request.liberty)
    _worker["operands"] = Operands.from_trace(request.trace), Operands.uniform()
    _worker["units"] = {unit.key: unit for unit in catalogue(request.patterns)}


def _stop(*_: object) -> None:
    """Give up the unit in hand, with its Yosys and its folders, and begin none that the pool has handed over."""
    _worker["stopped"] = True
    sys.exit(128 + signal.SIGINT)


def _end_with_run() -> None:
    """A run that was killed cannot tell its processes to end: they see to it themselves."""
    multiprocessing.parent_process().join()
    for _ in range(3):  # out of the unit in hand, then out of waiting for the next
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(_GRACE_S)
    os._exit(1)


def _measure_key(key: str) -> Measurement:
    if "stopped" in _worker:
        sys.exit(128 + signal.SIGINT)
    request, (real, uniform) = _worker["request"], _worker["operands"]
    unit = _worker["units"][key]
    remappings = request.remappings if unit.processing_element else 0
    return measure(unit, _worker["library"], real, uniform, request.flow, remappings)


def _measure_all(request: Request, keys: list[str]) -> Iterator[Measurement]:
    """Measurements as they are finished."""
    if not keys:
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(min(request.jobs, len(keys)), context, _start_worker, (request,))
    try:
        waiting: set[Future[Measurement]] = {pool.submit(_measure_key, key) for key in keys}
        while waiting:
            done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
            for each in done:
                yield each.result()
    finally:
        pool.shutdown(cancel_futures=True)
