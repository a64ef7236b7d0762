"""What the jobs share whose volumes may be under way at once in one process."""

from __future__ import annotations

from dataclasses import dataclass

from ..execution.base import Execution, cores
from ..fields import Count, flag


@dataclass(frozen=True, kw_only=True)
class Overlapping(Execution):
    """How many volumes are under way at once in a process, for a job with a `device`; files have the same bytes.

    overlap   volumes; 0: as the device needs (`devices.volumes_at_once`), 1: one after the other. Worker processes have one each.
    """

    overlap: Count = flag(
        default=0, metavar="N", help="volumes at once in a process (default 2; 4 with a graphics card)"
    )

    @property
    def overlaps(self) -> bool:
        """Not with overlap 1, nor by itself where there is a single core."""
        return self.overlap > 1 or (self.overlap == 0 and cores() > 1)

    def at_once(self) -> int:
        from ..detection.devices import volumes_at_once

        return self.overlap or volumes_at_once(self.device)
