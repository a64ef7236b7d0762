"""The findings of a result as a segment each, coloured by score: plain segments, beside the one that holds all of them."""

from __future__ import annotations

import zlib

import numpy as np
import slicer
import slicer.util
import vtk
from slicer.i18n import tr as _

from . import findingstable, segmentation
from .colors import table

WRITTEN = "ZSADCLIP.Written"
_lastWritten: dict[
    str, tuple
] = {}  # node id -> its segments and when their labelmaps were changed, after our own last write
DARKEST = 0.35  # of the colour scale; below, Inferno could not be told from the image


def create(result):
    """Make the segmentation of a result that has a segment a finding, filled by the next `refresh` of the result."""
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", result.segmentation.GetName())
    node.CreateDefaultDisplayNodes()
    node.SetReferenceImageGeometryParameterFromVolumeNode(result.input)
    node.SetAndObserveTransformNodeID(result.input.GetTransformNodeID())
    node.GetDisplayNode().SetVisibility2DFill(False)
    node.GetDisplayNode().SetOpacity2DOutline(1.0)
    node.GetDisplayNode().SetSliceIntersectionThickness(2)
    result.link("segments", node)
    return node


def remove(result) -> None:
    """Take that segmentation out of the scene."""
    slicer.mrmlScene.RemoveNode(result.segments)


def update(result, rows: list[dict], labels: np.ndarray) -> None:
    """Write the accepted findings, one segment each; which ones are shown stays. `labels` (I, J, K) as in `findingstable`."""
    node = result.segments
    kept = [row for row in rows if row["Accepted"]]
    shown, whole = _shown(node), np.zeros(int(labels.max()) + 1, np.int16)
    whole[[row["Label"] for row in kept]] = range(1, len(kept) + 1)
    image = segmentation.wholeGrid(result.input, vtk.VTK_SHORT)
    voxels = segmentation.voxels(image)
    np.copyto(voxels, whole[labels].T)
    with slicer.util.NodeModify(node):
        segments = node.GetSegmentation()
        segments.RemoveAllSegments()
        for value, row in enumerate(kept, 1):
            segment = slicer.vtkSegment()
            segment.SetName(nameOf(row))
            segment.SetColor(*colorOf(result, row["Peak"]))
            segment.SetLabelValue(value)
            segment.AddRepresentation(
                segmentation.LABELMAP, image
            )  # shared, as Slicer keeps segments that do not overlap
            segmentation.setTerminology(segment, result.region)
            segments.AddSegment(segment, idOf(row))
        for row in kept:
            node.GetDisplayNode().SetSegmentVisibility(idOf(row), shown.get(idOf(row), True))
    node.SetAttribute(WRITTEN, _checksum(voxels))
    _lastWritten[node.GetID()] = _times(node)


def edited(result) -> bool:
    """True when the segments are not what `update` wrote last."""
    node = result.segments
    if node is None or node.GetAttribute(WRITTEN) is None or _lastWritten.get(node.GetID()) == _times(node):
        return False
    found = np.zeros(result.input.GetImageData().GetDimensions()[::-1], np.int16)
    for value, segment in enumerate(node.GetSegmentation().GetSegmentIDs(), 1):
        found += value * segmentation.read(node, result.input, segment).astype(np.int16)
    return _checksum(found) != node.GetAttribute(WRITTEN)


def recolor(result) -> None:
    """Give the segments the colours of their scores again, after another colour map was chosen."""
    for row in findingstable.rowsOf(result.findings):
        segment = result.segments.GetSegmentation().GetSegment(idOf(row))
        if segment is not None and not np.allclose(segment.GetColor(), colorOf(result, row["Peak"])):
            segment.SetColor(*colorOf(result, row["Peak"]))


def showOnly(result, rank: int | None) -> None:
    """Show the segment of one finding, or of all for None."""
    display = result.segments.GetDisplayNode()
    for row in findingstable.rowsOf(result.findings):
        if row["Accepted"]:
            display.SetSegmentVisibility(idOf(row), rank in (None, row["Rank"]))


def idOf(row: dict) -> str:
    """The id of a finding's segment: that of its peak, so that it stays while the threshold moves."""
    return "finding-{}-{}-{}".format(row["Peak I"], row["Peak J"], row["Peak K"])


def nameOf(row: dict) -> str:
    """What a finding's segment is called."""
    return _("#{rank} {place}, {diameter:.0f} mm").format(
        rank=row["Rank"], place=findingstable.placeOf(row), diameter=findingstable.diameterOf(row)
    )


def colorOf(result, score: float) -> tuple[float, float, float]:
    """The colour of a score in the result's colour map."""
    low, high = result.display
    share = np.clip((score - low) / (high - low), 0, 1) if high > low else 1.0
    node = result.map.GetDisplayNode().GetColorNode()
    colors = table(node.GetSingletonTag().removeprefix("ZSADCLIP-"))
    return tuple(float(part) for part in colors[round(255 * (DARKEST + (1 - DARKEST) * share))])


def _shown(node) -> dict[str, bool]:
    display = node.GetDisplayNode()
    return {key: bool(display.GetSegmentVisibility(key)) for key in node.GetSegmentation().GetSegmentIDs()}


def _times(node) -> tuple:
    segments = node.GetSegmentation()
    images = [
        (key, segments.GetSegment(key).GetRepresentation(segmentation.LABELMAP)) for key in segments.GetSegmentIDs()
    ]
    return tuple((key, image.GetMTime() if image is not None else 0) for key, image in images)


def _checksum(values: np.ndarray) -> str:
    return f"{zlib.crc32(np.ascontiguousarray(values, np.int16)):08x}"
