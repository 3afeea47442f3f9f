"""The size of a whole unit, and what follows from it: widths, depths, latencies."""

from __future__ import annotations

from dataclasses import dataclass

from accel_sim.errors import AccelSimError
from accel_sim.pattern import Encoding, Pattern

SCALE_BYTES = 4
"""A float32 scale comes with every token and with every output."""


@dataclass(frozen=True)
class UnitShape:
    """An output-stationary unit: rows × cols processing elements with their buffers. Raises AccelSimError for sizes
    that do not fit together."""

    rows: int
    cols: int
    lanes: int
    features: int
    """Longest reduction dimension that the buffers hold."""
    pattern: Pattern | None = None
    """None: a dense unit, without selectors and multiplexers."""
    also: tuple[Pattern, ...] = ()
    """Smaller patterns of the same density that the unit serves as well, switched by its `mode`."""
    bus_bytes: int = 16
    """Bytes of a beat of the load and of the store stream."""
    requantisers: int = 1
    """Accumulators taken a cycle."""
    selector_rows: int | None = None
    """Rows that are selected at the same time, each by as many selectors as it takes groups a cycle; None: all."""
    selector: str = "rank"
    pipelined_selector: bool = False
    operand_mux: str = "onehot"
    operand_mux_register: bool = False
    metadata: Encoding = "bitmap"
    activation_panels: int = 2
    """Panels of `rows` tokens that the activation buffers hold; two are a double buffer."""
    weight_panels: int = 2
    """Panels of `cols` outputs that the weight buffer holds."""

    def __post_init__(self) -> None:
        self._demand(
            "all sizes at least 1", min(self.rows, self.cols, self.lanes, self.features, self.requantisers) > 0
        )
        n = 1 if self.pattern is None else self.pattern.n
        self._demand(f"lanes {self.lanes}: at least N = {n}", self.lanes >= n)
        demands = {
            f"bus_bytes {self.bus_bytes}: a multiple of {SCALE_BYTES}": self.bus_bytes % SCALE_BYTES == 0,
            f"bus_bytes {self.bus_bytes}: a divisor or a multiple of a chunk's {self.chunk} features": (
                self.chunk % self.bus_bytes == 0 or self.bus_bytes % self.chunk == 0
            ),
            f"bus_bytes {self.bus_bytes}: a multiple of the requantisers": self.bus_bytes % self.requantisers == 0,
            f"requantisers {self.requantisers}: a divisor of rows": self.rows % self.requantisers == 0,
            f"selector_rows {self.bank_rows}: a divisor of rows": self.rows % self.bank_rows == 0,
            "smaller patterns beside a larger one, with the selector rank and bitmaps": not self.also
            or (self.pattern is not None and self.selector == "rank" and self.metadata == "bitmap"),
            "selector_rows only where something is selected": self.pattern is not None or self.selector_rows is None,
            f"a beat of {self.units_per_beat} rows: a divisor of cols and of the rows selected at the same time": (
                self.cols % self.units_per_beat == 0 and self.bank_rows % self.units_per_beat == 0
            ),
            "buffers for at least one panel": self.activation_panels >= 1 and self.weight_panels >= 1,
        }
        for demand, met in demands.items():
            self._demand(demand, met)

    def _demand(self, demand: str, met: bool) -> None:
        if not met:
            raise AccelSimError(f"unit {self.rows}×{self.cols}×{self.lanes}: expected {demand}")

    @property
    def modes(self) -> tuple[Pattern | None, ...]:
        """What the unit runs, by the value of its `mode`."""
        return (self.pattern, *self.also)

    @property
    def groups(self) -> int:
        """Groups that a row takes a cycle; 1 of `lanes` features where nothing is selected."""
        return 1 if self.pattern is None else self.lanes // self.pattern.n

    @property
    def chunk(self) -> int:
        """Features that a row takes a cycle: what stands at one address of the buffers."""
        return self.lanes if self.pattern is None else self.groups * self.pattern.m

    @property
    def slots(self) -> int:
        """Activations of a chunk that reach the multipliers."""
        return self.lanes if self.pattern is None else self.groups * self.pattern.n

    @property
    def chunks(self) -> int:
        """Addresses of a panel."""
        return -(-self.features // self.chunk)

    @property
    def metadata_bits(self) -> int:
        """Of a chunk."""
        return 0 if self.pattern is None else self.groups * self.pattern.metadata_bits(self.metadata)

    @property
    def bank_rows(self) -> int:
        """Banks of the buffer that loads go to: rows that are read from it at the same time."""
        return self.rows if self.selector_rows is None else self.selector_rows

    @property
    def units_per_beat(self) -> int:
        """Rows (or columns) whose chunks a beat brings."""
        return max(1, self.bus_bytes // self.chunk)

    @property
    def beats_per_unit(self) -> int:
        """Beats that a row's chunk takes."""
        return max(1, self.chunk // self.bus_bytes)

    @property
    def scales_per_beat(self) -> int:
        return self.bus_bytes // SCALE_BYTES

    @property
    def output_words(self) -> int:
        """Beats of a full output tile."""
        return -(-self.rows * self.cols // self.bus_bytes)
