"""A thorough validation as `validation.json` and `validation.md`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from accel_sim.files import replacing
from accel_sim.functional.thorough import FAST_REFERENCE, REFERENCE, SAMPLE_ROWS, CaseResult

JSON_NAME, PAGE_NAME = "validation.json", "validation.md"


@dataclass(frozen=True)
class Circumstances:
    """What ran where: said in the report, compared with nothing."""

    command: str
    device: str
    torch: str
    trace: str
    notes: Mapping[str, str]
    """One line for each backend that took part."""
    absent: Mapping[str, str]
    """And for each that did not: why."""


def write_report(
    folder: Path, results: Sequence[CaseResult], circumstances: Circumstances, seconds: float
) -> list[Path]:
    """Write both files whole, and return their paths. OSError where the folder cannot be written."""
    described = as_data(results, circumstances, seconds)
    paths = [folder / JSON_NAME, folder / PAGE_NAME]
    for path, text in zip(
        paths, (json.dumps(described, indent=2, ensure_ascii=False) + "\n", page(described)), strict=True
    ):
        with replacing(path) as stream:
            stream.write(text)
    return paths


def as_data(results: Sequence[CaseResult], circumstances: Circumstances, seconds: float) -> dict:
    """What validation.json holds. `values_compared` counts a value once for each backend that made it."""
    return {
        "command": circumstances.command,
        "device": circumstances.device,
        "torch": circumstances.torch,
        "trace": circumstances.trace,
        "backends": dict(circumstances.notes),
        "absent": dict(circumstances.absent),
        "values_compared": sum(each.values_compared for each in results),
        "int32_results": sum(each.int32_results for each in results),
        "divergences": sum(each.comparison.divergences for each in results),
        "seconds": seconds,
        "cases": [_case(each) for each in results],
    }


def _case(result: CaseResult) -> dict:
    compared = result.comparison
    return {
        "name": result.name,
        "pattern": str(result.pattern),
        "reference": compared.reference,
        "backends": list(compared.backends),
        "tokens": compared.tokens,
        "projections": compared.projections,
        "projections_without_weights": len(compared.without_weights),
        "values_compared": result.values_compared,
        "int32_results": result.int32_results,
        "divergences": compared.divergences,
        "first_differences": [str(each) for each in compared.differences],
        "seconds": result.seconds,
        "gops": result.gops(),
        "elements": dict(compared.counts),
    }


def page(data: dict) -> str:
    """validation.md, from what validation.json holds."""
    verdict = "no value differs" if data["divergences"] == 0 else f"**{data['divergences']:,} values differ**"
    lines = [
        "# The exact functional mode, backend against backend",
        "",
        f"`{data['command']}`, on {data['device']}, torch {data['torch']}, trace `{data['trace']}`:",
        f"{data['int32_results']:,} INT32 results and {data['values_compared']:,} values in all were compared in"
        f" {data['seconds']:.0f} s; {verdict}.",
        "",
        *(f"* `{name}`: {note}" for name, note in data["backends"].items()),
        *(f"* `{name}`: not part of this run: {why}" for name, why in data["absent"].items()),
        "",
        f"`{REFERENCE}` is the reference, and slow. It worked out the small drawn cases and the first {SAMPLE_ROWS}"
        f" tokens of each site, and every backend, `{FAST_REFERENCE}` among them, was held against it there. On all"
        f" tokens, and on the large drawn cases, the others were held against `{FAST_REFERENCE}`.",
        "Products were compared under two masks: by magnitude (thinned, in drawn cases) and by weighted scores.",
        "",
        "Values count once for each backend that made them, INT32 results once. GOPS count 2·T·K·F operations whatever"
        " the pattern leaves out, and include copies to and from the device and compilation on first use: they say how"
        " long this run took, not how fast a kernel is.",
        "",
    ]
    timed = list(dict.fromkeys(name for case in data["cases"] for name in case["gops"]))
    head = ["pattern", "case", "reference", "values compared", "INT32 results", "differ", "s"]
    head += [f"GOPS {name}" for name in timed]
    lines += [f"| {' | '.join(head)} |", f"|---|---|---|{'--:|' * (len(head) - 3)}"]
    for case in data["cases"]:
        cells = [case["pattern"], case["name"], case["reference"]]
        cells += [f"{case[key]:,}" for key in ("values_compared", "int32_results", "divergences")]
        cells += [f"{case['seconds']:.1f}"]
        cells += [f"{case['gops'][name]:.4g}" if name in case["gops"] else "–" for name in timed]
        lines.append(f"| {' | '.join(cells)} |")
    left_out = max((case["projections_without_weights"] for case in data["cases"]), default=0)
    if left_out:
        lines += ["", f"Products of {left_out} projections were not compared: the trace does not hold their weights."]
    differences = [text for case in data["cases"] for text in case["first_differences"]]
    if differences:
        lines += ["", "First differences:", "", *(f"* {text}" for text in differences)]
    return "\n".join(lines) + "\n"
