"""The way of scoring: of which planes a map is made, how they are fused, and how it is smoothed before it is cut."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..errors import UsageError, WeightsError
from ..volumes.fusion import check_fusion
from ..volumes.slicing import PLANES, SliceStack
from ..volumes.smoothing import check_smoothing, smoothed
from .shifts import check_shifts

USUAL_SMOOTHING_MM = 2.0
"""Where an adapter brings a threshold for it; of the widths measured the one with the best AP (docs/methods/README.md)."""


@dataclass(frozen=True)
class Scoring:
    """A way of scoring, to which thresholds belong; raises UsageError for values that are not allowed.

    planes     one or more of `slicing.PLANES`, the first of which gives slice scores and the slices of findings; empty: the
               single plane of `preparation.Look`.
    fuse       how several planes become one map (`volumes.fusion`).
    smooth_mm  standard deviation in mm of the Gaussian inside the brain, 0 for none; None: 2 mm where the adapter has a
               threshold for that, else 0 (see `settled`).
    smooth     "through" the slices of the first plane, or "3d"; None: "through", or, where `smooth_mm` is None, too, "3d" if the
               adapter has a threshold for that.
    force      take planes of long and narrow pixels, too (`planes.usable_planes`).
    shifts     maps are the mean over 1, 2 or 4 grids of patches (`shifts.over_shifts`), at as many times the cost.
    """

    planes: tuple[str, ...] = ()
    fuse: str = "geometric"
    smooth_mm: float | None = 0.0
    smooth: str | None = None
    force: bool = False
    shifts: int = 1

    def __post_init__(self):
        for plane in self.planes:
            if plane not in PLANES:
                raise UsageError(f"plane {plane!r} is not one of {', '.join(PLANES)}")
        if len(set(self.planes)) < len(self.planes):
            raise UsageError(f"planes {' '.join(self.planes)}: expected each plane once")
        check_fusion(self.fuse)
        check_smoothing(self.smooth_mm or 0.0, self.directions)
        check_shifts(self.shifts)

    @property
    def directions(self) -> str:
        """Along what a map is smoothed, one of `volumes.smoothing.SMOOTHING`."""
        return self.smooth or "through"

    @property
    def way(self) -> str:
        """The name by which thresholds are stored, such as "axial/smooth2" or "axial+coronal+sagittal/geometric"."""
        parts = ["+".join(self.planes)]
        if len(self.planes) > 1:
            parts.append(self.fuse)
        if self.shifts > 1:
            parts.append(f"shifts{self.shifts}")
        if self.smooth_mm:
            parts.append(f"smooth{self.smooth_mm:g}" + ("" if self.directions == "through" else f"-{self.directions}"))
        return "/".join(parts)

    @property
    def is_plain(self) -> bool:
        """Whether a map is just that of the slices of one plane."""
        return len(self.planes) < 2 and not self.smooth_mm and self.shifts == 1

    def record(self) -> dict:
        """The way for the provenance, JSON-able; what has no effect is None."""
        return {
            "scoring": self.way,
            "planes": list(self.planes),
            "fuse": self.fuse if len(self.planes) > 1 else None,
            "smooth_mm": self.smooth_mm,
            "smooth": self.directions if self.smooth_mm else None,
            "shifts": self.shifts,
        }

    def settled(self, planes: tuple[str, ...], provenance: dict) -> Scoring:
        """The way for a volume that is scored in `planes`, with the smoothing that the adapter's `provenance` suggests."""
        chosen = replace(self, planes=planes)
        if chosen.smooth_mm is not None:
            return chosen
        # The stronger evidence first: on scans of any contrast 3d gave more than through (docs/methods/volumes.md).
        for smooth in (self.smooth,) if self.smooth else ("3d", "through"):
            usual = replace(chosen, smooth_mm=USUAL_SMOOTHING_MM, smooth=smooth)
            if stored_threshold(provenance, usual) is not None:
                return usual
        return replace(chosen, smooth_mm=0.0)

    def smoothed(self, array: np.ndarray, stack: SliceStack, inside: np.ndarray) -> np.ndarray:
        """A map (I, J, K) smoothed where `inside` (bool, the same shape); itself without smoothing."""
        if not self.smooth_mm:
            return array
        # In the order of the slices, not of storage: the same patient stored otherwise has the same numbers.
        maps = smoothed(stack.arrange(array), stack.arrange(inside), stack.spacing, self.smooth_mm, self.directions)
        return stack.restore(maps).copy(order="K")


PLAIN = Scoring()
"""The slices of one plane, nothing else."""


def stored_threshold(provenance: dict, scoring: Scoring) -> float | None:
    """The threshold that an adapter's provenance holds for a way of scoring, None for another way.

    "thresholds" holds them by `Scoring.way`; "threshold" is that of the slices of one plane alone. Raises WeightsError when
    they are damaged.
    """
    try:
        stored = provenance.get("thresholds", {}).get(scoring.way)
        if stored is None and scoring.is_plain:
            stored = provenance.get("threshold")
        return None if stored is None else float(stored)
    except (AttributeError, TypeError, ValueError) as error:
        raise WeightsError(
            f"the adapter's thresholds are damaged ({error}); expected numbers by way of scoring"
        ) from error
