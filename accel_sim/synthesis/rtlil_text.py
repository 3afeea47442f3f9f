"""Changes to RTLIL as text: equal modules made one, and the same netlist in another order under other names."""

from __future__ import annotations

import random
import re

_MODULE = re.compile(r"^(?:attribute [^\n]*\n)*module (\S+)\n(.*?)^end\n", re.MULTILINE | re.DOTALL)
_KEPT = re.compile(r"(?:.*\.)?(?:comparator|popcount)_[^.]*$")
_STATEMENT = re.compile(
    r"(?:^ *attribute [^\n]*\n)*(?:^ *(?:cell|process) [^\n]*\n.*?^  end\n|^ *\w+[^\n]*\n)", re.MULTILINE | re.DOTALL
)
_NAME = re.compile(r"[\\$][^\s]+")


def merge_equal_modules(text: str) -> str:
    """One module for all comparators, and all population counts, that are alike; their hierarchy is to be kept."""
    modules = {found[1]: found for found in _MODULE.finditer(text)}
    bodies: dict[str, str] = {}
    new_name: dict[str, str] = {}
    for name, found in modules.items():
        if _KEPT.match(name):
            body = re.sub(r"^ *attribute [^\n]*\n", "", found[2], flags=re.MULTILINE)
            new_name[name] = bodies.setdefault(body, name)
    if not new_name:
        return text

    def changed(found: re.Match[str]) -> str:
        if new_name.get(found[1], found[1]) != found[1]:
            return ""
        whole = re.sub(
            r"^(  cell )(\S+)", lambda cell: cell[1] + new_name.get(cell[2], cell[2]), found[0], flags=re.MULTILINE
        )
        return f"attribute \\keep_hierarchy 1\n{whole}" if found[1] in new_name else whole

    return _MODULE.sub(changed, text)


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
