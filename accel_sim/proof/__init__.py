"""The unit as hardware held against the functional model, bit for bit, and the timing model, cycle for cycle."""
