"""Components with a port called `metadata`."""

from __future__ import annotations

from amaranth.lib import wiring


class _Free:
    """A class attribute that is not there: an instance's own attribute of that name is found, and only that."""

    def __get__(self, instance: object, owner: type) -> None:
        raise AttributeError("metadata")


class MetadataPortComponent(wiring.Component):
    """A component whose signature may have a port `metadata`.

    Amaranth gives every component an attribute of that name, its description as JSON, and therefore refuses such ports.
    Nothing here uses that description, so the name is free for what this field means by it.
    """

    metadata = _Free()
