"""Connected parts of a mask: 26 neighbours, measured in mm3."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..errors import UsageError

SMALLEST_MM3 = 20.0  # of a finding, by default; what it costs and saves is measured in docs/inputs.md
CONNECTED = np.ones((3, 3, 3), bool)  # 26 neighbours


def components(mask: np.ndarray) -> np.ndarray:
    """The 26-connected parts of a mask (I, J, K) as labels 1, 2, ... in int32 (I, J, K); 0 is background."""
    return ndimage.label(mask, CONNECTED)[0]


def largest_part(mask: np.ndarray) -> np.ndarray:
    """The largest part of a mask (I, J, K) bool whose voxels share faces: a head without bright specks beside it."""
    labels, count = ndimage.label(mask)
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return labels == sizes.argmax()


def remove_small(mask: np.ndarray, spacing: tuple[float, float, float], min_mm3: float) -> np.ndarray:
    """The mask (I, J, K) without its 26-connected parts smaller than `min_mm3`; `spacing` is in mm along I, J, K.

    Raises UsageError for a negative size.
    """
    check_size(min_mm3)
    if min_mm3 == 0 or not mask.any():
        return mask.astype(bool)
    box, cleaned = bounds(mask), np.zeros(mask.shape, bool)
    labels = components(mask[box])
    cleaned[box] = large_parts(labels, float(np.prod(spacing)), min_mm3)[labels]
    return cleaned


def bounds(mask: np.ndarray) -> tuple[slice, ...]:
    """The smallest block around the voxels of a mask, empty slices when there are none."""
    spans = []
    for axis in range(mask.ndim):
        occupied = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        spans.append(slice(int(occupied[0]), int(occupied[-1]) + 1) if occupied.size else slice(0, 0))
    return tuple(spans)


def check_size(min_mm3: float) -> None:
    """Raise UsageError for a smallest size in mm3 that is not 0 or more."""
    if not min_mm3 >= 0:
        raise UsageError(f"the smallest size of a finding, {min_mm3} mm3, is not 0 or more")


def large_parts(labels: np.ndarray, voxel_mm3: float, min_mm3: float) -> np.ndarray:
    """Which labels, bool by label, are parts of at least `min_mm3`; never the background."""
    # A part of exactly the smallest size must not be lost to rounding in the spacing.
    keep = np.bincount(labels.ravel()) * voxel_mm3 >= min_mm3 * (1 - 1e-6)
    keep[0] = False
    return keep
