"""What was found out about one configuration of an executor: its rows for the JSON, its cells in the printed table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.gpu.timing import NotCaptured
from benchmarks.rows import Row, Wanted


@dataclass(frozen=True)
class Config:
    """What is timed against the dense FFN."""

    dtype: str
    executor: str
    pipeline: str
    skipped: float
    predicted: bool = False
    """With a predictor in front."""

    @property
    def form(self) -> str:
        """All but how much is skipped."""
        return f"{self.dtype}, {self.executor}, {self.pipeline}{', with its predictor' if self.predicted else ''}"

    def __str__(self) -> str:
        return f"{self.form}, {self.skipped:.0%} skipped"


@dataclass(frozen=True)
class Figures:
    """Seconds of one call of a configuration and of the dense FFN in the same rounds; and what else there is to say."""

    config: Config
    error: float
    """‖y − expected‖ / ‖expected‖."""
    allowed: float
    graph: float | NotCaptured
    launched: float
    dense_graph: float | NotCaptured
    dense_launched: float
    bytes: int
    """That the configuration must read."""

    @property
    def not_captured(self) -> NotCaptured | None:
        """Why the two cannot be compared graph against graph."""
        return next((each for each in (self.graph, self.dense_graph) if isinstance(each, NotCaptured)), None)

    @property
    def seconds(self) -> float:
        """In a graph; as launched where there is none."""
        return self.launched if self.not_captured else self.graph

    @property
    def speed_up(self) -> float:
        """Graph against graph; launch against launch where there is none."""
        return (self.dense_launched if self.not_captured else self.dense_graph) / self.seconds

    @property
    def speed_up_launched(self) -> float:
        return self.dense_launched / self.launched


@dataclass(frozen=True)
class RowsOf:
    """Makes rows of one group, all measured with the same versions."""

    group: str
    command: str
    used: dict[str, str]

    def row(self, name: str, ours: float, peer: float, unit: str, faster: bool = False, wanted: Wanted | None = None):
        return Row(self.group, name, ours, peer, unit, self.command, self.used, faster, wanted)

    def none(self, name: str, why: str) -> Row:
        """What could not be measured stands there by name, with the reason."""
        return Row(self.group, f"{name}: none ({why})", None, None, "", self.command, self.used)

    def of(self, figures: Figures, copied: float, paper: float | None, wanted: Wanted | None) -> Iterator[Row]:
        """All rows of a configuration, beside `copied` bytes a second of the same run."""
        what = str(figures.config)
        name = f"{what}: in a CUDA graph, against dense"
        if figures.not_captured:
            yield self.none(name, str(figures.not_captured))
        else:
            yield self.row(name, figures.graph, figures.dense_graph, "s", faster=True, wanted=wanted)
        name = f"{what}: as Python launches it, against dense"
        yield self.row(name, figures.launched, figures.dense_launched, "s", faster=True)
        yield self.row(f"{what}: speed-up, against 1/(1−s)", figures.speed_up, 1 / (1 - figures.config.skipped), "×")
        if paper is not None:
            yield self.row(f"{what}: speed-up, against SVDP's on an RTX 3090", figures.speed_up, paper, "×")
        rate = figures.bytes / figures.seconds / 1e9
        yield self.row(f"{what}: bytes read, against torch's copy_", rate, copied / 1e9, "GB/s")
        name = f"{what}: error against float64, beside what its roundings allow"
        yield self.row(name, figures.error, figures.allowed, "of the norm")


def table(group: str, figures: Sequence[Figures], papers: dict[float, float]) -> str:
    """Speed-ups over dense: a line for each form, a column for each sparsity; microseconds of dense and of the form."""
    skipped = sorted({each.config.skipped for each in figures})
    found = {(each.config.form, each.config.skipped): each for each in figures}
    lines = [
        f"### {group}\n",
        f"| over dense, in a CUDA graph (as Python launches it) | {' | '.join(f'{each:.0%}' for each in skipped)} |",
        f"|---|{'--:|' * len(skipped)}",
        _line("1/(1−s)", [f"{1 / (1 - each):.4g}×" for each in skipped]),
        _line("SVDP, RTX 3090", [f"{papers[each]:.2f}×" if each in papers else "–" for each in skipped]),
    ]
    for form in dict.fromkeys(each.config.form for each in figures):
        of_form = [found.get((form, each)) for each in skipped]
        lines.append(_line(form, [_speed_ups(each) for each in of_form]))
        lines.append(_line(f"{form}: µs, of dense", [_microseconds(each) for each in of_form]))
    return "\n".join(lines) + "\n"


def _line(name: str, cells: Sequence[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"


def _speed_ups(figures: Figures | None) -> str:
    if figures is None:
        return "–"
    graph = "no graph" if figures.not_captured else f"**{figures.speed_up:.2f}×**"
    return f"{graph} ({figures.speed_up_launched:.2f}×)"


def _microseconds(figures: Figures | None) -> str:
    if figures is None:
        return "–"
    dense = figures.dense_launched if figures.not_captured else figures.dense_graph
    return f"{figures.seconds * 1e6:.1f}, {dense * 1e6:.1f}"
