"""A cell library of six cells whose tables are easy to work with by hand, as the text of a Liberty file.

1 V; ns, pF, nW, pJ unless `units` says otherwise. Of every cell: delay = own + 10·load + transition/2 rising and
0.01 ns more falling; transition = 0.02 + 4·load; internal energy `energy` rising and half of it falling.
"""

from __future__ import annotations

from pathlib import Path

UNITS = """
  time_unit : "1ns";
  voltage_unit : "1V";
  leakage_power_unit : "1nW";
  capacitive_load_unit (1, pf);
"""
_TEMPLATES = """
  input_threshold_pct_rise : 50; input_threshold_pct_fall : 50;
  output_threshold_pct_rise : 50; output_threshold_pct_fall : 50;
  slew_lower_threshold_pct_rise : 20; slew_lower_threshold_pct_fall : 20;
  slew_upper_threshold_pct_rise : 80; slew_upper_threshold_pct_fall : 80;
  lu_table_template (delay) {
    variable_1 : total_output_net_capacitance;
    variable_2 : input_net_transition;
    index_1 ("0.0, 0.1");
    index_2 ("0.0, 1.0");
  }
  lu_table_template (constraint) {
    variable_1 : related_pin_transition;
    variable_2 : constrained_pin_transition;
    index_1 ("0.0, 1.0");
    index_2 ("0.0, 1.0");
  }
"""


def _table(kind: str, at_zero: float, per_load: float, per_transition: float) -> str:
    """Rows over load 0 and 0.1 pF, columns over transition 0 and 1 ns."""
    rows = [
        ", ".join(f"{at_zero + per_load * load + per_transition * transition:.6f}" for transition in (0, 1))
        for load in (0, 0.1)
    ]
    return f'{kind} (delay) {{ values ("{rows[0]}", \\\n "{rows[1]}"); }}'


def _arc(related: str, sense: str, own: float, kind: str = "") -> str:
    timing_type = f"timing_type : {kind};" if kind else ""
    return f"""timing () {{ related_pin : "{related}"; timing_sense : {sense}; {timing_type}
      {_table("cell_rise", own, 10, 0.5)} {_table("rise_transition", 0.02, 4, 0)}
      {_table("cell_fall", own + 0.01, 10, 0.5)} {_table("fall_transition", 0.02, 4, 0)} }}"""


def _energy(related: str, energy: float) -> str:
    tables = f"{_constant('rise_power', energy)} {_constant('fall_power', energy / 2)}"
    return f'internal_power () {{ related_pin : "{related}"; {tables} }}'


def _cell(name: str, area: float, function: str, inputs: str, sense: str, own: float, energy: float) -> str:
    pins = "".join(f"pin ({pin}) {{ direction : input; capacitance : 0.002; }}\n" for pin in inputs)
    arcs = "".join(_arc(pin, sense, own) + _energy(pin, energy) for pin in inputs)
    return f"""cell ({name}) {{ area : {area}; cell_leakage_power : {area / 10};
    {pins} pin (Y) {{ direction : output; function : "{function}"; {arcs} }} }}
"""


def _constant(kind: str, value: float) -> str:
    return f'{kind} (scalar) {{ values ("{value}"); }}'


_FLIP_FLOP = f"""cell (DFF) {{ area : 6; cell_leakage_power : 0.6;
  ff (IQ, IQN) {{ next_state : "D"; clocked_on : "CK"; }}
  pin (CK) {{ direction : input; clock : true; capacitance : 0.003;
    internal_power () {{ when : "D"; {_constant("rise_power", 0.004)} {_constant("fall_power", 0.002)} }}
    internal_power () {{ {_constant("rise_power", 0.008)} {_constant("fall_power", 0.001)} }} }}
  pin (D) {{ direction : input; capacitance : 0.002;
    timing () {{ related_pin : "CK"; timing_type : setup_rising;
      rise_constraint (constraint) {{ values ("0.05, 0.15", "0.05, 0.15"); }}
      fall_constraint (constraint) {{ values ("0.06, 0.16", "0.06, 0.16"); }} }} }}
  pin (Q) {{ direction : output; function : "IQ";
    {_arc("CK", "non_unate", 0.2, "rising_edge")} {_energy("CK", 0.02)} }} }}
"""

CELLS = {
    "INV": _cell("INV", 1, "A'", "A", "negative_unate", 0.05, 0.001),
    "BUF": _cell("BUF", 2, "A", "A", "positive_unate", 0.08, 0.002),
    "NAND2": _cell("NAND2", 1.5, "!(A B)", "AB", "negative_unate", 0.06, 0.002),
    "NOR2": _cell("NOR2", 1.5, "!(A + B)", "AB", "negative_unate", 0.07, 0.002),
    "XOR2": _cell("XOR2", 4, "A ^ B", "AB", "non_unate", 0.1, 0.005),
    "DFF": _FLIP_FLOP,
}


def text(units: str = UNITS, leave_out: str = "", extra: str = "") -> str:
    """The library, without one of its cells or with another one."""
    cells = "".join(cell for name, cell in CELLS.items() if name != leave_out)
    head = "/* tiny */ library (tiny) { delay_model : table_lookup; nom_voltage : 1.0; nom_temperature : 25;"
    return f"{head}{units}{_TEMPLATES}{cells}{extra}}}\n"


def written(folder: Path, **changes: str) -> Path:
    """The library as a file."""
    path = folder / "tiny.lib"
    path.write_text(text(**changes))
    return path
