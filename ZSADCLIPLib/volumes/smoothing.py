"""Gaussian smoothing of a map inside a mask, in millimetres, so that neighbouring slices speak for each other."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..errors import InputError, UsageError
from .components import bounds

SMOOTHING = {"through": (0,), "3d": (0, 1, 2)}
"""Along which axes of slices (N, R, C): across the slices, or in all three directions."""


def smoothed(
    maps: np.ndarray, inside: np.ndarray, spacing: tuple[float, float, float], mm: float, how: str = "through"
) -> np.ndarray:
    """Maps float32 (N, R, C) smoothed where `inside` (bool, the same shape) is True, and unchanged elsewhere.

    A separable Gaussian of `mm` standard deviation, so of mm / spacing samples along each axis of SMOOTHING[how]; `spacing` is
    (row, column, slice) in mm. Normalised convolution (Knutsson and Westin 1993): the smoothed map is divided by the smoothed
    mask, so that scores outside count nothing and the border of the brain is not lowered. Raises UsageError for a width that
    is not 0 or more or an unknown `how`, InputError when shapes differ.
    """
    check_smoothing(mm, how)
    if inside.shape != maps.shape:
        raise InputError(f"the mask of shape {inside.shape} does not fit the map {maps.shape}; expected the same grid")
    result = maps.astype(np.float32)
    if mm == 0 or not inside.any():
        return result
    box = bounds(inside)  # nothing outside has any weight
    within = inside[box]
    values, weights = np.where(within, result[box], np.float32(0)), within.astype(np.float32)
    for axis in SMOOTHING[how]:
        sigma = mm / (spacing[2], spacing[0], spacing[1])[axis]
        values, weights = (ndimage.gaussian_filter1d(a, sigma, axis, mode="constant") for a in (values, weights))
    np.divide(values, weights, out=result[box], where=within)
    return result


def check_smoothing(mm: float, how: str) -> None:
    """Raise UsageError for a width in mm that is not 0 or more, or an unknown direction."""
    if not 0 <= mm < float("inf"):
        raise UsageError(f"smoothing of {mm} mm: expected 0 or more")
    if how not in SMOOTHING:
        raise UsageError(f"smoothing {how!r} is unknown; choose {' or '.join(SMOOTHING)}")
