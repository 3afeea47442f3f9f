"""Write a trace row by row, with memory for one chunk, so that only a whole one ever reads as complete.

While a capture runs, the folder has `unfinished.json` instead of a manifest. Each site's file keeps room for its
header and grows by appended rows; the short per-row facts (scale, position, sequence) grow in a file beside it.
`finish` moves those behind the rows, fills the headers in, and writes `trace.json` last, by renaming.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from accel_sim.errors import AccelSimError
from accel_sim.trace.folder import check_vacant, occupant, set_aside
from accel_sim.trace.format import MANIFEST_NAME, TENSOR_TYPES, UNFINISHED_NAME, Manifest, Projection, Site, StoredFile
from accel_sim.trace.reader import file_sha256
from accel_sim.trace.tensorfile import RESERVED_HEADER_BYTES, header_bytes

_BYTES = {"int8": 1, "float16": 2, "bfloat16": 2, "float32": 4}
_ROW = np.dtype([("scale", "<f4"), ("position", "<i4"), ("sequence", "<i4")])
_ROWS_SUFFIX = ".rows"
_HELD_BYTES = 1 << 18
"""Rows of a site that are written together: decoding adds one row at a time to each of hundreds of files."""


@dataclass
class _Growing:
    """A site and its rows: those in its files, and those that are held until there are enough of them."""

    site: Site
    """`tokens` counts the rows in the files."""
    held: list[bytes | memoryview] = field(default_factory=list)
    held_facts: list[bytes] = field(default_factory=list)
    held_tokens: int = 0
    held_bytes: int = 0


class TraceWriter:
    """A trace in the making, in folder `path`. Built by :meth:`start` or :meth:`resume`; ended by :meth:`finish`."""

    def __init__(self, path: Path, identity: dict[str, Any], sites: Iterable[Site], progress: dict[str, Any]) -> None:
        self.path = path
        self.identity = identity
        self.progress = progress
        """What the last checkpoint said, for the capture to go on from."""
        self._growing = {site.name: _Growing(site) for site in sites}

    @classmethod
    def start(cls, path: Path, identity: dict[str, Any], force: bool = False) -> TraceWriter:
        """Begin a new trace. `identity` is JSON that tells captures with different options apart.

        A finished trace that `force` replaces stays beside it, as `path` with `.before-force` behind its name, until
        the new one is finished. Raises AccelSimError when `path` holds a trace, finished or not, and `force` is false,
        or holds other files.
        """
        check_vacant(path, force)
        writer = cls(path, identity, (), {})
        with _reporting(path):
            if occupant(path) == "a trace":
                shutil.rmtree(set_aside(path), ignore_errors=True)
                path.rename(set_aside(path))
            path.mkdir(parents=True, exist_ok=True)
            writer.checkpoint({})
            writer._clear()
        return writer

    @classmethod
    def resume(cls, path: Path, identity: dict[str, Any]) -> TraceWriter:
        """Go on with the unfinished capture in `path`; rows after its last checkpoint are dropped.

        Raises AccelSimError when there is none, or when it was made with other options, naming the first.
        """
        try:
            state = json.loads((path / UNFINISHED_NAME).read_bytes())
        except FileNotFoundError:
            raise AccelSimError(f"{path}: no unfinished capture to go on with; leave --resume out") from None
        except (OSError, ValueError) as error:
            raise AccelSimError(f"{path / UNFINISHED_NAME}: cannot be read: {error}") from None
        for key, value in identity.items():
            if state["identity"].get(key) != value:
                raise AccelSimError(
                    f"{path}: the unfinished capture has {key} {state['identity'].get(key)}, this one {value}; "
                    "give the same options, or --force to start again"
                )
        writer = cls(path, identity, map(Site.model_validate, state["sites"]), state["progress"])
        with _reporting(path):
            if writer._growing:
                writer._drop_rows_after_checkpoint()
            else:
                writer._clear()
        return writer

    @property
    def sites(self) -> tuple[Site, ...]:
        """The sites so far, with their rows so far."""
        return tuple(
            each.site.model_copy(update={"tokens": each.site.tokens + each.held_tokens})
            for each in self._growing.values()
        )

    def append(
        self,
        site: Site,
        stored: np.ndarray,
        scales: np.ndarray | None,
        positions: np.ndarray,
        sequence: int,
    ) -> None:
        """Append rows to `site` (whose `tokens` is ignored; its projections are added to those known).

        `stored` is [T, K]: int8 codes with `scales` float32 [T], or floats (bfloat16 as uint16 bits) with None.
        `positions` is [T]. The arrays are free to change afterwards. Raises AccelSimError when the disk is full, which
        may show later: rows are held until there are enough to write, at the latest until the next checkpoint.
        """
        if site.name not in self._growing:
            new = {"tokens": 0, "file": f"activations/{site.name}.safetensors"}
            self._growing[site.name] = _Growing(site.model_copy(update=new))
        growing = self._growing[site.name]
        known = growing.site.projections
        added = tuple(each for each in site.projections if each not in known)
        if added:
            growing.site = growing.site.model_copy(update={"projections": known + added})
        facts = np.empty(len(stored), _ROW)
        facts["scale"] = 1 if scales is None else scales
        facts["position"], facts["sequence"] = positions, sequence
        rows = np.ascontiguousarray(stored)
        growing.held.append(rows.data if rows.nbytes >= _HELD_BYTES else rows.tobytes())  # the former are not held
        growing.held_facts.append(facts.tobytes())
        growing.held_tokens += len(stored)
        growing.held_bytes += stored.nbytes
        if growing.held_bytes >= _HELD_BYTES:
            self._write_held(growing)

    def checkpoint(self, progress: dict[str, Any]) -> None:
        """Remember that everything appended so far belongs to `progress`; a resumed capture starts from here."""
        self._write_all_held()
        self.progress = progress
        state = {
            "identity": self.identity,
            "progress": progress,
            "sites": [each.site.model_dump(mode="json") for each in self._growing.values()],
        }
        _replace(self.path / UNFINISHED_NAME, json.dumps(state).encode())

    def write_weights(
        self, file_name: str, shapes: Iterable[Projection], tensors: Callable[[Projection], dict[str, np.ndarray]]
    ) -> str:
        """Store the weights of some projections in `weights/<file_name>.safetensors`; return that path.

        `tensors(projection)` gives codes int8 [K, F], scales float32 [F] and, with a bias, bias float32 [F]; it is
        called once a projection, so that only one weight is in memory at a time. A file that is there already, from
        the capture that is being resumed, is kept.
        """
        projections = list(shapes)
        layout: dict[str, tuple[str, tuple[int, ...]]] = {}
        for each in projections:
            layout[f"{each.name}.codes"] = ("I8", (each.features, each.outputs))
            layout[f"{each.name}.scales"] = ("F32", (each.outputs,))
            if each.has_bias:
                layout[f"{each.name}.bias"] = ("F32", (each.outputs,))
        relative = f"weights/{file_name}.safetensors"
        path = self.path / relative
        if path.is_file():
            return relative
        with _reporting(path):
            path.parent.mkdir(exist_ok=True)
            partial = path.with_suffix(".partial")
            with partial.open("wb") as file:
                file.write(header_bytes(layout))
                for each in projections:
                    for name, tensor in tensors(each).items():
                        dtype, shape = layout[f"{each.name}.{name}"]
                        assert tensor.shape == shape and tensor.dtype == {"I8": np.int8, "F32": np.float32}[dtype]
                        file.write(np.ascontiguousarray(tensor).data)
            os.replace(partial, path)
        return relative

    def finish(self, sites: Iterable[Site], facts: dict[str, Any]) -> Manifest:
        """Complete the files and write the manifest: `sites` in order, and `facts`, its other fields.

        Raises AccelSimError when the disk is full; the capture then stays unfinished and can be resumed.
        """
        self._write_all_held()
        sites = tuple(sites)
        files = {}
        for site in sites:
            with _reporting(self.path / site.file):
                _complete(self.path / site.file, site)
        weight_files = {each.weight_file for site in sites for each in site.projections if each.has_weight}
        for name in [site.file for site in sites] + sorted(weight_files):
            path = self.path / name
            with _reporting(path):
                files[name] = StoredFile(bytes=path.stat().st_size, sha256=file_sha256(path))
        manifest = Manifest(sites=sites, files=files, **facts)
        _replace(self.path / MANIFEST_NAME, (manifest.model_dump_json(indent=1) + "\n").encode())
        self._tidy()
        return manifest

    def _tidy(self) -> None:
        shutil.rmtree(set_aside(self.path), ignore_errors=True)
        for each in self._growing.values():
            _rows_path(self.path / each.site.file).unlink(missing_ok=True)
        (self.path / UNFINISHED_NAME).unlink(missing_ok=True)

    def _clear(self) -> None:
        """Make the folders empty: what they hold belongs to no checkpoint, and may be an older trace's."""
        for folder in ("activations", "weights"):
            shutil.rmtree(self.path / folder, ignore_errors=True)
        (self.path / "activations").mkdir()

    def _write_all_held(self) -> None:
        for growing in self._growing.values():
            if growing.held:
                self._write_held(growing)

    def _write_held(self, growing: _Growing) -> None:
        path = self.path / growing.site.file
        with _reporting(path):
            if not growing.site.tokens:
                path.write_bytes(bytes(RESERVED_HEADER_BYTES))
                _rows_path(path).unlink(missing_ok=True)
            with path.open("ab") as file:
                file.writelines(growing.held)
            with _rows_path(path).open("ab") as file:
                file.writelines(growing.held_facts)
        tokens = growing.site.tokens + growing.held_tokens
        self._growing[growing.site.name] = _Growing(growing.site.model_copy(update={"tokens": tokens}))

    def _drop_rows_after_checkpoint(self) -> None:
        expected = {self.path / each.site.file: each.site for each in self._growing.values()}
        for path, site in expected.items():
            size = RESERVED_HEADER_BYTES + site.tokens * site.features * _BYTES[site.dtype]
            for file, length in ((path, size), (_rows_path(path), site.tokens * _ROW.itemsize)):
                if not file.is_file() or file.stat().st_size < length:
                    raise AccelSimError(f"{file}: shorter than the unfinished capture says; --force starts again")
                os.truncate(file, length)
        for path in (self.path / "activations").glob("*.safetensors"):
            if path not in expected:
                path.unlink()
                _rows_path(path).unlink(missing_ok=True)


def _complete(path: Path, site: Site) -> None:
    """Put the per-row facts behind the rows, and the header in front of them."""
    rows = np.fromfile(_rows_path(path), _ROW)
    shape = (site.tokens,)
    tensors = {"codes" if site.dtype == "int8" else "values": (TENSOR_TYPES[site.dtype], (site.tokens, site.features))}
    columns = {"scales": "scale"} if site.dtype == "int8" else {}
    columns |= {"positions": "position", "sequences": "sequence"}
    tensors |= {name: ("F32" if name == "scales" else "I32", shape) for name in columns}
    with path.open("r+b") as file:
        file.truncate(RESERVED_HEADER_BYTES + site.tokens * site.features * _BYTES[site.dtype])
        file.seek(0, os.SEEK_END)
        for column in columns.values():
            file.write(rows[column].tobytes())
        file.seek(0)
        file.write(header_bytes(tensors, RESERVED_HEADER_BYTES))


def _rows_path(path: Path) -> Path:
    return path.with_name(path.name + _ROWS_SUFFIX)


def _replace(path: Path, content: bytes) -> None:
    """Write a file so that it is either the old one or the whole new one, also after a power cut."""
    partial = path.with_name(path.name + ".partial")
    with _reporting(path):
        try:
            with partial.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, path)
        except OSError:
            with suppress(OSError):
                partial.unlink()
            raise


@contextmanager
def _reporting(path: Path) -> Iterator[None]:
    """Turn what the operating system says (no space left, permission denied) into the one-line error."""
    try:
        yield
    except OSError as error:
        raise AccelSimError(f"{path}: cannot be written: {error.strerror or error}") from error
