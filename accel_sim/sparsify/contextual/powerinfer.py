"""Low-rank predictors in the files that PowerInfer's tools read, as SVDP stores them (arXiv 2603.14110)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from accel_sim.errors import AccelSimError
from accel_sim.files import replacing
from accel_sim.sparsify.contextual.predictor import LowRankPredictor, Predictor


def write_powerinfer(folder: Path, predictors: Mapping[int, Predictor]) -> None:
    """Write `model_0.pt`, `model_1.pt`, … into `folder`, which is made: a state dict of two linear layers each.

    `fc1.weight` [r, d], `fc2.weight` [D, r] and `fc2.bias` [D], float32; nothing lies between the layers, and a neuron
    is active where the output is above 0. PowerInfer's own predictors have a ReLU between the layers and no bias, so
    its runtime does not compute these as they are; the runtime published with SVDP does.

    Raises AccelSimError for predictors of other kinds, layers that are not 0 to n − 1 (readers count the files), other
    .pt files in the folder, and a folder that cannot be written.
    """
    missing = sorted(set(range(len(predictors))) - set(predictors))
    if not predictors or missing:
        what = f"no predictor for layer {missing[0]}" if missing else "no predictors"
        raise AccelSimError(f"{folder}: {what}; this layout needs one for every layer, from 0 on")
    for layer, predictor in predictors.items():
        if not isinstance(predictor, LowRankPredictor):
            raise AccelSimError(
                f"{folder}: layer {layer}: not a low-rank predictor; this layout holds kinds svd, trained"
            )
    names = {layer: f"model_{layer}.pt" for layer in sorted(predictors)}
    other = sorted(path.name for path in folder.glob("*.pt") if path.name not in names.values())
    if other:
        raise AccelSimError(f"{folder}: holds {other[0]}, which readers would count; take another folder")
    try:
        for layer, name in names.items():
            predictor = predictors[layer]
            tensors = {"fc1.weight": predictor.down, "fc2.weight": predictor.up, "fc2.bias": predictor.bias}
            with replacing(folder / name, "wb") as stream:
                torch.save({key: tensor.cpu() for key, tensor in tensors.items()}, stream)
    except OSError as error:
        raise AccelSimError(f"{error.filename or folder}: cannot be written: {error.strerror}") from None
