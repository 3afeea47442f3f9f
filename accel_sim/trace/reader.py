"""Read a trace: lazily, memory-mapped, checked, and without the libraries that made it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from accel_sim.errors import AccelSimError
from accel_sim.quantize.int8 import quantize_tokens
from accel_sim.trace.format import MANIFEST_NAME, TENSOR_TYPES, Manifest, Projection, Site, StoredFile, read_manifest
from accel_sim.trace.layers import select_layers
from accel_sim.trace.tensorfile import TensorEntry, map_tensor, read_header, read_tensor, widen


@dataclass(frozen=True)
class Weight:
    """An INT8 weight with one scale an output."""

    codes: np.ndarray
    """int8 [K, F]; codes[k, f] multiplies feature k. Read-only."""
    scales: np.ndarray
    """float32 [F]."""
    bias: np.ndarray | None
    """float32 [F], or None when the projection has none."""


class Trace:
    """A captured trace on disk. Built by :meth:`open`; nothing is read until it is asked for."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._headers: dict[str, dict[str, TensorEntry]] = {}

    @classmethod
    def open(cls, path: str | Path, verify: bool = True) -> Trace:
        """Open the trace in folder `path`.

        The presence and size of every file is always checked; with `verify` its sha256 is too, which reads it all.

        Raises AccelSimError (one line, naming the file) for a folder that is no trace, an unfinished capture, an
        unknown key, a missing, truncated or altered file.
        """
        folder = Path(path).expanduser()
        if folder.name == MANIFEST_NAME:
            folder = folder.parent
        manifest = read_manifest(folder)
        for name, stored in manifest.files.items():
            _check_file(folder, name, stored, verify)
        return cls(folder, manifest)

    @property
    def name(self) -> str:
        """A short name for tables: the folder's."""
        return self.path.resolve().name

    @property
    def sites(self) -> tuple[Site, ...]:
        """Every captured activation matrix, in execution order."""
        return self.manifest.sites

    def sites_of_layers(self, layers: str | None) -> tuple[Site, ...]:
        """The sites of some decoder blocks, named as in 0-5,29; every site, the LM head's too, for None.

        Raises AccelSimError for a text that names no layers, and for a layer that the trace does not hold.
        """
        if layers is None:
            return self.sites
        chosen = select_layers(layers, {site.layer for site in self.sites} - {None})
        return tuple(site for site in self.sites if site.layer in chosen)

    def site(self, name: str) -> Site:
        """The site called `name`. Raises AccelSimError when there is none."""
        try:
            return self._sites[name]
        except KeyError:
            raise AccelSimError(f"{self.path}: no site {name!r}; the first is {self.sites[0].name!r}") from None

    def codes(self, site_name: str) -> np.ndarray:
        """INT8 codes [T, K], read-only: a memory map, or quantised per token here when the trace holds floats."""
        site = self.site(site_name)
        if site.dtype == "int8":
            return map_tensor(*self._locate(site.file, "codes", "I8", (site.tokens, site.features)))
        return quantize_tokens(self.values(site_name), site_name)[0]

    def scales(self, site_name: str) -> np.ndarray:
        """float32 [T]: value = code · scale of its token."""
        site = self.site(site_name)
        if site.dtype == "int8":
            return self._scales(site.file, "scales", site.tokens)
        return quantize_tokens(self.values(site_name), site_name)[1]

    def values(self, site_name: str) -> np.ndarray:
        """float32 [T, K]: the stored floats, or the codes times their scales."""
        site = self.site(site_name)
        if site.dtype == "int8":
            return self.codes(site_name).astype(np.float32) * self.scales(site_name)[:, None]
        stored = TENSOR_TYPES[site.dtype]
        path, entry = self._locate(site.file, "values", stored, (site.tokens, site.features))
        return widen(map_tensor(path, entry), entry.dtype)

    def positions(self, site_name: str) -> np.ndarray:
        """int32 [T]: each row's position in its sequence, from 0."""
        return self._of_rows(site_name, "positions")

    def sequences(self, site_name: str) -> np.ndarray:
        """int32 [T]: which sequence each row belongs to, from 0."""
        return self._of_rows(site_name, "sequences")

    def weight(self, projection_name: str) -> Weight:
        """The INT8 weight of a projection. Raises AccelSimError when the trace holds none, or a damaged one."""
        about = self._projections.get(projection_name)
        if about is None or not about.has_weight:
            known = "holds no weight of it" if about else "has no such projection"
            raise AccelSimError(f"{self.path}: {projection_name}: the trace {known} (capture with --weights)")
        file, outputs = about.weight_file, about.outputs
        bias = f"{projection_name}.bias"
        return Weight(
            codes=map_tensor(*self._locate(file, f"{projection_name}.codes", "I8", (about.features, outputs))),
            scales=self._scales(file, f"{projection_name}.scales", outputs),
            bias=read_tensor(*self._locate(file, bias, "F32", (outputs,))) if about.has_bias else None,
        )

    @cached_property
    def _sites(self) -> dict[str, Site]:
        return {site.name: site for site in self.sites}

    @cached_property
    def _projections(self) -> dict[str, Projection]:
        return {projection.name: projection for site in self.sites for projection in site.projections}

    def _of_rows(self, site_name: str, tensor: str) -> np.ndarray:
        site = self.site(site_name)
        return read_tensor(*self._locate(site.file, tensor, "I32", (site.tokens,)))

    def _scales(self, file: str, tensor: str, count: int) -> np.ndarray:
        path, entry = self._locate(file, tensor, "F32", (count,))
        scales = read_tensor(path, entry)
        good = np.isfinite(scales) & (scales > 0)
        if not good.all():
            index = int(np.argmin(good))
            raise AccelSimError(f"{path}: {tensor}[{index}] is {scales[index]}: scales are positive and finite")
        return scales

    def _locate(self, file: str, tensor: str, dtype: str, shape: tuple[int, ...]) -> tuple[Path, TensorEntry]:
        """Where a tensor lies, which must be what the manifest says it is."""
        path, entries = self.path / file, self._header(file)
        if tensor not in entries:
            raise AccelSimError(f"{path}: no tensor {tensor!r}; found {', '.join(entries)}")
        entry = entries[tensor]
        if (entry.dtype, entry.shape) != (dtype, shape):
            found, expected = (
                f"{kind} {list(dimensions)}" for kind, dimensions in ((entry.dtype, entry.shape), (dtype, shape))
            )
            raise AccelSimError(f"{path}: {tensor} is {found}, expected {expected} by {MANIFEST_NAME}")
        return path, entry

    def _header(self, file: str) -> dict[str, TensorEntry]:
        if file not in self._headers:
            self._headers[file] = read_header(self.path / file)
        return self._headers[file]


def file_sha256(path: Path) -> str:
    """Hexadecimal sha256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_file(folder: Path, name: str, stored: StoredFile, verify: bool) -> None:
    path = folder / name
    try:
        size = path.stat().st_size
        if size != stored.bytes:
            what = "truncated" if size < stored.bytes else "longer than it should be"
            raise AccelSimError(f"{path}: {what}: {size} bytes, {MANIFEST_NAME} says {stored.bytes}")
        if verify and file_sha256(path) != stored.sha256:
            raise AccelSimError(f"{path}: damaged: its sha256 is not the one in {MANIFEST_NAME}")
    except FileNotFoundError:
        raise AccelSimError(f"{path}: missing, though {MANIFEST_NAME} lists it") from None
    except OSError as error:
        raise AccelSimError(f"{path}: cannot be read: {error.strerror}") from None
