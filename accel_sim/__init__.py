"""A cycle-approximate simulator of a sparse tensor unit for large language models.

Importing the package is cheap: the rooms behind it (`accel_sim.functional`, …) are imported when they are first named.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from types import ModuleType

from accel_sim.errors import AccelSimError
from accel_sim.pattern import Pattern

try:
    __version__ = version("accel_sim")
except PackageNotFoundError:  # a plain checkout that was never installed
    __version__ = "0+unknown"

__all__ = ["AccelSimError", "Pattern", "__version__", "functional"]

_LAZY_MODULES = frozenset({"functional"})


def __getattr__(name: str) -> ModuleType:
    if name in _LAZY_MODULES:
        return import_module(f"accel_sim.{name}")
    raise AttributeError(f"module 'accel_sim' has no attribute {name!r}")
