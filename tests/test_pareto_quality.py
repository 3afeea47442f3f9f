"""Measured perplexities in place of the simulator's own measure of quality."""

from dataclasses import replace

import pytest
from test_pareto import DENSE, SPARSE

from accel_sim.errors import AccelSimError
from accel_sim.study.quality import read_perplexities, with_perplexities

FLEXIBLE = replace(SPARSE, label="flexible 2:4", arch="flexible", pattern="2:4")


def test_json_and_csv_say_the_same(tmp_path):
    as_json, as_csv = tmp_path / "q.json", tmp_path / "q.csv"
    as_json.write_text('{"dense": 7.21, "8:16": 10.32}')
    as_csv.write_text("name,perplexity\ndense,7.21\n8:16,10.32\n")
    assert read_perplexities(as_json) == read_perplexities(as_csv) == {"dense": 7.21, "8:16": 10.32}


def test_patterns_and_machines_are_both_names():
    points = with_perplexities([DENSE, SPARSE, FLEXIBLE], {"dense": 7.2, "8:16": 10.3, "flexible 2:4": 16.6})
    assert [point.quality_loss for point in points] == [7.2, 10.3, 16.6]
    assert {point.quality_kind for point in points} == {"perplexity"}


def test_the_most_particular_name_counts():
    values = {"2:4": 1.0, "flexible": 2.0, "flexible 2:4": 3.0}
    assert with_perplexities([FLEXIBLE], values)[0].quality_loss == 3.0
    assert with_perplexities([FLEXIBLE], {"2:4": 1.0, "flexible": 2.0})[0].quality_loss == 2.0


def test_every_design_needs_a_perplexity():
    with pytest.raises(AccelSimError, match="no perplexity for dense, flexible 2:4 or flexible or 2:4"):
        with_perplexities([DENSE, SPARSE, FLEXIBLE], {"8:16": 10.3})


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("q.json", "[1, 2]", "expected one object"),
        ("q.json", "{", "not valid JSON"),
        ("q.json", "{}", "holds no perplexity"),
        ("q.json", '{"dense": "low"}', "dense: expected a perplexity of at least 1, not 'low'"),
        ("q.json", '{"dense": 0.5}', "dense: expected a perplexity of at least 1, not 0.5"),
        ("q.json", '{"dense": NaN}', "dense: expected a perplexity of at least 1"),
        ("q.csv", "arch,ppl\ndense,7\n", "expected the columns name, perplexity"),
        ("q.csv", "name,perplexity\ndense\n", "dense: expected a perplexity"),
    ],
)
def test_anything_else_is_refused_naming_the_file(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(AccelSimError, match=f"--quality {path}: .*{message}"):
        read_perplexities(path)


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(AccelSimError, match=r"q.json: cannot be read: No such file"):
        read_perplexities(tmp_path / "q.json")
