"""From RTL and a cell library to tables of area, delay and energy."""
