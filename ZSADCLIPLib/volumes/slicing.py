"""Slices of a volume by axis permutation and flips only, and their fit to the square a model sees."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import permutations
from math import ceil, floor

import numpy as np
from PIL import Image

from ..errors import InputError, UsageError
from ..volume import Volume

# RAS direction in which the slice, row and column index grows. Axial and coronal are radiological: column 0 is the
# patient's right. Sagittal slices run from right to left with the face to the left of the picture.
PLANES = {
    "axial": ((0, 0, 1), (0, -1, 0), (-1, 0, 0)),
    "coronal": ((0, 1, 0), (0, 0, -1), (-1, 0, 0)),
    "sagittal": ((-1, 0, 0), (0, 0, -1), (0, -1, 0)),
}
OBLIQUE_DEGREES = 25.0
RESAMPLING = {
    "bicubic": Image.Resampling.BICUBIC,
    "bilinear": Image.Resampling.BILINEAR,
    "nearest": Image.Resampling.NEAREST,
}
MAX_SQUARE = 2**26  # pixels of a padded slice; more means a spacing that cannot be true


@dataclass(frozen=True, eq=False)
class SliceStack:
    """The slices of a volume in one plane.

    `array` has shape (N, R, C) and is a view of the volume's array where it can be; `spacing` is (row, column, slice) in
    mm; `permutation` names the voxel axis behind N, R, C and `flips` whether it runs backwards; `obliquity` is the
    largest angle in degrees between a voxel axis and the patient axis it stands for.
    """

    array: np.ndarray
    spacing: tuple[float, float, float]
    plane: str
    permutation: tuple[int, int, int]
    flips: tuple[bool, bool, bool]
    obliquity: float

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.array.shape

    @property
    def warning(self) -> str:
        """What to know before trusting the plane's name; empty when the grid is nearly aligned with the patient."""
        if self.obliquity <= OBLIQUE_DEGREES:
            return ""
        return (
            f"the grid is {self.obliquity:.0f} degrees oblique, so its slices are only roughly {self.plane}; "
            "resample the volume to the patient axes for true ones"
        )

    def arrange(self, array: np.ndarray) -> np.ndarray:
        """An array (I, J, K) on the volume's grid as slices (N, R, C), a view; raises InputError on another shape."""
        expected = tuple(self.shape[self.permutation.index(axis)] for axis in range(3))
        if array.shape != expected:
            raise InputError(f"an array of shape {array.shape} does not fit the grid {expected}")
        return _arranged(array, self.permutation, self.flips)

    def restore(self, array: np.ndarray) -> np.ndarray:
        """Slices (N, R, C) as an array (I, J, K) on the volume's grid, a view: the exact inverse of `arrange`.

        Raises InputError if the shape is not the stack's.
        """
        if array.shape != self.shape:
            raise InputError(f"slices of shape {array.shape} do not fit the stack {self.shape}")
        return array[_steps(self.flips)].transpose(np.argsort(self.permutation))

    def voxel(self, n: int, r: int, c: int) -> tuple[int, int, int]:
        """The voxel index (i, j, k) of slice `n`, row `r`, column `c`."""
        turned = [size - 1 - x if flip else x for x, size, flip in zip((n, r, c), self.shape, self.flips, strict=True)]
        return tuple(int(turned[self.permutation.index(axis)]) for axis in range(3))

    def index(self, i: int, j: int, k: int) -> tuple[int, int, int]:
        """The slice, row and column (n, r, c) of voxel (i, j, k): the inverse of `voxel`."""
        along = [(i, j, k)[axis] for axis in self.permutation]
        return tuple(
            int(size - 1 - x if flip else x) for x, size, flip in zip(along, self.shape, self.flips, strict=True)
        )


def slice_volume(volume: Volume, plane: str = "axial") -> SliceStack:
    """Turn a volume in any orientation into slices, without interpolation.

    The voxel axes are given to slice, row and column by the permutation with the largest sum of |cosine| to the patient
    axes (choosing each axis alone can take one twice near 45 degrees), and flipped so that: axial has row 0 anterior,
    column 0 patient right, slices towards superior; coronal has row 0 superior, column 0 patient right, slices towards
    anterior; sagittal has row 0 superior, column 0 anterior, slices towards the patient's left. Raises UsageError for an
    unknown plane.
    """
    if plane not in PLANES:
        raise UsageError(f"plane {plane!r} is not one of {', '.join(PLANES)}")
    # The nearest rotation to the axis directions, so that a sheared grid (tilted gantry) is judged fairly.
    u, _, vt = np.linalg.svd(volume.affine[:3, :3] / np.asarray(volume.spacing))
    cosines = np.asarray(PLANES[plane], float) @ (u @ vt)
    rows = np.arange(3)
    permutation = max(permutations(range(3)), key=lambda p: round(float(np.abs(cosines[rows, p]).sum()), 9))
    chosen = cosines[rows, permutation]
    flips = tuple(bool(x < 0) for x in chosen)
    spacing = tuple(volume.spacing[axis] for axis in (*permutation[1:], permutation[0]))
    obliquity = float(np.degrees(np.arccos(np.clip(np.abs(chosen).min(), 0, 1))))
    return SliceStack(_arranged(volume.array, permutation, flips), spacing, plane, permutation, flips, obliquity)


def stored_order(volume: Volume, stack: SliceStack) -> SliceStack:
    """The same slices with rows and columns as the file stores them: the first of both axes down, the second to the right."""
    permutation = (stack.permutation[0], *sorted(stack.permutation[1:]))
    flips = (stack.flips[0], False, False)
    spacing = tuple(volume.spacing[axis] for axis in (*permutation[1:], permutation[0]))
    array = _arranged(volume.array, permutation, flips)
    return SliceStack(array, spacing, stack.plane, permutation, flips, stack.obliquity)


@dataclass(frozen=True)
class View:
    """A square of `side` mm in the plane of slices, its centre at `row` and `column` in pixels from the first one's edge."""

    row: float
    column: float
    side: float


@dataclass(frozen=True)
class Fit:
    """How slices (R, C) with pixels of `spacing` (row, column) mm fill a square of `size` x `size` pixels.

    What lies in `view` is resized, and what the slice lacks of it is background 0; nothing is stretched. The view moves by
    less than a pixel, so that whole pixels are copied where that is possible. Without a view it is the smallest square in mm
    that holds the whole slice; for square pixels and R = C = `size` nothing changes at all then. Raises InputError where the
    spacing cannot be true and UsageError for an unknown resampling or size.
    """

    shape: tuple[int, int]
    spacing: tuple[float, float]
    size: int
    resample: str = "bicubic"
    view: View | None = None
    _square: tuple[float, float] = field(init=False, repr=False, compare=False)
    _start: tuple[float, float] = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        if self.resample not in RESAMPLING:
            raise UsageError(f"resampling {self.resample!r} is not one of {', '.join(RESAMPLING)}")
        if self.size < 1:
            raise UsageError(f"the image size {self.size} is not a positive number of pixels")
        view = self.view or View(self.shape[0] / 2, self.shape[1] / 2, extent(self.shape, self.spacing))
        square = tuple(_snapped(view.side / mm) for mm in self.spacing)
        if square[0] * square[1] > MAX_SQUARE:
            raise InputError(
                f"pixels of {self.spacing[0]:g} x {self.spacing[1]:g} mm are too far from square for a slice of "
                f"{self.shape[0]} x {self.shape[1]}; check the spacing in the file or resample the volume"
            )
        object.__setattr__(self, "_square", square)
        start = (_start(centre, n) for centre, n in zip((view.row, view.column), square, strict=True))
        object.__setattr__(self, "_start", tuple(start))

    @property
    def box(self) -> tuple[float, float, float, float]:
        """What is seen, in pixels of the slice: first row, end row, first column, end column; beyond the slice where padded."""
        (top, left), (height, width) = self._start, self._square
        return top, top + height, left, left + width

    @property
    def seen(self) -> np.ndarray:
        """Which pixels of a slice (R, C) have their centre in the view, bool."""
        rows, columns = (self._is_seen(axis) for axis in range(2))
        return rows[:, None] & columns

    def apply(self, slices: np.ndarray) -> np.ndarray:
        """Slices uint8 (N, R, C) as uint8 (N, S, S), resized as Pillow does it (antialiased), like the authors' code."""
        if slices.dtype != np.uint8 or slices.shape[1:] != self.shape:
            raise InputError(f"expected uint8 slices (N, {self.shape}), got {slices.dtype} {slices.shape}")
        pads, taken, starts = [], [], []
        for n, start, square in zip(self.shape, self._start, self._square, strict=True):
            first, end = floor(start), ceil(start + square)
            taken.append(slice(min(max(first, 0), n), max(min(end, n), 0)))
            inside = max(0, taken[-1].stop - taken[-1].start)
            before = min(max(-first, 0), end - first)
            pads.append((before, end - first - before - inside))
            starts.append(start - first)
        padded = np.pad(slices[:, taken[0], taken[1]], [(0, 0), *pads])
        if self._square == (self.size, self.size):
            return padded
        height, width = padded.shape[1:]
        bottom, right = (min(s + q, n) for s, q, n in zip(starts, self._square, (height, width), strict=True))
        box, method = (starts[1], starts[0], right, bottom), RESAMPLING[self.resample]
        out = np.empty((len(slices), self.size, self.size), np.uint8)
        for target, one in zip(out, padded, strict=True):
            target[...] = Image.fromarray(one).resize((self.size, self.size), method, box=box)
        return out

    def back(self, maps: np.ndarray) -> np.ndarray:
        """Maps float32 (N, S, S) as (N, R, C): bilinear at the pixel centres (align_corners=False), padding cut off.

        Pixels outside the view have no score: they get the lowest of all maps that are given.
        """
        if maps.shape[1:] != (self.size, self.size):
            raise InputError(f"expected maps (N, {self.size}, {self.size}), got {maps.shape}")
        lowest = maps.min() if maps.size and not self.seen.all() else None
        centres = (
            (np.arange(n) - start + 0.5) * (self.size / square) - 0.5
            for n, start, square in zip(self.shape, self._start, self._square, strict=True)
        )
        rows, columns = (np.clip(each, 0, self.size - 1) for each in centres)
        out = np.empty((len(maps), *self.shape), maps.dtype)
        for target, one in zip(out, maps, strict=True):  # each stays in the processor's cache meanwhile
            target[...] = _lerp(_lerp(one, rows, 0), columns, 1)
        if lowest is not None:
            out[:, ~self.seen] = lowest
        return out

    def _is_seen(self, axis: int) -> np.ndarray:
        centres = np.arange(self.shape[axis]) + 0.5 - self._start[axis]
        return (centres > 0) & (centres < self._square[axis])


def extent(shape: tuple[int, int], spacing: tuple[float, float]) -> float:
    """The longer side in mm of slices of `shape` with pixels of `spacing` mm."""
    return max(n * mm for n, mm in zip(shape, spacing, strict=True))


def _snapped(pixels: float) -> float:
    """Whole pixels where the spacing's rounding alone made a fraction."""
    return float(round(pixels)) if abs(pixels - round(pixels)) < 0.02 else round(pixels, 6)


def _start(centre: float, square: float) -> float:
    """Where a square begins; at a whole pixel when it has whole ones, so that they are copied and not blended."""
    return float(ceil(centre - square / 2)) if square == int(square) else centre - square / 2


def _lerp(map: np.ndarray, at: np.ndarray, axis: int) -> np.ndarray:
    """Linear interpolation of (R, C) along one axis at positions `at`, two reads an output so that the result never varies."""
    low = np.floor(at).astype(int)
    weight = (at - low).astype(map.dtype).reshape((-1, 1) if axis == 0 else (1, -1))
    first = np.take(map, low, axis)
    if not weight.any():
        return first
    second = np.take(map, np.minimum(low + 1, map.shape[axis] - 1), axis)
    second -= first
    second *= weight
    first += second
    return first


def _arranged(array: np.ndarray, permutation, flips) -> np.ndarray:
    return array.transpose(permutation)[_steps(flips)]


def _steps(flips) -> tuple[slice, ...]:
    return tuple(slice(None, None, -1 if flip else 1) for flip in flips)
