"""Findings: the connected parts of an anomaly mask, measured and ranked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from ..volume import Volume
from ..volumes.components import bounds, check_size, components, large_parts
from ..volumes.slicing import SliceStack

MIDLINE_MM = 2.5


@dataclass(frozen=True)
class Finding:
    """One connected part of the mask, ready for JSON.

    `rank` counts from 1; `label` is its value in `components(mask)`; `peak` and `mean` are raw map scores; positions are
    RAS mm; `side` is the patient's "left", "right" or "midline"; `slices` are the first and last slice in the chosen
    plane, counted from 0; `box` is ((first, last), ...) voxel along I, J, K, both included.
    """

    rank: int
    label: int
    volume_mm3: float
    voxels: int
    peak: float
    mean: float
    peak_ras: tuple[float, float, float]
    centroid_ras: tuple[float, float, float]
    side: str
    slices: tuple[int, int]
    box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def find(
    map: Volume,
    mask: np.ndarray,
    stack: SliceStack,
    min_size_mm3: float = 0.0,
    brain: np.ndarray | None = None,
    min_slices: int = 1,
) -> list[Finding]:
    """The findings in a mask (I, J, K) of the anomaly map `map`, most abnormal first.

    Ranked by the sum of the scores above the lowest score in the mask, times the voxel volume, so that size and height
    both count whatever the scale of the map; then by volume. `stack` says in which plane slices are counted; parts below
    `min_size_mm3`, or that reach over fewer than `min_slices` of them, are left out. `side`
    compares the centroid with the middle of `brain` (I, J, K), the mean of its extremes from left to right, or with RAS
    x = 0 when there is none; within 2.5 mm it is the midline. Raises InputError if a shape differs from the map's.
    """
    check_size(min_size_mm3)
    for name, array in (("mask", mask), ("brain", brain)):
        if array is not None and array.shape != map.shape:
            raise InputError(f"the {name} of shape {array.shape} does not fit the map {map.shape}")
    if not mask.any():
        return []
    # Everything outside the box of the mask is background; on a brain that is most of the grid.
    box = bounds(mask)
    corner = np.array([[span.start] for span in box])
    labels = components(mask[box])
    voxel_mm3 = float(abs(np.linalg.det(map.affine[:3, :3])))
    labels *= large_parts(labels, voxel_mm3, min_size_mm3, min_slices, stack.permutation[0])[labels]
    at, owner, scores = _by_label(labels, map.array[box])
    if at.size == 0:
        return []
    starts = np.flatnonzero(np.diff(owner, prepend=0))
    sizes = np.diff(starts, append=at.size)
    ijk = np.stack(np.unravel_index(at, labels.shape)) + corner
    first, last = np.minimum.reduceat(ijk, starts, 1).T, np.maximum.reduceat(ijk, starts, 1).T
    means = np.add.reduceat(scores, starts) / sizes
    peaks = np.maximum.reduceat(scores, starts)
    hits = np.flatnonzero(scores == np.repeat(peaks, sizes))
    summits = hits[np.searchsorted(hits, starts)]  # the first voxel of each part that holds its peak
    peak_ras = _ras(map.affine, ijk[:, summits].T)
    centroid_ras = _ras(map.affine, np.add.reduceat(ijk, starts, 1).T / sizes[:, None])
    middle = 0.0 if brain is None or not brain.any() else _middle(map.affine, brain)
    excess = (means - scores.min()) * sizes * voxel_mm3
    findings = []
    for rank, n in enumerate(np.lexsort((-sizes, -excess)), start=1):
        span = sorted(stack.index(*corner)[0] for corner in (first[n], last[n]))
        findings.append(
            Finding(
                rank=rank,
                label=int(owner[starts[n]]),
                volume_mm3=float(sizes[n] * voxel_mm3),
                voxels=int(sizes[n]),
                peak=float(peaks[n]),
                mean=float(means[n]),
                peak_ras=_point(peak_ras[n]),
                centroid_ras=_point(centroid_ras[n]),
                side=_side(centroid_ras[n, 0] - middle),
                slices=tuple(span),
                box=tuple((int(a), int(b)) for a, b in zip(first[n], last[n], strict=True)),
            )
        )
    return findings


def _by_label(labels: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Flat index, label and score of the labelled voxels, each (n,), label after label."""
    at = np.flatnonzero(labels)
    owner = labels.ravel()[at]
    order = np.argsort(owner, kind="stable")
    at = at[order]
    return at, owner[order], scores.ravel()[at].astype(np.float64)


def _ras(affine: np.ndarray, ijk: np.ndarray) -> np.ndarray:
    return ijk @ affine[:3, :3].T + affine[:3, 3]


def _point(ras: np.ndarray) -> tuple[float, float, float]:
    return tuple(float(x) for x in ras)


def _middle(affine: np.ndarray, brain: np.ndarray) -> float:
    """RAS x in mm halfway between the leftmost and the rightmost voxel of `brain`."""
    step = affine[0, :3]
    if np.count_nonzero(step) == 1:  # x follows one axis of the grid alone
        axis = int(np.flatnonzero(step)[0])
        span = bounds(brain)[axis]
        return float(step[axis] * (span.start + span.stop - 1) / 2 + affine[0, 3])
    x = _ras(affine, np.argwhere(brain))[:, 0]
    return float(x.min() + x.max()) / 2


def _side(x: float) -> str:
    """The side of a point `x` mm to the right of the middle."""
    if abs(x) <= MIDLINE_MM:
        return "midline"
    return "right" if x > 0 else "left"
