"""The bars that commands draw on a terminal, and nowhere else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.progress import Progress

from accel_sim.cli.screen import console


@contextmanager
def study_progress(runs: int) -> Iterator[Callable[[str], None]]:
    """What a study of `runs` runs calls before each of them, with its name; nothing is drawn where stderr is piped."""
    with Progress(console=console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("", total=runs)
        yield lambda what: progress.update(bar, description=what, advance=1, refresh=True)


@contextmanager
def measuring_progress() -> Iterator[Callable[[str, int, int], None]]:
    """What a measurement calls with what it is at, how much of that is done, and of how much."""
    with Progress(console=console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("")
        yield lambda what, done, total: progress.update(
            bar, description=what, completed=done, total=total, refresh=True
        )
