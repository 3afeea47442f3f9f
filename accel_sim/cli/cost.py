"""`accel-sim cost`: what processing elements and methods cost, and how well sums of parts meet whole units."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

LADDER = ("2:4", "4:8", "8:16", "16:32")


def cost(
    what: Annotated[
        Literal["libraries", "forms", "elements", "check", "published", "methods"],
        typer.Argument(
            help="libraries: what the tables are of. forms: their closed forms. elements: one processing element a"
            " pattern. check: sums of parts against whole synthesised elements. published: gains of others beside ours."
            " methods: criteria and mitigations."
        ),
    ],
    library: Annotated[
        list[str], typer.Option(help="A shipped library or the folder of a synthesis run; repeatable. Default: all.")
    ] = [],  # noqa: B006
    lanes: Annotated[int, typer.Option(help="Multipliers of a processing element.", min=1)] = 16,
    operand_mux: Annotated[
        Literal["onehot", "restricted", "full"], typer.Option(help="Operand multiplexers of `elements`.")
    ] = "onehot",
    metadata: Annotated[
        Literal["bitmap", "index", "enumerative"], typer.Option(help="Encoding in `elements`.")
    ] = "bitmap",
    arch: Annotated[str, typer.Option(help="Architecture file that `methods` are added to.")] = "8x16.yaml",
    features: Annotated[int, typer.Option(help="Features of the product of `methods`.", min=1)] = 4096,
    outputs: Annotated[int, typer.Option(help="Its outputs.", min=1)] = 4096,
) -> None:
    """What processing elements, criteria and mitigations cost, and checks of the model."""
    from accel_sim.cost.run import shipped

    libraries = library or list(shipped())
    if what == "libraries":
        _libraries(libraries)
    elif what == "forms":
        _forms(libraries)
    elif what == "elements":
        _elements(libraries, lanes, operand_mux, metadata)
    elif what == "check":
        _check(libraries)
    elif what == "published":
        _published(libraries, lanes)
    else:
        _methods(arch, libraries if library else [], features, outputs)


def _libraries(libraries: list[str]) -> None:
    from accel_sim.cli.screen import console, table_of
    from accel_sim.cost.units import load_library

    table = table_of("Libraries, and what each calls a multiplier")
    columns = (
        "library",
        "node nm",
        "V",
        "NAND2 µm²",
        "flip-flop GE",
        "clock fJ",
        "multiplier GE",
        "ns",
        "pJ",
        "anchor ×",
    )
    for column in (*columns, "units", "whole elements"):
        table.add_column(column, justify="left" if column == "library" else "right", no_wrap=True)
    table.add_column("mapped by")
    table.add_column("operands")
    for name in libraries:
        library = load_library(name)
        run, multiplier = library.run, library.unit("multiplier")
        table.add_row(
            library.name,
            "?" if run.node_nm is None else f"{run.node_nm:g}",
            f"{run.supply_v:g}",
            f"{run.nand2_area_um2:.4g}",
            f"{library.flip_flop.nand2:.2f}",
            f"{1000 * library.flip_flop.energy_pj:.1f}",
            f"{multiplier.nand2:.0f}",
            f"{multiplier.delay_ns:.2f}",
            f"{multiplier.energy_pj:.2f}",
            f"{library.anchor_factor:g}",
            str(len(run.rows)),
            str(len(run.elements)),
            str(run.facts["tools"]["yosys"]).partition(" (")[0].removeprefix("Yosys "),
            run.facts["operands"].get("trace") or "random",
        )
    table.caption = (
        "GE: NAND2-equivalents; multiplier: 8×8 bits, signed; anchor: onto published 45 nm energies; mapped by: version"
        " of Yosys"
    )
    console().print(table)


def _forms(libraries: list[str]) -> None:
    from accel_sim.cli.screen import console, table_of
    from accel_sim.cost.forms import FORMS
    from accel_sim.cost.run import synthesis_run

    runs = [synthesis_run(name) for name in libraries]
    table = table_of("Closed forms of area: NAND2-equivalents a piece, and how far the rows lie from them")
    table.add_column("unit")
    table.add_column("pieces")
    for run in runs:
        table.add_column(run.library, justify="right")
        table.add_column("rms, worst %", justify="right")
    for kind, form in FORMS.items():
        cells = []
        for run in runs:
            one = run.coefficients.get(kind)
            cells += (
                ["", ""] if one is None else [f"{one.value:.3g}", f"{one.rms_percent:.0f}, {one.worst_percent:.0f}"]
            )
        if any(cells):
            table.add_row(kind, form.text, *cells)
    console().print(table)


def _elements(libraries: list[str], lanes: int, operand_mux: str, metadata: str) -> None:
    from accel_sim import cost
    from accel_sim.cli.screen import console, table_of
    from accel_sim.pattern import Pattern

    table = table_of(f"One processing element of {lanes} lanes, {operand_mux} multiplexers, {metadata} metadata")
    columns = ("library", "pattern", "GE", "area tax", "energy tax", "delay ns")
    columns += ("gain area", "own clock", "gain energy", "bits")
    for column in columns:
        table.add_column(column, justify="left" if column in ("library", "pattern") else "right")
    for library in libraries:
        dense = cost.pe(lanes, library=library)
        table.add_row(dense.library, "dense", f"{dense.area_nand2:,.0f}", "", "", f"{dense.delay_ns:.2f}")
        for pattern in LADDER:
            one = cost.pe(lanes, pattern, operand_mux, metadata, library)
            area, energy = cost.area_tax(one, dense), cost.energy_tax(one, dense)
            table.add_row(
                one.library,
                pattern,
                f"{one.area_nand2:,.0f}",
                f"{area:+.1%}",
                f"{energy:+.1%}",
                f"{one.delay_ns:.2f}",
                f"{cost.iso_throughput_gain(pattern, area):.2f}",
                f"{cost.iso_throughput_gain(pattern, area) * dense.delay_ns / one.delay_ns:.2f}",
                f"{cost.iso_throughput_gain(pattern, energy):.2f}",
                f"{Pattern(pattern).metadata_bits_per_element(metadata):.3g}",
            )
    table.caption = (
        "GE: NAND2-equivalents; tax: over the dense element with the same lanes, a cycle; gain: what is saved at equal"
        " throughput and clock; own clock: where each element runs at its own delay, which is a lower bound with the"
        " decoder in the path; bits: metadata a dense element. Without SRAM, selectors, wires and clock tree"
    )
    console().print(table)


def _check(libraries: list[str]) -> None:
    from accel_sim.cli.screen import console, table_of
    from accel_sim.cost.element_check import element_checks

    table = table_of("Area tax of whole synthesised processing elements and of the sum of their parts")
    columns = ("library", "lanes", "pattern", "multiplexer", "metadata", "register")
    figures = ("synthesised", "over mappings", "predicted", "error", "allowed", "holds", "energy tax", "delay ns")
    for column in (*columns, *figures):
        table.add_column(column, justify="left" if column in columns else "right", no_wrap=True)
    found = [element_checks(library) for library in libraries]
    for checked in found:
        for one in checked.checks:
            noise = "" if one.noise is None else f"{100 * one.noise[0]:.1f} … {100 * one.noise[1]:.1f}"
            table.add_row(
                one.library,
                str(one.lanes),
                str(one.pattern),
                one.operand_mux,
                one.metadata,
                "yes" if one.operand_mux_register else "no",
                f"{one.synthesised:.1%}",
                noise,
                f"{one.predicted:.1%}",
                f"{100 * one.error:+.1f}",
                f"{100 * one.tolerance:.1f}",
                "yes" if one.holds else "NO",
                f"{_known(one.synthesised_energy, '.1%')} ({one.predicted_energy:.1%})",
                f"{_known(one.synthesised_delay_ns, '.2f')} ({one.predicted_delay_ns:.2f})",
            )
    table.caption = (
        "synthesised: by the first mapping; over mappings: of the same two netlists in other orders; error: predicted"
        " less the middle of them, in points; allowed: the larger of 3 and 15 % of the tax; in brackets: predicted"
    )
    console().print(table)
    for checked in found:
        for line in checked.unchecked:
            console().print(f"not checked: {line}", markup=False, soft_wrap=True)


def _known(value: float | None, form: str) -> str:
    return "?" if value is None else format(value, form)


def _published(libraries: list[str], lanes: int) -> None:
    from accel_sim.cli.screen import console, table_of
    from accel_sim.cost.circuits import OPERAND_MUXES
    from accel_sim.cost.element_check import published_gains

    table = table_of(f"Published gains at equal throughput, and one processing element of {lanes} lanes")
    columns = ("what", "pattern", "quantity", "library", "multiplexer")
    for column in (*columns, "published gain", "ours", "published tax", "ours ", "multipliers / 1.4"):
        table.add_column(column, justify="left" if column in columns else "right")
    for library in libraries:
        for operand_mux in OPERAND_MUXES:
            for one in published_gains(library, lanes, operand_mux):
                table.add_row(
                    one.name,
                    str(one.pattern),
                    one.quantity,
                    one.library,
                    operand_mux,
                    f"{one.published_gain:.2f}",
                    f"{one.gain:.2f}",
                    f"{one.published_tax:.0%}",
                    f"{one.tax:.0%}",
                    "" if (smaller := one.tax_with_smaller_multipliers) is None else f"{smaller:.0%}",
                )
    table.caption = (
        "theirs: a whole array after commercial synthesis, with clock tree, SRAM and operand registers that several dot"
        " products share; ours: one element with its own registers, before layout, no SRAM, no wires; multipliers /"
        " 1.4: our tax if multipliers and adder trees were as much smaller as commercial tools make them"
    )
    console().print(table)


def _methods(source: str, libraries: list[str], features: int, outputs: int) -> None:
    from accel_sim.arch import load_arch
    from accel_sim.cli.screen import console, table_of
    from accel_sim.cost.methods import methods_cost

    for library in libraries or [None]:
        arch = load_arch(source, [f"technology.library={library}"] if library else [])
        title = f"Methods on {arch.name} with the tables of {arch.technology.library}, {features} × {outputs}"
        table = table_of(title)
        left = ("method", "kind", "what it is built of")
        figures = ("area mm²", "of machine", "energy", "MACs a token", "cycles a token", "tables KB", "weights KB")
        for column in (*left[:2], *figures, left[2]):
            table.add_column(column, justify="left" if column in left else "right", overflow="fold")
        for one in methods_cost(arch, features, outputs):
            table.add_row(
                one.name,
                one.kind,
                f"{one.area_um2 / 1e6:.3f}",
                f"{one.overhead:+.1%}",
                f"{one.energy_overhead:+.2%}",
                f"{one.macs_per_token:,.0f}",
                f"{one.cycles_per_token:.1f}",
                f"{one.table_bytes / 1024:.1f}",
                f"{one.weight_bytes / 1024:.0f}",
                one.rule,
            )
        table.caption = "energy: over the multiplications of the pruned product; tables and weights: of one site"
        console().print(table)
