"""The anomaly map as a cloud in the 3D views, by Slicer's own volume rendering."""

from __future__ import annotations

import slicer

CLEAREST, DENSEST = 0.05, 0.5  # opacity at the threshold and at the upper end of the display window


def show(result, shown: bool) -> None:
    """Show the map from its threshold on, in its own colours, or hide it; called again when the threshold has moved."""
    module = getattr(slicer.modules, "volumerendering", None)
    if module is None:
        return
    logic = module.logic()
    node = logic.GetFirstVolumeRenderingDisplayNode(result.map)
    if node is None and shown:
        node = logic.CreateDefaultVolumeRenderingNodes(result.map)
    if node is None:
        return
    if shown:
        logic.CopyDisplayToVolumeRenderingDisplayNode(node)
        low, high = result.threshold, max(result.display[1], result.threshold + 1e-6)
        opacity = node.GetVolumePropertyNode().GetScalarOpacity()
        opacity.RemoveAllPoints()
        for score, share in ((min(result.range[0], low) - 1e-6, 0), (low, 0), (low + 1e-6, CLEAREST), (high, DENSEST)):
            opacity.AddPoint(score, share)
    node.SetVisibility(shown)


def shown(result) -> bool:
    """True where the map is in the 3D views."""
    module = getattr(slicer.modules, "volumerendering", None)
    node = module.logic().GetFirstVolumeRenderingDisplayNode(result.map) if module is not None else None
    return node is not None and bool(node.GetVisibility())
