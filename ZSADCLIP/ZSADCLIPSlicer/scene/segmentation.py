"""The findings as one segment: written, updated while a threshold is dragged, never over a user's edits."""

from __future__ import annotations

import zlib

import numpy as np
import slicer
import slicer.util
import vtk
from slicer.i18n import tr as _
from vtk.util.numpy_support import vtk_to_numpy

LABELMAP = slicer.vtkSegmentationConverter.GetSegmentationBinaryLabelmapRepresentationName()
SEGMENT = "anomaly"
WRITTEN = "ZSADCLIP.Written"
REGION = "ZSADCLIP.Region"
COLOR = (0.15, 0.95, 0.35)
_lastWritten: dict[str, int] = {}  # node id -> modification time of its labelmap after our own last write


def create(inputNode, name: str, region: str = ""):
    """A segmentation node with one empty segment on the grid and under the transform of the input.

    `region` is what was scored, such as brain; it is what the segment's terminology says.
    """
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", name)
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(inputNode)
    node.SetAttribute(REGION, region)
    addSegment(node)
    display = node.GetDisplayNode()
    display.SetVisibility2DFill(False)  # not only transparent: an invisible fill would still be drawn at every update
    display.SetOpacity2DOutline(1.0)
    display.SetSliceIntersectionThickness(2)
    return node


def addSegment(node) -> None:
    """Add the segment of the findings, with terminology, if it is not there."""
    if node.GetSegmentation().GetSegment(SEGMENT) is None:
        node.GetSegmentation().AddEmptySegment(SEGMENT, _("Anomaly"), COLOR)
        setRegion(node, node.GetAttribute(REGION) or "")


def setRegion(node, region: str) -> None:
    """Let the terminology of the segment say what was scored: a lesion of that region, or of none that has a code."""
    node.SetAttribute(REGION, region)
    segment = node.GetSegmentation().GetSegment(SEGMENT)
    if segment is not None:
        setTerminology(segment, region)


def setTerminology(segment, region: str) -> None:
    """Let a segment say that it is a lesion of that region."""
    if hasattr(segment, "SetTerminology"):
        segment.SetTerminology(terminology(region))
    else:  # Slicer 5.8 and older
        segment.SetTag(segment.GetTerminologyEntryTagName(), terminology(region))


def terminology(region: str) -> str:
    """Slicer's text of category, type and region of a segment, the same codes as in `ZSADCLIPLib.dicom`."""
    from ZSADCLIPLib.dicom.terms import ALTERED, LESION, region_of

    def text(term) -> str:
        value, scheme, meaning = term or ("", "", "")
        return f"{scheme}^{value}^{meaning}"

    kinds = f"Segmentation category and type - 3D Slicer General Anatomy list~{text(ALTERED)}~{text(LESION)}~^^"
    return f"{kinds}~Anatomic codes - DICOM master list~{text(region_of(region)[0])}~^^"


def write(node, inputNode, mask: np.ndarray) -> None:
    """Replace the segment by `mask` (K, J, I) uint8 on the input's grid."""
    addSegment(node)
    if not writeLive(node, inputNode, lambda out: np.copyto(out, mask)):
        image = wholeGrid(inputNode)
        np.copyto(voxels(image), mask)
        # Other segments may share the labelmap, which only Slicer's own function takes apart.
        slicer.vtkSlicerSegmentationsModuleLogic.SetBinaryLabelmapToSegment(image, node, SEGMENT)
    node.SetAttribute(WRITTEN, _checksum(mask))
    _remember(node)


def writeLive(node, inputNode, fill) -> bool:
    """Change the labelmap in place: `fill(array (K, J, I) uint8)` sets every voxel. False when that cannot be done.

    Copying and converting a labelmap takes far longer than thresholding it; while a slider is dragged only the voxels
    change. (slicer.util's function also leaves a display node in the scene at every call.) The checksum is not updated
    here: `write` must follow when the drag ends.
    """
    if node.GetSegmentation().GetNumberOfSegments() != 1 or _labelmap(node) is None:
        return False
    image = _labelmap(node)
    node.GetSegmentation().GetSegment(SEGMENT).SetLabelValue(1)  # it may differ after other segments came and went
    if not _onGrid(image, inputNode):
        image = wholeGrid(inputNode)
        node.GetSegmentation().GetSegment(SEGMENT).AddRepresentation(LABELMAP, image)
    fill(voxels(image))
    image.GetPointData().GetScalars().Modified()
    image.Modified()
    _remember(node)
    return True


def edited(node, inputNode) -> bool:
    """True when the segment is not what this module wrote last: someone edited or removed it."""
    expected = node.GetAttribute(WRITTEN)
    if expected is None:
        return False
    if node.GetSegmentation().GetSegment(SEGMENT) is None:
        return True
    image = _labelmap(node)
    if image is not None and _lastWritten.get(node.GetID()) == image.GetMTime():
        return False
    return _checksum(read(node, inputNode)) != expected


def read(node, inputNode, segment: str = SEGMENT) -> np.ndarray:
    """A segment as (K, J, I) uint8 on the input's grid, both where their parent transforms put them; a copy."""
    image, whole = slicer.vtkOrientedImageData(), wholeGrid(inputNode)
    if not node.GetBinaryLabelmapRepresentation(segment, image) or image.IsEmpty():
        return np.zeros(voxels(whole).shape, np.uint8)
    placed = slicer.vtkOrientedImageData()
    resample = slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage
    resample(image, whole, placed, False, False, _between(node, inputNode))
    return (voxels(placed) != 0).astype(np.uint8)


def show3D(node, shown: bool) -> None:
    """Make or drop the surface of the segment and show it in 3D views."""
    if shown:
        node.CreateClosedSurfaceRepresentation()
    else:
        node.RemoveClosedSurfaceRepresentation()
    node.GetDisplayNode().SetVisibility3D(shown)


def shown3D(node) -> bool:
    name = slicer.vtkSegmentationConverter.GetSegmentationClosedSurfaceRepresentationName()
    return bool(node.GetDisplayNode().GetVisibility3D() and node.GetSegmentation().ContainsRepresentation(name))


def showOutline(node, shown: bool) -> None:
    """Show or hide the outline in slice views."""
    node.GetDisplayNode().SetVisibility2DOutline(shown)


def _between(node, inputNode):
    """The transform that takes the segmentation to the input's place, None where they share one."""
    if node.GetTransformNodeID() == inputNode.GetTransformNodeID():
        return None
    transform, parents = vtk.vtkGeneralTransform(), (node.GetParentTransformNode(), inputNode.GetParentTransformNode())
    slicer.vtkMRMLTransformNode.GetTransformBetweenNodes(*parents, transform)
    return transform


def _remember(node) -> None:
    image = _labelmap(node)
    if image is not None:
        _lastWritten[node.GetID()] = image.GetMTime()


def _labelmap(node):
    segment = node.GetSegmentation().GetSegment(SEGMENT)
    return segment.GetRepresentation(LABELMAP) if segment is not None else None


def voxels(image) -> np.ndarray:
    """The scalars of an image as (K, J, I), shared with it."""
    return vtk_to_numpy(image.GetPointData().GetScalars()).reshape(image.GetDimensions()[::-1])


def _onGrid(image, inputNode) -> bool:
    """True when a labelmap of bytes covers exactly the input's voxels."""
    if image.GetExtent() != inputNode.GetImageData().GetExtent() or image.GetScalarType() != vtk.VTK_UNSIGNED_CHAR:
        return False
    matrices = [vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()]
    image.GetImageToWorldMatrix(matrices[0])
    inputNode.GetIJKToRASMatrix(matrices[1])
    return np.allclose(*map(slicer.util.arrayFromVTKMatrix, matrices), rtol=0, atol=1e-4)


def wholeGrid(inputNode, kind: int = vtk.VTK_UNSIGNED_CHAR):
    """An uninitialised labelmap on all voxels of the input (segmentations crop theirs to what is filled)."""
    image = slicer.vtkOrientedImageData()
    image.SetExtent(inputNode.GetImageData().GetExtent())
    image.AllocateScalars(kind, 1)
    matrix = vtk.vtkMatrix4x4()
    inputNode.GetIJKToRASMatrix(matrix)
    image.SetGeometryFromImageToWorldMatrix(matrix)
    return image


def _checksum(mask: np.ndarray) -> str:
    return f"{zlib.crc32(np.ascontiguousarray(mask)):08x}"
