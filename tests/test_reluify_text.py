"""What a student learns from has nothing of what models are evaluated on, calibrated with or captured on."""

from __future__ import annotations

import hashlib
import importlib.util
import sysconfig
from pathlib import Path

import pytest

pytest.importorskip("sympy")

from accel_sim.errors import AccelSimError
from accel_sim.reluify import text
from accel_sim.reluify.text import held_out_texts, overlap, training_text, without_held_out

LIBRARY = Path(sysconfig.get_path("stdlib"))
RUN = " ".join(held_out_texts()[0].content.split()[1000 : 1000 + text.RUN_OF_WORDS])
OWN = "\n\n".join(f"Paragraph {i} of a text that nobody has written before, number {i * 7919}." for i in range(6))


def runs_of(content: str) -> set[tuple[str, ...]]:
    """All runs of words, as they are, without a hash."""
    words = content.split()
    return {tuple(words[i : i + text.RUN_OF_WORDS]) for i in range(len(words) - text.RUN_OF_WORDS + 1)}


@pytest.fixture(scope="module")
def standard():
    return training_text()


@pytest.mark.slow
def test_no_run_of_words_of_the_default_text_is_held_out(standard):
    held_out = set().union(*(runs_of(each.content) for each in held_out_texts()))
    assert len(held_out) > 100_000
    for kind, documents in standard.documents.items():
        assert sum(map(len, documents)) > 1_000_000, kind
        for document in documents:
            assert not runs_of(document) & held_out


@pytest.mark.slow
def test_the_default_text_is_the_same_every_time(standard):
    assert training_text() == standard


def test_no_run_of_words_of_a_part_of_the_default_text_is_held_out(monkeypatch):
    """The same as for all of it, with the folders in which held-out modules lie, and fewer others."""
    monkeypatch.setattr(text, "_DOCUMENTED", ("sympy/functions", "torch/optim"))
    several = ("json", "logging", "xml", "email", "collections")
    others = {each.name for each in LIBRARY.iterdir() if each.is_dir()} - set(several)
    monkeypatch.setattr(text, "_NOT_CODE", (*text._NOT_CODE, *others))
    found = training_text()
    held_out = set().union(*(runs_of(each.content) for each in held_out_texts()))
    documents = [document for each in found.documents.values() for document in each]
    assert sum(map(len, documents)) > 1_000_000
    assert not any(runs_of(document) & held_out for document in documents)
    dropped = {(source.kind, source.name): source.dropped for source in found.sources}
    assert dropped["code", "standard library"] > 1_000_000  # thirty-nine modules, and those that captures run on
    assert dropped["mathematics", "sympy/functions docstrings"] > 10_000
    assert {source.kind for source in found.sources} == set(found.documents) == {"prose", "code", "mathematics"}


@pytest.mark.parametrize("module", ["argparse", "statistics", "pathlib", "typing", "enum", "http/client"])
def test_nothing_is_left_of_a_module_that_is_held_out(module):
    left = without_held_out((LIBRARY / f"{module}.py").read_text(encoding="utf-8"))
    assert sum(map(len, left)) < 20


def test_a_planted_run_of_words_costs_its_paragraphs_and_cuts_the_document():
    assert overlap(RUN) == 1
    first, second = OWN.split("\n\n")[:3], OWN.split("\n\n")[3:]
    planted = "\n\n".join([*first, f"An introduction. {RUN} And on.", *second])
    assert without_held_out(planted) == ["\n\n".join(first), "\n\n".join(second)]
    assert without_held_out(OWN) == [OWN]


def test_a_run_over_the_end_of_a_paragraph_costs_both():
    words = RUN.split()
    across = " ".join(words[:6]) + "\n\n" + " ".join(words[6:])
    assert without_held_out(f"{OWN}\n\n{across}") == [OWN]


def test_fewer_words_are_no_quotation():
    shorter = " ".join(RUN.split()[:-1])
    assert without_held_out(f"{shorter} but otherwise") == [f"{shorter} but otherwise"]


def test_files_are_learnt_from_without_what_is_held_out(tmp_path):
    (tmp_path / "own.txt").write_text(f"{OWN}\n\n{RUN}", encoding="utf-8")
    found = training_text([tmp_path / "own.txt"])
    assert found.documents == {"given": (OWN,)}
    (source,) = found.sources
    assert (source.name, source.characters, source.dropped) == ("own.txt", len(OWN), len(RUN) + 2)
    assert source.sha256 == hashlib.sha256(OWN.encode()).hexdigest()


def test_a_file_with_nothing_else_is_refused(tmp_path):
    (tmp_path / "copy.txt").write_text(held_out_texts()[1].content, encoding="utf-8")
    with pytest.raises(AccelSimError, match=r"--text: .*copy.txt: nothing to learn from that is not also evaluated"):
        training_text([tmp_path / "copy.txt"])


def test_the_language_reference_is_never_read():
    """Its source escapes every line's end, so its words are not those that are evaluated."""
    assert "pydoc_data" in text._NOT_CODE
    assert Path(importlib.util.find_spec("pydoc_data.topics").origin).is_relative_to(LIBRARY / "pydoc_data")
