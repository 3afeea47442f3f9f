"""The page that a run ends with: what sparsity costs a processing element, and the closed forms."""

from __future__ import annotations

from accel_sim.pattern import Pattern

Row = dict[str, object]


def report(record: dict, elements: list[Row], forms: list[Row]) -> str:
    """Markdown of a run: record as in run.json, rows as in processing_elements.csv and closed_forms.csv."""
    wire_ff = 1e3 * record["flow"]["wire_pf_a_sink"]
    head = [
        f"# Synthesis with {record['library']}",
        "",
        f"{record['liberty_file']}, {record['supply_v']} V, {record['temperature_c']} °C; {record['tools']['yosys']}; "
        f"{record['date']}. Before layout: no wires but {wire_ff:.2g} fF a sink, no clock tree. NAND2 = "
        f"{record['nand2_area_um2']} µm² ({record['nand2_cell']}). Energies on operands of "
        f"{record['operands']['trace']}, zero-delay, leakage left out.",
        "",
    ]
    return "\n".join([*head, *_elements(elements), *_forms(forms)]) + "\n"


def taxes(elements: list[Row]) -> list[Row]:
    """For each sparse processing element what it adds to the dense one of as many lanes, as fractions."""
    dense = {row["lanes"]: row for row in elements if not row["n"] and row["area_um2"]}
    rows = []
    for row in elements:
        base = dense.get(row["lanes"])
        if not row["n"] or not row["area_um2"] or base is None:
            continue
        pattern = Pattern(f"{row['n']}:{row['m']}")
        tax = row["area_um2"] / base["area_um2"] - 1
        rows.append(
            {
                **{
                    name: row[name] for name in ("lanes", "operand_mux", "metadata", "operand_mux_register", "delay_ns")
                },
                "pattern": pattern.text,
                "area_tax": tax,
                "area_tax_low": row["noise_low_um2"] / base["noise_high_um2"] - 1,
                "area_tax_high": row["noise_high_um2"] / base["noise_low_um2"] - 1,
                "energy_tax": row["energy_pj"] / base["energy_pj"] - 1,
                "dense_delay_ns": base["delay_ns"],
                "area_gain": row["m"] / row["n"] / (1 + tax) * _use_of_lanes(row),
                "metadata_bits": pattern.metadata_bits_per_element(row["metadata"]),
            }
        )
    return rows


def _use_of_lanes(row: Row) -> float:
    """Share of the lanes that the pattern's slots fill: 15 of 16 for 3:4."""
    return row["lanes"] // row["n"] * row["n"] / row["lanes"]


def _elements(elements: list[Row]) -> list[str]:
    found = taxes(elements)
    if not found:
        return ["No sparse processing element beside a dense one was measured.", ""]
    lines = [
        "## Whole processing elements against the dense one of as many lanes",
        "",
        "Registers for activations, metadata and weights, decoder, operand multiplexers, multipliers, adder tree,",
        "INT32 accumulator. Area tax and energy tax: what they have more; the range is what mapping the same netlists",
        "in other orders does. Area gain at equal throughput: (M/N) / (1 + area tax), times the share of lanes in use;",
        "at an equal clock, and where each element is clocked by its own delay.",
        "",
        _line(list(_COLUMNS)),
        _line(["---"] * len(_COLUMNS)),
        *(_line([form(row) for form in _COLUMNS.values()]) for row in found),
        "",
    ]
    return [*lines, *_sentence(found), ""]


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


_COLUMNS = {
    "lanes": lambda row: str(row["lanes"]),
    "pattern": lambda row: row["pattern"],
    "multiplexer": lambda row: row["operand_mux"],
    "metadata": lambda row: row["metadata"],
    "register": lambda row: "yes" if row["operand_mux_register"] == "true" else "no",
    "area tax": lambda row: f"{row['area_tax']:.1%}",
    "range": lambda row: f"{row['area_tax_low']:.1%} … {row['area_tax_high']:.1%}",
    "energy tax": lambda row: f"{row['energy_tax']:.1%}",
    "delay ns (dense)": lambda row: f"{row['delay_ns']:.2f} ({row['dense_delay_ns']:.2f})",
    "area gain": lambda row: f"{row['area_gain']:.2f}×",
    "own clock": lambda row: f"{row['area_gain'] * row['dense_delay_ns'] / row['delay_ns']:.2f}×",
    "metadata bits an element": lambda row: f"{row['metadata_bits']:.4g}",
}


def _sentence(found: list[Row]) -> list[str]:
    """What the table says of 8:16 beside 2:4, both as they are usually built."""
    usual = {
        row["pattern"]: row
        for row in found
        if (row["lanes"], row["operand_mux"], row["metadata"], row["operand_mux_register"])
        == (16, "onehot", "bitmap", "false")
    }
    if not {"2:4", "8:16"} <= set(usual):
        return []
    small, large = usual["2:4"], usual["8:16"]
    return [
        f"With 16 lanes, one-hot multiplexers and bitmaps, 8:16 adds {large['area_tax']:.1%} of area and "
        f"{large['energy_tax']:.1%} of energy to the dense element, 2:4 {small['area_tax']:.1%} and "
        f"{small['energy_tax']:.1%}; at equal throughput and clock 8:16 needs {1 / large['area_gain']:.1%} "
        f"of the dense area, 2:4 {1 / small['area_gain']:.1%}. The selector in front of the array, memories and wires "
        "are not in these figures."
    ]


def _forms(forms: list[Row]) -> list[str]:
    if not forms:
        return []
    lines = [
        "## Closed forms",
        "",
        "NAND2-equivalents, relative least squares over the rows of units.csv.",
        "",
        "| kind | coefficient | form | rms % | worst % | rows |",
        "|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['kind']} | {row['coefficient']} | {row['form']} | {row['rms_percent']} | {row['worst_percent']} "
        f"| {row['rows']} |"
        for row in forms
    ]
    return [*lines, ""]
