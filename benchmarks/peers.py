"""The peers' virtual environments: made once, each with the Python and the packages that its peer wants."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENTS = Path(".venv-peers")


class PeerMissing(Exception):
    """A peer cannot be run on this machine; the message says why."""


@dataclass(frozen=True)
class Peer:
    """A tool from PyPI in an environment of its own."""

    key: str
    """How it is called on the command line, and the name of its environment."""
    name: str
    package: str
    requirements: tuple[str, ...]
    least_python: tuple[int, int] = (3, 11)


SCALE_SIM = Peer("scalesim", "SCALE-Sim v3", "scalesim", ("scalesim==3.0.0", "numpy<2.4"))
ZIGZAG = Peer("zigzag", "ZigZag", "zigzag-dse", ("zigzag-dse==3.9.1", "six"))
ACCELFORGE = Peer("accelforge", "AccelForge", "accelforge", ("accelforge==1.0.467",), (3, 12))
PEERS = (ACCELFORGE, ZIGZAG, SCALE_SIM)


@dataclass(frozen=True)
class Environment:
    """A peer that can be run."""

    python: Path
    version: str
    """Of the peer's package, as installed."""


def prepare(peer: Peer, folder: Path = ENVIRONMENTS) -> Environment:
    """The peer's environment, made where it is not there yet.

    Raises PeerMissing when no Python is new enough, or the packages cannot be installed.
    """
    home = (folder / peer.key).absolute()
    python, done = home / "bin" / "python", home / "installed"
    wanted = "\n".join(peer.requirements)
    if not done.exists() or done.read_text() != wanted:
        _run([interpreter(peer.least_python), "-m", "venv", "--clear", home])
        _run([python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *peer.requirements])
        done.write_text(wanted)
    ask = f"from importlib.metadata import version; print(version({peer.package!r}))"
    return Environment(python, _run([python, "-c", ask]).strip())


def interpreter(least: tuple[int, int]) -> Path:
    """A Python of at least version `least`: this one, one on PATH, or one that pyenv keeps off it.

    Raises PeerMissing when there is none.
    """
    for candidate in _interpreters(least):
        check = [candidate, "-c", f"import sys; sys.exit(sys.version_info < {least!r})"]
        if subprocess.run(check, capture_output=True, check=False).returncode == 0:
            return Path(candidate)
    raise PeerMissing(f"needs Python {least[0]}.{least[1]} or newer, and there is none")


def _interpreters(least: tuple[int, int]) -> Iterator[str | Path]:
    yield sys.executable
    for minor in range(least[1], least[1] + 3):
        if found := shutil.which(f"python{least[0]}.{minor}"):
            yield found
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from sorted(pyenv.glob("versions/*/bin/python"))


def _run(command: list[str | Path]) -> str:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it wrote nothing"])[-1]
        raise PeerMissing(f"{Path(command[0]).name} {command[1]} {command[2]}: {last}")
    return done.stdout
