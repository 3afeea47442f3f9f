"""The sparse tensor unit as hardware: Amaranth generators of its circuits, emitted as Verilog."""
