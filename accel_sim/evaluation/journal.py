"""What a long measurement has found so far, so that an interrupted one goes on where it stopped."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accel_sim.errors import AccelSimError
from accel_sim.files import replacing


class Journal:
    """Findings by key in a file of one JSON object a line, under a line that says what they are findings of."""

    def __init__(self, path: Path, identity: Mapping[str, Any]) -> None:
        """`identity` is everything that the findings depend on. Raises AccelSimError where the file holds findings of
        something else, or is none of these."""
        self.path = path
        self._digest = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()
        self._found: dict[str, Any] = {}
        if path.exists():
            self._read(identity)
        else:
            self._begin(identity)

    def get(self, key: str) -> Any:
        """What was found for `key`; None for nothing yet."""
        return self._found.get(key)

    def add(self, key: str, value: Any) -> None:
        """Keep a finding, on disk before this returns."""
        self._found[key] = value
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps([key, value]) + "\n")

    def _begin(self, identity: Mapping[str, Any]) -> None:
        with replacing(self.path) as stream:
            stream.write(json.dumps({"of": self._digest, "what": identity}) + "\n")

    def _read(self, identity: Mapping[str, Any]) -> None:
        try:
            head, *lines = self.path.read_text(encoding="utf-8").splitlines()
            of = json.loads(head)["of"]
        except (ValueError, KeyError, TypeError, OSError):
            raise AccelSimError(f"{self.path}: not a journal of findings; name another folder with --out") from None
        if of != self._digest and not lines:  # begun for something else, and nothing was found
            self._begin(identity)
            return
        if of != self._digest:
            raise AccelSimError(
                f"{self.path}: holds findings of another model, text, recipe or setting; "
                "name another folder with --out, or remove it"
            )
        whole = []
        for line in lines:
            try:
                key, value = json.loads(line)
            except ValueError:  # a run that was killed while it wrote: this finding is made again
                break
            self._found[key] = value
            whole.append(line)
        if len(whole) < len(lines):
            with replacing(self.path) as stream:
                stream.write("\n".join([head, *whole]) + "\n")
