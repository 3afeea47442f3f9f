"""The benchmark of capturing, on a tiny model: every row is there, and nothing is left on the disk."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

ROOT = Path(__file__).parent.parent
if str(ROOT) not in sys.path:  # the benchmarks are scripts of the checkout, not part of the package
    sys.path.append(str(ROOT))

from capture_helpers import loaded_model, options  # noqa: E402

from benchmarks import capture  # noqa: E402
from benchmarks.random_models import random_model  # noqa: E402


@pytest.mark.parametrize("changes", [{"tokens": 24, "chunk": 10}, {"phase": "decode", "tokens": 5, "new_tokens": 7}])
def test_captured_passes_are_held_against_plain_ones_and_against_the_disk(tmp_path, changes):
    made = list(capture.rows(loaded_model("llama"), options(Path(), sequences=2, **changes), 1, tmp_path, "tiny"))
    assert [row.unit for row in made] == ["tokens/s", "tokens/s", "s", "GB/s"]
    assert all(row.ours >= 0 and row.peer > 0 for row in made)
    assert made[0].ours >= made[1].ours > 0 and made[0].peer == made[1].peer
    assert all(row.group.endswith("in int8, on cpu, quantised by numpy on the host") for row in made)
    assert not list(tmp_path.iterdir())


def test_random_models_are_the_same_at_every_call():
    one, other = (random_model("tiny", "cpu", "bfloat16", num_hidden_layers=1) for _ in range(2))
    for own, others in zip(one.parameters(), other.parameters(), strict=True):
        assert own.dtype == torch.bfloat16 and torch.equal(own, others)


def test_from_the_command_line(tmp_path):
    command = [sys.executable, "-m", "benchmarks.capture", "--random", "tiny", "--tokens", "16", "--sequences", "1"]
    command += ["--rounds", "1", "--device", "cpu", "--json", str(tmp_path / "rows.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert len(rows) == 4 and "random tiny, prefill, 16 tokens in int8, on cpu" in rows[0]["name"]
    wrong = subprocess.run([*command, "--buffer-gib", "0"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert wrong.returncode == 2 and "--buffer-gib 0" in wrong.stderr and "Traceback" not in wrong.stderr
