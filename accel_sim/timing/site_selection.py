"""Selection that happens once a site instead of at every fetch: by the unit that produces it, or by a kernel.

At `write_back` a selector behind the producing unit takes every row once; that unit's time is its own. In `software` a
kernel reads the dense activations from DRAM and writes them back compressed, before the first product that reads them
starts. It is taken to keep up with the memory, which is the best it can do.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from accel_sim.arch.schema import Arch
from accel_sim.pattern import Pattern
from accel_sim.timing.activity import Activity
from accel_sim.timing.formats import SCALE_BYTES, compressed_bytes


@dataclass(frozen=True)
class SiteSelection:
    """What selecting one site costs."""

    cycles: int = 0
    """Of the kernel: launch, first data, dense read, compressed write; nothing of the product overlaps with it."""
    selected_groups: int = 0
    """Groups that pass a selector."""
    dram_read_bytes: int = 0
    dram_write_bytes: int = 0

    def added_to(self, activity: Activity) -> Activity:
        """The activity of the product that the selection is charged to, with it."""
        return replace(
            activity,
            cycles=activity.cycles + self.cycles,
            selected_groups=activity.selected_groups + self.selected_groups,
            dram_read_bytes=activity.dram_read_bytes + self.dram_read_bytes,
            dram_write_bytes=activity.dram_write_bytes + self.dram_write_bytes,
        )


def select_site(rows: int, features: int, arch: Arch, pattern: Pattern | None) -> SiteSelection:
    """Select `rows` tokens of `features` once; nothing where the pattern prunes nothing, or where loads select."""
    sparsity = arch.sparsity
    placement = sparsity.selector.placement
    if pattern is None or pattern.keeps_all or sparsity.operand == "weights" or placement == "load":
        return SiteSelection()
    if placement == "write_back":
        return SiteSelection(selected_groups=rows * pattern.groups(features))
    read = rows * (features + SCALE_BYTES)
    written = rows * (compressed_bytes(features, arch, pattern) + SCALE_BYTES)
    transfer = ceil(read / arch.dram.bytes_per_cycle)
    transfer += ceil(written * arch.dram.turnaround / arch.dram.bytes_per_cycle)
    launch = sparsity.selector.software_launch_cycles + arch.dram.latency_cycles
    return SiteSelection(launch + transfer, 0, read, written)
