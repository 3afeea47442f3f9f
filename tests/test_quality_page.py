"""The page on quality says what the committed evaluations hold."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from accel_sim.evaluation import read_evaluations

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "quality.md").read_text(encoding="utf-8")


def test_the_example_prints_what_the_page_shows(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
    (shown,) = re.findall(r"^```text\n(.*?)^```", PAGE, re.M | re.S)
    exec(code, {})
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize("folder", ["recipes", "chosen"])
def test_perplexities_are_those_of_the_reports(folder):
    rows = {each.recipe: each for each in read_evaluations(ROOT / f"reports/quality/{folder}/evaluation.json")
            if each.text_kind == "all"}  # fmt: skip
    assert len({each.text_sha256 for each in rows.values()}) == 1
    assert min(each.tokens for each in rows.values()) >= 6000
    named = dict(re.findall(r"^\| (\w+) \| ([\d,.]+) \|", PAGE, re.M))
    named |= {f"8x16_magnitude_{one}_55": perplexity for one, perplexity in
              re.findall(r"\(`(knapsack|greedy|amber)`\) \| [\d.]+ % \| ([\d.]+) \|", PAGE)}  # fmt: skip
    shown = {name: float(named[name].replace(",", "")) for name in rows if name in named}
    assert len(shown) > 3
    for name, perplexity in shown.items():
        assert perplexity == pytest.approx(rows[name].perplexity, abs=0.005 if perplexity < 1000 else 0.5)
