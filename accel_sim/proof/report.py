"""The outcomes of a proof as a table and as data."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from accel_sim.proof.cycles import Outcome
from accel_sim.timing.pipeline import SELECT, STORE

COLUMNS = (
    "unit",
    "pattern",
    "built with",
    "product",
    "stays",
    "bus",
    "stalls",
    "limit",
    "tiles",
    "cycles",
    "differing",
)


def row(outcome: Outcome) -> tuple[str, ...]:
    """One line of the table. `differing`: ends of stages inside the unit, worst tile, output codes."""
    c, shape = outcome.configuration, outcome.configuration.shape
    return (
        f"{shape.rows}×{shape.cols}×{shape.lanes}",
        str(c.pattern or "dense") + f" on {shape.pattern}" * (c.mode > 0),
        built_with(outcome),
        f"{c.tokens}×{c.features}×{c.outputs}",
        c.held,
        f"{shape.bus_bytes} B",
        str(c.stalls),
        outcome.bottleneck,
        str(len(outcome.measured)),
        f"{outcome.measured[-1, STORE]:,}",
        f"{outcome.core_errors} ends, {outcome.unit_error:.2%}, {outcome.divergences} codes",
    )


def built_with(outcome: Outcome) -> str:
    """What the unit has beside its size."""
    shape = outcome.configuration.shape
    parts = [f"{shape.requantisers} requantisers", f"{shape.activation_panels}+{shape.weight_panels} panels"]
    if shape.pattern is not None:
        parts += [shape.operand_mux, shape.metadata, shape.selector]
        parts += ["pipelined"] * shape.pipelined_selector + ["multiplexer register"] * shape.operand_mux_register
        parts += [f"{shape.bank_rows} rows selected at once"] * (shape.bank_rows != shape.rows)
    return ", ".join(parts)


def summary(outcomes: list[Outcome]) -> str:
    """One line that says what was compared and what differed."""
    ends = sum(int((outcome.measured[:, SELECT:STORE] >= 0).sum()) for outcome in outcomes)
    wrong = sum(outcome.core_errors for outcome in outcomes)
    tiles = sum(len(outcome.measured) for outcome in outcomes)
    codes, divergences = (sum(getattr(one, name) for one in outcomes) for name in ("values", "divergences"))
    worst = max(outcome.unit_error for outcome in outcomes)
    return (
        f"{len(outcomes)} configurations: {wrong} of {ends:,} ends of select, compute and requantise differ;"
        f" of {tiles:,} tiles the worst leaves {worst:.2%} off; {divergences} of {codes:,} output codes differ"
    )


def markdown(outcomes: list[Outcome], heading: str) -> str:
    lines = [f"# {heading}", "", summary(outcomes) + ".", "", f"| {' | '.join(COLUMNS)} |", "|---" * len(COLUMNS) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row(outcome))} |" for outcome in outcomes)]) + "\n"


def data(outcomes: list[Outcome]) -> list[dict[str, Any]]:
    """Every configuration with its tiles' predicted and measured cycles."""
    return [
        {
            **{name: value for name, value in asdict(outcome.configuration).items() if name not in ("shape", "stalls")},
            "shape": {
                **asdict(outcome.configuration.shape),
                "pattern": str(outcome.configuration.shape.pattern or ""),
                "also": [str(pattern) for pattern in outcome.configuration.shape.also],
            },
            "stalls": str(outcome.configuration.stalls),
            "bottleneck": outcome.bottleneck,
            "predicted_cycles": outcome.predicted[:, STORE].tolist(),
            "measured_cycles": outcome.measured[:, STORE].tolist(),
            "core_errors": outcome.core_errors,
            "unit_error": outcome.unit_error,
            "values": outcome.values,
            "divergences": outcome.divergences,
        }
        for outcome in outcomes
    ]
