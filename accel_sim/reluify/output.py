"""The folder that is made: a model that transformers loads, its label, a report and a picture of the curve."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from accel_sim.capture.gated_mlps import gated_mlps
from accel_sim.capture.relu_form import LABEL_NAME
from accel_sim.files import replacing
from accel_sim.reluify.label import Label
from accel_sim.reluify.report import curve_picture, markdown

REPORT_NAME, PICTURE_NAME = "reluified.md", "reluified.png"


def write_folder(folder: Path, model: nn.Module, tokenizer: Any, dtype: torch.dtype, label: Label) -> None:
    """Write all of it, FFN weights in `dtype` as the others; the label comes last and makes the folder whole.

    `model` is rounded to `dtype`, and so is at its end. OSError passes through, and leaves no label.
    """
    for mlp in gated_mlps(model).values():
        mlp.to(dtype)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder, prefix=".model."))
    try:
        model.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
        for path in sorted(temporary.iterdir()):
            path.chmod(0o644)
            os.replace(path, folder / path.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    with replacing(folder / PICTURE_NAME, "wb") as stream:
        stream.write(curve_picture(label))
    with replacing(folder / REPORT_NAME) as stream:
        stream.write(markdown(label))
    with replacing(folder / LABEL_NAME) as stream:
        stream.write(label.model_dump_json(indent=1) + "\n")
