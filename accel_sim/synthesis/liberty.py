"""A cell library, read from its Liberty file into ns, pF, pJ, nW and µm².

Read is what synthesis, timing and power need: cells with area and leakage, pins with capacitance and function,
flip-flops, tables of delay, transition, constraint and internal power (the non-linear delay model), each table's axes
in one order whatever its template says. Units are those that the library declares. Energies have no unit of their own
in Liberty: they are capacitance unit × voltage unit² (Liberty User Guide, "internal_power").
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np

from accel_sim.errors import AccelSimError
from accel_sim.synthesis.boolean import truth_table
from accel_sim.synthesis.liberty_syntax import Group, number, parse_groups, without_comments

_TRANSITION = ("input_net_transition", "input_transition_time", "constrained_pin_transition")
_OTHER_AXIS = ("total_output_net_capacitance", "related_pin_transition")
_PREFIX = {"": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9, "p": 1e-12, "f": 1e-15, "a": 1e-18}


@dataclass(frozen=True)
class Table:
    """values[i, j] at `transition[i]` (ns, of the input or of the constrained pin) and `other[j]`.

    The other axis is the load in pF of a delay or an energy, the related pin's transition in ns of a constraint. An
    axis that a table lacks has length 1.
    """

    transition: np.ndarray
    other: np.ndarray
    values: np.ndarray

    def at(self, transition: float, other: float) -> float:
        """Bilinear inside the table and beyond its edges."""
        row, down = _place(self.transition, transition)
        column, across = _place(self.other, other)
        block = self.values[row : row + 2, column : column + 2]
        line = block[0] if block.shape[0] == 1 else block[0] + (block[1] - block[0]) * down
        return float(line[0] if line.shape[0] == 1 else line[0] + (line[1] - line[0]) * across)


@dataclass(frozen=True)
class TimingArc:
    """From `related` to the pin that holds it. `kind` is Liberty's timing_type, `sense` its timing_sense."""

    related: str
    kind: str
    sense: str
    tables: dict[str, Table]
    """cell_rise, cell_fall, rise_transition, fall_transition, rise_constraint, fall_constraint (ns)."""


@dataclass(frozen=True)
class PowerArc:
    """Energy in pJ of a transition of the pin that holds it, caused by `related` (empty: by itself) while `when`."""

    related: str
    when: str
    rise: Table | None
    fall: Table | None


@dataclass(frozen=True)
class Pin:
    """A pin of a cell."""

    name: str
    direction: str
    capacitance_pf: float
    function: str
    three_state: bool
    clock: bool
    timing: tuple[TimingArc, ...]
    power: tuple[PowerArc, ...]


@dataclass(frozen=True)
class FlipFlop:
    """An edge-triggered register: its state's two names, and functions of the cell's pins."""

    state: str
    inverse: str
    next_state: str
    clocked_on: str
    clear: str
    preset: str


@dataclass(frozen=True)
class Cell:
    """A cell. What is neither `combinational` nor a usable flip-flop is never handed to the mapper."""

    name: str
    area_um2: float
    leakage_nw: float
    pins: dict[str, Pin]
    flip_flop: FlipFlop | None
    refused: str
    """Why the cell is not used, or empty."""
    span: tuple[int, int] = (0, 0)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the input pins, in the library's order."""
        return tuple(pin.name for pin in self.pins.values() if pin.direction == "input")

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the output pins."""
        return tuple(pin.name for pin in self.pins.values() if pin.direction == "output")


@dataclass(frozen=True)
class Library:
    """A cell library. Compared and hashed by identity."""

    name: str
    path: Path
    sha256: str
    voltage_v: float
    temperature_c: float
    cells: dict[str, Cell] = field(repr=False)
    text: str = field(repr=False)

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    @property
    def usable(self) -> dict[str, Cell]:
        """The cells that the mapper may choose from."""
        return {name: cell for name, cell in self.cells.items() if not cell.refused}

    @property
    def nand2(self) -> Cell:
        """The smallest two-input NAND, the unit of areas. Raises AccelSimError when the library has none."""
        return self._smallest("NAND2", 2, 0b0111)

    @property
    def inverter(self) -> Cell:
        """The smallest inverter. Raises AccelSimError when the library has none."""
        return self._smallest("inverter", 1, 0b01)

    def mapping_text(self) -> str:
        """The Liberty text without the cells that are not to be used: what the mapper reads."""
        kept, at = [], 0
        for cell in sorted(self.cells.values(), key=lambda each: each.span):
            if cell.refused:
                kept.append(self.text[at : cell.span[0]])
                at = cell.span[1]
        return "".join(kept) + self.text[at:]

    def _smallest(self, what: str, inputs: int, table: int) -> Cell:
        found = [
            cell
            for cell in self.usable.values()
            if cell.flip_flop is None and len(cell.inputs) == inputs and len(cell.outputs) == 1
            and truth_table(cell.pins[cell.outputs[0]].function, cell.inputs) == table
        ]  # fmt: skip
        if not found:
            raise AccelSimError(f"{self.path}: no {what} among the cells; synthesis needs one")
        return min(found, key=lambda cell: cell.area_um2)


@cache
def read_liberty(path: Path) -> Library:
    """Read a Liberty file.

    Raises AccelSimError for a file that is missing, no Liberty, without cells or flip-flops, or without declared units.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise AccelSimError(f"{path}: cannot be read: {error.strerror}") from None
    text = content.decode("utf-8", errors="replace")
    try:
        top = parse_groups(without_comments(text))
        library = _library(top, path, hashlib.sha256(content).hexdigest(), text)
    except AccelSimError as error:
        raise AccelSimError(f"{path}: {error}") from None
    if not any(cell.flip_flop for cell in library.usable.values()):
        raise AccelSimError(f"{path}: no usable flip-flop (ff group, rising edge, data straight from a pin)")
    return library


def _library(top: Group, path: Path, sha256: str, text: str) -> Library:
    units = _Units(top)
    templates = {
        group.arguments[0]: group
        for group in top.groups
        if group.kind.endswith("lut_template") or group.kind == "lu_table_template"
    }
    cells = [_cell(group, units, templates) for group in top.of_kind("cell")]
    if not cells:
        raise AccelSimError("no cells")
    conditions = {group.arguments[0]: group for group in top.of_kind("operating_conditions")}
    chosen = conditions.get(top.text("default_operating_conditions"))
    return Library(
        name=top.arguments[0] if top.arguments else path.stem,
        path=path,
        sha256=sha256,
        voltage_v=chosen.number("voltage", units.voltage) if chosen else units.voltage,
        temperature_c=chosen.number("temperature", units.temperature) if chosen else units.temperature,
        cells={cell.name: cell for cell in cells},
        text=text,
    )


class _Units:
    """Factors from the library's units to ns, pF, pJ, nW."""

    def __init__(self, top: Group) -> None:
        self.time = _unit(top, "time_unit", "s") * 1e9
        load = top.attributes.get("capacitive_load_unit")
        if not load or len(load) != 2:
            raise AccelSimError("capacitive_load_unit (number, ff or pf) is missing")
        self.capacitance = number(load[0], "capacitive_load_unit") * _scale(load[1], "f", "capacitive_load_unit") * 1e12
        volts = _unit(top, "voltage_unit", "v")
        self.energy = self.capacitance * volts**2
        self.voltage = top.number("nom_voltage") * volts
        self.temperature = top.number("nom_temperature", 25.0)
        self.leakage = _unit(top, "leakage_power_unit", "w") * 1e9 if "leakage_power_unit" in top.attributes else None
        self.input_capacitance = top.number("default_input_pin_cap")
        self.cell_leakage = top.number("default_cell_leakage_power")
        if self.voltage <= 0:
            raise AccelSimError("nom_voltage is missing")


def _unit(top: Group, name: str, unit: str) -> float:
    text = top.text(name)
    found = re.fullmatch(r"\s*([\d.]+(?:[eE][+-]?\d+)?)\s*([A-Za-z]+)\s*", text)
    if not found:
        raise AccelSimError(f"{name} is {text!r}, expected a number and a unit, such as 1n{unit}")
    return float(found[1]) * _scale(found[2], unit, name)


def _scale(text: str, unit: str, name: str) -> float:
    prefix = text.lower().removesuffix(unit)
    if not text.lower().endswith(unit) or prefix not in _PREFIX:
        raise AccelSimError(f"{name} is in {text!r}, expected a multiple of {unit}")
    return _PREFIX[prefix]


def _cell(group: Group, units: _Units, templates: dict[str, Group]) -> Cell:
    pins = {}
    for pin in group.of_kind("pin"):
        for name in pin.arguments:
            pins[name] = _pin(pin, name, units, templates)
    registers = list(group.of_kind("ff"))
    flip_flop = _flip_flop(registers[0]) if len(registers) == 1 else None
    return Cell(
        name=group.arguments[0],
        area_um2=group.number("area"),
        leakage_nw=_leakage(group, units),
        pins=pins,
        flip_flop=flip_flop,
        refused=_refusal(group, pins, flip_flop),
        span=(group.start, group.end),
    )


def _leakage(group: Group, units: _Units) -> float:
    """The cell's average, or the mean over its states where only those are given."""
    states = [state.number("value") for state in group.of_kind("leakage_power")]
    given = "cell_leakage_power" in group.attributes
    value = group.number("cell_leakage_power") if given else float(np.mean(states)) if states else units.cell_leakage
    if value and units.leakage is None:
        raise AccelSimError("leakage_power_unit is missing")
    return value * (units.leakage or 0.0)


def _refusal(group: Group, pins: dict[str, Pin], flip_flop: FlipFlop | None) -> str:
    outputs = [pin for pin in pins.values() if pin.direction == "output"]
    if group.text("dont_use") == "true":
        return "dont_use"
    if (
        any(group.of_kind("latch"))
        or any(group.of_kind("statetable"))
        or "clock_gating_integrated_cell" in group.attributes
    ):
        return "a latch or a clock gate"
    if any(pin.three_state or pin.direction not in ("input", "output") for pin in pins.values()):
        return "three-state or bidirectional"
    if not outputs or not all(pin.function for pin in outputs):
        return "no function"
    if any(group.of_kind("ff_bank")) or len(list(group.of_kind("ff"))) > 1:
        return "several registers in one cell"
    if flip_flop and (flip_flop.next_state not in pins or flip_flop.clocked_on not in pins):
        return "a flip-flop with logic before it (scan, enable) or clocked by the falling edge"
    return ""


def _flip_flop(group: Group) -> FlipFlop:
    state, inverse = (*group.arguments, "", "")[:2]
    clean = {name: group.text(name).replace("(", "").replace(")", "").strip() for name in ("next_state", "clocked_on")}
    return FlipFlop(state, inverse, clean["next_state"], clean["clocked_on"], group.text("clear"), group.text("preset"))


def _pin(group: Group, name: str, units: _Units, templates: dict[str, Group]) -> Pin:
    direction = group.text("direction")
    default = units.input_capacitance if direction == "input" else 0.0
    return Pin(
        name=name,
        direction=direction,
        capacitance_pf=group.number("capacitance", default) * units.capacitance,
        function=group.text("function"),
        three_state="three_state" in group.attributes,
        clock=group.text("clock") == "true",
        timing=tuple(arc for part in group.of_kind("timing") for arc in _timing(part, units, templates)),
        power=tuple(arc for part in group.of_kind("internal_power") for arc in _power(part, units, templates)),
    )


def _timing(group: Group, units: _Units, templates: dict[str, Group]) -> list[TimingArc]:
    kind = group.text("timing_type", "combinational")
    tables = {table.kind: _table(table, templates, units, units.time, kind) for table in group.groups}
    sense = group.text("timing_sense", "non_unate")
    return [TimingArc(related, kind, sense, tables) for related in group.text("related_pin").split()]


def _power(group: Group, units: _Units, templates: dict[str, Group]) -> list[PowerArc]:
    tables = {table.kind: _table(table, templates, units, units.energy, "internal_power") for table in group.groups}
    both = tables.get("power")
    rise, fall = tables.get("rise_power", both), tables.get("fall_power", both)
    return [PowerArc(related, group.text("when"), rise, fall) for related in group.text("related_pin").split() or [""]]


def _table(group: Group, templates: dict[str, Group], units: _Units, factor: float, where: str) -> Table:
    """Axes in the order of Table, whatever the order of the template's variables."""
    template = templates.get(group.arguments[0] if group.arguments else "")
    values = np.array(group.numbers("values")) * factor
    axes: dict[str, np.ndarray] = {}
    lengths, order = [], []
    for place in (1, 2):
        variable = template.text(f"variable_{place}") if template else ""
        if not variable:
            continue
        numbers = group.numbers(f"index_{place}") or template.numbers(f"index_{place}")
        axis = "transition" if variable in _TRANSITION else "other" if variable in _OTHER_AXIS else ""
        if not axis or axis in axes:
            raise AccelSimError(f"{where}: a table over {variable} is not understood")
        scale = units.capacitance if variable == "total_output_net_capacitance" else units.time
        axes[axis] = np.array(numbers) * scale
        lengths.append(len(numbers))
        order.append(axis)
    if values.size != int(np.prod(lengths)) or not values.size:
        raise AccelSimError(
            f"{where}: a table of {values.size} values has axes of {' × '.join(map(str, lengths)) or 1}"
        )
    shaped = values.reshape(lengths or [1])
    if order == ["other", "transition"]:
        shaped = shaped.T
    none = np.zeros(1)
    transition, other = axes.get("transition", none), axes.get("other", none)
    return Table(transition, other, np.ascontiguousarray(shaped.reshape(len(transition), len(other))))


def _place(axis: np.ndarray, value: float) -> tuple[int, float]:
    """The interval for a value and how far along it the value lies (below 0 and above 1 beyond the axis)."""
    if len(axis) == 1:
        return 0, 0.0
    at = int(np.clip(np.searchsorted(axis, value, side="right") - 1, 0, len(axis) - 2))
    return at, float((value - axis[at]) / (axis[at + 1] - axis[at]))
