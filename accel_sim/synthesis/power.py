"""Energy of a mapped netlist over operand streams: what switched, weighed with the library's tables.

Zero-delay simulation: a net changes at most once a cycle, so glitches are not seen. A cycle's energy is ½CV² of each
net that toggled (pins driven and their wires; input ports' nets are in, what stands behind output ports is not), the
internal energy of the cells for what toggled at their pins, and the clock pins of all flip-flops, which toggle twice a
cycle. There is no clock tree. Leakage stands apart.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from accel_sim.errors import AccelSimError
from accel_sim.synthesis import kernels
from accel_sim.synthesis.cell_arrays import CellArrays, cell_arrays
from accel_sim.synthesis.netlist import CLOCK, Netlist
from accel_sim.synthesis.timing import Timing, analyse

STREAMS = 64
"""Independent operand streams that are simulated side by side, one in each bit of a word."""


@dataclass(frozen=True)
class Activity:
    """What one simulation saw."""

    outputs: dict[str, np.ndarray]
    """Port → uint64 [cycles, bits], one stream a bit of the word: before the clock edge of each cycle."""
    switching_pj: float
    """Per cycle and stream: ½CV² of the nets, without the clock's."""
    internal_pj: float
    """Per cycle and stream: in the cells, without the clock pins."""
    clock_pj: float
    """Per cycle and stream: the clock net's CV² and what the clock pins cost in the flip-flops."""
    toggles: np.ndarray
    """int64 [nets, 2], rising and falling, over all counted steps and streams."""
    steps: int
    """Counted steps times streams."""

    @property
    def energy_pj(self) -> float:
        """Energy of a cycle, leakage left out."""
        return self.switching_pj + self.internal_pj + self.clock_pj


def simulate(netlist: Netlist, stimuli: dict[str, np.ndarray], warm_up: int, timing: Timing | None = None) -> Activity:
    """Run a netlist on operand streams.

    `stimuli` maps every input port to uint64 [cycles, bits], bit b of a word belonging to stream b. Flip-flops start at
    0; steps into cycles before `warm_up` fill pipelines and are not counted.

    Raises AccelSimError for ports that are missing or of another width, and for streams without a counted step.
    """
    arrays = cell_arrays(netlist.cells, netlist.library.voltage_v)
    timing = timing or analyse(netlist, arrays)
    words = _words(netlist, stimuli)
    cycles = len(words)
    steps = cycles - max(warm_up, 1)
    if steps < 1:
        raise AccelSimError(
            f"operand streams of {cycles} cycles: expected more than the {warm_up} that fill the pipeline"
        )
    event_first = _offsets(np.diff(arrays.event_of)[netlist.kind]) if len(netlist.kind) else np.zeros(1, np.int64)
    outputs, toggles, seen = kernels.simulate(
        words, warm_up, netlist.kind, netlist.first_pin, netlist.nets, netlist.net_count, netlist.combinational,
        _join(netlist.inputs), _join(netlist.outputs), arrays.inputs, arrays.programs, arrays.function_of,
        arrays.functions, arrays.data_pin, arrays.clock_pin, arrays.event_of, arrays.events, event_first,
    )  # fmt: skip
    per_step = 1 / (steps * STREAMS)
    half_square = netlist.library.voltage_v**2 / 2
    energy = _internal(netlist, arrays, timing, toggles, seen, event_first) * per_step
    clock_net = 2 * half_square * float(timing.own_pf[CLOCK]) if netlist.flip_flops else 0.0
    return Activity(
        outputs=_split(outputs, netlist.outputs),
        switching_pj=float((toggles.sum(axis=1) * timing.own_pf).sum()) * half_square * per_step,
        internal_pj=float(energy[:, 1].sum()),
        clock_pj=float(energy[:, 0].sum()) + clock_net,
        toggles=toggles,
        steps=steps * STREAMS,
    )


def _internal(
    netlist: Netlist, arrays: CellArrays, timing: Timing, toggles: np.ndarray, seen: np.ndarray, event_first: np.ndarray
) -> np.ndarray:
    tables = arrays.tables
    return kernels.event_energy(
        seen, toggles, timing.transition, timing.load_pf, netlist.kind, netlist.first_pin, netlist.nets,
        arrays.clock_pin, arrays.inputs, arrays.event_of, arrays.events, event_first, arrays.event_share,
        arrays.event_per_load, tables.first, tables.shape, tables.numbers,
    )  # fmt: skip


def _words(netlist: Netlist, stimuli: dict[str, np.ndarray]) -> np.ndarray:
    columns, cycles = [], {len(words) for words in stimuli.values()} or {0}
    if len(cycles) != 1:
        raise AccelSimError(f"operand streams: ports disagree on the number of cycles: {sorted(cycles)}")
    for port, nets in netlist.inputs.items():
        words = stimuli.get(port)
        if words is None or words.shape[1:] != (len(nets),):
            got = "nothing" if words is None else f"{words.shape[1]} bits"
            raise AccelSimError(f"operand streams: port {port} needs {len(nets)} bits, got {got}")
        columns.append(words.astype(np.uint64))
    return np.ascontiguousarray(np.concatenate(columns, axis=1)) if columns else np.zeros((cycles.pop(), 0), np.uint64)


def _split(outputs: np.ndarray, ports: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    ends = np.cumsum([len(nets) for nets in ports.values()])
    return dict(zip(ports, np.split(outputs, ends[:-1], axis=1), strict=True))


def _offsets(counts: np.ndarray) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _join(ports: dict[str, np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.int32), *ports.values()])
