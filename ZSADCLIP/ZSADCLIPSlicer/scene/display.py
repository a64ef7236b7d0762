"""The anomaly map over the slices: colours, fixed window, threshold, legend, and the user's own view given back."""

from __future__ import annotations

import json
from contextlib import contextmanager

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from ZSADCLIPLib.evaluation.thresholds import lowest_reaching

from .colors import colorNode

SAVED_VIEW = "ZSADCLIP.SavedForeground"
FORMAT = "ZSADCLIP.Format"


def setWindow(mapNode, low: float, high: float) -> None:
    """Show scores from `low` to `high`: fixed, so that colours mean the same in every case."""
    if mapNode.GetDisplayNode() is None:
        mapNode.CreateDefaultDisplayNodes()
    display = mapNode.GetDisplayNode()
    with slicer.util.NodeModify(display):
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(low, high if high > low else low + 1e-6)


def setColors(mapNode, name: str, clear: float = 0.0) -> None:
    """Use one of the module's colour maps, as in `colorNode`."""
    mapNode.GetDisplayNode().SetAndObserveColorNodeID(colorNode(name, clear).GetID())


def setThreshold(mapNode, threshold: float) -> None:
    """Make scores below `threshold` transparent, as `reaches` has it: VTK would round it to the map's float32."""
    display = mapNode.GetDisplayNode()
    with slicer.util.NodeModify(display):
        display.AutoThresholdOff()
        display.SetThreshold(float(lowest_reaching(threshold, np.float32)), 3.0e38)
        display.ApplyThresholdOn()


def setLegend(mapNode, shown: bool, title: str = "", sliceNode=None) -> None:
    """Show or hide the colour legend of the map, or of another volume with its own title; in one view alone, or in all."""
    logic = slicer.modules.colors.logic()
    legend = logic.GetColorLegendDisplayNode(mapNode)
    if legend is None and shown:
        legend = logic.AddDefaultColorLegendDisplayNode(mapNode)
        if legend is not None:
            legend.SetTitleText(title or _("Anomaly score"))
            legend.SetSize(0.08, 0.4)
            for text in (legend.GetTitleTextProperty(), legend.GetLabelTextProperty()):
                text.SetFontSize(12)  # the default would cover a good part of a small view
    if legend is not None:
        _setFormat(legend, mapNode.GetDisplayNode().GetWindow())
        legend.SetVisibility(shown)
        if sliceNode is not None:
            legend.RemoveAllViewNodeIDs()
            legend.AddViewNodeID(sliceNode.GetID())


def releaseLegend(mapNode) -> None:
    """Let the legend of the map be seen in all views again."""
    legend = slicer.modules.colors.logic().GetColorLegendDisplayNode(mapNode)
    if legend is not None:
        legend.RemoveAllViewNodeIDs()


def _setFormat(legend, window: float) -> None:
    """Two decimals, more where the window is narrow: text is scaled to the bar, so that shorter numbers would grow.

    A format that the user has chosen stays.
    """
    if legend.GetAttribute(FORMAT) in (None, legend.GetLabelFormat()):
        wanted = f"%.{2 if window >= 1 else 3 if window >= 0.1 else 5}f"
        legend.SetLabelFormat(wanted)
        legend.SetAttribute(FORMAT, wanted)


@contextmanager
def unnoticed(node):
    """Change a node without its ModifiedEvent."""
    before = node.GetDisableModifiedEvent()
    node.SetDisableModifiedEvent(True)
    try:
        yield
    finally:
        node.SetDisableModifiedEvent(before)


def compositeNodes() -> list:
    """The composite nodes of all slice views."""
    return list(slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"))


def showOverlay(mapNode, background, opacity: float) -> None:
    """Put the map in the foreground of every slice view; what was there is remembered until `hideOverlay`."""
    for composite in compositeNodes():
        saved = _saved(composite)
        now = {
            "background": composite.GetBackgroundVolumeID() or "",
            "foreground": composite.GetForegroundVolumeID() or "",
            "opacity": composite.GetForegroundOpacity(),
            "compositing": composite.GetCompositing(),
        }
        if not saved:
            saved = dict(now)
        if now["background"] != saved.get("ourBackground", now["background"]):  # the user chose another one meanwhile
            saved["background"] = now["background"]
        if now["foreground"] and now["foreground"] != saved.get("ourForeground", now["foreground"]):
            saved.update({key: now[key] for key in ("foreground", "opacity", "compositing")})
        saved["ourBackground"] = background.GetID() if background is not None else now["background"]
        saved["ourForeground"] = mapNode.GetID()
        composite.SetAttribute(SAVED_VIEW, json.dumps(saved))
        with slicer.util.NodeModify(composite):
            composite.SetBackgroundVolumeID(saved["ourBackground"] or None)
            composite.SetForegroundVolumeID(mapNode.GetID())
            composite.SetForegroundOpacity(opacity)
            composite.SetCompositing(composite.Alpha)


def hideOverlay() -> None:
    """Give every slice view the layers and opacity it had before the overlay; what was changed since is left alone."""
    for composite in compositeNodes():
        saved = _saved(composite)
        if not saved:
            continue
        composite.RemoveAttribute(SAVED_VIEW)
        background, foreground = composite.GetBackgroundVolumeID() or "", composite.GetForegroundVolumeID() or ""
        gone = not foreground and slicer.mrmlScene.GetNodeByID(saved.get("ourForeground", "")) is None
        with slicer.util.NodeModify(composite):
            if background == saved.get("ourBackground", background) and slicer.mrmlScene.GetNodeByID(
                saved["background"]
            ):
                composite.SetBackgroundVolumeID(saved["background"])
            if gone or foreground == saved.get("ourForeground", foreground):
                composite.SetForegroundVolumeID(saved["foreground"] or None)
            if gone or not foreground or foreground == saved.get("ourForeground", foreground):
                composite.SetForegroundOpacity(saved["opacity"])
                composite.SetCompositing(saved["compositing"])


def _saved(composite) -> dict:
    return json.loads(composite.GetAttribute(SAVED_VIEW) or "{}")


def jump(world) -> None:
    """Bring all slice views to a point (RAS mm), and into view where it lies beside what a view shows."""
    for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        node.JumpSlice(*world)  # Slicer's default moves along the normal only
        if not _inView(node, world):
            node.JumpSliceByCentering(*world)


def _inView(sliceNode, world) -> bool:
    """True when a point of the slice lies within the view, but for a margin of a twentieth."""
    toView = vtk.vtkMatrix4x4()
    vtk.vtkMatrix4x4.Invert(sliceNode.GetXYToRAS(), toView)
    place, size = toView.MultiplyPoint([*world, 1.0]), sliceNode.GetDimensions()
    return all(0.05 * n <= x <= 0.95 * n for x, n in zip(place[:2], size[:2], strict=True))


def highlight(world, text: str) -> None:
    """Mark a point (RAS mm) with a label in all views; there is one mark, it moves and is not saved with the scene."""
    node = slicer.mrmlScene.GetSingletonNode("ZSADCLIP-Finding", "vtkMRMLMarkupsFiducialNode")
    if node is None:
        node = slicer.vtkMRMLMarkupsFiducialNode()
        node.SetName(_("ZSADCLIP finding"))
        node.SetSingletonTag("ZSADCLIP-Finding")
        node.SetHideFromEditors(True)
        node.SaveWithSceneOff()
        with placeListKept():
            node = slicer.mrmlScene.AddNode(node)
    if node.GetDisplayNode() is None:  # a scene that closes keeps singletons, without display and lock
        node.CreateDefaultDisplayNodes()
        node.SetLocked(True)
        display = node.GetDisplayNode()
        display.SaveWithSceneOff()
        display.SetSelectedColor(0.25, 0.85, 1.0)
        display.SetGlyphScale(1.5)
    with slicer.util.NodeModify(node):
        node.RemoveAllControlPoints()
        node.AddControlPointWorld(list(world), text)
    node.SetDisplayVisibility(True)


@contextmanager
def placeListKept():
    """Keep the list that the user's next points go into: Slicer's markups logic makes every list that is added the active one."""
    selection = slicer.mrmlScene.GetSingletonNode("Singleton", "vtkMRMLSelectionNode")
    before = (
        (selection.GetActivePlaceNodeID(), selection.GetActivePlaceNodeClassName()) if selection is not None else None
    )
    yield
    if before is not None:
        with slicer.util.NodeModify(selection):
            selection.SetActivePlaceNodeID(before[0])
            selection.SetActivePlaceNodeClassName(before[1])


def clearHighlight() -> None:
    """Hide the mark of the chosen finding."""
    node = slicer.mrmlScene.GetSingletonNode("ZSADCLIP-Finding", "vtkMRMLMarkupsFiducialNode")
    if node is not None:
        node.SetDisplayVisibility(False)
