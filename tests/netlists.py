"""Netlists written by hand, as Yosys would write them."""

from __future__ import annotations

import json
from pathlib import Path

from accel_sim.synthesis.liberty import Library
from accel_sim.synthesis.netlist import Netlist, read_netlist

Cells = dict[str, tuple[str, dict[str, int | str]]]


def netlist(folder: Path, library: Library, inputs: dict[str, int], outputs: dict[str, int], cells: Cells) -> Netlist:
    """Ports of one bit (name → net), cells (instance → kind and pin → net); the clock is net 2, where one is used."""
    ports = {name: {"direction": "input", "bits": [net]} for name, net in {"clk": 2, **inputs}.items()}
    ports |= {name: {"direction": "output", "bits": [net]} for name, net in outputs.items()}
    made = {
        name: {"type": kind, "connections": {pin: [net] for pin, net in pins.items()}}
        for name, (kind, pins) in cells.items()
    }
    path = folder / "netlist.json"
    path.write_text(json.dumps({"modules": {"top": {"ports": ports, "cells": made}}}))
    return read_netlist(path, library)
