"""The files that `simulate` writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from accel_sim.cli.explain import find_operation
from accel_sim.errors import AccelSimError
from accel_sim.simulation import Result, Simulation


@dataclass(frozen=True)
class Files:
    """What was asked for; None for what was not."""

    json: Path | None = None
    csv: Path | None = None
    timeline: Path | None = None
    demand: Path | None = None
    demand_layer: str | None = None
    """The only layer in `demand`, by its name or the end of it."""
    demand_format: str = "csv"

    def check(self, simulations: list[Simulation]) -> None:
        """Raise AccelSimError for options that do not go together, or cannot be written, before anything runs."""
        self._check_paths()
        if self.demand is None:
            for option, given in (
                ("--demand-layer", self.demand_layer is not None),
                ("--demand-format", self.demand_format != "csv"),
            ):
                if given:
                    raise AccelSimError(f"{option}: needs --demand-trace, the file to write")
            return
        from accel_sim.simulation.demand import DemandFormat

        if self.demand_format not in get_args(DemandFormat):
            known = ", ".join(get_args(DemandFormat))
            raise AccelSimError(f"--demand-format {self.demand_format}: expected one of {known}")
        if len(simulations) > 1:
            raise AccelSimError(f"--demand-trace: is of one machine; give one --arch, not {len(simulations)}")
        self._layer(simulations[0])

    def write(self, results: list[Result], simulations: list[Simulation]) -> list[Path]:
        """Write them; the paths that were written."""
        from accel_sim.simulation.output import write_csv, write_json
        from accel_sim.simulation.timeline import write_timeline

        if self.json:
            write_json(results, self.json)
        if self.csv:
            write_csv(results, self.csv)
        if self.timeline:
            write_timeline(simulations, self.timeline)
        if self.demand:
            from accel_sim.simulation.demand import write_demand_trace

            write_demand_trace(simulations[0], self.demand, self._layer(simulations[0]), self.demand_format)
        return [path for _, path in self._paths()]

    def _paths(self) -> list[tuple[str, Path]]:
        named = (
            ("--json", self.json),
            ("--csv", self.csv),
            ("--timeline", self.timeline),
            ("--demand-trace", self.demand),
        )
        return [(option, path) for option, path in named if path]

    def _check_paths(self) -> None:
        taken: dict[Path, str] = {}
        for option, path in self._paths():
            if path.is_dir():
                raise AccelSimError(f"{option} {path}: is a folder; expected a file to write")
            other = taken.setdefault(path.resolve(), option)
            if other != option:
                raise AccelSimError(f"{other} and {option}: both would be written to {path}")

    def _layer(self, simulation: Simulation) -> str | None:
        if self.demand_layer is None:
            return None
        return find_operation(simulation, self.demand_layer, "--demand-layer").name
