"""Slices of a volume by axis permutation and flips only, and their fit to the square a model sees."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import permutations
from math import ceil

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
class Fit:
    """How slices (R, C) with pixels of `spacing` (row, column) mm fill a square of `size` x `size` pixels.

    The slice is padded with background 0, centred, to a square in mm and resized; nothing is stretched or cut. For
    square pixels and R = C = `size` nothing changes at all. Raises InputError where the spacing cannot be true and
    UsageError for an unknown resampling or size.
    """

    shape: tuple[int, int]
    spacing: tuple[float, float]
    size: int
    resample: str = "bicubic"
    _square: tuple[float, float] = field(init=False, repr=False, compare=False)

    def __post_init__(self):
        if self.resample not in RESAMPLING:
            raise UsageError(f"resampling {self.resample!r} is not one of {', '.join(RESAMPLING)}")
        if self.size < 1:
            raise UsageError(f"the image size {self.size} is not a positive number of pixels")
        extent = max(n * mm for n, mm in zip(self.shape, self.spacing, strict=True))
        square = tuple(_snapped(extent / mm) for mm in self.spacing)
        if square[0] * square[1] > MAX_SQUARE:
            raise InputError(
                f"pixels of {self.spacing[0]:g} x {self.spacing[1]:g} mm are too far from square for a slice of "
                f"{self.shape[0]} x {self.shape[1]}; check the spacing in the file or resample the volume"
            )
        object.__setattr__(self, "_square", square)

    def apply(self, slices: np.ndarray) -> np.ndarray:
        """Slices uint8 (N, R, C) as uint8 (N, S, S), resized as Pillow does it (antialiased), like the authors' code."""
        if slices.dtype != np.uint8 or slices.shape[1:] != self.shape:
            raise InputError(f"expected uint8 slices (N, {self.shape}), got {slices.dtype} {slices.shape}")
        pads, starts = [], []
        for n, square in zip(self.shape, self._square, strict=True):
            before = _before(n, square)
            pads.append((ceil(before), ceil(square - n - before)))
            starts.append(ceil(before) - before)
        padded = np.pad(slices, [(0, 0), *pads])
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
        """Maps float32 (N, S, S) as (N, R, C): bilinear at the pixel centres (align_corners=False), padding cut off."""
        if maps.shape[1:] != (self.size, self.size):
            raise InputError(f"expected maps (N, {self.size}, {self.size}), got {maps.shape}")
        for axis, (n, square) in enumerate(zip(self.shape, self._square, strict=True), start=1):
            centres = (_before(n, square) + np.arange(n) + 0.5) * (self.size / square) - 0.5
            maps = _lerp(maps, np.clip(centres, 0, self.size - 1), axis)
        return maps


def _snapped(pixels: float) -> float:
    """Whole pixels where the spacing's rounding alone made a fraction."""
    return float(round(pixels)) if abs(pixels - round(pixels)) < 0.02 else round(pixels, 6)


def _before(n: int, square: float) -> float:
    """Padding before the first pixel; whole pixels when the square is, so that they are copied and not blended."""
    return float((int(square) - n) // 2) if square == int(square) else (square - n) / 2


def _lerp(maps: np.ndarray, at: np.ndarray, axis: int) -> np.ndarray:
    """Linear interpolation along one axis at positions `at`, two reads an output so that the result never varies."""
    low = np.floor(at).astype(int)
    weight = (at - low).astype(maps.dtype).reshape([-1 if a == axis else 1 for a in range(3)])
    first = np.take(maps, low, axis)
    if not weight.any():
        return first
    second = np.take(maps, np.minimum(low + 1, maps.shape[axis] - 1), axis)
    second -= first
    second *= weight
    first += second
    return first


def _arranged(array: np.ndarray, permutation, flips) -> np.ndarray:
    return array.transpose(permutation)[_steps(flips)]


def _steps(flips) -> tuple[slice, ...]:
    return tuple(slice(None, None, -1 if flip else 1) for flip in flips)
