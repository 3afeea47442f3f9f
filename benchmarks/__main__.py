"""Runs the benchmarks: `python -m benchmarks --trace TRACE`, or `make bench`."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path

from accel_sim import AccelSimError
from benchmarks import (
    accel_forge,
    elastic,
    executors,
    limits,
    peak_rates,
    quoted,
    scale_sim,
    sparsify,
    zig_zag,
)
from benchmarks.children import ChildFailed
from benchmarks.gpu import kernels as gpu_kernels
from benchmarks.peers import ACCELFORGE, PEERS, SCALE_SIM, ZIGZAG, Environment, Peer, PeerMissing, prepare
from benchmarks.progress import say
from benchmarks.rows import Row, markdown, not_run, replace_between_markers, write_json
from benchmarks.versions import ROOT, versions

REPORT, PAGE = ROOT / "reports" / "benchmarks.json", ROOT / "docs" / "benchmarks.md"
COMPARISONS: dict[Peer, Callable[[Environment], list[Row]]] = {
    ACCELFORGE: accel_forge.rows,
    ZIGZAG: zig_zag.rows,
    SCALE_SIM: scale_sim.rows,
}
LASTS = (
    "Twenty to thirty minutes on two cores, most of it SCALE-Sim's, which takes 5 GiB, and the sparsified model's;"
    " more where the peers have to be installed first."
)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__, epilog=LASTS)
    names = [peer.key for peer in PEERS]
    parser.add_argument("--trace", type=Path, required=True, help="a stored trace of a whole model")
    parser.add_argument("--peers", nargs="+", choices=[*names, "none"], default=names, help="default: all")
    parser.add_argument("--json", type=Path, help=f"default: {REPORT.relative_to(ROOT)}, if all peers were asked for")
    arguments = parser.parse_args()
    if not (arguments.trace / "trace.json").exists():
        parser.error(f"--trace {arguments.trace}: no trace.json in there; `make demo` makes one")
    wanted = [peer for peer in PEERS if peer.key in arguments.peers]
    if SCALE_SIM in wanted:
        say(LASTS)
    rows = list(collect(wanted, arguments.trace))
    print(markdown(rows))
    write(rows, arguments.json, whole=len(wanted) == len(PEERS))


def collect(wanted: list[Peer], trace: Path) -> Iterator[Row]:
    """All rows, in the order of the report."""
    say("our own limits")
    yield from limits.rows(trace)
    yield from elastic.rows()
    yield from peak_rates.rows()
    yield from live_model()
    yield from conditional_ffn()
    yield from gpu_kernels.gpu_rows()
    for peer in wanted:
        yield from compare(peer)
    yield from quoted.rows()


def live_model() -> Iterator[Row]:
    """The rows of the sparsified model; one that says why where it cannot be run."""
    try:
        say("a sparsified model")
        yield from sparsify.rows()
    except (AccelSimError, ModuleNotFoundError) as why:
        yield not_run(sparsify.GROUP, "SmolLM2-135M", str(why), sparsify.COMMAND, versions())


def conditional_ffn() -> Iterator[Row]:
    """The rows of the executors; one that says why where torch, their peer, is not installed."""
    try:
        say("a conditional FFN")
        yield from executors.rows()
    except ModuleNotFoundError as why:
        yield not_run("Conditional FFN at decode", "executors", str(why), executors.COMMAND, versions())


def compare(peer: Peer) -> list[Row]:
    """The rows of one peer; one that says why where it cannot be run."""
    command = f"make bench PEERS={peer.key}"
    try:
        say(f"{peer.name}: environment")
        environment = prepare(peer)
        say(f"{peer.name} {environment.version}: running")
        return COMPARISONS[peer](environment)
    except (PeerMissing, ChildFailed) as why:
        say(f"{peer.name}: not run: {why}")
        return [not_run(peer.name, peer.name, str(why), command, versions())]


def write(rows: list[Row], json: Path | None, whole: bool) -> None:
    """The report and the page, of a run with all peers; another run leaves both as they are."""
    if json or whole:
        write_json(rows, json or REPORT)
        say(f"wrote {json or REPORT}")
    if whole:
        page = replace_between_markers(PAGE.read_text(encoding="utf-8"), markdown(rows))
        PAGE.write_text(page, encoding="utf-8")
        say(f"wrote the table in {PAGE}")
    else:
        say("not all peers ran: the report and the page stay as they are")


if __name__ == "__main__":
    main()
