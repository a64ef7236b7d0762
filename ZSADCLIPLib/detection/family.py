"""Several adapters of one method, each made for some sequences: the one that fits a volume is used, and said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from ..notes import Note
from ..progress import Progress, silent
from ..volume import Volume
from ..volumes.background import find_background
from ..volumes.sequences import SEQUENCES, sequence_of
from ..volumes.skull import has_skull
from .detector import Detection, Detector


class DetectorFamily:
    """Detectors that share a backbone: `usual`, and `others` by the sequence that they were made for (`volumes.sequences`)."""

    def __init__(self, usual: Detector, others: Mapping[str, Detector]):
        self.usual, self.others = usual, dict(others)
        self.backbone = usual.backbone

    def remember(self, volume: Volume) -> None:
        """Fill the memory banks of all from a normal volume."""
        for detector in (self.usual, *self.others.values()):
            detector.remember(volume)

    def detect(self, volume: Volume, brain: np.ndarray | None = None, progress: Progress = silent) -> Detection:
        """Score a volume with the detector for its sequence, as `Detector.detect`; a note says when it is not the usual one."""
        looks = looks_like(volume)
        if looks not in self.others:
            return self.usual.detect(volume, brain, progress)
        text = f"grey levels as on {SEQUENCES[looks]} images: scored with the adapter for these"
        return self.others[looks].detect(replace(volume, notes=(*volume.notes, Note("adapter", text))), brain, progress)


def looks_like(volume: Volume) -> str | None:
    """The sequence that a volume without a skull looks like, None for a whole head or where nothing tells."""
    background = find_background(volume.array)
    if background is None or volume.is_constant or has_skull(volume):
        return None
    return sequence_of(volume.array, ~background.of(volume.array))
