"""Geometry lives in one type: an array with the matrix that places its voxels in the patient."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import wraps
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from .errors import InputError
from .notes import Note

Fact = TypeVar("Fact")


@dataclass(frozen=True, eq=False)
class Volume:
    """A scalar volume on its own grid.

    `array` has shape (I, J, K); `affine` is (4, 4) float64 and takes voxel indices to RAS millimetres; `name` labels the
    case; `notes` lists what was repaired or noticed while reading; `geometry` is the NIfTI header fields that placed the
    volume, kept so that a result is written with the same ones. Nothing of it changes, the array's values neither. Raises
    InputError unless the array has three axes and the affine is finite and invertible.
    """

    array: np.ndarray
    affine: np.ndarray
    name: str = ""
    notes: tuple[Note, ...] = field(default=())
    geometry: Any = field(default=None, repr=False)

    def __post_init__(self):
        if self.array.ndim != 3:
            raise InputError(
                f"expected a volume with 3 axes, got shape {self.array.shape}; pick one frame or channel first"
            )
        if 0 in self.array.shape:
            raise InputError(f"the volume has no voxels: shape {self.array.shape}")
        affine = np.asarray(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-12:
            raise InputError(
                f"the affine {np.array2string(affine, precision=4, separator=',')} is not an invertible 4x4 matrix; "
                "set the sform or qform of the file"
            )
        object.__setattr__(self, "affine", affine)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.array.shape

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel edge lengths along I, J, K in mm."""
        return tuple(float(s) for s in np.linalg.norm(self.affine[:3, :3], axis=0))

    @property
    def axcodes(self) -> tuple[str, str, str]:
        """The patient direction nearest to each voxel axis, such as ("R", "A", "S")."""
        from nibabel.orientations import aff2axcodes

        return tuple(aff2axcodes(self.affine))

    @property
    def is_constant(self) -> bool:
        """True when every voxel has the same value."""
        return bool(self.array.min() == self.array.max())

    def with_array(self, array: np.ndarray, name: str | None = None) -> Volume:
        """The same grid with other values; raises InputError if the shape differs."""
        if array.shape != self.array.shape:
            raise InputError(f"an array of shape {array.shape} does not fit the grid {self.array.shape}")
        return replace(self, array=array, name=self.name if name is None else name)

    def same_grid(self, other: Volume, tolerance_mm: float = 1e-3) -> bool:
        """True when both volumes have one shape and their corner voxels lie within `tolerance_mm` of each other."""
        return self.shape == other.shape and corner_distance(self.affine, other.affine, self.shape) <= tolerance_mm


def once_a_volume(function: Callable[[Volume], Fact]) -> Callable[[Volume], Fact]:
    """A function of a volume that is asked once for each and remembers its answer as long as the volume is there."""
    known: WeakKeyDictionary[Volume, Fact] = WeakKeyDictionary()

    @wraps(function)
    def remembered(volume: Volume) -> Fact:
        if volume not in known:
            known[volume] = function(volume)
        return known[volume]

    return remembered


def corner_distance(first: np.ndarray, second: np.ndarray, shape: tuple[int, ...]) -> float:
    """How far apart, in mm, two affines place the corner voxels of a grid at most, along any axis."""
    ends = np.stack(np.meshgrid(*[(0, n - 1) for n in (*shape, 1, 1)[:3]], [1], indexing="ij"), -1).reshape(-1, 4)
    return float(np.abs(ends @ (first - second).T).max())
