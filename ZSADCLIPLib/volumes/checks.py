"""Whether a volume can be what it is taken for: its size that of a patient, its values those of an image."""

from __future__ import annotations

import numpy as np

from ..notes import Note
from ..volume import Volume

VOXEL_MM = (0.05, 20.0)
LONGEST_MM = 1000.0
SMALLEST_HEAD_MM = 60.0  # along the longest side
MOST_LABELS = 8


def size_notes(volume: Volume) -> tuple[Note, ...]:
    """What is doubtful about the size of a volume's voxels, or about that of the whole."""
    spacing = volume.spacing
    extent = [n * step for n, step in zip(volume.shape, spacing, strict=True)]
    if not VOXEL_MM[0] <= min(spacing) <= max(spacing) <= VOXEL_MM[1]:
        low, high = VOXEL_MM
        text = f"the voxels measure {_by(spacing)} mm; expected {low:g} to {high:g} mm: check the unit and the header"
        return (Note("voxel-size", text),)
    if max(extent) > LONGEST_MM:
        text = f"the volume measures {_by(extent)} mm; expected a head of at most {LONGEST_MM:g} mm: check the unit"
        return (Note("extent", text),)
    if max(extent) < SMALLEST_HEAD_MM:
        return (Note("small", f"the volume measures {_by(extent)} mm, too little for a head: check the unit"),)
    return ()


def is_label_map(volume: Volume) -> bool:
    """True when a volume has between two and MOST_LABELS values, all of them whole numbers and the lowest 0."""
    array = volume.array
    sample = array.ravel()[:: max(1, array.size // 4096)]  # most images are told by a few voxels
    if array.min() != 0 or len(np.unique(sample)) > MOST_LABELS or not (sample == np.rint(sample)).all():
        return False
    values = np.unique(array)
    return bool(2 <= len(values) <= MOST_LABELS and (values == np.rint(values)).all())


def _by(numbers) -> str:
    return " x ".join(f"{x:.4g}" for x in numbers)
