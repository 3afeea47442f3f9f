"""Changes to RTLIL as text: equal modules made one, and the same netlist in another order under other names."""

from __future__ import annotations

import random
import re

_MODULE = re.compile(r"^(?:attribute [^\n]*\n)*module (\S+)\n(.*?)^end\n", re.MULTILINE | re.DOTALL)
_KEPT = re.compile(r"(?:.*\.)?(?:(?:comparator|popcount)_[^.]*|top_n)$")
_STATEMENT = re.compile(
    r"(?:^ *attribute [^\n]*\n)*(?:^ *(?:cell|process) [^\n]*\n.*?^  end\n|^ *\w+[^\n]*\n)", re.MULTILINE | re.DOTALL
)
_NAME = re.compile(r"[\\$][^\s]+")
_CELL = re.compile(r"^  cell (\S+) (\S+)\n(.*?)^  end\n", re.MULTILINE | re.DOTALL)
_PIN = re.compile(r"^(    connect )(\S+)", re.MULTILINE)


def merge_equal_modules(text: str) -> str:
    """One module for all comparators, and for all population counts, that are alike, whatever their ports are called.

    Their hierarchy, and that of a selector's top-N circuit, is to be kept: the mapper meets each once and by itself.
    """
    first_of: dict[str, tuple[str, dict[str, str]]] = {}
    stands_for: dict[str, tuple[str, dict[str, str]]] = {}
    for found in _MODULE.finditer(text):
        if _KEPT.match(found[1]):
            shape, names = _canonical(found[2])
            first, its_names = first_of.setdefault(shape, (found[1], names))
            actual = {token: name for name, token in its_names.items()}
            stands_for[found[1]] = first, {name: actual[token] for name, token in names.items()}

    def instance(found: re.Match[str]) -> str:
        if found[1] not in stands_for:
            return found[0]
        first, ports = stands_for[found[1]]
        pins = _PIN.sub(lambda pin: pin[1] + ports[pin[2]], found[3])
        return f"  cell {first} {found[2]}\n{pins}  end\n"

    def module(found: re.Match[str]) -> str:
        if found[1] in stands_for and stands_for[found[1]][0] != found[1]:
            return ""
        kept = "attribute \\keep_hierarchy 1\n" if found[1] in stands_for else ""
        return kept + _CELL.sub(instance, found[0])

    return _MODULE.sub(module, text)


def _canonical(body: str) -> tuple[str, dict[str, str]]:
    """A module's body with its names numbered in the order in which the cells use them, and name → number."""
    names: dict[str, str] = {}

    def numbered(found: re.Match[str]) -> str:
        return names.setdefault(found[0], f"<{len(names)}>")

    wires, rest = [], []
    for line in body.splitlines():
        words = line.split()
        if words and words[0] == "wire":
            wires.append(words)
        elif words and words[0] != "attribute":
            kept = re.match(r" *(?:cell \S+ |connect \S+ (?=.)|parameter )", line)
            start = kept.end() if kept and line.startswith("  ") else 0
            rest.append(line[:start] + _NAME.sub(numbered, line[start:]))
    # A port's number in the declaration is its place among the ports, which says nothing of the circuit.
    declared = sorted((names.setdefault(words[-1], f"<{len(names)}>"), *words[1:4]) for words in wires)
    return "\n".join([*rest, *map(str, declared)]), names


def shuffled(text: str, seed: int) -> str:
    """The same modules with their cells and wires in another order and, ports apart, under other names."""
    draw = random.Random(seed)
    return _MODULE.sub(lambda found: _shuffled_module(found, draw), text)


def _shuffled_module(found: re.Match[str], draw: random.Random) -> str:
    head = found[0][: found.start(2) - found.start(0)]
    wires, cells, connections = [], [], []
    new_name: dict[str, str] = {}
    for statement in _STATEMENT.finditer(found[2]):
        line = next(each for each in statement[0].splitlines() if not each.lstrip().startswith("attribute"))
        words = line.split()
        if words[0] == "wire":
            wires.append(statement[0])
            if "input" not in words and "output" not in words:
                new_name[words[-1]] = f"\\wire_{draw.getrandbits(64):x}"
        elif words[0] == "cell":
            cells.append(statement[0])
            new_name[words[-1]] = f"\\cell_{draw.getrandbits(64):x}"
        else:
            connections.append(statement[0])
    for part in (wires, cells, connections):
        draw.shuffle(part)

    def renamed(statement: str) -> str:
        lines = statement.splitlines(keepends=True)
        return "".join(line if line.lstrip().startswith("attribute") else _rename(line, new_name) for line in lines)

    return head + "".join(renamed(each) for each in [*wires, *cells, *connections]) + "end\n"


def _rename(line: str, new_name: dict[str, str]) -> str:
    """New names where a statement names a wire or a cell: not in a cell's type, nor in the names of its pins."""
    kept = re.match(r" *(?:cell \S+ |connect \S+ (?=.)|parameter )", line)
    start = 0
    if kept and (line.lstrip().startswith("cell") or line.startswith("    connect") or "parameter" in kept[0]):
        start = kept.end()
    return line[:start] + _NAME.sub(lambda name: new_name.get(name[0], name[0]), line[start:])
