"""The constant value that fills the border of a volume: padding, or what a mask left outside the brain."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..volume import Volume, once_a_volume

BORDER_SHARE, VOLUME_SHARE = 0.1, 0.02  # of the outer faces and of the volume that a background fills at least
COHERENT = 0.85  # of the background's voxels on a face have neighbours of the same value; noise has none
NEARLY = 1e-3  # of the range of values: less than one of 255 grey levels
NEARLY_SHARE = 0.6  # of the outer faces that a background with remains of an interpolation fills at least
CLEAR_SHARE = (
    0.95  # of the faces, or of what is nearly the background there: exactly constant, so no remains are looked for
)
ZERO_SHARE = 0.05  # where negative values occur, 0 is the background only if it fills at least this share


@dataclass(frozen=True)
class Background:
    """A value that is no measurement, and sometimes a second one; voxels within `tolerance` of it belong to the background."""

    value: float
    tolerance: float = 0.0
    padding: float | None = None

    def of(self, array: np.ndarray) -> np.ndarray:
        """Where an array holds the background, bool of the same shape."""
        near = np.abs(array - array.dtype.type(self.value)) <= self.tolerance if self.tolerance else array == self.value
        return near if self.padding is None else near | (array == self.padding)

    @property
    def is_zero(self) -> bool:
        """True for the usual background."""
        return self.value == 0 and self.padding is None

    def __str__(self) -> str:
        return f"{self.value:g}" if self.padding is None else f"{self.value:g} and {self.padding:g}"


def find_background(array: np.ndarray) -> Background | None:
    """The constant that fills the border of (I, J, K), or None where the border is measured (noise of air, or tissue).

    The most frequent value of the outer faces, if it fills a tenth of them and 2 % of the volume without a gap: in noise a
    value may be as frequent, but its neighbours are others. 0 needs no such neighbours where it is the lowest value. Floating
    numbers that an interpolation left nearly constant are taken within a thousandth of the range of values. A second constant
    is padding around such a volume, if it is the lowest value and negative. Axes of one or two voxels have no faces.
    """
    faces = outer_faces(array)
    if not faces:
        return None
    border = np.concatenate([face.ravel() for face in faces])
    values, counts = np.unique(border, return_counts=True)
    most = counts.argmax()
    found, share = Background(float(values[most])), counts[most] / border.size
    if array.dtype.kind == "f" and share < CLEAR_SHARE:
        near = _nearly(array, border)
        if (
            near
            and share < CLEAR_SHARE * np.count_nonzero(near.of(border)) / border.size
            and _fills(near, array, faces)
        ):
            return near
    if share < BORDER_SHARE or not _fills(found, array, faces):
        return None
    lowest = Background(float(values[0]))
    padded = most > 0 and values[0] < 0 and values[0] == array.min() and _fills(lowest, array, faces)
    return replace(found, padding=lowest.value) if padded else found


@once_a_volume
def background_of(volume: Volume) -> Background | None:
    """`find_background` of a volume's array."""
    return find_background(volume.array)


def outer_faces(array: np.ndarray) -> list[np.ndarray]:
    """The first and last slice of (I, J, K) along each axis of more than two voxels, as views: taking them copies nothing."""
    axes = (np.moveaxis(array, axis, 0) for axis in range(3) if array.shape[axis] > 2)
    return [slices[end] for slices in axes for end in (0, -1)]


def has_zero_background(array: np.ndarray) -> bool:
    """True when the value 0 is the background: the minimum, or so frequent that it cannot be a measured value."""
    zeros = np.count_nonzero(array == 0)
    return bool(zeros and (array.min() >= 0 or zeros >= ZERO_SHARE * array.size))


def _nearly(array: np.ndarray, border: np.ndarray) -> Background | None:
    """The value that most of the border is close to."""
    low, high = np.percentile(array, (0.5, 99.5))
    tolerance, middle = NEARLY * float(high - low), float(np.median(border))
    near = Background(0.0 if abs(middle) <= tolerance else middle, tolerance)
    return near if near.tolerance and np.count_nonzero(near.of(border)) >= NEARLY_SHARE * border.size else None


def _fills(background: Background, array: np.ndarray, faces: list[np.ndarray]) -> bool:
    """True when a background is frequent in the volume and without gaps on the faces."""
    if np.count_nonzero(background.of(array)) < VOLUME_SHARE * array.size:
        return False
    if background.value == 0 and array.min() >= 0:
        return True
    pairs = coherent = 0
    for face in map(background.of, faces):
        for first, second in ((face[1:], face[:-1]), (face[:, 1:], face[:, :-1])):
            pairs += np.count_nonzero(first) + np.count_nonzero(second)
            coherent += 2 * np.count_nonzero(first & second)
    return coherent >= COHERENT * pairs > 0
