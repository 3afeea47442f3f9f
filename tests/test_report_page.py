"""docs/results.md shows what `simulate` prints, and lists every key that it writes."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from accel_sim.cli.main import simulate_main
from accel_sim.simulation.result import KindResult, LayerResult, OperationResult, Result

PAGE = (Path(__file__).parent.parent / "docs" / "results.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```console\n\$ simulate ([^\n]*)\n(.*?)^```", PAGE, re.M | re.S)


@pytest.mark.parametrize(("arguments", "expected"), EXAMPLES, ids=[arguments for arguments, _ in EXAMPLES])
def test_examples_print_what_they_show(arguments, expected, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["simulate", *shlex.split(arguments)])
    with pytest.raises(SystemExit):
        simulate_main()
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    missing = [line for line in expected.splitlines() if line != "…" and line not in printed]
    assert not missing, "no longer printed; run the command again"


def test_there_are_examples():
    assert len(EXAMPLES) == 4


@pytest.mark.parametrize("part", [Result, LayerResult, OperationResult, KindResult])
def test_every_key_is_documented(part):
    assert {key for key in part.model_fields if f"`{key}`" not in PAGE} == set()
