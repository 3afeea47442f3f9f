"""Text to feed the model: files, or prose and code that are on every machine with CPython."""

from __future__ import annotations

import hashlib
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from accel_sim.errors import AccelSimError
from accel_sim.trace.format import TextCut

_CODE_FILES = (
    "argparse",
    "dataclasses",
    "difflib",
    "heapq",
    "inspect",
    "json/decoder",
    "pathlib",
    "statistics",
    "typing",
)


@dataclass(frozen=True)
class Text:
    """A source of text."""

    name: str
    content: str


@dataclass(frozen=True)
class Prompt:
    """One sequence: token ids int64 [T], and the text they are."""

    token_ids: np.ndarray
    cut: TextCut


def standard_texts() -> tuple[Text, Text]:
    """Prose (the language reference that `help()` shows) and code (modules of the standard library)."""
    from pydoc_data.topics import topics

    library = Path(sysconfig.get_path("stdlib"))
    try:
        code = "\n".join((library / f"{name}.py").read_text(encoding="utf-8") for name in _CODE_FILES)
    except OSError as error:
        raise AccelSimError(f"{error.filename}: no standard-library source here; name texts with --text") from None
    prose = "\n".join(topics[name].strip() + "\n" for name in sorted(topics))
    return Text("pydoc_data.topics", prose), Text("standard library sources", code)


def read_texts(paths: Sequence[Path]) -> tuple[Text, ...]:
    """Text files in UTF-8. Raises AccelSimError for one that cannot be read."""
    texts = []
    for path in paths:
        try:
            texts.append(Text(path.name, path.read_text(encoding="utf-8")))
        except UnicodeDecodeError as error:
            raise AccelSimError(f"--text {path}: not UTF-8 text: {error.reason} at byte {error.start}") from None
        except OSError as error:
            raise AccelSimError(f"--text {path}: cannot be read: {error.strerror}") from None
    return tuple(texts)


def cut_prompts(tokenizer: Any, texts: Sequence[Text], sequences: int, tokens: int) -> tuple[Prompt, ...]:
    """`sequences` prompts of exactly `tokens` tokens: the texts in turn, each going on where its last cut ended.

    Special tokens the tokenizer puts in front count as tokens. Raises AccelSimError when a text is too short.
    """
    starts = [0] * len(texts)
    prompts = []
    for sequence in range(sequences):
        which = sequence % len(texts)
        prompt = _cut(tokenizer, texts[which], starts[which], tokens)
        starts[which] += prompt.cut.characters
        prompts.append(prompt)
    return tuple(prompts)


def _cut(tokenizer: Any, text: Text, start: int, tokens: int) -> Prompt:
    window = 8 * tokens + 64
    while True:
        encoded = tokenizer(text.content[start : start + window], return_offsets_mapping=tokenizer.is_fast)
        ids = encoded["input_ids"]
        # One token more than asked for, so that the window's edge cuts no token of the prompt.
        if len(ids) > tokens or start + window >= len(text.content):
            break
        window *= 2
    if len(ids) < tokens:
        raise AccelSimError(f"text {text.name}: {len(ids)} tokens from character {start} on, {tokens} are needed")
    ids = ids[:tokens]
    if tokenizer.is_fast:
        characters = max(end for _, end in encoded["offset_mapping"][:tokens])
    else:
        characters = len(tokenizer.decode(ids, skip_special_tokens=True))
    content = text.content[start : start + characters]
    cut = TextCut(
        source=text.name,
        start=start,
        characters=characters,
        sha256=hashlib.sha256(content.encode()).hexdigest(),
        tokens=tokens,
    )
    return Prompt(np.array(ids, np.int64), cut)
