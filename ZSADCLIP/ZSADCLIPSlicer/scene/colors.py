"""The module's own colour nodes: perceptually uniform, readable with colour vision deficiency."""

from __future__ import annotations

import numpy as np
import slicer

# Anchors of each published map, linearly interpolated to 256 colours: Inferno and Viridis by van der Walt and Smith
# (CC0); Blue-White-Red is ColorBrewer's diverging RdBu by Cynthia Brewer, reversed (Apache-2.0).
ANCHORS = {
    "Inferno": ("000004", "210c4a", "56106e", "89226a", "bb3754", "e35933", "f98c0a", "f9c932", "fcffa4"),
    "Viridis": ("440154", "472d7b", "3b528b", "2c728e", "21918c", "27ad81", "5dc863", "aadc32", "fde725"),
    "Blue-White-Red": (
        "053061",
        "2166ac",
        "4393c3",
        "92c5de",
        "d1e5f0",
        "f7f7f7",
        "fddbc7",
        "f4a582",
        "d6604d",
        "b2182b",
        "67001f",
    ),
}
NAMES = tuple(ANCHORS)


def table(name: str) -> np.ndarray:
    """256 colours (256, 3) in 0..1."""
    anchors = np.array([[int(code[i : i + 2], 16) / 255 for i in (0, 2, 4)] for code in ANCHORS[name]])
    at = np.linspace(0, len(anchors) - 1, 256)
    return np.stack([np.interp(at, range(len(anchors)), anchors[:, c]) for c in range(3)], axis=1)


def colorNode(name: str, clear: float = 0.0):
    """The scene's colour node of that name, made once per scene; the middle of its scale, that share of it, shows nothing."""
    tag = "ZSADCLIP-" + name + ("-clear" if clear else "")
    node = slicer.mrmlScene.GetSingletonNode(tag, "vtkMRMLColorTableNode")
    if node is not None:
        return node
    node = slicer.vtkMRMLColorTableNode()
    node.SetName(tag.replace("-", " ", 1))
    node.SetSingletonTag(tag)
    node.SetTypeToUser()
    node.SetAttribute("Category", "ZSADCLIP")
    node.SetNumberOfColors(256)
    for index, (red, green, blue) in enumerate(table(name)):
        node.SetColor(
            index, f"{index}", float(red), float(green), float(blue), float(abs(index - 127.5) >= 127.5 * clear)
        )
    return slicer.mrmlScene.AddNode(node)
