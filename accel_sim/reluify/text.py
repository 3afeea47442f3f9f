"""The text that a student learns from: files, or prose, code and mathematics that come with Python and torch.

Nothing is learnt from that models are evaluated on, calibrated with, or captured on by default: every paragraph that
has thirteen words in a row with one of those texts is left out, the measure that GPT-3's authors used (arXiv
2005.14165, appendix C). `overlap` counts what is left; a test holds it to nothing.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import importlib.util
import inspect
import re
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from accel_sim.capture.text import Text, read_texts, standard_texts
from accel_sim.errors import AccelSimError
from accel_sim.evaluation.corpora import standard_corpora

RUN_OF_WORDS = 13
"""So many words in a row must not be shared."""
GIVEN = "given"
"""The kind of text that files are, whatever they hold."""

_DOCUMENTED = ("sympy", "mpmath", "numpy", "networkx", "matplotlib", "torch/nn", "torch/optim", "torch/distributions",
               "torch/linalg", "torch/autograd", "torch/fft", "torch/special")  # fmt: skip
"""Packages whose docstrings are read: what torch and this project need, and so are there wherever a model runs."""
_DESCRIBED = ("torch", "transformers", "numpy", "sympy", "networkx", "matplotlib", "accelerate", "huggingface_hub",
              "safetensors", "tokenizers", "pydantic", "typer", "rich", "hypothesis", "numba", "gguf")  # fmt: skip
"""Distributions whose long description is read where they are installed."""
_TESTS = ("test", "tests", "testing")
_NOT_CODE = (*_TESTS, "idle_test", "idlelib", "lib2to3", "encodings", "site-packages", "dist-packages",
             "pydoc_data", "turtledemo", "ensurepip")  # fmt: skip
"""Folders of the standard library: tests and tables, what others have put there, and the text that is evaluated."""
_SHORTEST_DOCSTRING = 200
"""Characters; what is shorter says what its name says."""
_FORMULA = re.compile(r"math::|:math:`|\\frac|\\sum|\\int")
_NO_PROSE = re.compile(
    r"^(Examples?|References|See Also|Doctests?)\n[=-]+\n.*?(?=^[A-Z][^\n]*\n[=-]+\n|\Z)", re.M | re.S
)


@dataclass(frozen=True)
class Source:
    """Where a part of the training text comes from."""

    kind: str
    name: str
    characters: int
    """That are learnt from."""
    dropped: int
    """Characters of paragraphs that are also in what is evaluated, calibrated with or captured on."""
    sha256: str
    """Of what is learnt from."""


@dataclass(frozen=True)
class TrainingText:
    """Documents by kind, and where they come from."""

    documents: dict[str, tuple[str, ...]]
    sources: tuple[Source, ...]


def training_text(paths: Sequence[Path] = ()) -> TrainingText:
    """The files, as one kind called `given`; without any, `prose`, `code` and `mathematics`.

    Raises AccelSimError for a file that cannot be read, and where nothing is left to learn from.
    """
    files = ((GIVEN, text.name, [text.content]) for text in read_texts(paths))
    origins = files if paths else _standard()
    documents: dict[str, list[str]] = {}
    sources = []
    for kind, name, contents in origins:
        kept = [document for content in contents for document in without_held_out(content)]
        characters = sum(map(len, kept))
        digest = hashlib.sha256("\0".join(kept).encode()).hexdigest()
        dropped = sum(map(len, contents)) - characters
        sources.append(Source(kind, name, characters, dropped, digest))
        documents.setdefault(kind, []).extend(kept)
    if not any(documents.values()):
        where = "--text: " + ", ".join(map(str, paths)) if paths else "the default text"
        raise AccelSimError(f"{where}: nothing to learn from that is not also evaluated or calibrated with")
    return TrainingText({kind: tuple(each) for kind, each in documents.items()}, tuple(sources))


def without_held_out(content: str) -> list[str]:
    """`content` without the paragraphs that share a run of words with held-out text, cut where they were.

    Cut, since what would follow on each other else was never one text.
    """
    paragraphs = re.split(r"\n\s*\n", content.strip("\n"))
    words = [(word, index) for index, paragraph in enumerate(paragraphs) for word in paragraph.split()]
    held_out = held_out_runs()
    shared: set[int] = set()
    for start in range(len(words) - RUN_OF_WORDS + 1):
        run = words[start : start + RUN_OF_WORDS]
        if hash(tuple(word for word, _ in run)) in held_out:
            shared.update(index for _, index in run)
    documents: list[list[str]] = [[]]
    for index, paragraph in enumerate(paragraphs):
        if index in shared:
            documents.append([])
        else:
            documents[-1].append(paragraph)
    return [joined for document in documents if (joined := "\n\n".join(document)).strip()]


@cache
def held_out_runs() -> frozenset[int]:
    """Hashes of all runs of words in what is evaluated, calibrated with and captured on by default.

    A paragraph too many falls to two runs of one hash, never one too few.
    """
    return frozenset(run for text in held_out_texts() for run in _runs(text.content))


def held_out_texts() -> tuple[Text, ...]:
    """All standard texts that figures of this project are measured on."""
    corpora = standard_corpora()
    return (*corpora.evaluation.values(), *corpora.calibration, *standard_texts())


def _runs(content: str) -> Iterator[int]:
    words = content.split()
    return (hash(tuple(words[i : i + RUN_OF_WORDS])) for i in range(len(words) - RUN_OF_WORDS + 1))


def overlap(document: str) -> int:
    """Runs of words that a document shares with held-out text."""
    return sum(run in held_out_runs() for run in _runs(document))


def _standard() -> Iterator[tuple[str, str, list[str]]]:
    """Kind, name and contents of every default source."""
    yield "code", "standard library", list(_code())
    for package in _DOCUMENTED:
        found = list(_docstrings(package))
        for kind, formulas in (("mathematics", True), ("prose", False)):
            contents = [content for has_formulas, content in found if has_formulas == formulas]
            if contents:
                yield kind, f"{package} docstrings", contents
    yield "prose", "descriptions of Python packages", list(_descriptions())


def _code() -> Iterator[str]:
    """Modules of the standard library; of those that are held out, `without_held_out` leaves nothing."""
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.rglob("*.py")):
        if not set(path.relative_to(library).parts) & set(_NOT_CODE) and (content := _read(path)).strip():
            yield content


def _docstrings(package: str) -> Iterator[tuple[bool, str]]:
    """Long docstrings of each of a package's modules, those with formulas (True) and the others apart.

    Without examples and lists of links, as they are evaluated.
    """
    folder = _folder(package)
    if folder is None:
        return
    for path in sorted(folder.rglob("*.py")):
        if set(path.relative_to(folder).parts) & set(_TESTS):
            continue
        found = [_NO_PROSE.sub("", inspect.cleandoc(each)).strip() for each in _documented(_read(path))]
        for formulas in (True, False):
            chosen = [
                each for each in found if len(each) >= _SHORTEST_DOCSTRING and bool(_FORMULA.search(each)) == formulas
            ]
            if chosen:
                yield formulas, "\n\n".join(chosen)


def _documented(source: str) -> Iterable[str]:
    try:
        tree = ast.parse(source)
    except SyntaxError:  # a template, or of another version of Python
        return []
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef))
    return [found for node in nodes if (found := ast.get_docstring(node, clean=False))]


def _descriptions() -> Iterator[str]:
    for name in _DESCRIBED:
        try:
            yield importlib.metadata.metadata(name).get_payload() or ""
        except importlib.metadata.PackageNotFoundError:
            continue


def _folder(package: str) -> Path | None:
    top, _, inside = package.partition("/")
    found = importlib.util.find_spec(top)
    if found is None or not found.submodule_search_locations:
        return None
    return Path(next(iter(found.submodule_search_locations))) / inside


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:  # an old file in another encoding
        return ""
