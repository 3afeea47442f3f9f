"""Which projections of which layers a rule of a policy or a recipe is about."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from accel_sim.errors import AccelSimError
from accel_sim.trace.layers import check_layers, select_layers
from accel_sim.workload.roles import named


class Strict(BaseModel):
    """Frozen, and with no keys but the documented ones."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, arbitrary_types_allowed=True)


def _layers(value: Any) -> frozenset[int]:
    text = ",".join(map(str, value)) if isinstance(value, list | tuple | frozenset | set) else str(value)
    check_layers(text, "layers")
    last = max(int(number) for number in text.replace("-", ",").split(","))
    return frozenset(select_layers(text, range(last + 1), "layers"))


def _list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Projections(Strict):
    """The projections that match both `layers` and `projections`."""

    layers: Annotated[frozenset[int], BeforeValidator(_layers)] | None = None
    """Decoder blocks, as 0-5,29 or a list of indices and ranges; null: all."""
    projections: Annotated[tuple[str, ...], BeforeValidator(_list), Field(min_length=1)] = ("*",)
    """Names with wildcards, each matching a projection's whole name or its end (`q_proj`, `experts*.down_proj`)."""

    def names(self, projection: str) -> bool:
        """Whether the module path of a projection matches, in whatever layer."""
        return any(fnmatchcase(projection, glob) or fnmatchcase(projection, f"*.{glob}") for glob in self.projections)

    def matches(self, projection: str, layer: int | None) -> bool:
        return (self.layers is None or layer in self.layers) and self.names(projection)

    def check(self, where: str, model: str, projections: list[tuple[str, int | None]], layers: int | None) -> None:
        """Raise AccelSimError, naming `where`, unless the rule can match something in `model`.

        `projections` are (module path, layer) of all that can be pruned, `layers` the number of decoder blocks, None
        where there is no model. Layers that the model has but a trace did not capture are no error.
        """
        if not any(self.names(name) for name, _ in projections):
            known = named(name for name, _ in projections)
            wanted = ", ".join(self.projections)
            raise AccelSimError(f"{where}: projections {wanted}: none in {model}; it has {known}")
        if self.layers is None:
            return
        beyond = [layer for layer in sorted(self.layers) if layers is not None and layer >= layers]
        if beyond:
            raise AccelSimError(f"{where}: layers: no layer {beyond[0]}; the model has layers 0-{layers - 1}")
        if layers is None and not any(self.matches(*each) for each in projections):
            raise AccelSimError(f"{where}: layers: {model} has no layers, it is products by hand")
