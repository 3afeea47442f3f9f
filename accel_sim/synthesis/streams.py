"""Operand streams as the words that a netlist is simulated with: 64 independent streams, one in each bit."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from amaranth.lib import wiring

from accel_sim.rtl.ports import Port, ports_of
from accel_sim.synthesis.power import STREAMS


def to_words(component: wiring.Component, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Input port → uint64 [cycles, bits] of values [cycles, 64 streams, *elements]."""
    return {port.name: _pack(port, np.asarray(inputs[port.name])) for port in ports_of(component)[0]}


def from_words(component: wiring.Component, outputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Output port → values [cycles, 64 streams, *elements] of uint64 [cycles, bits]."""
    values = {}
    for port in ports_of(component)[1]:
        words = outputs[port.name]
        octets = np.ascontiguousarray(words[:, None, :]).view(np.uint8).reshape(*words.shape, 8)
        bits = np.unpackbits(octets, axis=2, bitorder="little").transpose(0, 2, 1)
        values[port.name] = port.from_bits(np.ascontiguousarray(bits).reshape(-1, port.bits))
        values[port.name] = values[port.name].reshape(len(words), STREAMS, *port.dims)
    return values


def _pack(port: Port, values: np.ndarray) -> np.ndarray:
    cycles = len(values)
    bits = port.to_bits(values.reshape(cycles * STREAMS, *port.dims)).reshape(cycles, STREAMS, port.bits)
    octets = np.packbits(bits, axis=1, bitorder="little").transpose(0, 2, 1)
    return np.ascontiguousarray(octets).view(np.uint64)[..., 0]
