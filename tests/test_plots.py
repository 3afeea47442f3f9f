"""The pictures of a study."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.text import Annotation
from test_pareto import DENSE, SPARSE

from accel_sim.study import output
from accel_sim.study.figures import figure_bytes
from accel_sim.study.output import write_study
from accel_sim.study.plots import draw_energy_area, draw_trade_off

MACHINES = [
    replace(SPARSE, label=f"machine {i}", area_um2=25e6 + 3e5 * i, area_overhead=0.25 + 0.015 * i, quality_loss=loss)
    for i, loss in enumerate((0.08, 0.06, 0.05, 0.04))
]
FLEXIBLE = [
    replace(point, label=f"flexible {pattern}", area_um2=27e6, area_overhead=0.35)
    for point, pattern in zip(MACHINES, ("2:4", "4:8", "8:16", "16:32"), strict=True)
]
POINTS = [DENSE, *MACHINES, *FLEXIBLE]
SOURCES = {"trace": "a trace"}


def labels(figure, panel: int) -> list[Annotation]:
    texts = figure.axes[panel].texts
    return [text for text in texts if isinstance(text, Annotation) and text.get_text()]


def test_every_point_is_named_in_both_panels():
    figure = draw_trade_off(POINTS, "title")
    for panel in (0, 1):
        named = " ".join(label.get_text() for label in labels(figure, panel))
        assert all(point.label.split()[-1] in named for point in POINTS)


def test_points_that_coincide_share_a_label():
    figure = draw_trade_off(POINTS, "title")
    assert "flexible 2:4, 4:8, 8:16, 16:32" in [label.get_text() for label in labels(figure, 0)]


@pytest.mark.parametrize("draw", [draw_trade_off, draw_energy_area])
def test_labels_overlap_neither_each_other_nor_the_frame(draw):
    figure = draw(POINTS, "title")
    renderer = figure.canvas.get_renderer()
    for panel, axes in enumerate(figure.axes[:-1]):
        boxes = [label.get_window_extent(renderer) for label in labels(figure, panel)]
        frame = axes.get_window_extent(renderer)
        assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in boxes)
        assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])


def test_labels_stay_apart_in_a_crowd():
    rng = np.random.default_rng(1)
    crowd = [
        replace(SPARSE, label=f"design{i}", speedup_time=1.5 + x, area_overhead=0.2 + y)
        for i, (x, y) in enumerate(rng.random((24, 2)) * 0.5)
    ]
    figure = draw_trade_off(crowd, "title")
    boxes = [label.get_window_extent(figure.canvas.get_renderer()) for label in labels(figure, 0)]
    assert not any(one.overlaps(other) for i, one in enumerate(boxes) for other in boxes[:i])


def test_the_break_even_line_passes_where_equal_area_gives_nothing():
    # At 25 % more area and 2.0× in time, an equally large dense array gets 2.0 / 1.25 = 1.6×.
    figure = draw_trade_off([DENSE, SPARSE], "title")
    line = next(line for line in figure.axes[0].lines if line.get_linestyle() == "--")
    assert list(zip(*line.get_data(), strict=True))[:2] == [(0.0, 1.0), (25.0, 1.6)]


def test_one_point_alone_can_be_drawn():
    assert figure_bytes(draw_trade_off([DENSE], "title"), "png").startswith(b"\x89PNG")
    assert figure_bytes(draw_energy_area([DENSE], "title"), "png").startswith(b"\x89PNG")


def test_the_axis_names_the_measure_of_quality():
    assert "activation error" in draw_trade_off(POINTS, "title").axes[1].get_xlabel()
    measured = [replace(point, quality_kind="perplexity", quality_loss=8.0) for point in POINTS]
    assert "perplexity" in draw_trade_off(measured, "title").axes[1].get_xlabel()


@pytest.mark.parametrize("kind", ["svg", "png"])
def test_the_same_points_give_the_same_bytes(kind):
    first, second = (figure_bytes(draw_trade_off(POINTS, "title"), kind) for _ in range(2))
    assert first == second


def test_data_stand_beside_the_pictures(tmp_path):
    written = write_study(POINTS, POINTS, SOURCES, tmp_path / "out")
    assert sorted(path.name for path in written) == sorted(path.name for path in (tmp_path / "out").iterdir())
    content = json.loads((tmp_path / "out" / "pareto.json").read_text())
    with (tmp_path / "out" / "pareto.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["label"] for row in rows] == [row["label"] for row in content["points"]] == [p.label for p in POINTS]
    assert [row["on_front"] == "True" for row in rows] == [row["on_front"] for row in content["points"]]
    assert content["workloads"] == SOURCES


def test_several_workloads_are_listed_one_by_one_and_together(tmp_path):
    points = [replace(point, workload=workload) for point in (DENSE, SPARSE) for workload in ("a", "b")]
    overall = [replace(point, workload="all") for point in (DENSE, SPARSE)]
    write_study(points, overall, {"a": "", "b": ""}, tmp_path)
    rows = json.loads((tmp_path / "pareto.json").read_text())["points"]
    assert [(row["workload"], row["label"]) for row in rows] == [
        (workload, label) for workload in ("a", "b", "all") for label in ("dense", "8x16")
    ]


def test_a_picture_that_fails_leaves_the_old_files_alone(tmp_path, monkeypatch):
    write_study(POINTS, POINTS, SOURCES, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def broken(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(output, "figure_bytes", broken)
    with pytest.raises(OSError, match="No space left"):
        write_study([DENSE], [DENSE], SOURCES, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
