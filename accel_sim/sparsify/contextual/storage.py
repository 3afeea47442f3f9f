"""A folder of predictors: `predictors.json`, and one safetensors file that it names by its content.

New tensors are written beside the old ones and the manifest is replaced last, so that a folder always holds a whole
set: the one before, or the new one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from accel_sim.errors import AccelSimError
from accel_sim.files import replacing
from accel_sim.sparsify.contextual.fit import Fitted
from accel_sim.sparsify.contextual.options import PredictorOptions
from accel_sim.sparsify.contextual.predictor import LowRankPredictor, SignBitPredictor
from accel_sim.workload.rules import Strict

MANIFEST_NAME = "predictors.json"
SCHEMA_VERSION = 1
_TENSORS_NAME = r"predictors-[0-9a-f]{16}\.safetensors"


@dataclass(frozen=True, eq=False)
class StoredPredictors:
    """The predictors of a model's layers, and what they were fitted on."""

    model: str
    """What people call it."""
    fingerprint: str
    """What tells it from others (`accel_sim.evaluation.fingerprint`)."""
    calibration: Mapping[str, str]
    """Each calibration text's name and sha256."""
    layers: Mapping[int, Fitted]


class _Layer(Strict):
    """One layer in the manifest: :class:`Fitted` without its tensors."""

    rank: int | None
    hidden: int = Field(ge=1)
    intermediate: int = Field(ge=1)
    options: PredictorOptions
    target: float | None
    measured_gate_sparsity: float
    predicted_sparsity: float
    lost: float | None
    turned_off: int | None
    monotone: float | None
    ridge: float | None


class _Manifest(Strict):
    schema_version: Literal[1]
    model: str
    fingerprint: str
    calibration: dict[str, str]
    tensors: Annotated[str, Field(pattern=f"^{_TENSORS_NAME}$")]
    tensors_sha256: str
    layers: dict[Annotated[int, Field(ge=0)], _Layer]


_MEASURED = (
    "target",
    "measured_gate_sparsity",
    "predicted_sparsity",
    "lost",
    "turned_off",
    "monotone",
    "ridge",
)


def write_predictors(folder: Path, stored: StoredPredictors) -> None:
    """Store `stored` in `folder`, which is made, in place of the predictors that it may hold.

    Raises AccelSimError for no layers, an oracle (it is the model's own gate), and a folder that cannot be written.
    """
    if not stored.layers:
        raise AccelSimError(f"{folder}: no predictors to store")
    tensors: dict[str, Tensor] = {}
    layers: dict[int, _Layer] = {}
    for layer, fitted in sorted(stored.layers.items()):
        tensors |= {f"layers.{layer}.{name}": tensor for name, tensor in _tensors(layer, fitted).items()}
        layers[layer] = _described(fitted)
    content = save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()})
    digest = hashlib.sha256(content).hexdigest()
    manifest = _Manifest(
        schema_version=SCHEMA_VERSION,
        model=stored.model,
        fingerprint=stored.fingerprint,
        calibration=dict(stored.calibration),
        tensors=f"predictors-{digest[:16]}.safetensors",
        tensors_sha256=digest,
        layers=layers,
    )
    try:
        with replacing(folder / manifest.tensors, "wb") as stream:
            stream.write(content)
        with replacing(folder / MANIFEST_NAME) as stream:
            stream.write(json.dumps(manifest.model_dump(mode="json"), indent=2) + "\n")
        for path in folder.iterdir():
            if re.fullmatch(_TENSORS_NAME, path.name) and path.name != manifest.tensors:
                path.unlink()
    except OSError as error:
        raise AccelSimError(f"{error.filename or folder}: cannot be written: {error.strerror}") from None


def read_predictors(folder: Path, fingerprint: str | None = None) -> StoredPredictors:
    """The predictors in `folder`, on the CPU; with `fingerprint`, only those of the model that has it.

    Raises AccelSimError for a folder without predictors, damaged or incomplete files, and another model's predictors.
    """
    manifest = _read_manifest(folder)
    if fingerprint is not None and manifest.fingerprint != fingerprint:
        raise AccelSimError(
            f"{folder}: predictors of another model, {manifest.model} (fingerprint {manifest.fingerprint[:12]}, "
            f"the model's is {fingerprint[:12]}); fit this model's own"
        )
    path = folder / manifest.tensors
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AccelSimError(f"{path}: cannot be read: {error.strerror}; fit the predictors again") from None
    if hashlib.sha256(content).hexdigest() != manifest.tensors_sha256:
        raise AccelSimError(f"{path}: damaged: not the tensors that {MANIFEST_NAME} names; fit the predictors again")
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise AccelSimError(f"{path}: not a safetensors file: {error}") from None
    layers = {layer: _fitted(path, layer, described, tensors) for layer, described in manifest.layers.items()}
    return StoredPredictors(manifest.model, manifest.fingerprint, manifest.calibration, layers)


def _read_manifest(folder: Path) -> _Manifest:
    path = folder / MANIFEST_NAME
    if not path.is_file():
        what = f"no {MANIFEST_NAME} in it" if folder.is_dir() else "no such folder"
        raise AccelSimError(f"{folder}: holds no predictors ({what})")
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise AccelSimError(f"{path}: cannot be read as JSON: {error}") from None
    version = content.get("schema_version") if isinstance(content, dict) else None
    if version != SCHEMA_VERSION:
        raise AccelSimError(f"{path}: schema_version is {version!r}; this version reads {SCHEMA_VERSION}")
    try:
        return _Manifest.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise AccelSimError(f"{path}: {where + ': ' if where else ''}{message}") from None


def _described(fitted: Fitted) -> _Layer:
    predictor = fitted.predictor
    hidden = (predictor.down if isinstance(predictor, LowRankPredictor) else predictor.signs).shape[1]
    return _Layer(
        rank=predictor.rank,
        hidden=hidden,
        intermediate=len(predictor.bias),
        options=fitted.options,
        **{name: getattr(fitted, name) for name in _MEASURED},
    )


def _tensors(layer: int, fitted: Fitted) -> dict[str, Tensor]:
    predictor = fitted.predictor
    if isinstance(predictor, LowRankPredictor):
        return {"down": predictor.down, "up": predictor.up, "bias": predictor.bias}
    if isinstance(predictor, SignBitPredictor):
        bits = np.packbits(predictor.signs.cpu().numpy() < 0, axis=1, bitorder="little")
        return {"sign_bits": torch.from_numpy(bits), "bias": predictor.bias}
    raise AccelSimError(
        f"layer {layer}: a predictor of kind {fitted.options.kind} is not stored; it is the model's own gate"
    )


def _fitted(path: Path, layer: int, described: _Layer, tensors: dict[str, Tensor]) -> Fitted:
    hidden, neurons = described.hidden, described.intermediate

    def tensor(name: str, *shape: int) -> Tensor:
        found = tensors.get(f"layers.{layer}.{name}")
        if found is None or found.shape != shape:
            has = "is missing" if found is None else f"has shape {list(found.shape)}"
            raise AccelSimError(f"{path}: layer {layer}: {name} {has}; expected {list(shape)}")
        return found

    bias = tensor("bias", neurons)
    if described.options.kind == "sign_bit":
        bits = tensor("sign_bits", neurons, -(-hidden // 8)).numpy()
        negative = np.unpackbits(bits, axis=1, count=hidden, bitorder="little")
        predictor = SignBitPredictor(torch.from_numpy(1 - 2 * negative.astype(np.float32)), bias)
    else:
        rank = described.rank or 0
        predictor = LowRankPredictor(tensor("down", rank, hidden), tensor("up", neurons, rank), bias)
    measured = {name: getattr(described, name) for name in _MEASURED}
    return Fitted(predictor, described.options, **measured)
