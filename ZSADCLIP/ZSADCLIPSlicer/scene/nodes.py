"""A finished run put into the scene: the nodes of a result made, filled and placed beside the input."""

from __future__ import annotations

import numpy as np
import slicer
import vtk

from . import display, profile, segmentation, segments
from .results import ResultNodes, isResult


def store(
    result: ResultNodes | None, inputNode, brainMask, map_: np.ndarray, outcome: dict, colors: str
) -> ResultNodes:
    """Put a finished run into the scene: into the nodes of `result`, or new ones when it is None.

    `map_` is float32 (I, J, K) on the input's grid; `outcome` is the engine's JSON of the case.
    """
    if result is None:
        node = slicer.vtkMRMLScalarVolumeNode()
        node.SetName(slicer.mrmlScene.GenerateUniqueName(inputNode.GetName() + " anomaly"))
        result = ResultNodes(node)
        result.setAttribute("Result", "1")  # before it is added: no selector offers it as an input for a moment
        slicer.mrmlScene.AddNode(node)
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
        "RunThreshold": repr(float(outcome["threshold"])),
        "Seal": outcome.get("seal", ""),
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
    _removeAll([*companions(result), result.map])


def companions(result: ResultNodes) -> list:
    """The nodes that a result has beside its map, those that are there: segmentation, tables, chart and its series."""
    chart = result.chart
    series = [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())] if chart else []
    module = getattr(slicer.modules, "volumerendering", None)
    cloud = module.logic().GetFirstVolumeRenderingDisplayNode(result.map) if module is not None else None
    nodes = [*series, cloud, result.segmentation, result.segments, result.findings, result.profile, chart,
             result.difference, result.agreement, result.missed]  # fmt: skip
    return [node for node in nodes if node is not None]


def watch() -> None:
    """Let the other nodes of a result leave the scene with its map, wherever that is deleted.

    A segmentation that was edited by hand stays: it is the user's work. Called again, it takes the place of the former call.
    """
    scene, leaving = slicer.mrmlScene, {}
    for tag in getattr(scene, "zsadclipWatch", ()):
        scene.RemoveObserver(tag)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def before(caller, event, node):  # afterwards the map knows its nodes no more
        if isResult(node) and not (scene.IsClosing() or scene.IsImporting() or scene.IsRestoring()):
            result = ResultNodes(node)
            edited = result.complete and segmentation.edited(result.segmentation, result.input)
            kept = [result.segmentation] * edited + [result.segments] * (result.complete and segments.edited(result))
            leaving[node] = [other for other in companions(result) if other not in kept]

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def after(caller, event, node):
        _removeAll(leaving.pop(node, ()))

    events = ((scene.NodeAboutToBeRemovedEvent, before), (scene.NodeRemovedEvent, after))
    scene.zsadclipWatch = [scene.AddObserver(event, react) for event, react in events]


def _removeAll(nodes) -> None:
    for node in nodes:
        if slicer.mrmlScene.IsNodePresent(node):
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
