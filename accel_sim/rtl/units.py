"""Every unit by its name in the cost tables, built from settings written as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from inspect import Parameter, signature

from amaranth.lib import wiring

from accel_sim.errors import AccelSimError
from accel_sim.pattern import parse_pattern
from accel_sim.rtl import arithmetic, epilogue, metadata, scores, selector, skipping
from accel_sim.rtl import processing_element as elements
from accel_sim.rtl.compaction import Compaction
from accel_sim.rtl.operand_select import OperandSelect
from accel_sim.rtl.requantiser import Requantiser
from accel_sim.rtl.shape import UnitShape
from accel_sim.rtl.top_n import TopN
from accel_sim.rtl.unit import Unit


@dataclass(frozen=True)
class Setting:
    """A constructor's argument as a user writes it. `default` is None where it must be given."""

    name: str
    kind: str
    default: str | None

    def read(self, text: str) -> object:
        """The argument. Raises AccelSimError for text of another kind."""
        if self.kind in _READERS:
            return _READERS[self.kind](self.name, text)
        return text  # one of a few words, which the constructor knows

    @property
    def usage(self) -> str:
        """`name=default`, or `name=…` where it must be given."""
        return f"{self.name}={'…' if self.default is None else self.default}"


def settings_of(unit: str) -> dict[str, Setting]:
    """What a unit can be built from. Raises AccelSimError for an unknown unit."""
    if unit not in _BUILDERS:
        raise AccelSimError(f"unit {unit!r}: expected one of {', '.join(UNITS)}")
    builder = _BUILDERS[unit]
    fixed = builder.keywords if isinstance(builder, partial) else {}
    takes = UnitShape if unit == "unit" else builder
    return {name: _setting(given) for name, given in signature(takes).parameters.items() if name not in fixed}


def build(unit: str, settings: Mapping[str, str]) -> wiring.Component:
    """The component of that name, such as build("processing_element", {"pattern": "8:16", "lanes": "16"}).

    Raises AccelSimError for an unknown unit or setting, a missing one, and values the unit cannot be built from.
    """
    known = settings_of(unit)
    usage = ", ".join(setting.usage for setting in known.values()) or "none"
    for name in settings:
        if name not in known:
            raise AccelSimError(f"{unit}: no setting {name!r}, expected some of: {usage}")
    missing = [name for name, setting in known.items() if setting.default is None and name not in settings]
    if missing:
        raise AccelSimError(f"{unit}: {missing[0]} is missing, expected: {usage}")
    return _BUILDERS[unit](**{name: known[name].read(text) for name, text in settings.items()})


def _whole_unit(**shape: object) -> Unit:
    return Unit(UnitShape(**shape))


_BUILDERS: dict[str, Callable[..., wiring.Component]] = {
    "unit": _whole_unit,
    "processing_element": elements.ProcessingElement,
    "shifting_processing_element": elements.ShiftingProcessingElement,
    "dot_product": elements.DotProduct,
    "sparse_dot_product": elements.SparseDotProduct,
    "multiplier": arithmetic.Multiplier,
    "adder": arithmetic.Adder,
    "multiply_accumulate": partial(arithmetic.MultiplyAccumulate, registered=False),
    "multiply_accumulate_registered": partial(arithmetic.MultiplyAccumulate, registered=True),
    "select_restricted": partial(OperandSelect, operand_mux="restricted"),
    "select_onehot": partial(OperandSelect, operand_mux="onehot"),
    "select_full": partial(OperandSelect, operand_mux="full"),
    "metadata_decoder": metadata.MetadataDecoder,
    "metadata_encoder": metadata.MetadataEncoder,
    "decode_bitmap_onehot": metadata.BitmapToOneHot,
    "decode_bitmap_offset": metadata.BitmapToOffset,
    "decode_bitmap_index": metadata.BitmapToIndex,
    "decode_index_onehot": metadata.IndexToOneHot,
    "decode_index_offset": metadata.IndexToOffset,
    "decode_enumerative": metadata.EnumerativeToBitmap,
    "encode_enumerative": metadata.BitmapToEnumerative,
    "magnitude": scores.Magnitudes,
    "factored_magnitude": scores.FactoredMagnitudes,
    "top_n_rank": partial(TopN, kind="rank"),
    "top_n_sort": partial(TopN, kind="sort"),
    "top_n_cascade": partial(TopN, kind="cascade"),
    "top_n_radix": partial(TopN, kind="radix"),
    "compaction": Compaction,
    "selector_rank": partial(selector.Selector, kind="rank"),
    "selector_sort": partial(selector.Selector, kind="sort"),
    "selector_cascade": partial(selector.Selector, kind="cascade"),
    "selector_radix": partial(selector.Selector, kind="radix"),
    "flexible_selector": selector.FlexibleSelector,
    "hierarchical_selector": skipping.HierarchicalSelector,
    "elastic_front_end": skipping.ElasticFrontEnd,
    "requantiser": Requantiser,
    "token_shift": epilogue.TokenShift,
    "rank1_epilogue": epilogue.RankOneEpilogue,
    "token_scale": epilogue.TokenScale,
}
UNITS: tuple[str, ...] = tuple(_BUILDERS)
"""Names that `build` accepts; `unit` is a whole one."""


def _setting(given: Parameter) -> Setting:
    required = given.default is Parameter.empty
    default = None if required else "none" if given.default == () else str(given.default).lower()
    return Setting(given.name, str(given.annotation).removesuffix(" | None"), default)


def _read_int(name: str, text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise AccelSimError(f"{name}: got {text!r}, expected a whole number") from None


def _read_bool(name: str, text: str) -> bool:
    if text not in ("true", "false"):
        raise AccelSimError(f"{name}: got {text!r}, expected true or false")
    return text == "true"


_READERS: dict[str, Callable[[str, str], object]] = {
    "int": _read_int,
    "bool": _read_bool,
    "Pattern": lambda name, text: parse_pattern(text),
    "HierarchicalPattern": lambda name, text: parse_pattern(text),
    "Sequence[Pattern]": lambda name, text: [parse_pattern(each) for each in text.split(",")],
    "tuple[Pattern, ...]": lambda name, text: tuple(parse_pattern(each) for each in text.split(",")),
}
