"""A mapped netlist: cells of a library between nets, in an order in which every cell follows what drives it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from accel_sim.errors import AccelSimError
from accel_sim.synthesis.boolean import compile_function, evaluate
from accel_sim.synthesis.liberty import Cell, Library

ZERO, ONE, CLOCK, FIRST_NET = 0, 1, 2, 3
"""The constant nets and the clock; all others follow."""


@dataclass(frozen=True)
class Netlist:
    """Instances 0 … `combinational` − 1 are logic in topological order, the others flip-flops.

    The pins of an instance are those of its cell, inputs first: `nets[first_pin[i] : first_pin[i + 1]]`.
    """

    library: Library
    cells: tuple[Cell, ...]
    """The kinds of cells that occur."""
    kind: np.ndarray
    """int32 [instances]: which of `cells`."""
    first_pin: np.ndarray
    """int32 [instances + 1]."""
    nets: np.ndarray
    """int32 [pins]: the net of each pin."""
    net_count: int
    combinational: int
    inputs: dict[str, np.ndarray]
    """Port → int32 nets of its bits, the lowest first; the clock is not among them."""
    outputs: dict[str, np.ndarray]

    @property
    def flip_flops(self) -> int:
        """How many flip-flops there are."""
        return len(self.kind) - self.combinational

    @property
    def area_um2(self) -> float:
        """The sum of the cells' areas."""
        return float(np.array([cell.area_um2 for cell in self.cells])[self.kind].sum()) if len(self.kind) else 0.0

    @property
    def leakage_nw(self) -> float:
        """The sum of the cells' average leakage."""
        return float(np.array([cell.leakage_nw for cell in self.cells])[self.kind].sum()) if len(self.kind) else 0.0


def read_netlist(path: Path, library: Library, clock: str = "clk") -> Netlist:
    """The netlist that Yosys wrote as JSON, of one flat module.

    Raises AccelSimError for a cell that the library does not have, more than one clock, a flip-flop whose clear or
    preset is not tied off, an undriven net and a combinational loop.
    """
    modules = json.loads(path.read_text())["modules"]
    tops = [module for module in modules.values() if "top" in module.get("attributes", {})]
    module = tops[0] if tops else next(iter(modules.values()))
    return _Builder(module, library, clock).netlist()


class _Builder:
    """Numbers nets and orders instances."""

    def __init__(self, module: dict, library: Library, clock: str) -> None:
        self._module, self._library = module, library
        self._numbers: dict[int | str, int] = {"0": ZERO, "1": ONE, "x": ZERO}
        self._count = FIRST_NET
        ports = module["ports"]
        if clock in ports:
            self._numbers[ports[clock]["bits"][0]] = CLOCK
        self._inputs = self._ports("input", skip=clock)
        self._outputs = self._ports("output")

    def netlist(self) -> Netlist:
        kinds: dict[str, int] = {}
        cells: list[Cell] = []
        instances = []
        for name, about in self._module["cells"].items():
            cell = self._cell(name, about["type"])
            if cell.name not in kinds:
                kinds[cell.name] = len(cells)
                cells.append(cell)
            instances.append((kinds[cell.name], self._pins(name, cell, about["connections"])))
        for name, (kind, pins) in zip(self._module["cells"], instances, strict=True):
            if cells[kind].flip_flop:
                _check_flip_flop(name, cells[kind], pins)
        logic = [each for each in instances if not cells[each[0]].flip_flop]
        registers = [each for each in instances if cells[each[0]].flip_flop]
        known = {ZERO, ONE, CLOCK}.union(*(nets.tolist() for nets in self._inputs.values()))
        for kind, pins in registers:
            known.update(pins[len(cells[kind].inputs) :])
        ordered = _ordered(logic, cells, known)
        self._check_driven(known, cells, registers)
        return self._arrays(cells, ordered, registers)

    def _arrays(self, cells: list[Cell], ordered: list, registers: list) -> Netlist:
        everything = [*ordered, *registers]
        lengths = [len(pins) for _, pins in everything]
        return Netlist(
            library=self._library,
            cells=tuple(cells),
            kind=np.array([kind for kind, _ in everything], np.int32),
            first_pin=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32),
            nets=np.array([net for _, pins in everything for net in pins], np.int32),
            net_count=self._count,
            combinational=len(ordered),
            inputs=self._inputs,
            outputs=self._outputs,
        )

    def _ports(self, direction: str, skip: str = "") -> dict[str, np.ndarray]:
        return {
            name: np.array([self._net(bit) for bit in port["bits"]], np.int32)
            for name, port in self._module["ports"].items()
            if port["direction"] == direction and name != skip
        }

    def _net(self, bit: int | str) -> int:
        if bit not in self._numbers:
            if isinstance(bit, str):
                raise AccelSimError(f"netlist: a constant {bit!r} is driven; expected 0, 1 or x")
            self._numbers[bit] = self._count
            self._count += 1
        return self._numbers[bit]

    def _cell(self, instance: str, kind: str) -> Cell:
        cell = self._library.cells.get(kind.removeprefix("\\"))
        if cell is None or cell.refused:
            raise AccelSimError(f"netlist: {instance} is a {kind}, which is no usable cell of {self._library.name}")
        return cell

    def _pins(self, instance: str, cell: Cell, connections: dict[str, list]) -> list[int]:
        pins = []
        for pin in (*cell.inputs, *cell.outputs):
            bits = connections.get(pin, [])
            if bits:
                pins.append(self._net(bits[0]))
            elif pin in cell.inputs:
                raise AccelSimError(f"netlist: input {pin} of {instance} ({cell.name}) is not connected")
            else:
                pins.append(self._count)
                self._count += 1
        return pins

    def _check_driven(self, known: set[int], cells: list[Cell], registers: list) -> None:
        wanted = {net for nets in self._outputs.values() for net in nets.tolist()}
        wanted.update(net for kind, pins in registers for net in pins[: len(cells[kind].inputs)])
        if wanted - known:
            raise AccelSimError(f"netlist: {len(wanted - known)} nets that outputs or flip-flops read are not driven")


def _ordered(logic: list[tuple[int, list[int]]], cells: list[Cell], known: set[int]) -> list[tuple[int, list[int]]]:
    """The instances in topological order; `known` grows by what they drive."""
    waiting: dict[int, list[int]] = {}
    missing = []
    ready = []
    for at, (kind, pins) in enumerate(logic):
        lacking = [net for net in set(pins[: len(cells[kind].inputs)]) if net not in known]
        missing.append(len(lacking))
        for net in lacking:
            waiting.setdefault(net, []).append(at)
        if not lacking:
            ready.append(at)
    order = []
    for at in ready:  # which grows while it is walked
        kind, pins = logic[at]
        order.append(logic[at])
        for net in pins[len(cells[kind].inputs) :]:
            known.add(net)
            for user in waiting.pop(net, ()):
                missing[user] -= 1
                if not missing[user]:
                    ready.append(user)
    if len(order) != len(logic):
        raise AccelSimError(f"netlist: {len(logic) - len(order)} cells wait for each other or for an undriven net")
    return order


def _check_flip_flop(instance: str, cell: Cell, pins: Iterable[int]) -> None:
    nets = dict(zip((*cell.inputs, *cell.outputs), pins, strict=True))
    assert cell.flip_flop
    if nets[cell.flip_flop.clocked_on] != CLOCK:
        raise AccelSimError(f"netlist: {instance} ({cell.name}) is not clocked by the clock")
    for what in (cell.flip_flop.clear, cell.flip_flop.preset):
        if not what:
            continue
        values = [nets[pin] for pin in cell.inputs]
        used = [values[step] for step in compile_function(what, cell.inputs) if step >= 0]
        constant = all(net in (ZERO, ONE) for net in used)
        if not constant or evaluate(compile_function(what, cell.inputs), [int(net == ONE) for net in values]):
            raise AccelSimError(f"netlist: {instance} ({cell.name}): its {what} is not tied off")
