"""A component's ports as NumPy arrays, and as the one wide word a cycle that simulators are fed with.

All input ports side by side make the stimulus word, all output ports the response word: in the order of the signature,
the first one in the least significant bits. Words travel as bytes, least significant first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

import numpy as np
from amaranth.hdl import Shape, Value
from amaranth.lib import data, wiring
from numpy.typing import ArrayLike, NDArray

from accel_sim.errors import AccelSimError

_LARGEST_NATIVE_BITS = 63
"""Elements up to this width are int64 arrays; wider ones are arrays of Python integers."""
_CYCLES_AT_ONCE = 1 << 15


@dataclass(frozen=True)
class Port:
    """One port: its name in Verilog, its Amaranth value, and the elements it consists of.

    `dims` is empty for a scalar and (elements,) for a vector; a port of another layout is one unsigned number.
    """

    name: str
    value: Value
    dims: tuple[int, ...]
    element_bits: int
    signed: bool
    initial: int

    @property
    def bits(self) -> int:
        return prod(self.dims) * self.element_bits

    def to_bits(self, values: NDArray) -> NDArray[np.uint8]:
        """Bits uint8 [cycles, bits] of values [cycles, *dims], least significant first."""
        return _to_bits(values.reshape(len(values), -1), self.element_bits)

    def from_bits(self, bits: NDArray[np.uint8]) -> NDArray:
        """Values [cycles, *dims] of bits [cycles, bits]."""
        elements = bits.reshape(len(bits), prod(self.dims), self.element_bits)
        return _from_bits(elements, self.signed).reshape(len(bits), *self.dims)

    def check(self, given: ArrayLike) -> NDArray:
        """Values as a whole-number array [cycles, *dims] or, for a scalar that never changes, as a number.

        Raises AccelSimError for another shape or dtype, and for a value that the port cannot hold.
        """
        values = np.asarray(given)
        if values.dtype.kind not in "iubO":
            raise AccelSimError(f"input {self.name}: got {values.dtype}, expected whole numbers")
        fits = values.shape[1:] == self.dims if values.ndim else not self.dims
        if not fits:
            expected = ", ".join(map(str, ("cycles", *self.dims)))
            raise AccelSimError(f"input {self.name}: got {list(values.shape)}, expected [{expected}]")
        highest = (1 << self.element_bits - self.signed) - 1
        lowest = -highest - 1 if self.signed else 0
        if values.size and not lowest <= int(values.min()) <= int(values.max()) <= highest:
            where = tuple(np.argwhere((values < lowest) | (values > highest))[0])
            at = f" at cycle {where[0]}" if where else ""
            raise AccelSimError(f"input {self.name}{at}: {values[where]} is not in {lowest} … {highest}")
        return values


def ports_of(component: wiring.Component) -> tuple[list[Port], list[Port]]:
    """Input and output ports in the order of the signature; ports without bits, which no netlist has, are left out."""
    inputs, outputs = [], []
    for path, member, value in component.signature.flatten(component):
        port = _port("__".join(map(str, path)), member, Value.cast(value))
        if port.bits:
            (inputs if member.flow == wiring.In else outputs).append(port)
    return inputs, outputs


def stimuli(ports: list[Port], inputs: Mapping[str, ArrayLike], cycles: int | None) -> NDArray[np.uint8]:
    """Stimulus words uint8 [cycles, bytes] of the values of each input port.

    A port that is not named holds its initial value, a number holds in every cycle, and an array that is shorter than
    `cycles` holds its last row. Raises AccelSimError for unknown ports, values that do not fit, and arrays that
    disagree on the number of cycles.
    """
    known = {port.name: port for port in ports}
    if unknown := sorted(set(inputs) - set(known)):
        raise AccelSimError(f"input {unknown[0]}: no such input port, expected some of {', '.join(known)}")
    checked = {name: known[name].check(values) for name, values in inputs.items()}
    lengths = {name: len(values) for name, values in checked.items() if values.ndim}
    if len(set(lengths.values())) > 1:
        raise AccelSimError(f"inputs disagree on the number of cycles: {lengths}")
    given = next(iter(lengths.values()), None)
    total = given if cycles is None else cycles
    if not total or given == 0:
        raise AccelSimError("nothing to simulate: expected inputs of at least one cycle, or cycles of at least 1")
    if given is not None and given > total:
        raise AccelSimError(f"inputs have {given} cycles, more than the {total} that were asked for")
    words = np.zeros((total, -(-sum(port.bits for port in ports) // 8)), dtype=np.uint8)
    for part in _parts(total) if ports else ():
        bits = np.concatenate([_bits_of_part(port, checked.get(port.name), part) for port in ports], axis=1)
        words[part] = np.packbits(bits, axis=1, bitorder="little")
    return words


def responses(ports: list[Port], words: NDArray[np.uint8]) -> dict[str, NDArray]:
    """Values [cycles, *dims] of every output port from response words uint8 [cycles, bytes]."""
    parts: dict[str, list[NDArray]] = {port.name: [] for port in ports}
    for part in _parts(len(words)):
        bits = np.unpackbits(words[part], axis=1, bitorder="little")
        low = 0
        for port in ports:
            parts[port.name].append(port.from_bits(bits[:, low : low + port.bits]))
            low += port.bits
    return {name: np.concatenate(values) for name, values in parts.items()}


def _parts(cycles: int) -> list[slice]:
    """All cycles, some at a time: a bit takes a byte while it is moved."""
    return [slice(low, min(low + _CYCLES_AT_ONCE, cycles)) for low in range(0, cycles, _CYCLES_AT_ONCE)]


def _bits_of_part(port: Port, values: NDArray | None, part: slice) -> NDArray[np.uint8]:
    """Bits [cycles of the part, bits] of what `check` returned, or of the initial value."""
    if values is not None and values.ndim:
        rows = np.minimum(np.arange(part.start, part.stop), len(values) - 1)
        return port.to_bits(values[rows])
    constant = _constant_bits(port.initial if values is None else int(values), port.bits)
    return np.broadcast_to(constant, (part.stop - part.start, port.bits))


def _port(name: str, member: wiring.Member, value: Value) -> Port:
    shape, dims = member.shape, ()
    while isinstance(shape, data.ArrayLayout):
        dims, shape = (*dims, shape.length), shape.elem_shape
    element = Shape.cast(shape)
    initial = value.init & (1 << len(value)) - 1
    return Port(name, value, dims, element.width, element.signed, initial)


def _constant_bits(value: int, bits: int) -> NDArray[np.uint8]:
    data_bytes = (value & (1 << bits) - 1).to_bytes(-(-bits // 8), "little")
    return np.unpackbits(np.frombuffer(data_bytes, dtype=np.uint8), bitorder="little")[None, :bits]


def _to_bits(values: NDArray, width: int) -> NDArray[np.uint8]:
    """[cycles, elements] → [cycles, elements · width]."""
    cycles, elements = values.shape
    if values.dtype.kind == "O" or width > 64:
        size, mask = -(-width // 8), (1 << width) - 1
        raw = b"".join((int(value) & mask).to_bytes(size, "little") for value in values.flat)
    else:
        size = 8
        raw = values.astype("<u8" if values.dtype.kind == "u" else "<i8").tobytes()
    octets = np.frombuffer(raw, dtype=np.uint8).reshape(cycles, elements, size)[..., : -(-width // 8)]
    return np.unpackbits(octets, axis=2, bitorder="little")[..., :width].reshape(cycles, elements * width)


def _from_bits(bits: NDArray[np.uint8], signed: bool) -> NDArray:
    """[cycles, elements, width] → [cycles, elements] of int64, or of Python integers where they are wider."""
    cycles, elements, width = bits.shape
    octets = np.packbits(bits, axis=2, bitorder="little")
    if width > _LARGEST_NATIVE_BITS:
        sign = 1 << width - 1 if signed else 0
        whole = [(int.from_bytes(row.tobytes(), "little") ^ sign) - sign for row in octets.reshape(-1, octets.shape[2])]
        return np.array(whole, dtype=object).reshape(cycles, elements)
    padded = np.zeros((cycles, elements, 8), dtype=np.uint8)
    padded[..., : octets.shape[2]] = octets
    values = padded.view("<i8")[..., 0].astype(np.int64)
    sign = np.int64(1 << width - 1) if signed else np.int64(0)
    return (values ^ sign) - sign
