"""Scales of anomaly maps: the four methods' raw maps have different ranges, which matters for fixed thresholds only.

Each scale but "minmax-slice" keeps the order of the scores inside a volume; "raw", "layers" and "minmax-dataset" also
between volumes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import UsageError
from .sketches import ScoreSketch

SCALES = ("raw", "layers", "minmax-dataset", "minmax-volume", "minmax-slice", "robust-z", "rank")
Z_RANGE = (-20.0, 60.0)


def scaled(scores: np.ndarray, brain: np.ndarray, scale: str, layers: int = 1) -> np.ndarray:
    """The map (N, R, C) on a scale, float32; `brain` boolean of the same shape.

    raw            as the method gives it.
    layers         divided by the number of summed layers, so that each method's map lies in 0..1.
    minmax-dataset  as layers here; `DatasetScale` takes the lowest and highest score of the training volumes to 0 and 1.
    minmax-volume  lowest 0, highest 1 of the volume; minmax-slice the same of every slice (constant slices become 0).
    robust-z       (x - median) / (1.4826 MAD) over the brain, clipped to -20..60.
    rank           share of brain voxels with a lower score, ties counting half.
    Raises UsageError for an unknown scale.
    """
    if scale == "raw":
        return scores
    if scale in ("layers", "minmax-dataset"):
        return scores if layers == 1 else scores / np.float32(layers)
    if scale in ("minmax-volume", "minmax-slice"):
        axes = (1, 2) if scale == "minmax-slice" else None
        low, high = scores.min(axis=axes, keepdims=True), scores.max(axis=axes, keepdims=True)
        span = np.where(high > low, high - low, 1).astype(np.float32)
        return ((scores - low) / span).astype(np.float32)
    brain_scores = scores[brain] if brain.any() else scores.reshape(-1)
    if scale == "robust-z":
        middle = np.median(brain_scores)
        spread = 1.4826 * np.median(np.abs(brain_scores - middle))
        z = (scores - middle) / (spread if spread > 0 else 1)
        return np.clip(z, *Z_RANGE).astype(np.float32)
    if scale == "rank":
        ordered = np.sort(brain_scores)
        below, upto = (np.searchsorted(ordered, scores, side) for side in ("left", "right"))
        return ((below + upto) / (2 * ordered.size)).astype(np.float32)
    raise UsageError(f"score.scale is {scale!r}; choose one of {', '.join(SCALES)}")


def scale_range(scale: str, raw: tuple[float, float], layers: int = 1) -> tuple[float, float]:
    """Bounds that contain every scaled score of a method whose raw scores lie within `raw`."""
    if scale == "raw":
        return raw
    if scale in ("layers", "minmax-dataset"):
        return raw[0] / layers, raw[1] / layers
    return Z_RANGE if scale == "robust-z" else (0.0, 1.0)


@dataclass(frozen=True)
class DatasetScale:
    """One straight line for a data set: `low` becomes 0 and `high` 1; scores beyond them lie outside 0..1.

    The limits are those of the training volumes that thresholds are taken from, so that no test volume moves another.
    """

    low: float = 0.0
    high: float = 1.0

    @classmethod
    def over(cls, pooled: ScoreSketch) -> DatasetScale:
        """The edges of the lowest and highest bins that hold a score; the sketch's range when there is one bin or none."""
        occupied_bins = np.flatnonzero(pooled.positives + pooled.negatives)
        width = (pooled.hi - pooled.lo) / pooled.bins
        if occupied_bins.size < 2:
            return cls(pooled.lo, pooled.hi)
        return cls(pooled.lo + float(occupied_bins[0]) * width, pooled.lo + float(occupied_bins[-1] + 1) * width)

    def __call__(self, value):
        """A score, or an array of them, on the line; float32 arrays stay float32."""
        if isinstance(value, np.ndarray):
            return ((value - np.float32(self.low)) / np.float32(self.high - self.low)).astype(value.dtype)
        return (value - self.low) / (self.high - self.low)
