"""The command line: one file a command, errors as one line with exit status 2.

Command modules import what is heavy inside their function, so that every command starts fast.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import typer
from rich.console import Console

from accel_sim.cli.capture import capture
from accel_sim.cli.contextual import contextual
from accel_sim.cli.cost import cost
from accel_sim.cli.decode import decode
from accel_sim.cli.equal_quality import equal_quality
from accel_sim.cli.evaluate import evaluate
from accel_sim.cli.masks import masks
from accel_sim.cli.pareto import pareto
from accel_sim.cli.prove import prove
from accel_sim.cli.recipes import recipes
from accel_sim.cli.reluify import reluify
from accel_sim.cli.rtl import rtl
from accel_sim.cli.schema import schema
from accel_sim.cli.sensitivity import sensitivity
from accel_sim.cli.silicon import silicon
from accel_sim.cli.simulate import simulate
from accel_sim.cli.synthesize import synthesize
from accel_sim.cli.trace import trace
from accel_sim.cli.validate import validate
from accel_sim.cli.worth import worth
from accel_sim.errors import AccelSimError


def main() -> None:
    """`accel-sim COMMAND …`."""
    app = _app(
        capture,
        reluify,
        trace,
        recipes,
        evaluate,
        sensitivity,
        simulate,
        worth,
        equal_quality,
        pareto,
        masks,
        decode,
        validate,
        prove,
        rtl,
        synthesize,
        cost,
        schema,
    )
    app.add_typer(contextual)
    app.add_typer(silicon)
    app.callback()(_options)
    _run(app, "accel-sim")


def capture_main() -> None:
    """`capture-traces`, the same as `accel-sim capture`."""
    _run(_app(capture), "capture-traces")


def simulate_main() -> None:
    """`simulate`, the same as `accel-sim simulate`."""
    _run(_app(simulate), "simulate")


def pareto_main() -> None:
    """`pareto`, the same as `accel-sim pareto`."""
    _run(_app(pareto), "pareto")


def _app(*commands: Callable[..., None]) -> typer.Typer:
    app = typer.Typer(add_completion=False, no_args_is_help=len(commands) > 1, pretty_exceptions_enable=False)
    for command in commands:
        app.command()(command)
    return app


def _print_version(asked: bool) -> None:
    if asked:
        from accel_sim import __version__

        print(__version__)
        raise typer.Exit


def _options(
    version: bool = typer.Option(
        False, "--version", help="Print the version and leave.", is_eager=True, callback=_print_version
    ),
) -> None:
    """A cycle-approximate simulator of a sparse tensor unit for large language models."""


def _run(app: typer.Typer, program: str) -> None:
    """Run a command. What a user can mend is one line on stderr and exit status 2, never a traceback."""
    for stream in (sys.stdout, sys.stderr):  # an ASCII-only terminal sees ? for ×, and its figures all the same
        stream.reconfigure(errors="replace")
    try:
        app(prog_name=program)
    except AccelSimError as error:
        _fail(program, str(error))
    except BrokenPipeError:  # whoever read our output has gone, and that is their business
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        _fail(program, f"{error.filename}: {error.strerror}" if error.filename else str(error))


def _fail(program: str, message: str) -> None:
    Console(stderr=True, soft_wrap=True, highlight=False).print(f"{program}: error: {message}", markup=False)
    sys.exit(2)
