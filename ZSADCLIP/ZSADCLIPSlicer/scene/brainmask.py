"""Where findings may lie: a brain mask given as segmentation or label map, brought to the grid of the input."""

from __future__ import annotations

import numpy as np
import slicer
from slicer.i18n import tr as _

from ZSADCLIPLib.errors import InputError

from . import segmentation
from .geometry import affineOf

OF = "ZSADCLIP.BrainOf"
BRAIN = "brain"


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


def show(inputNode, mask: np.ndarray):
    """The segmentation that shows a brain, bool (K, J, I) on the input's grid, with an outline; made once for a volume."""
    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    node = next((node for node in nodes if node.GetNodeReference(OF) is inputNode), None)
    if node is None:
        name = _("{name} brain").format(name=inputNode.GetName())
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
        node.CreateDefaultDisplayNodes()
        node.SetNodeReferenceID(OF, inputNode.GetID())
        node.GetDisplayNode().SetVisibility2DFill(False)
    node.SetAndObserveTransformNodeID(inputNode.GetTransformNodeID())
    node.SetReferenceImageGeometryParameterFromVolumeNode(inputNode)
    if node.GetSegmentation().GetSegment(BRAIN) is None:
        node.GetSegmentation().AddEmptySegment(BRAIN, _("Brain"), (0.2, 0.75, 1.0))
    image = segmentation.wholeGrid(inputNode)
    np.copyto(segmentation.voxels(image), mask)
    slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(image, node, BRAIN)
    return node
