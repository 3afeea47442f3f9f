"""What models are evaluated on and calibrated with: prose, code and mathematics that come with Python, or files.

Nothing is ever calibrated on what is evaluated: the two are taken from different topics, modules and files, and no
paragraph of prose or mathematics is in both.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from accel_sim.capture.text import Text, read_texts
from accel_sim.errors import AccelSimError

ALL = "all"
"""Stands for all kinds of text together; no kind may be called so."""

_EVALUATED_MODULES = (
    "argparse", "bisect", "calendar", "configparser", "csv", "dataclasses", "difflib", "fractions", "functools",
    "heapq", "http/client", "inspect", "json/decoder", "logging/__init__", "random", "statistics", "textwrap",
    "traceback", "urllib/parse", "xml/dom/minidom",
)  # fmt: skip
_CALIBRATION_MODULES = (
    "ast", "asyncio/streams", "cmd", "codecs", "collections/__init__", "contextlib", "copy", "email/message", "enum",
    "fileinput", "gettext", "html/parser", "ipaddress", "locale", "mailbox", "numbers", "pickle", "shutil", "uuid",
)  # fmt: skip
_EVALUATED_MATHEMATICS = (
    "combinatorics/partitions", "concrete/summations", "functions/combinatorial/numbers",
    "functions/special/bessel", "functions/special/beta_functions", "functions/special/gamma_functions",
    "integrals/quadrature", "matrices/decompositions", "physics/wigner", "polys/dispersion", "series/fourier",
    "solvers/ode/single", "stats/crv_types",
)  # fmt: skip
_CALIBRATION_MATHEMATICS = (
    "concrete/products", "functions/combinatorial/factorials", "functions/special/elliptic_integrals",
    "functions/special/error_functions", "functions/special/spherical_harmonics", "functions/special/zeta_functions",
    "holonomic/holonomic", "integrals/transforms", "matrices/dense", "series/formal", "solvers/ode/lie_group",
    "solvers/ode/riccati", "solvers/ode/systems", "solvers/pde", "stats/drv_types",
)  # fmt: skip
_LONGEST_HEADING = 40
"""Characters; shorter paragraphs may be in several texts."""
_FORMULA = re.compile(r"math::|:math:`")
# A numpydoc section whose content is a session or a list of links, up to the next section.
_NO_MATHEMATICS = re.compile(
    r"^(Examples?|References|See Also|Doctests?)\n=+\n.*?(?=^[A-Z][^\n]*\n=+\n|\Z)", re.M | re.S
)


@dataclass(frozen=True)
class Corpora:
    """Texts to evaluate, by kind, and texts to calibrate with, which are taken in turn."""

    evaluation: Mapping[str, Text]
    calibration: tuple[Text, ...]


@cache
def standard_corpora() -> Corpora:
    """Three kinds: `prose` (the language reference that `help()` shows), `code` (modules of the standard library) and
    `mathematics` (formulas with the words around them, from sympy's documentation).

    What they hold depends on the versions of Python and sympy; the sha256 of every cut is recorded. Raises
    AccelSimError where one of them is not installed with its sources.
    """
    prose, other_prose = _prose()
    mathematics, other_mathematics = _mathematics()
    topics, library, formulas = "pydoc_data.topics", "standard library sources", "sympy docstrings"
    return Corpora(
        evaluation={
            "prose": Text(topics, prose),
            "code": Text(library, _code(_EVALUATED_MODULES)),
            "mathematics": Text(formulas, mathematics),
        },
        calibration=(
            Text(f"{topics}, other topics", other_prose),
            Text(f"{library}, other modules", _code(_CALIBRATION_MODULES)),
            Text(f"{formulas}, other modules", other_mathematics),
        ),
    )


def corpora_from_files(texts: Sequence[str], calibration: Sequence[Path] = ()) -> Corpora:
    """Corpora of UTF-8 files: `texts` as KIND=FILE, where files of one kind follow on each other.

    No `texts` means the standard ones, and no `calibration` the standard calibration. Raises AccelSimError for a file
    that cannot be read, a kind that is missing or is called `all`, and a calibration file that is also evaluated.
    """
    evaluation = _by_kind(texts) if texts else standard_corpora().evaluation
    chosen = _calibration_files(calibration) if calibration else standard_corpora().calibration
    evaluated = {text.content for text in evaluation.values()}
    for text in chosen:
        if text.content in evaluated:
            raise AccelSimError(f"--calibration {text.name}: is also evaluated; expected a text that is not")
    return Corpora(evaluation, chosen)


def _calibration_files(paths: Sequence[Path]) -> tuple[Text, ...]:
    try:
        return read_texts(paths)
    except AccelSimError as error:
        raise AccelSimError(str(error).replace("--text", "--calibration", 1)) from None


def _by_kind(texts: Sequence[str]) -> dict[str, Text]:
    files: dict[str, list[Path]] = {}
    for text in texts:
        kind, equals, path = text.partition("=")
        if not (kind and equals and path):
            raise AccelSimError(f"--text {text}: expected KIND=FILE, such as prose=book.txt")
        if kind == ALL:
            raise AccelSimError(f"--text {text}: '{ALL}' stands for all kinds together; name the kind otherwise")
        files.setdefault(kind, []).append(Path(path))
    found = {}
    for kind, paths in files.items():
        read = read_texts(paths)
        found[kind] = Text(" + ".join(text.name for text in read), "\n\n".join(text.content for text in read))
    return found


def _prose() -> tuple[str, str]:
    """Every second topic, and the others."""
    from pydoc_data.topics import topics

    names = sorted(topics)
    return _apart([topics[name] for name in names[::2]], [topics[name] for name in names[1::2]])


def _apart(evaluated: Iterable[str], calibration: Iterable[str]) -> tuple[str, str]:
    """Both joined, with a paragraph that several parts have in the first of them alone; headings stay."""
    seen: set[str] = set()

    def new_paragraphs(parts: Iterable[str]) -> Iterator[str]:
        for part in parts:
            for paragraph in re.split(r"\n\s*\n", part.strip()):
                content = " ".join(paragraph.split())
                if len(content) < _LONGEST_HEADING or content not in seen:
                    seen.add(content)
                    yield paragraph

    return "\n\n".join(new_paragraphs(evaluated)) + "\n", "\n\n".join(new_paragraphs(calibration)) + "\n"


def _code(modules: Sequence[str]) -> str:
    library = Path(sysconfig.get_path("stdlib"))
    return "\n".join(_source(library / f"{name}.py", "standard-library source") for name in modules)


def _mathematics() -> tuple[str, str]:
    found = importlib.util.find_spec("sympy")
    if found is None:
        raise AccelSimError("mathematics: sympy, whose documentation it is, is not installed; name texts with --text")
    folder = Path(next(iter(found.submodule_search_locations)))
    return _apart(_formulas(folder, _EVALUATED_MATHEMATICS), _formulas(folder, _CALIBRATION_MATHEMATICS))


def _formulas(folder: Path, modules: Sequence[str]) -> Iterator[str]:
    """The docstrings with formulas in them, without their interactive sessions and lists of links."""
    for name in modules:
        for node in ast.walk(ast.parse(_source(folder / f"{name}.py", "sympy source"))):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
                content = ast.get_docstring(node, clean=False)
                if content and _FORMULA.search(content):
                    yield _NO_MATHEMATICS.sub("", inspect.cleandoc(content)).strip()


def _source(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise AccelSimError(f"{error.filename}: no {what} here; name texts with --text") from None
