"""The README says what the commands print; here they print it."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

README = Path(__file__).parent.parent / "README.md"
PROGRAMS = {"simulate": "simulate_main", "pareto": "pareto_main", "accel-sim": "main"}
NEEDS_THE_MODEL = ("capture-traces",)


def console_examples() -> list[tuple[str, str]]:
    """(command, expected output) of every ```console block."""
    blocks = re.findall(r"^```console\n\$ ([^\n]*)\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S)
    return [block for block in blocks if not block[0].startswith(NEEDS_THE_MODEL)]


def test_every_command_has_an_example():
    shown = {shlex.split(command)[0] for command, _ in console_examples()}
    assert shown == set(PROGRAMS)


@pytest.mark.parametrize(("command", "expected"), console_examples(), ids=[c for c, _ in console_examples()])
def test_console_examples_print_what_they_show(command, expected, tmp_path):
    program, *arguments = shlex.split(command)
    code = f"import sys; sys.argv[0] = {program!r}; from accel_sim.cli.main import {PROGRAMS[program]} as run; run()"
    run = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert run.returncode == 0, run.stderr
    printed = [line.rstrip() for line in run.stdout.splitlines()]
    position = 0
    for line in expected.splitlines():
        if line == "…":
            continue
        assert line in printed[position:], f"not printed (here): {line!r}"
        position = printed.index(line, position) + 1


def test_python_examples_run():
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_the_yaml_example_is_a_machine(tmp_path, monkeypatch):
    from accel_sim.arch import load_arch

    (block,) = re.findall(r"^```yaml\n(.*?)^```", README.read_text(encoding="utf-8"), re.M | re.S)
    (tmp_path / "wide.yaml").write_text(block, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert load_arch("wide.yaml").array.cols == 64


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#:]+)\)", README.read_text(encoding="utf-8")):
        assert (README.parent / target).exists(), target
