"""The names of a result's nodes: what was scored and by what, unlike any other; those that a user gave stay."""

from __future__ import annotations

import slicer
import slicer.util
from slicer.i18n import tr as _


def rename(result) -> None:
    """Name the nodes of a result after its input and its run."""
    name, run = result.input.GetName(), result.title
    giveName(result.map, _("{name} anomaly ({run})").format(name=name, run=run))
    giveName(result.segmentation, _("{name} findings ({run})").format(name=name, run=run))
    giveName(result.findings, _("{name} findings table ({run})").format(name=name, run=run))
    if result.segments is not None:
        giveName(result.segments, _("{name} findings one by one ({run})").format(name=name, run=run))
    for node in (result.profile, result.chart):
        if node is not None:  # it may have been deleted by the user
            giveName(node, _("{name} slice profile ({run})").format(name=name, run=run))


def giveName(node, name: str) -> None:
    """Name a node unlike any other of its class, unless the user has given it a name of his own."""
    if node.GetAttribute("ZSADCLIP.Name") in (None, node.GetName()):
        taken = {other.GetName() for other in slicer.util.getNodesByClass(node.GetClassName()) if other is not node}
        free = (name if n == 1 else f"{name} {n}" for n in range(1, len(taken) + 2))
        name = next(text for text in free if text not in taken)
        node.SetAttribute("ZSADCLIP.Name", name)
        node.SetName(name)
