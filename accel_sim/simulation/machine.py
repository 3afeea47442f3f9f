"""One architecture at work: its clock, latencies, area, and the timings it has worked out."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

from accel_sim import cost
from accel_sim.arch import Arch
from accel_sim.cost.method_charges import PLAIN, Methods, area_with, areas, delays_with
from accel_sim.pattern import Pattern
from accel_sim.timing import Activity, Engine, Latencies, LayerTiming, Nonzeros, time_layer
from accel_sim.timing.layer import Plan, candidates, plan, skipping_zeros, time_plan
from accel_sim.timing.product import Product
from accel_sim.workload import Gemm


class Machine:
    """One architecture running one pattern (None: dense)."""

    def __init__(
        self,
        arch: Arch,
        pattern: Pattern | None,
        engine: Engine = "compiled",
        built: Methods = PLAIN,
        methods: tuple[str, ...] = (),
    ) -> None:
        """`built` are the methods that the machine has circuits for, `methods` the names of those at work."""
        self.arch, self.pattern, self.engine, self.built, self.methods = arch, pattern, engine, built, methods
        self.delays = cost.delays(arch, pattern)
        self.area = area_with(arch, built)
        more = delays_with(arch, methods)
        self.latencies = Latencies(
            self.delays.selector_latency_cycles + more.select_cycles,
            self.delays.compute_latency_cycles,
            self.delays.requantiser_latency_cycles + more.requantise_cycles,
            more.passes,
        )
        self._methods_leakage_nw = sum(one.leakage_nw for one in areas(arch, built).values())
        self._siblings = {(pattern, methods): self}
        self._timings: dict[Hashable, LayerTiming] = {}
        self._plans: dict[Hashable, Plan] = {}

    def running(self, pattern: Pattern | None, methods: tuple[str, ...] = ()) -> Machine:
        """The same machine running another of its patterns, with these of the methods that it is built for.

        Raises AccelSimError for a pattern that is not built in.
        """
        key = pattern, methods
        if key not in self._siblings:
            chosen = pattern and self.arch.pattern(pattern)
            running = Machine(self.arch, chosen, self.engine, self.built, methods)
            running._siblings = self._siblings
            self._siblings[key] = running
        return self._siblings[key]

    def built_for(self, methods: Methods) -> Machine:
        """A machine of the same architecture with circuits for `methods`."""
        return self if methods == self.built else Machine(self.arch, self.pattern, self.engine, methods)

    def time(self, gemm: Gemm, nonzeros: Nonzeros | None = None) -> LayerTiming:
        """The timing of a product. Products that look alike to the machine are scheduled once, and cut once where
        only the zeros it skips tell them apart."""
        on_chip = (gemm.activations_on_chip, gemm.outputs_on_chip, gemm.weights_on_chip)
        shape = (gemm.shape, on_chip, gemm.thresholds)
        known = nonzeros or Nonzeros()
        key = (shape, known.features, known.outputs, known.windows and id(known.windows))
        if key not in self._timings:
            if known.windows is not None:
                self._timings[key] = self._time_skipping(gemm, known, shape)
            else:
                self._timings[key] = time_layer(gemm, self.arch, self.pattern, self.latencies, self.engine, nonzeros)
        return self._timings[key]

    def _time_skipping(self, gemm: Gemm, nonzeros: Nonzeros, shape: Hashable) -> LayerTiming:
        product = Product.of(gemm, nonzeros)
        product.need_panels(self.arch)
        if shape not in self._plans:
            full = Product.of(gemm)
            best = candidates(full, self.arch, self.pattern, self.latencies)[0]
            self._plans[shape] = plan(full, self.arch, self.pattern, best.tiling, self.latencies)
        chosen = skipping_zeros(self._plans[shape], product, self.arch, self.pattern, self.latencies)
        return time_plan(chosen, self.arch, self.pattern, self.engine)

    def energy(self, activity: Activity, methods_pj: float = 0.0) -> cost.Energy:
        """Energy of an activity; `methods_pj` is what the methods at work take besides."""
        plain = cost.energy(self.arch, self.pattern, activity, self.delays.clock_hz)
        if self.built == PLAIN:
            return plain
        leaked = cost.leakage_pj(self._methods_leakage_nw, activity.cycles / self.delays.clock_hz)
        more = {"methods": methods_pj, "leakage": plain.components_pj["leakage"] + leaked}
        return replace(plain, components_pj=plain.components_pj | more)
