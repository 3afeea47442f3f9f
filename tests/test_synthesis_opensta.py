"""Static timing and energies beside OpenSTA's, where `sta` is on PATH."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="pip install 'accel_sim[rtl]'")

import tiny_library
from netlists import netlist
from opensta import PERIOD_NS, run_opensta

from accel_sim.rtl.arithmetic import MultiplyAccumulate
from accel_sim.synthesis.liberty import read_liberty
from accel_sim.synthesis.power import simulate
from accel_sim.synthesis.timing import analyse
from accel_sim.synthesis.yosys import synthesise

pytestmark = pytest.mark.skipif(shutil.which("sta") is None, reason="OpenSTA's `sta` is not on PATH")
ONES = np.uint64(2**64 - 1)


def libraries(tmp_path: Path) -> list[Path]:
    """The tests' own library, and the one that ACCEL_SIM_LIBERTY names."""
    named = os.environ.get("ACCEL_SIM_LIBERTY")
    return [tiny_library.written(tmp_path), *([Path(named)] if named else [])]


@pytest.mark.slow
def test_the_longest_path_and_the_leakage_are_openstas(tmp_path):
    for path in libraries(tmp_path):
        mapped = synthesise(MultiplyAccumulate(), read_liberty(path)).netlist
        timing = analyse(mapped)
        text = run_opensta(mapped, timing, {}, tmp_path)
        arrival = float(re.search(r"([\d.]+)\s+data arrival time", text)[1])
        setup = float(re.search(r"(-?[\d.]+)\s+[\d.]+\s+library setup time", text)[1])
        assert timing.delay_ns == pytest.approx(arrival - setup, rel=0.005)
        leakage = float(re.findall(r"^Total\s+\S+\s+\S+\s+(\S+)", text, re.MULTILINE)[0])
        assert mapped.leakage_nw * 1e-9 == pytest.approx(leakage, rel=1e-4)


@pytest.mark.slow
@pytest.mark.skipif("ACCEL_SIM_LIBERTY" not in os.environ, reason="ACCEL_SIM_LIBERTY names no Liberty file")
def test_energies_of_a_chain_are_openstas_but_for_its_factor_of_two(tmp_path):
    """OpenSTA 2.0 adds rising and falling internal energy for every transition; Liberty gives one for each."""
    library = read_liberty(Path(os.environ["ACCEL_SIM_LIBERTY"]))
    inverter = library.inverter
    (given,), (made,) = inverter.inputs, inverter.outputs
    cells = {f"u{at}": (inverter.name, {given: 3 + at, made: 4 + at}) for at in range(3)}
    chain = netlist(tmp_path, library, {"a": 3}, {"y": 6}, cells)
    timing = analyse(chain)
    activity = simulate(chain, {"a": np.array([[ONES * np.uint64(bit)] for bit in (0, 1, 0)])}, 0, timing)
    text = run_opensta(chain, timing, {"a_0": (1.0, 0.5)}, tmp_path)
    internal, switching = (
        float(power) * PERIOD_NS * 1e3 for power in re.search(r"^Total\s+(\S+)\s+(\S+)", text, re.MULTILINE).groups()
    )
    half_square = library.voltage_v**2 / 2
    # OpenSTA has no driver for the input's net, and counts what stands behind the output.
    driven = activity.switching_pj - half_square * timing.own_pf[chain.inputs["a"][0]]
    driven += half_square * timing.load_pf[chain.outputs["y"][0]]
    assert driven == pytest.approx(switching, rel=0.01)  # it takes the larger of two pin capacitances
    assert 2 * activity.internal_pj == pytest.approx(internal, rel=0.01)
