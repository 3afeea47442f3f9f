"""Sites that differ in nothing but the numbers in their names: the same projection of every decoder block."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from accel_sim.trace.format import Site
from accel_sim.trace.layers import ranges

_NUMBER = re.compile(r"\d+")


def sites_by_kind(sites: Iterable[Site]) -> dict[str, tuple[Site, ...]]:
    """Sites of one kind and one number of features by their common name, in the order of their first."""
    kinds: dict[tuple[str, int], list[Site]] = {}
    for site in sites:
        kinds.setdefault((_NUMBER.sub("*", site.name), site.features), []).append(site)
    return {common_name([site.name for site in members]): tuple(members) for members in kinds.values()}


def common_name(names: Sequence[str]) -> str:
    """Names that differ in their numbers alone as one: `layers.0.up`, `layers.1.up` → `layers.{0-1}.up`."""
    columns = zip(*(map(int, _NUMBER.findall(name)) for name in names), strict=True)
    texts = iter([ranges(column) for column in columns])

    def number(_: re.Match) -> str:
        text = next(texts)
        return text if text.isdigit() else f"{{{text}}}"

    return _NUMBER.sub(number, names[0])
