"""Slices grouped by where they lie along the brain."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from .results import Choice, Result

BINS = 20


@dataclass
class Bin:
    """2D Dice of the slices with lesion in one bin, by subject; `distance` is the bin's centre."""

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


def bin_of(distance: np.ndarray, count: int = BINS) -> np.ndarray:
    """The bin of each normalised distance -1..1 (`evaluate.slice_distances`), -1 outside; the last bin includes +1."""
    bins = np.clip(np.floor((np.asarray(distance) + 1) / 2 * count + 1e-9).astype(int), 0, count - 1)
    return np.where(np.abs(distance) <= 1 + 1e-9, bins, -1)


def centres(count: int = BINS) -> list[float]:
    """Middle of each bin."""
    return [round((b + 0.5) * 2 / count - 1, 6) for b in range(count)]


def slice_bins(results: list[Result], choice: Choice, count: int = BINS) -> list[Bin]:
    """`count` bins of one or several rows together, by the slice policy of `choice`."""
    bins = [Bin(centre) for centre in centres(count)]
    for result in results:
        for case, dice in zip(result.files.cases, result.slice_dice(choice), strict=True):
            for b, value in zip(bin_of(np.array(case["slices"]["distance"]), count), dice, strict=True):
                if b >= 0 and not np.isnan(value):
                    bins[b].dice.setdefault(case["subject"], []).append(float(value))
    return bins
