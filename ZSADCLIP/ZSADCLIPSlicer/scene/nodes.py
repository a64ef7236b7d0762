"""A finished run put into the scene: the nodes of a result made, filled and placed beside the input."""

from __future__ import annotations

import numpy as np
import slicer

from . import display, profile, segmentation
from .results import ResultNodes


def store(
    result: ResultNodes | None, inputNode, brainMask, map_: np.ndarray, outcome: dict, colors: str
) -> ResultNodes:
    """Put a finished run into the scene: into the nodes of `result`, or new ones when it is None.

    `map_` is float32 (I, J, K) on the input's grid; `outcome` is the engine's JSON of the case.
    """
    if result is None:
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", inputNode.GetName() + " anomaly")
        result = ResultNodes(node)
        result.setAttribute("Result", "1")
    else:
        result = ResultNodes(result.map)  # nothing cached of the former map
    node = result.map
    with slicer.util.NodeModify(node):
        node.CopyOrientation(inputNode)
        slicer.util.updateVolumeFromArray(node, np.ascontiguousarray(map_.T))
        node.SetAndObserveTransformNodeID(inputNode.GetTransformNodeID())
    result.link("input", inputNode)
    result.link("brainMask", brainMask)
    provenance = outcome["provenance"]
    for name, value in {
        "Plane": provenance["preprocessing"]["plane"],
        "Display": outcome["display"],
        "Threshold": repr(float(outcome["threshold"])),
        "ThresholdRule": outcome["threshold_rule"],
        "MinimumSize": repr(float(provenance["min_size_mm3"])),
        "MinimumDepth": repr(float(provenance["min_depth_mm"])),
        "VolumeScore": repr(float(outcome["volume_score"])),
        "SliceScores": outcome["slice_scores"],
        "Provenance": provenance,
    }.items():
        result.setAttribute(name, value)
    display.setWindow(node, outcome["display"]["lo"], outcome["display"]["hi"])
    display.setColors(node, colors)
    display.setThreshold(node, result.threshold)
    _makeCompanions(result)
    return result


def remove(result: ResultNodes) -> None:
    """Take the nodes of a result out of the scene, those that are there."""
    nodes = [result.segmentation, result.findings, result.profile, result.chart, result.map]
    series = result.chart.GetNumberOfPlotSeriesNodes() if result.chart is not None else 0
    for node in [result.chart.GetNthPlotSeriesNode(n) for n in range(series)] + nodes:
        if node is not None:
            slicer.mrmlScene.RemoveNode(node)


def _makeCompanions(result: ResultNodes) -> None:
    """Segmentation, tables and chart of a result, made where they are missing, placed beside the input."""
    if result.segmentation is None:
        result.link("segmentation", segmentation.create(result.input, result.input.GetName()))
    segmentation.setRegion(result.segmentation, result.region)
    result.segmentation.SetAndObserveTransformNodeID(result.input.GetTransformNodeID())
    result.segmentation.SetReferenceImageGeometryParameterFromVolumeNode(result.input)
    if result.findings is None:
        result.link("findings", slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTableNode", result.input.GetName()))
    if result.profile is None:
        profile.create(result)
    for node in (result.map, result.segmentation, result.findings, result.profile, result.chart):
        placeBeside(node, result.input)


def placeBeside(node, inputNode) -> None:
    """Give a node the subject hierarchy parent (patient, study or folder) of the input."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    if hierarchy is None:
        return
    scene = hierarchy.GetSceneItemID()
    inputItem = hierarchy.GetItemByDataNode(inputNode) or hierarchy.CreateItem(scene, inputNode)
    parent = hierarchy.GetItemParent(inputItem)
    item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(parent, node)
    hierarchy.SetItemParent(item, parent)
