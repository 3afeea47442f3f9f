"""The sparse tensor unit as hardware: Amaranth generators of its circuits, emitted as Verilog."""

from importlib.util import find_spec

from accel_sim.errors import AccelSimError

if find_spec("amaranth") is None:
    raise AccelSimError("the unit's RTL needs Amaranth, which the extra `rtl` brings: pip install 'accel_sim[rtl]'")
