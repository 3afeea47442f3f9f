"""One architecture at work: its clock, latencies, area, and the timings it has worked out."""

from __future__ import annotations

from collections.abc import Hashable

from accel_sim import cost
from accel_sim.arch import Arch
from accel_sim.pattern import Pattern
from accel_sim.timing import Activity, Engine, Latencies, LayerTiming, Nonzeros, time_layer
from accel_sim.timing.layer import Plan, candidates, plan, skipping_zeros, time_plan
from accel_sim.timing.product import Product
from accel_sim.workload import Gemm


class Machine:
    """One architecture running one pattern (None: dense)."""

    def __init__(self, arch: Arch, pattern: Pattern | None, engine: Engine = "compiled") -> None:
        self.arch, self.pattern, self.engine = arch, pattern, engine
        self.delays = cost.delays(arch, pattern)
        self.area = cost.area(arch)
        self.latencies = Latencies(
            self.delays.selector_latency_cycles,
            self.delays.compute_latency_cycles,
            self.delays.requantiser_latency_cycles,
        )
        self._siblings = {pattern: self}
        self._timings: dict[Hashable, LayerTiming] = {}
        self._plans: dict[Hashable, Plan] = {}

    def running(self, pattern: Pattern | None) -> Machine:
        """The same machine running another of its patterns.

        Raises AccelSimError for a pattern that is not built in.
        """
        if pattern not in self._siblings:
            running = Machine(self.arch, pattern and self.arch.pattern(pattern), self.engine)
            running._siblings = self._siblings
            self._siblings[pattern] = running
        return self._siblings[pattern]

    def time(self, gemm: Gemm, nonzeros: Nonzeros | None = None) -> LayerTiming:
        """The timing of a product. Products that look alike to the machine are scheduled once, and cut once where
        only the zeros it skips tell them apart."""
        shape = (gemm.shape, gemm.activations_on_chip, gemm.outputs_on_chip)
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

    def energy(self, activity: Activity) -> cost.Energy:
        return cost.energy(self.arch, self.pattern, activity, self.delays.clock_hz)
