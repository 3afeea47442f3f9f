"""A cycle-approximate simulator of a sparse tensor unit for large language models.

Importing the package is cheap: the rooms behind it (`accel_sim.functional`, …) are imported when they are first named.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern

__all__ = ["AccelSimError", "Pattern", "__version__", "cost", "functional", "sparsify"]

_LAZY_MODULES = frozenset({"cost", "functional", "sparsify"})


def __getattr__(name: str) -> Any:
    if name in _LAZY_MODULES:
        return import_module(f"accel_sim.{name}")
    if name == "__version__":
        return _version()
    raise AttributeError(f"module 'accel_sim' has no attribute {name!r}")


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("accel_sim")
    except PackageNotFoundError:  # a plain checkout that was never installed
        return "0+unknown"
