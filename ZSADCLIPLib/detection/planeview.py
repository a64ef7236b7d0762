"""What comes of the slices of one plane beside their map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..backbones.focus import Box, patch_box
from ..notes import Note
from .preparation import Prepared
from .slice_maps import FAST_RUN


@dataclass(frozen=True, eq=False)
class PlaneView:
    """The slices of one plane, their scores (N,), and in fast mode the box of patches of each run of slices."""

    prepared: Prepared
    scores: np.ndarray
    boxes: list[Box] | None

    @property
    def plane(self) -> str:
        """The plane, settled where it was "auto"."""
        return self.prepared.stack.plane

    def record(self) -> dict:
        """The choices of this plane for the provenance, JSON-able."""
        boxes = self.boxes and [list(box) for box in self.boxes]
        return {**self.prepared.record(), "slices": list(self.prepared.stack.shape), "boxes": boxes}


def notes_of(views: Sequence[PlaneView]) -> tuple[Note, ...]:
    """The notes of the first plane, and of the others what it does not say; they were asked for, thick slices or not."""
    notes = list(views[0].prepared.notes)
    for view in views[1:]:
        said = {note.code for note in notes} | {"thick-slices"}
        notes += [note for note in view.prepared.notes if note.code not in said]
    return tuple(notes)


def boxes_of(prepared: Prepared, vision, image_size: int) -> list[Box]:
    """For each run of slices the patches of a `VisionTower` that hold any voxel of the brain, whatever the batch size."""
    seen = prepared.fit.apply(prepared.stack.arrange(prepared.brain).astype(np.uint8) * 255) > 0
    starts, grid = range(0, len(seen), FAST_RUN), vision.grid(image_size)
    return [patch_box(seen[first : first + FAST_RUN].any(axis=0), vision.patch, grid) for first in starts]
