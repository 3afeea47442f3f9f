"""The syntax of Liberty files: groups of attributes and groups.

Written out here, since the grammar is these few lines: the parser on PyPI reads the same files, but brings SymPy along.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from accel_sim.errors import AccelSimError

_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|([{}();:,])|([^\s{}();:,"]+)', re.DOTALL)
_SKIPPED = re.compile(r'("(?:[^"\\]|\\.)*")|/\*.*?\*/|//[^\n]*|\\\r?\n', re.DOTALL)


@dataclass
class Group:
    """`kind (arguments) { … }`: its simple and complex attributes and the groups within."""

    kind: str
    arguments: tuple[str, ...]
    attributes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Name → values: one of a simple attribute, all arguments of a complex one; the last one of several."""
    groups: list[Group] = field(default_factory=list)
    start: int = 0
    """Where its text begins in what `read_text` returned, and …"""
    end: int = 0
    """… where it ends."""

    def of_kind(self, kind: str) -> Iterator[Group]:
        """The groups within that are of one kind."""
        return (group for group in self.groups if group.kind == kind)

    def text(self, name: str, default: str = "") -> str:
        """A simple attribute."""
        return self.attributes[name][0] if self.attributes.get(name) else default

    def number(self, name: str, default: float = 0.0) -> float:
        """A simple attribute as a number. Raises AccelSimError when it is none."""
        if name not in self.attributes:
            return default
        return number(self.text(name), f"{self.kind} {' '.join(self.arguments)}: {name}")

    def numbers(self, name: str) -> list[float]:
        """All numbers of a complex attribute whose arguments are lists within strings, in their order."""
        where = f"{self.kind}: {name}"
        return [
            number(part, where)
            for value in self.attributes.get(name, ())
            for part in re.split(r"[\s,\\]+", value)
            if part
        ]


def number(text: str, where: str) -> float:
    """A number, or an AccelSimError that says where it was expected."""
    try:
        return float(text)
    except ValueError:
        raise AccelSimError(f"{where} is {text!r}, expected a number") from None


def without_comments(text: str) -> str:
    """The text with blanks for comments and joined lines, every other character in its place."""
    return _SKIPPED.sub(lambda found: found[1] or re.sub(r"[^\n]", " ", found[0]), text)


def parse_groups(text: str) -> Group:
    """The outermost group of a Liberty text that `without_comments` made.

    Raises AccelSimError, with the line, for what is not `library (name) { … }`.
    """
    tokens = [
        (found[0] if found[1] is None else found[1], found[1] is None, found.start(), found.end())
        for found in _TOKEN.finditer(text)
    ]
    if len(tokens) < 5 or tokens[0][0] != "library" or tokens[1][0] != "(":
        raise AccelSimError("not a Liberty file: expected it to begin with library (NAME) {")
    reader = _Reader(text, tokens)
    name = reader.statement()
    if not isinstance(name, Group):
        raise AccelSimError("not a Liberty file: library (NAME) has no { … }")
    return name


class _Reader:
    """Recursive descent over the tokens: (text, whether it is unquoted, where it begins and ends)."""

    def __init__(self, text: str, tokens: list[tuple[str, bool, int, int]]) -> None:
        self._text, self._tokens, self._at = text, tokens, 0

    def statement(self) -> Group | tuple[str, tuple[str, ...]]:
        """One group, or one attribute as (name, values)."""
        name, start = self._take(), self._tokens[self._at - 1][2]
        if self._sees(":"):
            return name, (self._simple_value(),)
        arguments = self._arguments(name)
        if not self._sees("{"):
            if self._sees(";"):
                self._at += 1
            return name, arguments
        group = Group(name, arguments, start=start)
        self._at += 1
        while not self._sees("}"):
            if self._sees(";"):
                self._at += 1
                continue
            part = self.statement()
            if isinstance(part, Group):
                group.groups.append(part)
            else:
                group.attributes[part[0]] = part[1]
        group.end = self._tokens[self._at][2] + 1
        self._at += 1
        return group

    def _simple_value(self) -> str:
        """The value of `name : value ;`, which may be an expression; the semicolon is often forgotten."""
        self._at += 1
        parts = [self._take()]
        while not self._sees(";", "}") and not self._on_new_line():
            parts.append(self._take())
        if self._sees(";"):
            self._at += 1
        return " ".join(parts)

    def _on_new_line(self) -> bool:
        """Whether the next token begins another line than the one before it."""
        return "\n" in self._text[self._tokens[self._at - 1][3] : self._tokens[self._at][2]]

    def _arguments(self, name: str) -> tuple[str, ...]:
        if not self._sees("("):
            raise self._error(f"expected : or ( after {name!r}")
        self._at += 1
        values = []
        while not self._sees(")"):
            if self._sees(","):
                self._at += 1
            else:
                values.append(self._take())
        self._at += 1
        return tuple(values)

    def _sees(self, *expected: str) -> bool:
        """Whether the next token is one of these signs (and not a string that looks like one)."""
        if self._at >= len(self._tokens):
            raise self._error("the file ends within a group: a closing brace is missing")
        text, unquoted, *_ = self._tokens[self._at]
        return unquoted and text in expected

    def _take(self) -> str:
        if self._at >= len(self._tokens):
            raise self._error("the file ends within a group: a closing brace is missing")
        text, unquoted, *_ = self._tokens[self._at]
        if unquoted and text in "{}();:,":
            raise self._error(f"{text!r} is not expected there")
        self._at += 1
        return text

    def _error(self, what: str) -> AccelSimError:
        place = self._tokens[min(self._at, len(self._tokens) - 1)][2]
        return AccelSimError(f"not a Liberty file: line {self._text.count(chr(10), 0, place) + 1}: {what}")
