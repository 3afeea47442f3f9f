"""docs/workloads.md: its examples run, and print what it says."""

import re
from pathlib import Path

import pytest

from accel_sim.workload import load_policy, preset_workload, shipped_policies
from accel_sim.workload.synthetic import SAMPLE_ROWS

PAGE = (Path(__file__).parent.parent / "docs" / "workloads.md").read_text(encoding="utf-8")


def examples(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.M | re.S)


def test_python_examples_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for block in examples("python"):
        exec(compile(block, "workloads.md", "exec"), {})
    printed = capsys.readouterr().out
    prompt, step = (re.findall(r"\d+\.\d%", line) for line in printed.splitlines()[:2])
    for share in prompt + step:
        assert share in PAGE
    assert "0.5612980769230769" in printed


def test_the_policy_example_is_a_policy(tmp_path):
    (block,) = examples("yaml")
    (tmp_path / "page.yaml").write_text(block, encoding="utf-8")
    llama = preset_workload("llama-3.1-8b", 4)
    assert load_policy(tmp_path / "page.yaml").coverage(llama) == load_policy("amber-llama-3.1-8b").coverage(llama)


def test_every_preset_and_policy_is_listed():
    from accel_sim.workload import presets

    for name in (*presets(), *shipped_policies()):
        assert f"`{name}`" in PAGE


@pytest.mark.parametrize(
    ("policy", "model", "share"), [("dense-qkv", "qwen2.5-7b", "92.9 %"), ("dense-o-up", "llama-3.1-8b", "65.4 %")]
)
def test_coverages_on_the_page_are_those_of_the_policies(policy, model, share):
    assert f"{load_policy(policy).coverage(preset_workload(model, 4)):.1%}".replace("%", " %") == share
    assert share in next(line for line in PAGE.splitlines() if line.startswith(f"| `{policy}`"))


def test_the_size_of_a_sample_is_the_one_on_the_page():
    assert f"is represented by {SAMPLE_ROWS} rows" in " ".join(PAGE.split())
