"""Results against each other: the difference of two maps, and how many results mark a voxel."""

from __future__ import annotations

import numpy as np
import slicer
import slicer.util
from slicer.i18n import tr as _

from ZSADCLIPLib.evaluation.thresholds import reaches

from . import display, naming, nodes
from .geometry import affineOf, ijkToRas

LEAST = 0.1  # of the largest differences: what is smaller is not shown


def difference(result, other):
    """The map node of a result's scores less those of another one, on the result's grid; made once a result.

    Scores of one method and model are subtracted as they are; those of different ones from 0 to 1 of their display window.
    """
    same = all(result.attribute(name) == other.attribute(name) for name in ("Method", "Model"))
    mine, others = slicer.util.arrayFromVolume(result.map), scoresOn(result, other)
    if not same:
        mine, others = (_share(each, array) for each, array in ((result, mine), (other, others)))
    values = np.where(result.brain.T, mine - others, 0).astype(np.float32)
    node = _derived(result, "difference")
    slicer.util.updateVolumeFromArray(node, values)
    most = float(np.percentile(np.abs(values), 99.9)) or 1e-6
    display.setWindow(node, -most, most)
    display.setColors(node, "Blue-White-Red", clear=LEAST)
    naming.giveName(node, _("{one} minus {other}").format(one=result.map.GetName(), other=other.map.GetName()))
    return node


def agreement(result, others):
    """The node that counts in each voxel how many of the results mark it, each at its own threshold, on the result's grid."""
    everyone = [result, *(other for other in others if other.map is not result.map)]
    counts = sum(marked(result, each).astype(np.uint8) for each in everyone)
    node = _derived(result, "agreement")
    slicer.util.updateVolumeFromArray(node, counts.astype(np.uint8))
    display.setWindow(node, 0, len(everyone))
    display.setColors(node, "Viridis")
    display.setThreshold(node, 1)
    name = _("{name} agreement of {count} results").format(name=result.input.GetName(), count=len(everyone))
    naming.giveName(node, name)
    return node


def titleOf(node) -> str:
    """What the legend of such a node says."""
    return _("Difference") if node.GetAttribute("ZSADCLIP.Derived") == "difference" else _("Results")


def marked(result, other) -> np.ndarray:
    """Where another result reaches its own threshold, bool (K, J, I) on the grid of a result."""
    return reaches(_onGrid(result, other, other.inside, -np.inf, 0), other.threshold)


def scoresOn(result, other) -> np.ndarray:
    """The scores of another result, float32 (K, J, I) on the grid of a result; its lowest one where it has none."""
    scores = slicer.util.arrayFromVolume(other.map)
    return _onGrid(result, other, scores, float(scores.min()), 1)


def _onGrid(result, other, array: np.ndarray, outside: float, order: int) -> np.ndarray:
    """An array (K, J, I) of another result brought to a result's grid, where both lie in the patient."""
    from scipy import ndimage

    shape = result.map.GetImageData().GetDimensions()
    toOther = np.linalg.inv(affineOf(other.map)) @ affineOf(result.map)
    if array.shape == shape[::-1] and np.allclose(toOther, np.eye(4), atol=1e-3):
        return array
    return ndimage.affine_transform(
        array.T, toOther[:3, :3], toOther[:3, 3], shape, order=order, mode="constant", cval=outside
    ).T


def _share(result, scores: np.ndarray) -> np.ndarray:
    low, high = result.display
    return np.clip((scores - low) / max(high - low, 1e-6), 0, 1)


def _derived(result, role: str):
    """The volume node of that role of a result, on its grid; no selector offers it as an input."""
    node = getattr(result, role)
    if node is None:
        node = slicer.vtkMRMLScalarVolumeNode()
        node.SetName(role)
        node.SetAttribute("ZSADCLIP.Derived", role)
        node = slicer.mrmlScene.AddNode(node)
        result.link(role, node)
        nodes.placeBeside(node, result.input)
    if not np.array_equal(ijkToRas(node), ijkToRas(result.map)):
        node.CopyOrientation(result.map)
    node.SetAndObserveTransformNodeID(result.map.GetTransformNodeID())
    return node
