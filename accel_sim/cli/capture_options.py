"""Options of `accel-sim capture` that no other command has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_WHAT, _HOW, _OUT = "What is captured", "How it is run", "Where it goes"
"""Panels of the help."""

OutOption = Annotated[Path, typer.Option(help="Folder of the trace.", rich_help_panel=_OUT)]
TextOption = Annotated[
    list[Path] | None,
    typer.Option(
        help="A UTF-8 text file (repeatable; the sequences take them in turn). Default: prose and code that come "
        "with CPython.",
        rich_help_panel=_WHAT,
    ),
]
PromptTokensOption = Annotated[int, typer.Option(help="Tokens of each prompt.", rich_help_panel=_WHAT)]
SequencesOption = Annotated[int, typer.Option(help="Number of prompts.", rich_help_panel=_WHAT)]
PhaseOption = Annotated[
    str, typer.Option(help="prefill: the prompts' tokens. decode: generated ones.", rich_help_panel=_WHAT)
]
NewTokensOption = Annotated[
    int | None, typer.Option(help="Decode steps a sequence, one row each.", rich_help_panel=_WHAT)
]
LayersOption = Annotated[
    str | None, typer.Option(help="Decoder blocks, such as 0-5,29. Default: all.", rich_help_panel=_WHAT)
]
SitesOption = Annotated[
    str | None,
    typer.Option(
        help="Projections whose module path contains one of these words, or matches one as a shell pattern; "
        "separated by commas. Default: all.",
        rich_help_panel=_WHAT,
    ),
]
LmHeadOption = Annotated[bool, typer.Option("--lm-head", help="Capture the LM head too.", rich_help_panel=_WHAT)]
WeightsOption = Annotated[
    bool,
    typer.Option("--weights", help="Store INT8 weights of every captured layer too.", rich_help_panel=_WHAT),
]
WeightLayersOption = Annotated[
    str | None,
    typer.Option(help="Store the weights of these decoder blocks alone, such as 15.", rich_help_panel=_WHAT),
]
StoredTypeOption = Annotated[
    str, typer.Option(help="Stored activations: int8, float16, bfloat16 or float32.", rich_help_panel=_WHAT)
]
ChunkOption = Annotated[int, typer.Option(help="Tokens a forward pass; bounds the memory.", rich_help_panel=_HOW)]
DeviceMapOption = Annotated[
    str | None,
    typer.Option(
        help="How accelerate places a model that no single device holds: auto, balanced, balanced_low_0,"
        " sequential, or a JSON file of module path → device (0, cpu, disk).",
        rich_help_panel=_HOW,
    ),
]
BufferOption = Annotated[
    float,
    typer.Option(help="Rows on their way to the disk; the model waits when there are more.", rich_help_panel=_HOW),
]
AllowPartialOption = Annotated[
    bool,
    typer.Option("--allow-partial", help="Store a trace though some projections were not seen.", rich_help_panel=_HOW),
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Go on with a capture that was interrupted.", rich_help_panel=_OUT)
]
ForceOption = Annotated[
    bool,
    typer.Option("--force", help="Replace the folder's trace, kept beside it till then.", rich_help_panel=_OUT),
]
