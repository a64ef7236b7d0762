"""Connected parts of a mask: 26 neighbours, measured in mm3 and by how many slices they reach over."""

from __future__ import annotations

from math import ceil

import numpy as np
from scipy import ndimage

from ..errors import UsageError

SMALLEST_MM3 = 20.0  # of a finding, by default; what it costs and saves is measured in docs/explanation/real-scans.md
LEAST_DEPTH_MM = 3.0  # of a finding across slices, by default; measured in docs/methods/README.md
CONNECTED = np.ones((3, 3, 3), bool)  # 26 neighbours


def components(mask: np.ndarray) -> np.ndarray:
    """The 26-connected parts of a mask (I, J, K) as labels 1, 2, ... in int32 (I, J, K); 0 is background."""
    return ndimage.label(mask, CONNECTED)[0]


def largest_part(mask: np.ndarray) -> np.ndarray:
    """The largest part of a mask (I, J, K) bool whose voxels share faces: a head without bright specks beside it."""
    box = bounds(mask)
    labels, count = ndimage.label(mask[box])
    if count < 2:
        return mask
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    largest = np.zeros(mask.shape, bool)
    largest[box] = labels == sizes.argmax()
    return largest


def grown(mask: np.ndarray, steps: int) -> np.ndarray:
    """A mask (any shape) with all that can be reached from it in so many steps over faces of voxels."""
    for _ in range(steps):
        before, mask = mask, mask.copy()
        for axis in range(mask.ndim):
            old, new = np.moveaxis(before, axis, 0), np.moveaxis(mask, axis, 0)
            new[1:] |= old[:-1]
            new[:-1] |= old[1:]
    return mask


def holes_filled(mask: np.ndarray, axis: int = 0) -> np.ndarray:
    """A mask (I, J, K) with what it encloses in each slice along `axis`: pixels from which no way over edges leads out."""
    in_plane = ndimage.generate_binary_structure(3, 1)
    np.moveaxis(in_plane, axis, 0)[[0, 2]] = False
    labels, count = ndimage.label(~mask, in_plane)
    open_ = np.zeros(count + 1, bool)
    for other in {0, 1, 2} - {axis}:
        open_[np.moveaxis(labels, other, 0)[[0, -1]]] = True
    open_[0] = False
    return ~open_[labels]


def remove_small(
    mask: np.ndarray, spacing: tuple[float, float, float], min_mm3: float, min_slices: int = 1, axis: int = 0
) -> np.ndarray:
    """The mask (I, J, K) without its 26-connected parts smaller than `min_mm3`, or of fewer slices along `axis`.

    `spacing` is in mm along I, J, K; a part must reach over `min_slices`. Raises UsageError for a negative size.
    """
    check_size(min_mm3)
    if (min_mm3 == 0 and min_slices <= 1) or not mask.any():
        return mask.astype(bool)
    box, cleaned = bounds(mask), np.zeros(mask.shape, bool)
    labels = components(mask[box])
    cleaned[box] = large_parts(labels, float(np.prod(spacing)), min_mm3, min_slices, axis)[labels]
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


def check_depth(min_depth_mm: float) -> None:
    """Raise UsageError for a least depth in mm that is not 0 or more."""
    if not 0 <= min_depth_mm < float("inf"):
        raise UsageError(f"the least depth of a finding is {min_depth_mm} mm; expected 0 or more")


def large_parts(labels: np.ndarray, voxel_mm3: float, min_mm3: float, min_slices: int = 1, axis: int = 0) -> np.ndarray:
    """Which labels, bool by label, are parts of at least `min_mm3` and `min_slices` along `axis`; never the background."""
    # A part of exactly the smallest size must not be lost to rounding in the spacing.
    keep = np.bincount(labels.ravel()) * voxel_mm3 >= min_mm3 * (1 - 1e-6)
    if min_slices > 1:
        spans = ndimage.find_objects(labels, keep.size - 1)
        keep[1:] &= [span is not None and span[axis].stop - span[axis].start >= min_slices for span in spans]
    keep[0] = False
    return keep


def slices_deep(min_depth_mm: float, slice_mm: float, slices: int) -> int:
    """Over how many slices a part of at least `min_depth_mm` reaches: max(1, ceil(depth / spacing)), at most all `slices`.

    `slice_mm` is the distance of the slices. Raises UsageError for a depth below 0 mm.
    """
    check_depth(min_depth_mm)
    # Stored affines round the spacing: 3 mm are three slices of 0.99999 mm.
    return max(1, min(ceil(round(min_depth_mm / slice_mm, 3)), slices))
