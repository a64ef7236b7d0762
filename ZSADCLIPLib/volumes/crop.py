"""The field of view that a model gets: the same square for all slices of a volume, filled by the head as in training."""

from __future__ import annotations

import numpy as np

from ..errors import UsageError
from .slicing import View, extent

HEAD, NONE = "head", "none"
FILL = (
    0.88  # of the square's side that the longer side of a head fills; of 0.65 to 0.97 the best (docs/methods/README.md)
)
LEAST = 100.0  # mm: what is smaller is not enlarged further
LEFT_OUT = 0.01  # of a head outside the square: more is worth a word


def parse_crop(value: str | float) -> str | float:
    """ "head", "none" or a side in mm, also as text; raises UsageError for anything else."""
    if value in (HEAD, NONE):
        return value
    try:
        side = float(value)
    except (TypeError, ValueError):
        side = float("nan")
    if not 0 < side < float("inf"):
        raise UsageError(f"crop {value!r:.60}: expected head, none, or a side in mm, a number above 0")
    return side


def view_of(head: np.ndarray, spacing: tuple[float, float], crop: str | float) -> View | None:
    """The square that `crop` shows of slices (N, R, C) whose `head` is True, with pixels of `spacing` (row, column) mm.

    "head": centred on the bounding box of the head over all slices, its longer side filling `FILL` of the square; at least
    `LEAST` mm, or all of a slice that is smaller. A number: a square of that many mm around the same centre. "none": None,
    the whole slice; so, too, where `head` is empty. Raises UsageError as `parse_crop`.
    """
    crop = parse_crop(crop)
    seen = head.any(axis=0)
    if crop == NONE or not seen.any():
        return None
    (top, bottom), (left, right) = (_span(seen.any(axis=axis)) for axis in (1, 0))
    side = crop
    if crop == HEAD:
        whole = extent(head.shape[1:], spacing)
        side = max(extent((bottom - top, right - left), spacing) / FILL, min(LEAST, whole))
    return View((top + bottom) / 2, (left + right) / 2, side)


def _span(line: np.ndarray) -> tuple[int, int]:
    """First and end index of what is True."""
    at = np.flatnonzero(line)
    return int(at[0]), int(at[-1]) + 1
