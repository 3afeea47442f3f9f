"""`accel-sim trace`: what a trace is, and what its activations look like to a pattern."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from accel_sim.cli.inputs import shipped_trace

if TYPE_CHECKING:
    from rich.table import Table

    from accel_sim.functional.site_summary import SiteSummary
    from accel_sim.pattern import Pattern
    from accel_sim.trace import Manifest, Trace


def trace(
    folder: Annotated[Path | None, typer.Argument(help="Folder of a trace; none: the shipped one.")] = None,
    pattern: Annotated[str, typer.Option(help="N:M of groups and masks.")] = "8:16",
    layers: Annotated[str | None, typer.Option(help="Decoder blocks, such as 0-5,29; none: all in the trace.")] = None,
    all_layers: Annotated[bool, typer.Option("--all-layers", help="A row for every single site.")] = False,
    json_: Annotated[Path | None, typer.Option("--json", help="Write all of it as JSON.")] = None,
) -> None:
    """Say what a trace holds, check it, and print zeros, magnitudes, groups and masks of its sites."""
    from accel_sim.cli import report
    from accel_sim.functional.site_summary import summarize
    from accel_sim.pattern import parse_pattern
    from accel_sim.trace import Trace
    from accel_sim.trace.kinds import sites_by_kind

    chosen = parse_pattern(pattern)
    if folder is None:
        report.note(f"no folder: describing the small capture that is shipped, {shipped_trace()}")
    opened = Trace.open(folder or shipped_trace())
    sites = opened.sites_of_layers(layers)
    groups = {site.name: (site,) for site in sites} if all_layers else sites_by_kind(sites)
    screen = report.console()
    for name, text in _about(opened):
        screen.print(f"{name:<12} {text}", markup=False, soft_wrap=True)
    summaries = [summarize(opened, name, members, chosen) for name, members in groups.items() if _rows(members)]
    screen.print(_table(report.table_of(f"sites at {chosen}"), summaries, chosen))
    if json_:
        _write_json(json_, opened, chosen, summaries)
        report.print_written([json_])


def _rows(sites: tuple) -> int:
    return sum(site.tokens for site in sites)


def _about(opened: Trace) -> list[tuple[str, str]]:
    """What the manifest says, a line each."""
    from accel_sim.trace.layers import ranges

    manifest, coverage = opened.manifest, opened.manifest.coverage
    model, sizes = manifest.model, _sizes(manifest)
    projections = [each for site in manifest.sites for each in site.projections]
    weights = [each for each in projections if each.has_weight]
    sources = ", ".join(dict.fromkeys(cut.source for cut in manifest.text)) or "none"
    rows = f"{manifest.sequences} × {manifest.tokens_per_sequence} tokens"
    if manifest.phase == "decode":
        rows = f"{manifest.sequences} × {manifest.new_tokens} tokens, generated after {rows}"
    missing = f"; missing: {', '.join(coverage.missing)}" if coverage.missing else ""
    return [
        ("trace", str(opened.path)),
        ("model", f"{model.id}: {model.architecture}, computed in {model.dtype} on {model.device}"),
        ("text", sources),
        ("phase", f"{manifest.phase}, {rows}"),
        ("layers", f"{ranges(manifest.layers)}, {len(manifest.layers)} of {manifest.layers_in_model}"),
        ("coverage", f"{coverage.fraction:.2%} of {coverage.expected_macs:,} linear multiply-accumulates{missing}"),
        (
            "activations",
            f"{len(manifest.sites)} sites feeding {len(projections)} projections, stored as {manifest.dtype}, "
            f"{sizes['activations'] / 1e6:.2f} MB",
        ),
        ("weights", f"of {len(weights)} projections, {sizes['weights'] / 1e6:.2f} MB" if weights else "none"),
        ("checksums", f"all {len(manifest.files)} files match"),
    ]


def _sizes(manifest: Manifest) -> dict[str, int]:
    """Bytes of the files in each folder."""
    return {
        folder: sum(file.bytes for name, file in manifest.files.items() if name.startswith(f"{folder}/"))
        for folder in ("activations", "weights")
    }


def _table(table: Table, summaries: list[SiteSummary], pattern: Pattern) -> Table:
    independent = pattern.density / (2 - pattern.density)
    table.caption = (
        f"q25 …: quantiles of |code|, 0 … 127; non-zeros: mean of a group of {pattern.m}; whole: groups with at most "
        f"{pattern.n}; overlap: of the kept sets of neighbouring tokens, |A ∩ B| / |A ∪ B| "
        f"({independent:.2f} for independent ones)"
    )
    table.add_column("site", overflow="fold", min_width=12)
    quantiles = [f"q{q * 100:.0f}" for q in summaries[0].magnitude_quantiles] if summaries else []
    for header in ("n", "rows", "features", "zeros", *quantiles, "non-zeros", "whole", "overlap"):
        table.add_column(header, justify="right", no_wrap=True)
    for one in summaries:
        table.add_row(
            one.name,
            str(one.sites),
            f"{one.rows:,}",
            str(one.features),
            f"{one.zero_fraction:.1%}",
            *map(str, one.magnitude_quantiles.values()),
            f"{one.mean_group_nonzeros:.2f}",
            f"{one.whole_groups:.1%}",
            "–" if one.kept_overlap is None else f"{one.kept_overlap:.3f}",
        )
    return table


def _write_json(path: Path, opened: Trace, pattern: Pattern, summaries: list[SiteSummary]) -> None:
    from accel_sim.files import replacing

    manifest = opened.manifest
    content = {
        "trace": opened.name,
        **manifest.model_dump(
            mode="json", include={"phase", "tokens_per_sequence", "sequences", "new_tokens", "dtype", "layers"}
        ),
        "model": manifest.model.model_dump(mode="json", exclude={"config"}),
        "coverage": manifest.coverage.model_dump(mode="json") | {"fraction": manifest.coverage.fraction},
        "bytes": _sizes(manifest),
        "pattern": str(pattern),
        "sites": [asdict(one) for one in summaries],
    }
    with replacing(path) as stream:
        json.dump(content, stream, indent=2, ensure_ascii=False)
        stream.write("\n")
