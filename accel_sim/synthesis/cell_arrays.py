"""What compiled loops need to know of the cells in a netlist, as arrays: programs, arcs, tables."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from accel_sim.synthesis.boolean import NOT as NOT_STEP
from accel_sim.synthesis.boolean import ONE, compile_function
from accel_sim.synthesis.liberty import Cell, PowerArc, Table

NO_TABLE = -1
POSITIVE, NEGATIVE, EITHER = 1, -1, 0
_SENSES = {"positive_unate": POSITIVE, "negative_unate": NEGATIVE}


@dataclass(frozen=True)
class TablePool:
    """Every table of the cells, one after the other."""

    first: np.ndarray
    """int32 [tables, 3]: where transition axis, other axis and values begin in `numbers`."""
    shape: np.ndarray
    """int32 [tables, 2]."""
    numbers: np.ndarray
    """float64."""


@dataclass(frozen=True)
class CellArrays:
    """Flattened over the kinds of cells; `…_of[k] : …_of[k + 1]` are the rows of kind k."""

    inputs: np.ndarray
    """int32 [kinds]: input pins, which come first."""
    programs: np.ndarray
    """int8: all programs, one after the other."""
    function_of: np.ndarray
    functions: np.ndarray
    """int32 [outputs, 2]: first and last step of each output's program; of a flip-flop, over its state as pin 0."""
    data_pin: np.ndarray
    """int32 [kinds]: the pin that a flip-flop loads, else −1."""
    clock_pin: np.ndarray
    """int32 [kinds]: the pin that clocks it, else −1."""
    event_of: np.ndarray
    events: np.ndarray
    """int32 [events, 7]: pin, related pin or −1, first and last step of its condition, rise and fall table, 1 if it
    stands for all conditions that the events of the same pins before it do not name."""
    event_share: np.ndarray
    """float64 [events]: which share of the table's energy the event has; see `counted_twice`."""
    event_per_load: np.ndarray
    """float64 [events]: pJ per pF of load that the table has too much."""
    arc_of: np.ndarray
    arcs: np.ndarray
    """int32 [arcs, 7]: input pin, output pin, sense, tables of cell_rise, cell_fall, rise_ and fall_transition."""
    setup: np.ndarray
    """int32 [kinds, 2]: tables of a flip-flop's setup time, data rising and falling."""
    tables: TablePool


def counted_twice(cell: Cell, voltage_v: float) -> bool:
    """Whether the tables of a flip-flop's two outputs describe the same energy, load of the other output included.

    Some characterisations load Q and its complement alike, take the energy of the whole cell, subtract ½CV² of one
    output only, and write it to both. It shows in tables that grow by ½V² a pF of load, while proper internal energy
    hardly depends on the load. Such tables count half each, without the load's part.
    """
    if not cell.flip_flop or len(cell.outputs) != 2:
        return False
    tables = [
        table
        for pin in cell.outputs
        for arc in cell.pins[pin].power
        for table in (arc.rise, arc.fall)
        if table is not None and len(table.other) > 1
    ]
    slopes = [(table.values[0, -1] - table.values[0, 0]) / (table.other[-1] - table.other[0]) for table in tables]
    return bool(slopes) and float(np.median(slopes)) > 0.5 * (voltage_v**2 / 2)


class _Collector:
    """Gives out places in the pool of tables and in the list of programs."""

    def __init__(self) -> None:
        self._tables: dict[int, int] = {}
        self._kept: list[Table] = []
        self.steps: list[int] = []

    def table(self, table: Table | None) -> int:
        if table is None:
            return NO_TABLE
        if id(table) not in self._tables:
            self._tables[id(table)] = len(self._kept)
            self._kept.append(table)
        return self._tables[id(table)]

    def program(self, steps: Iterable[int]) -> tuple[int, int]:
        first = len(self.steps)
        self.steps.extend(steps)
        return first, len(self.steps)

    def pool(self) -> TablePool:
        first, shape, parts, at = [], [], [], 0
        for table in self._kept:
            place = []
            for part in (table.transition, table.other, table.values.ravel()):
                place.append(at)
                parts.append(part)
                at += len(part)
            first.append(place)
            shape.append(table.values.shape)
        return TablePool(
            np.array(first, np.int32).reshape(-1, 3),
            np.array(shape, np.int32).reshape(-1, 2),
            np.concatenate(parts) if parts else np.zeros(0),
        )


def cell_arrays(cells: Iterable[Cell], voltage_v: float) -> CellArrays:
    """The arrays of these kinds of cells. Raises AccelSimError for a function that is not over the cell's pins."""
    collect = _Collector()
    functions, events, shares, per_load, arcs, setup = [], [], [], [], [], []
    function_of, event_of, arc_of = [0], [0], [0]
    data_pin, clock_pin, inputs = [], [], []
    for cell in cells:
        pins = (*cell.inputs, *cell.outputs)
        inputs.append(len(cell.inputs))
        functions += [collect.program(_function(cell, pin)) for pin in cell.outputs]
        twice = counted_twice(cell, voltage_v)
        for row, is_output in _events(cell, pins, collect):
            events.append(row)
            shares.append(0.5 if twice and is_output else 1.0)
            per_load.append(voltage_v**2 / 2 if twice and is_output else 0.0)
        arcs += _arcs(cell, pins, collect)
        register = cell.flip_flop
        data_pin.append(pins.index(register.next_state) if register else -1)
        clock_pin.append(pins.index(register.clocked_on) if register else -1)
        setup.append(_setup(cell, collect))
        for marks, rows in ((function_of, functions), (event_of, events), (arc_of, arcs)):
            marks.append(len(rows))
    return CellArrays(
        inputs=np.array(inputs, np.int32),
        programs=np.array(collect.steps or [0], np.int8),
        function_of=np.array(function_of, np.int32),
        functions=np.array(functions, np.int32).reshape(-1, 2),
        data_pin=np.array(data_pin, np.int32),
        clock_pin=np.array(clock_pin, np.int32),
        event_of=np.array(event_of, np.int32),
        events=np.array(events, np.int32).reshape(-1, 7),
        event_share=np.array(shares, np.float64),
        event_per_load=np.array(per_load, np.float64),
        arc_of=np.array(arc_of, np.int32),
        arcs=np.array(arcs, np.int32).reshape(-1, 7),
        setup=np.array(setup, np.int32).reshape(-1, 2),
        tables=collect.pool(),
    )


def _function(cell: Cell, pin: str) -> tuple[int, ...]:
    if cell.flip_flop is None:
        return compile_function(cell.pins[pin].function, cell.inputs)
    over = (cell.flip_flop.state, cell.flip_flop.inverse)
    program: list[int] = []
    for step in compile_function(cell.pins[pin].function, over):
        program += [0, NOT_STEP] if step == 1 else [step]
    return tuple(program)


def _events(cell: Cell, pins: tuple[str, ...], collect: _Collector) -> list[tuple[list[int], bool]]:
    """The events of a cell, those of one pin and related pin side by side and the one without condition last."""
    rows = []
    for name in pins:
        is_output = name in cell.outputs
        by_related: dict[int, list[PowerArc]] = {}
        for arc in cell.pins[name].power:
            # The related pin of an input's energy names its clock; the energy is the input's own.
            related = pins.index(arc.related) if is_output and arc.related in pins else -1
            by_related.setdefault(related, []).append(arc)
        for related, group in by_related.items():
            named = [arc for arc in group if arc.when]
            # Of several descriptions without a condition the last one counts, as it does for other tools.
            for arc in [*named, *[arc for arc in group if not arc.when][-1:]]:
                condition = collect.program(compile_function(arc.when, pins) if arc.when else (ONE,))
                tables = (collect.table(arc.rise), collect.table(arc.fall))
                rows.append(([pins.index(name), related, *condition, *tables, int(not arc.when)], is_output))
    return rows


def _arcs(cell: Cell, pins: tuple[str, ...], collect: _Collector) -> list[list[int]]:
    """Delays from inputs to outputs, of a flip-flop from its clock."""
    kinds = ("rising_edge",) if cell.flip_flop else ("combinational", "combinational_rise", "combinational_fall")
    rows = []
    for name in cell.outputs:
        for arc in cell.pins[name].timing:
            if arc.kind not in kinds or arc.related not in pins:
                continue
            four = [
                collect.table(arc.tables.get(each))
                for each in ("cell_rise", "cell_fall", "rise_transition", "fall_transition")
            ]
            rows.append([pins.index(arc.related), pins.index(name), _SENSES.get(arc.sense, EITHER), *four])
    return rows


def _setup(cell: Cell, collect: _Collector) -> tuple[int, int]:
    if cell.flip_flop:
        for arc in cell.pins[cell.flip_flop.next_state].timing:
            if arc.kind == "setup_rising":
                return collect.table(arc.tables.get("rise_constraint")), collect.table(
                    arc.tables.get("fall_constraint")
                )
    return NO_TABLE, NO_TABLE
