"""The safetensors layout, read and written without its library: bfloat16, memory maps and appending need the bytes.

A file is an 8-byte little-endian length, that many bytes of JSON (padded with spaces) that give each tensor's dtype,
shape and byte range, then the tensors without gaps (https://huggingface.co/docs/safetensors, "Format").
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from accel_sim.errors import AccelSimError

RESERVED_HEADER_BYTES = 1024
"""Room kept at the start of a file whose header is only known once all its rows are written."""

_NUMPY_TYPES = {"I8": np.int8, "I32": np.int32, "F16": np.float16, "BF16": np.uint16, "F32": np.float32}
"""bfloat16 has no numpy type: its bits are handed out as uint16 (`widen` makes floats of them)."""


@dataclass(frozen=True)
class TensorEntry:
    """Where a tensor lies in its file."""

    dtype: str
    shape: tuple[int, ...]
    offset: int
    """Bytes from the start of the file."""

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * np.dtype(_NUMPY_TYPES[self.dtype]).itemsize


def header_bytes(tensors: Mapping[str, tuple[str, tuple[int, ...]]], reserved: int = 0) -> bytes:
    """The length and header of a file that holds `tensors` (name → dtype, shape) in the order given.

    With `reserved`, padded to exactly that many bytes in all; otherwise to a multiple of 8.
    """
    header, position = {}, 0
    for name, (dtype, shape) in tensors.items():
        end = position + TensorEntry(dtype, shape, 0).bytes
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [position, end]}
        position = end
    text = json.dumps(header, separators=(",", ":")).encode()
    length = reserved - 8 if reserved else -(-len(text) // 8) * 8
    if len(text) > length:
        raise ValueError(f"a header of {len(text)} bytes does not fit the reserved {length}")
    return length.to_bytes(8, "little") + text.ljust(length)


def read_header(path: Path) -> dict[str, TensorEntry]:
    """The tensors of a safetensors file. Raises AccelSimError naming the file when it is not a whole one."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length)) if 2 <= length <= size - 8 else None
        described = {name: entry for name, entry in header.items() if name != "__metadata__"}
        entries = {name: _entry(entry, 8 + length) for name, entry in described.items()}
        spans = sorted((entry.offset, entry.offset + entry.bytes) for entry in entries.values())
        if any(end != start for (_, end), (start, _) in pairwise([(0, 8 + length), *spans])):
            raise ValueError("tensors must follow each other without gaps")
    except OSError as error:
        raise AccelSimError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise AccelSimError(f"{path}: not a safetensors file, or a damaged one") from None
    if spans and spans[-1][1] != size:
        what = "truncated" if spans[-1][1] > size else "damaged"
        raise AccelSimError(f"{path}: {what}: its tensors end at byte {spans[-1][1]}, the file at {size}")
    return entries


def _entry(described: dict, start: int) -> TensorEntry:
    """One tensor of a header whose data begin at byte `start`. ValueError, KeyError or TypeError for nonsense."""
    shape, (begin, end) = tuple(described["shape"]), described["data_offsets"]
    if not all(type(number) is int and number >= 0 for number in (*shape, begin, end)):
        raise ValueError("shapes and offsets are whole numbers from 0 on")
    entry = TensorEntry(described["dtype"], shape, start + begin)
    if begin + entry.bytes != end:
        raise ValueError("a tensor's bytes must fit its dtype and shape")
    return entry


def map_tensor(path: Path, entry: TensorEntry) -> np.ndarray:
    """A read-only memory map of one tensor, as a plain array in the file's own dtype (bfloat16 as uint16)."""
    dtype = np.dtype(_NUMPY_TYPES[entry.dtype])
    if not entry.bytes:
        return np.zeros(entry.shape, dtype)
    raw = np.memmap(path, np.uint8, mode="r", offset=entry.offset, shape=(entry.bytes,))
    return np.asarray(raw).view(dtype).reshape(entry.shape)


def read_tensor(path: Path, entry: TensorEntry) -> np.ndarray:
    """One tensor as a copy in memory, aligned whatever its offset is; for the small ones."""
    return (
        np.array(map_tensor(path, TensorEntry("I8", (entry.bytes,), entry.offset)))
        .view(_NUMPY_TYPES[entry.dtype])
        .reshape(entry.shape)
    )


def widen(stored: np.ndarray, dtype: str) -> np.ndarray:
    """Stored floats as float32: exact for float16, bfloat16 and float32."""
    if dtype == "BF16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32, copy=False)
