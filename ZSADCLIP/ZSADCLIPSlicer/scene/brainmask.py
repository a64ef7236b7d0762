"""Where findings may lie: a brain mask given as segmentation or label map, brought to the grid of the input."""

from __future__ import annotations

import numpy as np
import slicer
from slicer.i18n import tr as _

from ZSADCLIPLib.errors import InputError

from . import segmentation
from .geometry import affineOf


def maskArray(node, inputNode, segment: str = "") -> np.ndarray:
    """A brain mask given as segmentation or label map, as (K, J, I) on the input's grid.

    `segment` is the id of the one segment that counts; empty for all. Raises InputError for a label map on another grid,
    a segment that is not there, and an empty mask.
    """
    if node.IsA("vtkMRMLSegmentationNode"):
        ids = [segment] if segment else list(node.GetSegmentation().GetSegmentIDs())
        if segment and node.GetSegmentation().GetSegment(segment) is None:
            raise InputError(_("The brain mask '{name}' has no segment '{segment}' any more. Choose another.").format(
                name=node.GetName(), segment=segment))  # fmt: skip
        parts = [segmentation.read(node, inputNode, segment) != 0 for segment in ids]
        array = np.logical_or.reduce(parts) if parts else np.zeros(1, bool)
    else:
        array = slicer.util.arrayFromVolume(node) != 0
        expected = slicer.util.arrayFromVolume(inputNode).shape
        if array.shape != expected or not np.allclose(affineOf(node), affineOf(inputNode), atol=1e-3):
            raise InputError(_("The brain mask '{name}' is not on the grid of the input volume. Resample it.").format(
                name=node.GetName()))  # fmt: skip
    if not array.any():
        raise InputError(_("The brain mask '{name}' is empty.").format(name=node.GetName()))
    return array
