"""Scores in 16 bits: whole steps of a power of two, which every reader turns into the same numbers."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..errors import InputError, UsageError

MAP_TYPES = ("int16", "float32")
MOST = 65534  # steps from the lowest score to the highest, so that the middle one is 0
FINEST = -126  # exponent of the smallest step, which is still a normal float32


class Packed(NamedTuple):
    """Voxels int16 (I, J, K); a score is slope * voxel + inter, the fields scl_slope and scl_inter of NIfTI."""

    voxels: np.ndarray
    slope: float
    inter: float


def packed(scores: np.ndarray) -> Packed:
    """Scores (any shape, float32) in steps, off by at most half of one: 1.6e-5 of their range, or 6e-8 of the largest of them.

    A step is a power of two, and at most 2**24 of them lead from 0 to any score. So slope * voxel + inter is exact in float32, in
    whatever order and precision a reader computes it, and scores that were read back are packed without any loss. Raises
    InputError for scores that are not finite.
    """
    low, high = (float(scores.min()), float(scores.max())) if scores.size else (0.0, 0.0)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise InputError("a map with values that are not finite cannot be written as int16; write float32")
    if low == high:
        return Packed(np.zeros(scores.shape, np.int16), 1.0, low)
    exponent = max(FINEST, int(np.floor(np.log2((high - low) / MOST))))
    while not _fits(low, high, exponent):
        exponent += 1
    step = 2.0**exponent
    middle = (round(low / step) + round(high / step)) // 2
    counted = scores / np.float32(step)
    np.rint(counted, out=counted)
    counted -= np.float32(middle)
    return Packed(counted.astype(np.int16), step, middle * step)


def as_stored(scores: np.ndarray, map_type: str) -> np.ndarray:
    """Scores float32 as they are read back from a file of `map_type`; raises UsageError for an unknown type."""
    check_map_type(map_type)
    if map_type == "float32":
        return scores.astype(np.float32, copy=False)
    voxels, slope, inter = packed(scores)
    found = voxels * np.float32(slope)
    found += np.float32(inter)
    return found


def check_map_type(map_type: str) -> None:
    """Raise UsageError for a type that is not one of MAP_TYPES."""
    if map_type not in MAP_TYPES:
        raise UsageError(f"map type {map_type!r} is unknown; choose one of {', '.join(MAP_TYPES)}")


def _fits(low: float, high: float, exponent: int) -> bool:
    """Whether int16 holds all steps of 2**exponent between two scores, and float32 each of them exactly."""
    first, last = round(low / 2.0**exponent), round(high / 2.0**exponent)
    return last - first <= MOST and max(abs(first), abs(last)) <= 1 << 24
