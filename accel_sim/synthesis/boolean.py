"""Boolean functions as Liberty spells them, turned into postfix programs that a compiled loop can run on words.

Liberty's spellings (Liberty User Guide, "function"): `!a` and `a'`, `a^b`, `a*b`, `a&b` and `a b`, `a+b` and `a|b`,
0, 1; NOT binds strongest, then XOR, AND, OR.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from accel_sim.errors import AccelSimError

NOT, AND, OR, XOR, ZERO, ONE = -1, -2, -3, -4, -5, -6
"""Operations of a program; what is 0 or more pushes the value of the pin with that number."""

DEEPEST_STACK = 32
"""A program that needs more room than this is refused, so that compiled loops can hold a stack of fixed size."""

_TOKEN = re.compile(r"\s*([A-Za-z_][\w\[\].]*|[01](?!\w)|[!'^*&+|()])")


def compile_function(text: str, pins: Sequence[str]) -> tuple[int, ...]:
    """The postfix program of `text` over `pins`, whose places in the sequence are the numbers that it pushes.

    Raises AccelSimError for what is no Boolean expression, and for a name that is not among the pins.
    """
    tokens = _tokens(text)
    program, rest = _or(tokens, 0, pins, text)
    if rest != len(tokens):
        raise AccelSimError(f"Boolean function {text!r}: {tokens[rest]!r} is not expected there")
    if _depth(program) > DEEPEST_STACK:
        raise AccelSimError(f"Boolean function {text!r}: needs more than {DEEPEST_STACK} intermediate values")
    return tuple(program)


def evaluate(program: Sequence[int], values: Sequence[int], ones: int = 1) -> int:
    """The value of a program; `values` are the pins' (0, 1, or words whose bits are all used when `ones` is)."""
    stack: list[int] = []
    for step in program:
        if step >= 0:
            stack.append(values[step])
        elif step == NOT:
            stack.append(stack.pop() ^ ones)
        elif step in (ZERO, ONE):
            stack.append(ones if step == ONE else 0)
        else:
            right, left = stack.pop(), stack.pop()
            stack.append(left & right if step == AND else left | right if step == OR else left ^ right)
    return stack.pop()


def truth_table(text: str, pins: Sequence[str]) -> int:
    """The function as one integer of 2^len(pins) bits: bit i is its value where pin p has bit p of i."""
    program = compile_function(text, pins)
    rows = 1 << len(pins)
    words = [sum(1 << row for row in range(rows) if row >> pin & 1) for pin in range(len(pins))]
    return evaluate(program, words, (1 << rows) - 1)


def _tokens(text: str) -> list[str]:
    tokens, at = [], 0
    while at < len(text.rstrip()):
        found = _TOKEN.match(text, at)
        if not found:
            raise AccelSimError(f"Boolean function {text!r}: {text[at:].strip()[:10]!r} is no operator and no pin")
        tokens.append(found[1])
        at = found.end()
    return tokens


def _binary(operators: str, step: int, below):  # one level of precedence: operand {operator operand}
    def parse(tokens: list[str], at: int, pins: Sequence[str], text: str) -> tuple[list[int], int]:
        program, at = below(tokens, at, pins, text)
        while at < len(tokens) and (tokens[at] in operators or (step == AND and _starts_operand(tokens[at]))):
            if tokens[at] in operators:
                at += 1
            right, at = below(tokens, at, pins, text)
            program = [*program, *right, step]
        return program, at

    return parse


def _starts_operand(token: str) -> bool:
    """Whether a token may follow another operand directly, which means AND."""
    return token in "!(" or token[0].isalnum() or token[0] == "_"


def _operand(tokens: list[str], at: int, pins: Sequence[str], text: str) -> tuple[list[int], int]:
    token = tokens[at] if at < len(tokens) else "its end"
    if token == "!":
        program, at = _operand(tokens, at + 1, pins, text)
        return [*program, NOT], at
    if token == "(":
        program, at = _or(tokens, at + 1, pins, text)
        if at >= len(tokens) or tokens[at] != ")":
            raise AccelSimError(f"Boolean function {text!r}: a closing bracket is missing")
        at += 1
    elif token in "01":
        program, at = [ONE if token == "1" else ZERO], at + 1
    elif token in pins:
        program, at = [pins.index(token)], at + 1
    else:
        raise AccelSimError(f"Boolean function {text!r}: {token!r} is none of the pins {', '.join(pins)}")
    while at < len(tokens) and tokens[at] == "'":
        program, at = [*program, NOT], at + 1
    return program, at


def _depth(program: Sequence[int]) -> int:
    depth = deepest = 0
    for step in program:
        depth += 1 if step >= 0 or step in (ZERO, ONE) else 0 if step == NOT else -1
        deepest = max(deepest, depth)
    return deepest


_xor = _binary("^", XOR, _operand)
_and = _binary("*&", AND, _xor)
_or = _binary("+|", OR, _and)
