"""What the jobs share whose volumes may be under way at once in one process."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import UsageError
from ..execution.base import Execution
from ..fields import Count, flag


@dataclass(frozen=True, kw_only=True)
class Overlapping(Execution):
    """How many volumes are under way at once in a process, for a job with a `device`; files have the same bytes.

    overlap   volumes; 0: as the device needs (`devices.volumes_at_once`), in a worker process one; 1: one after the other.
    """

    overlap: Count = flag(
        default=0,
        metavar="N",
        help="volumes at once in a process (default 4 on a graphics card, else 1; of --workers 1)",
    )

    def check_execution(self) -> None:
        """As `Execution.check_execution`; several volumes at once go neither with Dask nor with a time-out."""
        super().check_execution()
        if self.overlap > 1 and self.executor == "dask":
            raise UsageError(
                f"overlap {self.overlap} and executor dask: a Dask worker has one case at a time; leave out overlap, "
                "and give the cluster more workers"
            )
        if self.overlap > 1 and self.time_out:
            raise UsageError(
                f"overlap {self.overlap} and time-out {self.time_out:g} s: volumes under way at once wait for each other, "
                "which the time-out would count; leave out one of the two"
            )

    def at_once(self) -> int:
        from ..detection.devices import volumes_at_once

        if self.overlap or self.workers or self.time_out:
            return self.overlap or 1
        return volumes_at_once(self.device)
