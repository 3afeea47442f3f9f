"""What every part of the architecture description shares."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# Upper bounds lie far beyond any machine; they keep every product of them within the engines' 64-bit integers.
Count = Annotated[int, Field(ge=1, le=2**20)]
Bytes = Annotated[int, Field(ge=1, le=2**40)]


class Section(BaseModel):
    """Frozen, and strict about unknown keys; attribute docstrings are the documentation."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, arbitrary_types_allowed=True)
