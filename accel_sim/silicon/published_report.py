"""Published times beside predicted ones, as a page, as JSON and as a picture."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from matplotlib.figure import Figure

from accel_sim.silicon.comparison import OUTLIER
from accel_sim.silicon.published import BEYOND_CACHE, IN_CACHE, SPEEDUP, WORKS, Errors, Judged, Line, Report
from accel_sim.silicon.report import Dot, fit_lines, judged, scatter, write_files
from accel_sim.silicon.shapes import KINDS
from accel_sim.study.figures import new_figure, style

MODELS = ("ideal", "fitted", "constant", "roofline")


def write_published(report: Report, out: Path) -> list[Path]:
    """published.md, published.json and published.png in the folder `out`."""
    return write_files(out / "published", page_lines(report), report, draw(report))


def verdict(errors: Errors) -> str:
    """How the best model there is stands, in words."""
    model = "fitted" if "fitted" in errors.median else "ideal"
    others = [other for other in ("constant", "roofline") if other in errors.median]
    return f"{model}: {judged(errors.median, model, others)}"


def page_lines(report: Report) -> Iterator[str]:
    """Markdown."""
    yield "# Published times of products, and predicted ones"
    yield ""
    yield f"Made by `{report.command}`. **None of these times was measured by this project.**"
    yield "*ideal* is the card as its maker publishes it, nothing fitted; *fitted* has the four parameters that"
    yield f"docs/silicon.md names, fitted on a third of the shapes {report.split}."
    yield "Errors are |predicted / published − 1| on the shapes that were not fitted."
    yield from _sources(report)
    yield from _error_tables(report)
    yield from ("", "## Fitted parameters")
    for one in report.tables:
        if one.fits:
            yield from ("", f"### {one.table.name}", "", *fit_lines(one.fits))
    yield from _faster(report)
    yield from _outliers(report)
    for one in report.tables:
        yield from _rows(one)


def _sources(report: Report) -> Iterator[str]:
    yield from ("", "## What was published", "")
    yield "| table | device | shapes | dense | sparse | sparse operand | source |"
    yield "|---|---|--:|---|---|---|---|"
    for table in (one.table for one in report.tables):
        dense, sparse = (f"{getattr(table.formats, work)}, {getattr(table.libraries, work)}" for work in WORKS)
        shapes = len(list(table.rows))
        operand, source = table.sparse_operand, f"[{table.source.work}]({table.source.address})"
        yield f"| {table.name} | {table.device} | {shapes} | {dense} | {sparse} | {operand} | {source} |"
    for table in (one.table for one in report.tables):
        yield ""
        commit = f", commit {table.source.commit}." if table.source.commit else "."
        yield f"*{table.name}*: {table.source.taken}{commit} {table.timing} Not known: {'; '.join(table.unknown)}."
        if table.parameters_of:
            yield f"Predicted with the parameters fitted on {table.parameters_of}."


def _error_tables(report: Report) -> Iterator[str]:
    yield from ("", "## Errors on shapes that were not fitted", "", "![predicted against published](published.png)", "")
    yield "*bias* is the median of predicted / published."
    yield ""
    heads = " | ".join(f"{model} median | p90 | bias" for model in MODELS)
    yield f"| table | what | shapes | n | {heads} | verdict |"
    yield f"|---|---|---|--:|{'--:|' * 3 * len(MODELS)}---|"
    for row in (errors for one in report.tables for errors in one.errors):
        cells = [
            f"{row.median[model]:.1%} | {row.p90[model]:.1%} | {row.bias[model]:.2f}"
            if model in row.median
            else "– | – | –"
            for model in MODELS
        ]
        yield f"| {row.table} | {row.quantity} | {row.kind} | {row.shapes} | {' | '.join(cells)} | {verdict(row)} |"
    yield ""
    yield f"* *{IN_CACHE}*, *{BEYOND_CACHE}*: operands and results of the dense product together."
    yield from (f"* *{kind}*: {what}." for kind, what in KINDS.items())


def _faster(report: Report) -> Iterator[str]:
    yield from ("", "## Published times that the ideal card does not reach", "")
    yield "The ideal card is a lower bound, unless more than half of the L2 stays warm or the clock is above that of"
    yield "the published rate."
    yield ""
    found = [line for one in report.tables for line in one.faster_than_ideal]
    for line in found:
        cache = IN_CACHE if line.fits_cache else BEYOND_CACHE
        ratio = line.published / line.predicted["ideal"]
        yield f"* {line.table} {line.quantity}, {line.shape}: {ratio:.2f} of the ideal card's time; {cache}."
    if not found:
        yield "None."


def _outliers(report: Report) -> Iterator[str]:
    yield from ("", f"## Times more than {OUTLIER:.0%} off after fitting", "")
    far = [line for one in report.tables for line in one.lines if line.why]
    yield from (f"* {line.table} {line.quantity}, {line.shape} ({line.kind}): {line.why}." for line in far)
    if not far:
        yield "None."


def _rows(judged_table: Judged) -> Iterator[str]:
    table, lines = judged_table.table, judged_table.lines
    yield from ("", f"## {table.name}, all shapes", "")
    yield "µs, and speed-ups dense over sparse; *ratio* is the fitted (without a fit, the ideal) prediction over the"
    yield "published figure."
    yield ""
    heads = [f"{work} | ideal | fitted | ratio" for work in (*WORKS, SPEEDUP)]
    yield f"| tokens | features | outputs | | {' | '.join(heads)} |"
    yield f"|--:|--:|--:|---|{'--:|' * 4 * len(heads)}"
    by_shape = {(line.quantity, line.shape): line for line in lines}
    for shape in dict.fromkeys(line.shape for line in lines):
        mine = [by_shape[quantity, shape] for quantity in (*WORKS, SPEEDUP)]
        cells = " | ".join(_cells(line) for line in mine)
        role = "fitted" if mine[0].fitted else ""
        yield f"| {shape.tokens} | {shape.features} | {shape.outputs} | {role} | {cells} |"


def _cells(line: Line) -> str:
    scale, digits = (1, 2) if line.quantity == SPEEDUP else (1e6, 1)
    best = line.predicted.get("fitted", line.predicted["ideal"])
    values = [line.published, line.predicted["ideal"], line.predicted.get("fitted")]
    shown = ["–" if value is None else f"{value * scale:.{digits}f}" for value in values]
    return " | ".join([*shown, f"{best / line.published:.2f}"])


def draw(report: Report) -> Figure:
    """Predicted against published, a column a quantity: the ideal card above, fitted parameters below."""
    models = [model for model in MODELS[:2] if any(model in one.lines[0].predicted for one in report.tables)]
    quantities = (*WORKS, SPEEDUP)
    title = (
        "predicted against published; above the ideal card, below fitted parameters (hollow: fitted on, filled: not)"
    )
    with style():
        figure = new_figure((4.0 * len(quantities), 4.2 * len(models)), title)
        panels = figure.subplots(len(models), len(quantities), squeeze=False)
        for model, row in zip(models, panels, strict=True):
            for axes, quantity in zip(row, quantities, strict=True):
                series = {
                    one.table.name: [
                        Dot(line.published, line.predicted[model], line.fitted)
                        for line in one.lines
                        if line.quantity == quantity and model in line.predicted
                    ]
                    for one in report.tables
                }
                scatter(axes, f"{quantity}, {model}", series, "published")
        panels[0][0].legend(frameon=False, fontsize=8)
        return figure
