"""Sorted slices as one volume: where they lie, whether evenly, and what is to be said about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..notes import Note
from .dicom_frame import Frame

SAME_PLACE = 0.01  # mm between frames that count as lying in one place
UNEVEN = 0.1  # of a step, by which a slice may lie off its even place before the volume counts as uneven
ROUNDED = 0.11  # mm, by which it may do so for positions written with one decimal, up to a quarter of a step
NOTICED = 0.01  # of a step, from which on unequal steps are said


@dataclass(frozen=True)
class Group:
    """The frames of one volume from its first slice to the last.

    `part` says which of several in a series it is; `trouble` why it cannot be read, `aside` why it is no choice unless named.
    """

    frames: tuple[Frame, ...]
    part: str = ""
    notes: tuple[Note, ...] = ()
    trouble: str = ""
    aside: str = ""

    @property
    def first(self) -> Frame:
        """The first slice, whose header stands for all."""
        return self.frames[0]

    @property
    def step(self) -> np.ndarray | None:
        """From slice to slice (3,), LPS mm, the shear of a tilted gantry included; None where nothing says it."""
        if len(self.frames) > 1 and (points := _points(self.frames)) is not None:
            return (points[-1] - points[0]) / (len(self.frames) - 1)
        single, many = (self.first.thickness, self.first.between), (self.first.between, self.first.thickness)
        length = next(filter(None, single if len(self.frames) == 1 else many), None)
        return None if length is None else self.first.normal * length


def _points(frames: Sequence[Frame]) -> np.ndarray | None:
    """The position of each frame (N, 3), LPS mm, or its location along the normal; None where neither is said."""
    if all(frame.position is not None for frame in frames):
        return np.array([frame.position for frame in frames])
    if all(frame.location is not None for frame in frames):
        return np.outer([frame.location for frame in frames], frames[0].normal)
    return None


def places_of(frames: Sequence[Frame]) -> np.ndarray | None:
    """Where each frame lies along the normal, (N,) mm; None where neither position nor location says it."""
    points = _points(frames)
    return None if points is None else points @ frames[0].normal


def stacked(frames: Sequence[Frame]) -> list[list[Frame]]:
    """The frames of each place along the normal, in order; those of one place as the series orders them."""
    places = places_of(frames)
    if places is None:
        return [[frame] for frame in sorted(frames, key=lambda frame: frame.order)]
    found: list[list[Frame]] = []
    last = -np.inf
    for n in sorted(range(len(frames)), key=lambda n: (places[n], frames[n].order)):
        if places[n] - last >= SAME_PLACE:
            found.append([])
            last = places[n]
        found[-1].append(frames[n])
    return [sorted(here, key=lambda frame: frame.order) for here in found]


def _lattice(frames: Sequence[Frame]) -> tuple[bool, np.ndarray]:
    """True where sorted, placed slices (at least 2) lie evenly, and the steps (N - 1,) from one to the next in mm."""
    positions = _points(frames)
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    off = np.linalg.norm(positions - np.linspace(positions[0], positions[-1], len(frames)), axis=1).max()
    return bool(off <= max(UNEVEN * steps.mean(), min(ROUNDED, steps.mean() / 4))), steps


def is_even(frames: Sequence[Frame]) -> bool:
    """True for at least 2 slices in places of their own, evenly apart."""
    by_place = stacked(frames)
    if len(by_place) < 2 or len(by_place) < len(frames) or _points(frames) is None:
        return False
    return _lattice([here[0] for here in by_place])[0]


def group_of(frames: list[Frame], part: str, notes: tuple[Note, ...], trouble: str = "") -> Group:
    """A volume with what is to be said about its places and sizes."""
    ordered = tuple(here[0] for here in stacked(frames))
    group = Group(ordered, part, notes, trouble)
    first, said = ordered[0], list(notes)
    if first.position is None or first.orientation is None:
        said.append(Note("unplaced", "the slices carry no position: their order and distance are assumed"))
    if len(ordered) > 1 and _points(ordered) is not None:
        said += _evenness(ordered)
    if first.inverted:
        said.append(
            Note("voxels", "the pixels are to be shown with the lowest white (MONOCHROME1): read inverted, as shown")
        )
    if first.spacing is None:
        said.append(Note("spacing", "the headers do not say the size of a pixel (PixelSpacing): 1 mm is assumed"))
    if group.step is None:
        text = "the headers say neither the thickness nor the distance of slices: 1 mm is assumed"
        said.append(Note("thickness", text))
    elif len(ordered) == 1:
        said.append(Note("thickness", f"a single slice, taken as {np.linalg.norm(group.step):.4g} mm thick", "info"))
    return Group(ordered, part, tuple(said), trouble)


def _evenness(frames: Sequence[Frame]) -> list[Note]:
    """A note where slices are missing, doubled or of mixed distance."""
    even, steps = _lattice(frames)
    usual = float(np.median(steps))
    if not even:
        text = f"the slices are {steps.min():.4g} to {steps.max():.4g} mm apart, most {usual:.4g} mm: "
        missing = np.rint(steps / usual).astype(int) - 1
        regular = np.abs(steps / usual - (missing + 1)).max() < UNEVEN
        if regular and 0 < missing.sum() < len(frames):
            slices = "1 slice seems" if missing.sum() == 1 else f"{missing.sum()} slices seem"
            text += f"{slices} to be missing, after slice {int(np.argmax(missing > 0)) + 1} of {len(frames)}; "
        else:
            text += "some may be missing, or of another stack; "
        return [Note("uneven", text + "sizes and positions along the slices are not exact")]
    if steps.max() - steps.min() > NOTICED * steps.max():
        text = f"the slices are {steps.min():.4g} to {steps.max():.4g} mm apart: read as {steps.mean():.4g} mm"
        return [Note("uneven", text, "warning")]
    said, thick = frames[0].between, frames[0].thickness
    # Some makers write the gap here; a distance is at least the thickness.
    times = round(usual / said) if said and thick and said >= 0.99 * thick else 1
    if times > 1 and abs(usual / said - times) < 0.02:
        text = f"the slices are {usual:.4g} mm apart and the headers say {said:.4g} mm: {times - 1} of {times} seem missing"
        return [Note("uneven", text)]
    return []
