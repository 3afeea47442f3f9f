"""From RTL and a cell library to tables of area, delay and energy."""

import accel_sim.rtl  # noqa: F401  (says which extra is missing, before anything else does)
