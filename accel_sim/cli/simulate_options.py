"""The options of `accel-sim simulate`, as typer shows them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from accel_sim.cli.contextual_options import HELP as CONTEXTUAL_HELP
from accel_sim.occupancy import MASK_MODELS

_RUN, _HOW, _SHOW = "What runs", "How it is counted", "What is shown and written"
_MASKS = f"Non-zeros that a machine skips by: {MASK_MODELS[0]}, or drawn ({', '.join(MASK_MODELS[1:])})."
_PATTERN = "Which pattern a flexible unit runs, such as 8:16; with --policy, its default."

Arch = Annotated[list[str], typer.Option(help="Architecture file; repeat to compare several.")]
Set = Annotated[list[str], typer.Option("--set", help="Override a key, such as array.rows=64; repeatable.")]

Trace = Annotated[Path | None, typer.Option(help="A captured trace.", rich_help_panel=_RUN)]
Preset = Annotated[
    str | None, typer.Option(help="A model's published shapes, such as llama-3.1-8b.", rich_help_panel=_RUN)
]
Tokens = Annotated[
    int | None, typer.Option(help="Tokens of --workload; 512 when not given.", min=1, rich_help_panel=_RUN)
]
Gemms = Annotated[
    list[str], typer.Option(help="TOKENSxFEATURESxOUTPUTS, such as 512x4096x4096; repeatable.", rich_help_panel=_RUN)
]
Distribution = Annotated[
    str | None,
    typer.Option(help="Of activations of --workload and --gemm; heavy_tailed when not given.", rich_help_panel=_RUN),
]
Seed = Annotated[int | None, typer.Option(help="Of those activations; 0 when not given.", rich_help_panel=_RUN)]
Decode = Annotated[
    int | None, typer.Option(metavar="BATCH", help="One decode step of so many sequences.", rich_help_panel=_RUN)
]
Context = Annotated[
    int | None, typer.Option(metavar="TOKENS", help="Positions in each KV cache of --decode.", rich_help_panel=_RUN)
]
Contextual = Annotated[str | None, typer.Option(metavar="PREDICTOR", help=CONTEXTUAL_HELP, rich_help_panel=_RUN)]

Scope = Annotated[
    str, typer.Option(help="linear: the linear projections. model: the whole decoder.", rich_help_panel=_HOW)
]
PatternText = Annotated[str | None, typer.Option(help=_PATTERN, rich_help_panel=_HOW)]
PolicyText = Annotated[
    str | None,
    typer.Option(help="Which projection runs which pattern: a file, or a shipped policy's name.", rich_help_panel=_HOW),
]
RecipeText = Annotated[
    str | None,
    typer.Option(
        help="How projections are sparsified, and what that costs: a file, or a shipped recipe's name.",
        rich_help_panel=_HOW,
    ),
]
MaskText = Annotated[str, typer.Option(help=_MASKS, rich_help_panel=_HOW)]
MaskSeed = Annotated[int | None, typer.Option(help="Of drawn masks; 0 when not given.", rich_help_panel=_HOW)]
EngineName = Annotated[
    Literal["compiled", "event"], typer.Option(help="Numba recurrence or SimPy.", rich_help_panel=_HOW)
]
NoQuality = Annotated[
    bool, typer.Option("--no-quality", help="Leave out what pruning throws away: faster.", rich_help_panel=_HOW)
]

AllLayers = Annotated[
    bool, typer.Option("--all-layers", help="A table row for every single layer.", rich_help_panel=_SHOW)
]
Explain = Annotated[
    str | None, typer.Option(metavar="LAYER", help="Show how its cycles come about.", rich_help_panel=_SHOW)
]
Sources = Annotated[
    bool, typer.Option("--sources", help="Print the source of every figure used.", rich_help_panel=_SHOW)
]
Json = Annotated[
    Path | None, typer.Option("--json", help="Write the result (a list for several --arch).", rich_help_panel=_SHOW)
]
Csv = Annotated[Path | None, typer.Option(help="Write one row a layer.", rich_help_panel=_SHOW)]
DemandTrace = Annotated[
    Path | None,
    typer.Option(metavar="OUT", help="Write every request to SRAM and DRAM, of one --arch.", rich_help_panel=_SHOW),
]
DemandLayer = Annotated[
    str | None, typer.Option(metavar="LAYER", help="Only this one's requests.", rich_help_panel=_SHOW)
]
DemandFormat = Annotated[
    str, typer.Option(help="csv, or DRAM alone for a simulator: ramulator, dramsim3.", rich_help_panel=_SHOW)
]
Timeline = Annotated[
    Path | None, typer.Option(help="Write the stages for chrome://tracing or Perfetto.", rich_help_panel=_SHOW)
]
