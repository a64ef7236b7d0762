"""Slices grouped by where they lie along the brain."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .results import Choice, Result

BINS = 20


@dataclass
class Bin:
    """2D Dice of the slices with lesion in one bin, by subject; `distance` is the bin's centre on the axis."""

    distance: float
    dice: dict[str, list[float]] = field(default_factory=dict)

    @property
    def values(self) -> list[float]:
        """All slices together."""
        return [value for values in self.dice.values() for value in values]

    @property
    def over_slices(self) -> float:
        """Mean over slices, NaN without any."""
        return float(np.mean(self.values)) if self.dice else float("nan")

    @property
    def over_subjects(self) -> float:
        """Mean over the means of subjects, NaN without any."""
        return float(np.mean([np.mean(values) for values in self.dice.values()])) if self.dice else float("nan")


@dataclass(frozen=True)
class Axis:
    """Where a slice lies: `kind` as `settings.Metrics.axis`, in `count` equal bins over -`reach`..`reach`."""

    kind: str = "extent"
    count: int = BINS
    reach: float = 1.0

    @classmethod
    def over(cls, kind: str, count: int, cases: list[dict]) -> Axis:
        """The axis for some evaluated cases: millimetres reach as far as any brain, in full centimetres."""
        if kind != "mm":
            return cls(kind, count)
        half = max(
            (
                (np.flatnonzero(c["slices"]["brain"])[[0, -1]] @ (-0.5, 0.5)) * c["spacing_mm"][2]
                for c in cases
                if any(c["slices"]["brain"])
            ),
            default=0.0,
        )
        return cls(kind, count, max(10.0, float(np.ceil(half / 10 - 1e-9) * 10)))

    @property
    def label(self) -> str:
        """The axis in words."""
        return {
            "extent": "distance from the brain's centre\n(−1 lowest, +1 highest slice)",
            "centre": "distance from the volume's centre\n(−1 lowest, +1 highest slice of the volume)",
            "mm": "distance from the brain's centre (mm)",
        }[self.kind]

    def distances(self, case: dict) -> np.ndarray:
        """The distance of each slice of an evaluated case (N,), upwards positive."""
        if self.kind == "extent":
            return np.array(case["slices"]["distance"])
        index = np.arange(len(case["slices"]["brain"]))
        if self.kind == "centre":
            return 2 * index / max(1, index[-1]) - 1
        brain_slices = np.flatnonzero(case["slices"]["brain"])
        middle = (brain_slices[0] + brain_slices[-1]) / 2 if brain_slices.size else index[-1] / 2
        return (index - middle) * case["spacing_mm"][2]

    def bin_of(self, distance: np.ndarray) -> np.ndarray:
        """The bin of each distance, -1 outside; the last bin includes the upper end."""
        share = np.asarray(distance) / self.reach
        bins = np.clip(np.floor((share + 1) / 2 * self.count + 1e-9).astype(int), 0, self.count - 1)
        return np.where(np.abs(share) <= 1 + 1e-9, bins, -1)

    @property
    def centres(self) -> list[float]:
        """Middle of each bin."""
        return [round(((b + 0.5) * 2 / self.count - 1) * self.reach, 6) for b in range(self.count)]


def slice_bins(results: list[Result], choice: Choice, axis: Axis = Axis()) -> list[Bin]:  # noqa: B008 (frozen)
    """The bins of one or several rows together, by the slice policy of `choice`."""
    bins = [Bin(centre) for centre in axis.centres]
    for result in results:
        for case, dice in zip(result.files.cases, result.slice_dice(choice), strict=True):
            for b, value in zip(axis.bin_of(axis.distances(case)), dice, strict=True):
                if b >= 0 and not np.isnan(value):
                    bins[b].dice.setdefault(case["subject"], []).append(float(value))
    return bins
