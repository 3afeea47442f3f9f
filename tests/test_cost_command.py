"""`accel-sim cost`: every table prints, and says what it was asked."""

import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from accel_sim import cost
from accel_sim.cli.cost import cost as command
from accel_sim.cli.main import _app
from accel_sim.errors import AccelSimError


def printed(*arguments: str) -> str:
    found = CliRunner().invoke(_app(command), list(arguments))
    if found.exception and not isinstance(found.exception, SystemExit):
        raise found.exception
    assert found.exit_code == 0, found.output
    return found.output


def test_elements_prints_the_ladder_of_one_library():
    text = printed("elements", "--library", "nangate45", "--lanes", "16")
    dense = cost.pe(16)
    assert f"{dense.area_nand2:,.0f}" in text
    for pattern in ("2:4", "4:8", "8:16", "16:32"):
        assert f"{cost.area_tax(cost.pe(16, pattern), dense):+.1%}" in text


def test_published_puts_ours_beside_theirs():
    text = printed("published", "--library", "nangate45")
    for figure in ("1.51", "1.45", "32%", "38%", "clock tree"):
        assert figure in text


def test_methods_are_those_of_the_machine_and_library():
    text = printed("methods", "--arch", "4x8.yaml", "--library", "nangate45", "--features", "1024")
    for figure in ("4x8 with the tables of nangate45, 1024 × 4096", "CLACT", "VAR", "La RoSA"):
        assert figure in text


def test_check_prints_a_table():
    assert "over mappings" in printed("check")


def test_an_unknown_library_is_one_line():
    with pytest.raises(AccelSimError, match="known: nangate45"):
        printed("elements", "--library", "nangate46")


DOCUMENT = (Path(__file__).parent.parent / "docs" / "cost.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```console\n\$ accel-sim cost ([^\n]*)\n(.*?)^```", DOCUMENT, re.M | re.S)


@pytest.mark.parametrize(("arguments", "expected"), EXAMPLES, ids=[arguments for arguments, _ in EXAMPLES])
def test_the_documented_tables_are_what_the_command_prints(arguments, expected):
    found = [line.rstrip() for line in printed(*shlex.split(arguments)).splitlines()]
    position = 0
    for line in expected.splitlines():
        if line != "…":
            assert line in found[position:], f"not printed (here): {line!r}"
            position = found.index(line, position) + 1


def test_every_table_is_documented():
    assert {arguments.split()[0] for arguments, _ in EXAMPLES} == {
        "libraries",
        "forms",
        "elements",
        "check",
        "published",
        "methods",
    }
