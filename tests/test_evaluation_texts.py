"""Texts to evaluate and to calibrate with: what they are, that they share nothing, and how windows are cut."""

from __future__ import annotations

import hashlib
import re

import numpy as np
import pytest

pytest.importorskip("torch")

from evaluation_helpers import byte_tokenizer, corpora, settings, words

from accel_sim.capture.text import Text
from accel_sim.errors import AccelSimError
from accel_sim.evaluation import Corpora, EvaluationSettings, corpora_from_files, standard_corpora
from accel_sim.evaluation.windows import cut_corpora

KINDS = ("prose", "code", "mathematics")


@pytest.fixture(scope="module")
def standard() -> Corpora:
    return standard_corpora()


def test_the_kinds_are_what_they_are_called(standard):
    assert tuple(standard.evaluation) == KINDS
    prose, code, mathematics = (standard.evaluation[kind].content for kind in KINDS)
    assert code.count("\ndef ") > 100 and "\ndef " not in prose
    assert mathematics.count("math::") > 100 and "math::" not in code
    assert r"\frac{" in mathematics and ">>>" in prose and mathematics.count(">>>") < mathematics.count("math::")


def paragraphs(text: Text) -> set[str]:
    return {" ".join(each.split()) for each in re.split(r"\n\s*\n", text.content) if len(each) >= 80}


def test_calibration_shares_no_paragraph_with_what_is_evaluated(standard):
    for kind, other in zip(KINDS, standard.calibration, strict=True):
        ours, theirs = paragraphs(standard.evaluation[kind]), paragraphs(other)
        assert min(len(ours), len(theirs)) > 100
        # Different modules may still hold the same few lines of code.
        assert len(ours & theirs) <= (0.01 * len(theirs) if kind == "code" else 0), sorted(ours & theirs)[:3]


def test_every_standard_text_is_long_enough_for_the_default_and_more(standard):
    cuts = cut_corpora(
        byte_tokenizer(), standard, EvaluationSettings(tokens=8 * 4096, window=4096, calibration_tokens=8 * 4096)
    )
    assert [sum(each.kind == kind for each in cuts.windows) for kind in KINDS] == [8, 8, 8]
    assert [each.cut.source.partition(",")[0] for each in cuts.calibration[:3]] == [
        standard.evaluation[kind].name for kind in KINDS
    ]


def test_windows_are_spread_over_the_text_do_not_overlap_and_are_what_their_hashes_say():
    texts = corpora()
    cuts = cut_corpora(byte_tokenizer(), texts, settings())
    assert cuts.kinds == ("letters", "others") and len(cuts.windows) == 4
    for window in cuts.windows:
        content = texts.evaluation[window.kind].content[window.cut.start : window.cut.start + window.cut.characters]
        assert byte_tokenizer()(content)["input_ids"] == window.token_ids.tolist()
        assert hashlib.sha256(content.encode()).hexdigest() == window.cut.sha256
        assert window.cut.start == 0 or texts.evaluation[window.kind].content[window.cut.start - 1] == "\n"
    assert [window.cut.start for window in cuts.windows[:2]] == [0, 126]  # the middle of 252 characters, a line's start


def test_calibration_takes_the_texts_in_turn():
    cuts = cut_corpora(byte_tokenizer(), corpora(), settings())
    assert [each.cut.source for each in cuts.calibration] == ["third.txt", "fourth.txt", "third.txt"]
    assert cuts.calibration_ids.shape == (3, 32) and cuts.calibration_ids.dtype == np.int64
    assert cut_corpora(byte_tokenizer(), corpora(), settings(calibration_tokens=0)).calibration_ids is None


def test_the_hash_of_a_kind_tells_texts_apart():
    changed = dict(corpora().evaluation) | {"others": Text("others.txt", words(5))}
    first = cut_corpora(byte_tokenizer(), corpora(), settings())
    second = cut_corpora(byte_tokenizer(), Corpora(changed, corpora().calibration), settings())
    assert first.sha256("letters") == second.sha256("letters") and first.sha256("others") != second.sha256("others")
    assert first.sha256("letters", "others") != second.sha256("letters", "others")


def test_a_text_that_is_too_short_is_refused():
    with pytest.raises(AccelSimError, match=r"text letters\.txt: too short for 8 × 32 tokens.*fewer --tokens"):
        cut_corpora(byte_tokenizer(), corpora(), settings(tokens=256))


def test_calibrating_on_a_passage_that_is_evaluated_is_refused():
    texts = corpora()
    stolen = Text("mine.txt", texts.evaluation["others"].content[21:])
    with pytest.raises(AccelSimError, match=r"calibration text mine\.txt: characters 0 to 32 are also in the others"):
        cut_corpora(byte_tokenizer(), Corpora(texts.evaluation, (stolen,)), settings())


def test_files_of_one_kind_follow_on_each_other(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.txt").write_text(f"text {name}\n", encoding="utf-8")
    found = corpora_from_files(
        [f"book={tmp_path / 'a.txt'}", f"mail={tmp_path / 'b.txt'}", f"book={tmp_path / 'c.txt'}"]
    )
    assert {kind: text.content for kind, text in found.evaluation.items()} == {
        "book": "text a\n\n\ntext c\n",
        "mail": "text b\n",
    }
    assert found.calibration == standard_corpora().calibration


def test_what_files_cannot_be(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("text\n", encoding="utf-8")
    (tmp_path / "latin.txt").write_bytes(b"\xe9")
    for texts, calibration, message in (
        ([str(file)], [], "expected KIND=FILE"),
        ([f"all={file}"], [], "stands for all kinds together"),
        ([f"mine={tmp_path / 'none.txt'}"], [], "--text .*none.txt: cannot be read"),
        ([f"mine={file}"], [file], "--calibration a.txt: is also evaluated"),
        ([], [tmp_path / "latin.txt"], "^--calibration .*latin.txt: not UTF-8"),
    ):
        with pytest.raises(AccelSimError, match=message):
            corpora_from_files(texts, calibration)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tokens": 100}, "--tokens 100: expected a multiple of --window 32"),
        ({"calibration_tokens": 33}, "--calibration-tokens 33: expected a multiple"),
        ({"window": 1, "tokens": 1, "block": 1}, "--window 1: expected a whole number from 2 on"),
        ({"block": 10}, "--window 32: expected a multiple of 10, the tokens of a block"),
        ({"prompt_tokens": 40}, "--window 32: a prompt of 40 tokens does not fit"),
        ({"seed": -1}, "--seed -1: expected a whole number from 0 on"),
    ],
)
def test_settings_that_cannot_be(changes, message):
    with pytest.raises(AccelSimError, match=message):
        settings(**changes)
