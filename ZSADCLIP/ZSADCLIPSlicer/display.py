"""The anomaly map over the slices: colours, fixed window, threshold, legend, and the user's own view given back."""

from __future__ import annotations

import json

import slicer
from slicer.i18n import tr as _

from .colors import colorNode

SAVED_VIEW = "ZSADCLIP.SavedForeground"


def setWindow(mapNode, low: float, high: float) -> None:
    """Show scores from `low` to `high`: fixed, so that colours mean the same in every case."""
    if mapNode.GetDisplayNode() is None:
        mapNode.CreateDefaultDisplayNodes()
    display = mapNode.GetDisplayNode()
    with slicer.util.NodeModify(display):
        display.AutoWindowLevelOff()
        display.SetWindowLevelMinMax(low, high if high > low else low + 1e-6)


def setColors(mapNode, name: str) -> None:
    """Use one of the module's colour maps."""
    mapNode.GetDisplayNode().SetAndObserveColorNodeID(colorNode(name).GetID())


def setThreshold(mapNode, threshold: float) -> None:
    """Make scores below `threshold` transparent."""
    display = mapNode.GetDisplayNode()
    with slicer.util.NodeModify(display):
        display.AutoThresholdOff()
        display.SetThreshold(threshold, 3.0e38)
        display.ApplyThresholdOn()


def setLegend(mapNode, shown: bool) -> None:
    """Show or hide the colour legend of the map."""
    logic = slicer.modules.colors.logic()
    legend = logic.GetColorLegendDisplayNode(mapNode)
    if legend is None and shown:
        legend = logic.AddDefaultColorLegendDisplayNode(mapNode)
        if legend is not None:
            legend.SetTitleText(_("Anomaly score"))
            # Text is scaled to the bar, so shorter numbers would grow: two decimals, more where the window is narrow.
            window = mapNode.GetDisplayNode().GetWindow()
            legend.SetLabelFormat(f"%.{2 if window >= 1 else 3 if window >= 0.1 else 5}f")
            legend.SetSize(0.08, 0.4)
            for text in (legend.GetTitleTextProperty(), legend.GetLabelTextProperty()):
                text.SetFontSize(12)  # the default would cover a good part of a small view
    if legend is not None:
        legend.SetVisibility(shown)


def compositeNodes() -> list:
    """The composite nodes of all slice views."""
    return list(slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"))


def showOverlay(mapNode, background, opacity: float) -> None:
    """Put the map in the foreground of every slice view; what was there is remembered until `hideOverlay`."""
    for composite in compositeNodes():
        if not composite.GetAttribute(SAVED_VIEW):
            saved = {
                "background": composite.GetBackgroundVolumeID() or "",
                "foreground": composite.GetForegroundVolumeID() or "",
                "opacity": composite.GetForegroundOpacity(),
                "compositing": composite.GetCompositing(),
            }
            composite.SetAttribute(SAVED_VIEW, json.dumps(saved))
        with slicer.util.NodeModify(composite):
            if background is not None:
                composite.SetBackgroundVolumeID(background.GetID())
            composite.SetForegroundVolumeID(mapNode.GetID())
            composite.SetForegroundOpacity(opacity)
            composite.SetCompositing(composite.Alpha)


def hideOverlay() -> None:
    """Give every slice view the layers and opacity it had before the overlay was shown."""
    for composite in compositeNodes():
        saved = composite.GetAttribute(SAVED_VIEW)
        if not saved:
            continue
        saved = json.loads(saved)
        composite.RemoveAttribute(SAVED_VIEW)
        with slicer.util.NodeModify(composite):
            if slicer.mrmlScene.GetNodeByID(saved["background"]):
                composite.SetBackgroundVolumeID(saved["background"])
            composite.SetForegroundVolumeID(saved["foreground"] or None)
            composite.SetForegroundOpacity(saved["opacity"])
            composite.SetCompositing(saved["compositing"])


def overlayShown(mapNode) -> bool:
    """True when some slice view shows this map in its foreground."""
    return any(composite.GetForegroundVolumeID() == mapNode.GetID() for composite in compositeNodes())


def jump(world) -> None:
    """Bring all slice views to a point (RAS mm)."""
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *world)


def highlight(world, text: str) -> None:
    """Mark a point (RAS mm) with a label in all views; there is one mark, it moves and is not saved with the scene."""
    node = slicer.mrmlScene.GetSingletonNode("ZSADCLIP-Finding", "vtkMRMLMarkupsFiducialNode")
    if node is None:
        node = slicer.vtkMRMLMarkupsFiducialNode()
        node.SetName("ZSADCLIP finding")
        node.SetSingletonTag("ZSADCLIP-Finding")
        node.SetHideFromEditors(True)
        node.SaveWithSceneOff()
        node = slicer.mrmlScene.AddNode(node)
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


def clearHighlight() -> None:
    """Hide the mark of the chosen finding."""
    node = slicer.mrmlScene.GetSingletonNode("ZSADCLIP-Finding", "vtkMRMLMarkupsFiducialNode")
    if node is not None:
        node.SetDisplayVisibility(False)
