"""Scales of anomaly maps: the four methods' raw maps have different ranges, which matters for fixed thresholds only.

Each scale but "minmax-slice" keeps the order of the scores inside a volume; "raw" and "layers" also between volumes.
"""

from __future__ import annotations

import numpy as np

from .errors import UsageError

SCALES = ("raw", "layers", "minmax-volume", "minmax-slice", "robust-z", "rank")
Z_RANGE = (-20.0, 60.0)


def scaled(scores: np.ndarray, brain: np.ndarray, scale: str, layers: int = 1) -> np.ndarray:
    """The map (N, R, C) on a scale, float32; `brain` boolean of the same shape.

    raw            as the method gives it.
    layers         divided by the number of summed layers, so that each method's map lies in 0..1.
    minmax-volume  lowest 0, highest 1 of the volume; minmax-slice the same of every slice (constant slices become 0).
    robust-z       (x - median) / (1.4826 MAD) over the brain, clipped to -20..60.
    rank           share of brain voxels with a lower score, ties counting half.
    Raises UsageError for an unknown scale.
    """
    if scale == "raw":
        return scores
    if scale == "layers":
        return scores if layers == 1 else scores / np.float32(layers)
    if scale in ("minmax-volume", "minmax-slice"):
        axes = (1, 2) if scale == "minmax-slice" else None
        low, high = scores.min(axis=axes, keepdims=True), scores.max(axis=axes, keepdims=True)
        span = np.where(high > low, high - low, 1).astype(np.float32)
        return ((scores - low) / span).astype(np.float32)
    held = scores[brain] if brain.any() else scores.reshape(-1)
    if scale == "robust-z":
        middle = np.median(held)
        spread = 1.4826 * np.median(np.abs(held - middle))
        z = (scores - middle) / (spread if spread > 0 else 1)
        return np.clip(z, *Z_RANGE).astype(np.float32)
    if scale == "rank":
        ordered = np.sort(held)
        below, upto = (np.searchsorted(ordered, scores, side) for side in ("left", "right"))
        return ((below + upto) / (2 * ordered.size)).astype(np.float32)
    raise UsageError(f"score.scale is {scale!r}; choose one of {', '.join(SCALES)}")


def scale_range(scale: str, raw: tuple[float, float], layers: int = 1) -> tuple[float, float]:
    """Bounds that contain every scaled score of a method whose raw scores lie within `raw`."""
    if scale == "raw":
        return raw
    if scale == "layers":
        return raw[0] / layers, raw[1] / layers
    return Z_RANGE if scale == "robust-z" else (0.0, 1.0)
