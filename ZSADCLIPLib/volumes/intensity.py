"""From scanner intensities to the 8 bits that an image model was trained on, and what counts as background."""

from __future__ import annotations

import numpy as np

from ..errors import UsageError
from ..volume import Volume, once_a_volume
from .background import Background, background_of, find_background, has_zero_background, outer_faces
from .components import grown, holes_filled, largest_part
from .hounsfield import is_hounsfield

MODES = ("per-volume-percentile", "per-volume-zscore", "per-slice-minmax", "window")
PERCENTILES = (0.5, 99.5)
Z_LIMIT = 3.0  # standard deviations on both sides of the mean
BRIDGED = 3  # voxels
NEGATIVE_SHARE = 0.1  # of what is measured: more than an interpolation makes of air
STRIPPED_SHARE, STRIPPED_FACES = 0.2, 0.95  # background in the whole volume and on its outer faces


def check_mode(mode: str, window: tuple[float, float] | None) -> None:
    """Raise UsageError for an unknown intensity mode, and for the mode window without one that is low < high."""
    if mode not in MODES:
        raise UsageError(f"intensity mode {mode!r} is not one of {', '.join(MODES)}")
    if mode == "window" and (window is None or not np.isfinite(window).all() or not window[0] < window[1]):
        raise UsageError(f"the window {window} is not (low, high) with low < high; give both in the image's units")


def to_uint8(
    array: np.ndarray, mode: str = "per-volume-percentile", window: tuple[float, float] | None = None
) -> np.ndarray:
    """Slices (N, R, C) of finite numbers as uint8 (N, R, C), rounded to the nearest level.

    `per-slice-minmax`: (x - min) / (max - min) * 255 for each slice, a constant slice becomes 0. `per-volume-percentile`:
    the 0.5 to 99.5 percentiles over the foreground of the volume become 1..255 and the background becomes 0. Background is
    the constant that fills the border (`find_background`), else 0 where it is the lowest value or fills 5 %; without any,
    the percentiles over all voxels become 0..255. `per-volume-zscore`: the same with mean -+ 3 standard deviations as
    limits. `window`: `window` = (low, high) becomes 0..255, and a background other than 0 becomes 0. Raises UsageError for
    an unknown mode or a window that is not low < high.
    """
    check_mode(mode, window)
    if mode == "per-slice-minmax":
        out = np.empty(array.shape, np.uint8)
        for target, one in zip(out, array, strict=True):
            _rescale(target, one, float(one.min()), float(one.max()), 0)
        return out
    background = find_background(array)
    if mode == "window":
        out = _rescaled(array, *window, 0)
        if background is not None and not background.is_zero:
            out[background.of(array)] = 0
        return out
    limits = _spread if mode == "per-volume-zscore" else _limits
    if background is None and not has_zero_background(array):
        return _rescaled(array, *limits(array), 0)
    foreground = ~(background or Background(0.0)).of(array)
    if not foreground.any():
        return np.zeros(array.shape, np.uint8)
    low, high = limits(array[foreground])
    if low == high:
        return foreground.astype(np.uint8) * np.uint8(255)
    out = _rescaled(array, low, high, 1)
    out[~foreground] = 0
    return out


def blank_slices(array: np.ndarray) -> np.ndarray:
    """Which slices of (N, R, C) show nothing, bool (N,): constant ones, all of the same value.

    Where constant slices differ, those of the most frequent value (the lowest of equals) are meant, so that the flagged
    slices are exactly alike and one of them can stand for all.
    """
    low, high = array.min(axis=(1, 2)), array.max(axis=(1, 2))
    constant = low == high
    if not constant.any():
        return constant
    values, counts = np.unique(low[constant], return_counts=True)
    return constant & (low == values[counts.argmax()])


@once_a_volume
def is_skull_stripped(volume: Volume) -> bool:
    """True when the volume looks skull-stripped: its background fills a fifth of it and 95 % of its outer faces.

    A whole head is not, because its neck or scalp meets a face or its air is noise. Axes of one or two voxels have no
    faces.
    """
    array, background = volume.array, background_of(volume)
    if background is None or np.count_nonzero(~background.of(array)) > (1 - STRIPPED_SHARE) * array.size:
        return False
    faces = [face.ravel() for face in outer_faces(array)]
    return float(np.mean(background.of(np.concatenate(faces)))) >= STRIPPED_FACES


def brain_mask(volume: Volume) -> np.ndarray:
    """Where the patient is, bool (I, J, K).

    What is not background of a skull-stripped volume, also where it is cut off: a tenth of what is left is negative, and no
    Hounsfield units. Else the largest part above Otsu's threshold (IEEE Trans. SMC 9, 1979), closed and with its holes filled,
    which for a whole head is the head; there a background counts as 0, or as the lowest measured value if that is negative.
    All True for a constant volume.
    """
    array = volume.array
    background = background_of(volume)
    outside = None if background is None else background.of(array)
    if volume.is_constant or (outside is not None and outside.all()):
        return np.ones(array.shape, bool)
    if outside is not None:
        if is_skull_stripped(volume):
            return ~outside
        measured = array[~outside]
        if np.count_nonzero(measured < 0) >= NEGATIVE_SHARE * measured.size and not is_hounsfield(array):
            return ~outside
        array = np.where(outside, min(measured.min(), array.dtype.type(0)), array)
    mask = largest_part(array > otsu(array))
    # Closing bridges bone and air passages, so that the cavities they open to the outside count as inside.
    mask = ~grown(~grown(mask, BRIDGED), BRIDGED)
    # Cavities are open at the ends of a slab, so they are closed in the planes; all three, so that storage plays no part.
    return np.logical_or.reduce([holes_filled(mask, axis) for axis in range(3)])


def _limits(values: np.ndarray) -> tuple[float, float]:
    """The percentiles, or the extremes where nearly all values are one."""
    low, high = np.percentile(values, PERCENTILES)
    return (float(low), float(high)) if low < high else (float(values.min()), float(values.max()))


def _spread(values: np.ndarray) -> tuple[float, float]:
    """Mean -+ `Z_LIMIT` standard deviations."""
    mean, deviation = float(values.mean(dtype=np.float64)), float(values.std(dtype=np.float64))
    return mean - Z_LIMIT * deviation, mean + Z_LIMIT * deviation


def otsu(array: np.ndarray, bins: int = 256) -> float:
    """The threshold that sets dark from bright values apart best, in a histogram of `bins` (IEEE Trans. SMC 9, 1979)."""
    counts, edges = np.histogram(array, bins, (float(array.min()), float(array.max())))
    centres = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1].astype(float)
    above = array.size - below
    mass = np.cumsum(counts * centres)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = below * above * (mass[:-1] / below - (mass[-1] - mass[:-1]) / above) ** 2
    return float(edges[1 + int(np.nanargmax(between))])


def _rescaled(array: np.ndarray, low: float, high: float, floor: int) -> np.ndarray:
    out = np.empty(array.shape, np.uint8)
    if array.dtype.kind in "iu" and array.dtype.itemsize <= 2:  # a table of all values there are
        values = np.arange(int(array.min()), int(array.max()) + 1)
        levels = np.empty(values.shape, np.uint8)
        _rescale(levels, values, float(low), float(high), floor)
        for target, one in zip(out, array, strict=True):
            target[...] = levels[np.subtract(one, values[0], dtype=np.intp)]
        return out
    for target, one in zip(out, array, strict=True):
        _rescale(target, one, float(low), float(high), floor)
    return out


def _rescale(target: np.ndarray, values: np.ndarray, low: float, high: float, floor: int) -> None:
    """Write `low`..`high` as `floor`..255 into `target`, slice by slice to bound the memory; 0 where low equals high."""
    if not low < high:
        target[...] = 0
        return
    scaled = (values.astype(np.float64) - low) * ((255 - floor) / (high - low)) + floor
    target[...] = np.rint(np.clip(scaled, floor, 255))
