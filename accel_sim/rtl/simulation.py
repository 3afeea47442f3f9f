"""Any component, simulated open loop: arrays in, arrays out, the same on three simulators.

`amaranth` runs the component itself; `verilator` and `icarus` run the Verilog that `accel_sim.rtl.verilog` emits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from amaranth.hdl import Cat, ClockDomain, Module, Signal
from amaranth.lib import wiring
from amaranth.sim import Simulator
from numpy.typing import ArrayLike, NDArray

from accel_sim.errors import AccelSimError
from accel_sim.rtl import icarus, verilator
from accel_sim.rtl.ports import Port, ports_of, responses, stimuli

_NANOSECOND = 1e-9


def run(
    component: wiring.Component,
    inputs: Mapping[str, ArrayLike],
    simulator: str = "amaranth",
    cycles: int | None = None,
) -> dict[str, NDArray]:
    """Outputs of every cycle: name → [cycles] for a scalar port, [cycles, elements] for a vector.

    `inputs` gives input ports the same way; nested ports are joined by `__`. A port that is left out holds its initial
    value (0 unless its signature says otherwise), a number holds in every cycle; `cycles` above the inputs' own length
    holds their last row, so that a pipeline can run empty. Outputs are sampled after the inputs of their cycle have
    settled and before its clock edge, so what a register takes from cycle i is seen in cycle i + 1. No reset is given:
    registers start with their initial values. Arrays are int64, of Python integers where an element exceeds 63 bits.

    Components are elaborated here: build a new one for every run. Raises AccelSimError for inputs that do not fit,
    an unknown simulator, and one that is not installed (see `available`).
    """
    if simulator not in SIMULATORS:
        raise AccelSimError(f"simulator {simulator!r}: expected one of {', '.join(SIMULATORS)}")
    input_ports, output_ports = ports_of(component)
    if not output_ports:
        raise AccelSimError(f"{type(component).__name__} has no output port, so there is nothing to observe")
    words = stimuli(input_ports, inputs, cycles)
    return responses(output_ports, _ENGINES[simulator](component, input_ports, output_ports, words))


def available() -> dict[str, str | None]:
    """For each simulator None where it is there, else one line that says what to install."""
    return {"amaranth": None, "verilator": verilator.missing(), "icarus": icarus.missing()}


def _amaranth(
    component: wiring.Component, input_ports: list[Port], output_ports: list[Port], words: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """Response words of stimulus words; one wide signal each way, as setting many signals is what takes the time."""
    top = Module()
    top.domains.sync = ClockDomain()
    top.submodules.unit = component
    stimulus = Signal(sum(port.bits for port in input_ports))
    response = Signal(sum(port.bits for port in output_ports))
    top.d.comb += Cat(port.value for port in input_ports).eq(stimulus)
    top.d.comb += response.eq(Cat(port.value for port in output_ports))
    response_bytes = -(-len(response) // 8)
    seen = []

    async def bench(context) -> None:
        for word in words:
            context.set(stimulus, int.from_bytes(word.tobytes(), "little"))
            seen.append(context.get(response).to_bytes(response_bytes, "little"))
            await context.tick()

    simulation = Simulator(top)
    simulation.add_clock(_NANOSECOND)
    simulation.add_testbench(bench)
    simulation.run()
    return np.frombuffer(b"".join(seen), dtype=np.uint8).reshape(len(words), response_bytes)


_ENGINES: dict[str, Callable[..., NDArray[np.uint8]]] = {
    "amaranth": _amaranth,
    "verilator": verilator.simulate,
    "icarus": icarus.simulate,
}
SIMULATORS: tuple[str, ...] = tuple(_ENGINES)
"""Names that `simulator=` accepts."""
