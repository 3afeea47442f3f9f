"""Combinational units as gates: evaluated for thousands of inputs at once, or given to a solver.

Exhaustive tests would take a simulator minutes. Here Yosys turns a unit into gates of one or two inputs, and a net is a
Python integer with a bit for every input of the test, so that a gate takes one operation for all of them.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from amaranth.back import rtlil
from amaranth.lib import wiring

from accel_sim.rtl.verilog import yosys_command

_GATES: dict[str, Callable[..., int]] = {
    "$_NOT_": lambda every, A: A ^ every,
    "$_BUF_": lambda every, A: A,
    "$_AND_": lambda every, A, B: A & B,
    "$_NAND_": lambda every, A, B: A & B ^ every,
    "$_OR_": lambda every, A, B: A | B,
    "$_NOR_": lambda every, A, B: (A | B) ^ every,
    "$_XOR_": lambda every, A, B: A ^ B,
    "$_XNOR_": lambda every, A, B: A ^ B ^ every,
    "$_ANDNOT_": lambda every, A, B: A & (B ^ every),
    "$_ORNOT_": lambda every, A, B: A | (B ^ every),
    "$_MUX_": lambda every, A, B, S: A & (S ^ every) | B & S,
}


def evaluate(unit: wiring.Component, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Output ports [cases] of a combinational unit for input ports [cases]: each port one unsigned number."""
    module = _gates(unit)
    cases = len(next(iter(inputs.values())))
    every = (1 << cases) - 1
    nets: dict[int | str, int] = {"0": 0, "1": every, "x": 0}
    for name, values in inputs.items():
        for place, net in enumerate(module["ports"][name]["bits"]):
            ones = [int(value) >> place & 1 for value in values]
            nets[net] = int("".join(map(str, reversed(ones))), 2)
    drivers = {cell["connections"]["Y"][0]: cell for cell in module["cells"].values() if cell["type"] in _GATES}
    outputs = {name: port["bits"] for name, port in module["ports"].items() if port["direction"] == "output"}
    for bits in outputs.values():
        _settle(bits, drivers, nets, every)
    return {name: _numbers([nets[net] for net in bits], cases) for name, bits in outputs.items()}


def _settle(wanted: list[int | str], drivers: dict[int, dict], nets: dict[int | str, int], every: int) -> None:
    """Give `nets` the values of the wanted ones and of all they depend on."""
    waiting = list(wanted)
    while waiting:
        net = waiting[-1]
        pins = {} if net in nets else {pin: bits[0] for pin, bits in drivers[net]["connections"].items() if pin != "Y"}
        if missing := [source for source in pins.values() if source not in nets]:
            waiting += missing
            continue
        waiting.pop()
        if net not in nets:
            gate = _GATES[drivers[net]["type"]]
            nets[net] = gate(every, **{pin: nets[source] for pin, source in pins.items()})


def _numbers(bits: list[int], cases: int) -> np.ndarray:
    octets = [np.frombuffer(bit.to_bytes(-(-cases // 8), "little"), dtype=np.uint8) for bit in bits]
    columns = [np.unpackbits(octet, count=cases, bitorder="little").astype(object) for octet in octets]
    return sum((column << place for place, column in enumerate(columns)), np.zeros(cases, dtype=object))


def _gates(unit: wiring.Component) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "unit.il").write_text(rtlil.convert(unit, name="unit"))
        to_gates = ["hierarchy -top unit", "proc", "flatten", "opt_expr", "alumacc", "techmap", "opt"]
        done = _yosys(folder, ["read_rtlil unit.il", *to_gates, "write_json unit.json"])
        assert done.returncode == 0, done.stderr
        return json.loads((Path(folder) / "unit.json").read_text())["modules"]["unit"]


def proven_equal(one: wiring.Component, other: wiring.Component) -> bool:
    """Whether a solver proves two combinational units with the same ports to be equal for every input."""
    script = []
    with tempfile.TemporaryDirectory() as folder:
        for name, unit in (("one", one), ("other", other)):
            (Path(folder) / f"{name}.il").write_text(rtlil.convert(unit, name=name))
            script += [f"read_rtlil {name}.il", f"hierarchy -top {name}", "proc", "flatten", "opt"]
            script += ["setattr -mod -unset top", f"design -stash {name}"]
        script += ["design -copy-from one one", "design -copy-from other other"]
        script += ["miter -equiv -flatten one other miter", "hierarchy -top miter", "opt -full"]
        done = _yosys(folder, [*script, "sat -verify -prove trigger 0 miter"])
    failed = "proof did fail" in done.stdout + done.stderr
    assert failed or done.returncode == 0, done.stderr
    return not failed


def _yosys(folder: str, script: list[str]) -> subprocess.CompletedProcess:
    (Path(folder) / "script.ys").write_text("\n".join(script) + "\n")
    return subprocess.run([*yosys_command(), "script.ys"], cwd=folder, capture_output=True, text=True, check=False)
