"""The backends by name. Each is one module that is imported when it is first asked for, so torch stays optional."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from accel_sim.errors import AccelSimError
from accel_sim.functional.fixed_point import Multipliers
from accel_sim.pattern import Encoding, Pattern


class Backend(Protocol):
    """One implementation of the datapath. Inputs were checked by the caller; outputs are NumPy arrays.

    All backends return the same bits. T tokens, K features, F outputs, G groups of the pattern's M features.
    """

    note: str
    """One line: what computes, where, and what ran instead of the fast way, if anything."""

    def select(self, x: NDArray[np.int8], pattern: Pattern, factors: NDArray[np.uint8]) -> NDArray[np.bool_]:
        """Mask [T, K] of x [T, K] with score factors [K]."""
        ...

    def compress(
        self, x: NDArray[np.int8], mask: NDArray[np.bool_], pattern: Pattern, encoding: Encoding
    ) -> tuple[NDArray[np.int8], NDArray[np.uint8]]:
        """Values [T, G, N] and metadata [T, B] of x [T, K] under a mask with at most N kept a group."""
        ...

    def decompress(
        self,
        values: NDArray[np.int8],
        metadata: NDArray[np.uint8],
        features: int,
        pattern: Pattern,
        encoding: Encoding,
    ) -> NDArray[np.int8]:
        """Dense codes [T, K]; AccelSimError where the metadata is no code word."""
        ...

    def multiply(
        self,
        x: NDArray[np.int8],
        mask: NDArray[np.bool_],
        w: NDArray[np.int8],
        pattern: Pattern,
        bias: NDArray[np.int32],
    ) -> NDArray[np.int32]:
        """Accumulators [T, F]: bias [F] + what x [T, K] keeps under the mask, times w [K, F]."""
        ...

    def requantize(self, acc: NDArray[np.int32], constants: Multipliers) -> NDArray[np.int8]:
        """Codes [T, F] of accumulators [T, F]."""
        ...

    def dequantize(
        self,
        acc: NDArray[np.int32],
        scale_x: NDArray[np.float32],
        scale_w: NDArray[np.float32],
        bias: NDArray[np.float32] | None,
    ) -> NDArray[np.float32]:
        """Floats [T, F] of accumulators [T, F]."""
        ...


def _numpy() -> Backend:
    from accel_sim.functional.numpy_backend import NumpyBackend

    return NumpyBackend()


def _numba() -> Backend:
    from accel_sim.functional.numba_backend import NumbaBackend

    return NumbaBackend()


def _torch(name: str, device: str) -> Backend:
    try:
        import torch  # noqa: F401
    except ModuleNotFoundError:
        raise AccelSimError(f"backend {name!r}: torch is not installed; pip install 'accel_sim[llm]'") from None
    from accel_sim.functional.torch_backend import TorchBackend

    return TorchBackend(device)


def _triton() -> Backend:
    for package in ("torch", "triton"):
        try:
            import_module(package)
        except ModuleNotFoundError:
            raise AccelSimError(f"backend 'triton': {package} is not installed; pip install 'accel_sim[gpu]'") from None
    from accel_sim.functional.gpu.backend import TritonBackend

    return TritonBackend()


_BACKENDS: dict[str, Callable[[], Backend]] = {
    "numpy": _numpy,
    "numba": _numba,
    "torch": lambda: _torch("torch", "cpu"),
    "torch:cuda": lambda: _torch("torch:cuda", "cuda"),
    "triton": _triton,
}
BACKENDS: tuple[str, ...] = tuple(_BACKENDS)
"""Names that `backend=` accepts; `numpy` is the reference that the others must equal."""


@cache
def backend(name: str) -> Backend:
    """The backend called `name`, imported and self-checked once.

    Raises AccelSimError for an unknown name, and where the backend needs what is not there (torch, a CUDA device).
    """
    if name not in _BACKENDS:
        raise AccelSimError(f"backend {name!r}: expected one of {', '.join(BACKENDS)}")
    return _BACKENDS[name]()


def backend_notes() -> dict[str, str]:
    """For each backend one line: what it computes with, or why it is not there. Imports torch if it is installed."""
    notes = {}
    for name in BACKENDS:
        try:
            notes[name] = backend(name).note
        except AccelSimError as missing:
            notes[name] = f"not there: {missing}"
    return notes
