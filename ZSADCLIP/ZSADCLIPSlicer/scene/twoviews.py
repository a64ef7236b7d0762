"""Two results side by side: each over its own image, in two linked slice views of one orientation."""

from __future__ import annotations

import slicer
import slicer.util
import vtk

from . import display

LEFT, RIGHT = "Red", "Yellow"


class TwoViews:
    """Red shows one result, Yellow another; `hide` gives layout, orientation and links back."""

    def __init__(self):
        self._before = None

    @property
    def shown(self) -> bool:
        return self._before is not None

    def show(self, left, right, opacity: float, legends: bool) -> None:
        """Put the results there; `opacity` is that of the maps, 0 for none. Called again after every change."""
        manager, (red, yellow) = slicer.app.layoutManager(), _slices()
        if manager is None or red is None or yellow is None:
            return
        if self._before is None:
            links = [_composite(node).GetLinkedControl() for node in (red, yellow)]
            self._before = (manager.layout, _copy(yellow.GetSliceToRAS()), links)
            manager.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView)
            _turn(yellow, red.GetSliceToRAS())
        for node, result in ((red, left), (yellow, right)):
            composite = _composite(node)
            with slicer.util.NodeModify(composite):
                composite.SetLinkedControl(True)
                composite.SetBackgroundVolumeID(result.input.GetID())
                composite.SetForegroundVolumeID(result.map.GetID() if opacity else None)
                composite.SetForegroundOpacity(opacity)
            _bind(result, node)
            # Scores of methods differ in scale: a legend stands for its own map alone.
            display.setLegend(result.map, legends and opacity > 0, sliceNode=node)

    def hide(self, left, right) -> None:
        """One result again, in the views as they were; either may be gone (None)."""
        if self._before is None:
            return
        (layout, turned, links), self._before = self._before, None
        red, yellow = _slices()
        for result in (left, right):
            _release(result)
        if right is not None and (left is None or right.map is not left.map):
            for node in _shapes(right):
                node.GetDisplayNode().SetVisibility(False)
            display.setLegend(right.map, False)
        if red is None or yellow is None:
            return
        _turn(yellow, turned)
        for node, link in zip((red, yellow), links, strict=True):
            _composite(node).SetLinkedControl(link)
        first, second = _composite(red), _composite(yellow)
        with slicer.util.NodeModify(second):
            second.SetBackgroundVolumeID(first.GetBackgroundVolumeID())
            second.SetForegroundVolumeID(first.GetForegroundVolumeID())
            second.SetForegroundOpacity(first.GetForegroundOpacity())
        slicer.app.layoutManager().setLayout(layout)


def _slices():
    return [slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNode" + name) for name in (LEFT, RIGHT)]


def _composite(sliceNode):
    nodes = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    return next(node for node in nodes if node.GetLayoutName() == sliceNode.GetLayoutName())


def _copy(matrix):
    copy = vtk.vtkMatrix4x4()
    copy.DeepCopy(matrix)
    return copy


def _turn(sliceNode, matrix) -> None:
    sliceNode.GetSliceToRAS().DeepCopy(matrix)
    sliceNode.UpdateMatrices()


def _shapes(result) -> list:
    return [node for node in (result.segmentation, result.segments) if node is not None]


def _bind(result, sliceNode) -> None:
    """Show the outlines of a result in one view alone."""
    for node in _shapes(result):
        shape = node.GetDisplayNode()
        if not shape.IsViewNodeIDPresent(sliceNode.GetID()) or shape.GetNumberOfViewNodeIDs() != 1:
            shape.RemoveAllViewNodeIDs()
            shape.AddViewNodeID(sliceNode.GetID())
        shape.SetVisibility(True)


def _release(result) -> None:
    if result is None:
        return
    for node in _shapes(result):
        node.GetDisplayNode().RemoveAllViewNodeIDs()
    display.releaseLegend(result.map)
