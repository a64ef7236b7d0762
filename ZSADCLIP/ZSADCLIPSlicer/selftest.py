"""What ZSADCLIPTest checks: the way from a synthetic volume to findings, with ready scores and with the embedded model."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import slicer
import slicer.util
import vtk

from ZSADCLIPLib.adapters import DEFAULT_METHOD
from ZSADCLIPLib.evaluation.thresholds import reaches

from .scene import display, findingstable, nodes, sampledata, segmentation
from .scene.geometry import worldOf
from .scene.results import ResultNodes

SLICES = 16


def run(case, logic) -> None:
    """Run with a unittest case: detect on a slab of a synthetic brain, find its lesion, check geometry and threshold."""
    slicer.mrmlScene.Clear()
    volume, lesion = slab()
    result = logic.process(volume, method=DEFAULT_METHOD, min_size_mm3=20.0)
    case.assertTrue(result.complete)
    first = findingstable.rowsOf(result.findings)[0]
    case.assertTrue(lesion[first["Peak K"], first["Peak J"], first["Peak I"]], "the first finding is not in a lesion")
    check(case, result, volume)


def ready(case) -> None:
    """Run with a unittest case on ready scores, without torch: all that happens to a result in the scene."""
    slicer.mrmlScene.Clear()
    volume, lesion = slab()
    bright = 0.2 * (slicer.util.arrayFromVolume(volume) > 0)
    result = nodes.store(None, volume, None, np.where(lesion, 0.9, bright).astype(np.float32).T, OUTCOME, "Inferno")
    result.setAttribute("Method", "ready")
    result.refresh()
    case.assertTrue(result.complete)
    check(case, result, volume)
    _look(case, result)
    _judge(case, result)
    _keep(case, result)


OUTCOME = {
    "provenance": {"preprocessing": {"plane": "axial"}, "min_size_mm3": 20.0, "min_depth_mm": 0.0},
    "display": {"lo": 0.0, "hi": 1.0}, "threshold": 0.5, "threshold_rule": "fixed:0.5", "volume_score": 0.9,
    "slice_scores": [0.9] * SLICES,
}  # fmt: skip
"""What the engine would say beside the scores."""


def _look(case, result) -> None:
    """The overlay is in the views and goes with its threshold, a finding is jumped to, the view is given back."""
    display.showOverlay(result.map, result.input, 0.6)
    for composite in display.compositeNodes():
        case.assertEqual(composite.GetForegroundVolumeID(), result.map.GetID())
    result.setThreshold(0.5, 20.0)
    first = findingstable.rowsOf(result.findings)[0]
    world = worldOf(result.map, (first["Peak I"], first["Peak J"], first["Peak K"]))
    display.jump(world)
    for node in slicer.util.getNodesByClass("vtkMRMLSliceNode"):
        if node.GetName() == "Red":
            case.assertAlmostEqual(node.GetSliceOffset(), world[2], delta=result.map.GetSpacing()[2])
    display.hideOverlay()
    for composite in display.compositeNodes():
        case.assertNotEqual(composite.GetForegroundVolumeID(), result.map.GetID())


def _judge(case, result) -> None:
    """A rejected finding leaves the segmentation and comes back when it is accepted again."""
    marked = lambda: int(segmentation.read(result.segmentation, result.input).sum())  # noqa: E731
    whole, first = marked(), findingstable.rowsOf(result.findings)[0]
    result.accept(first["Rank"], False)
    voxels = first["Volume"] / float(np.prod(result.input.GetSpacing()))
    case.assertAlmostEqual(whole - marked(), voxels, delta=1)
    result.accept(first["Rank"], True)
    case.assertEqual(marked(), whole)


def _keep(case, result) -> None:
    """A result that was saved with its scene and loaded again has its threshold, verdicts and segmentation."""
    result.accept(1, False)
    result.setThreshold(0.6)
    before = segmentation.read(result.segmentation, result.input)
    name, verdicts = result.map.GetName(), [row["Accepted"] for row in findingstable.rowsOf(result.findings)]
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "scene.mrb")
        case.assertTrue(slicer.mrmlScene.WriteToMRB(path))
        slicer.mrmlScene.Clear(0)
        case.assertTrue(slicer.mrmlScene.ReadFromMRB(path))
    loaded = ResultNodes(slicer.util.getNode(name))
    case.assertEqual(loaded.threshold, 0.6)
    case.assertEqual([row["Accepted"] for row in findingstable.rowsOf(loaded.findings)], verdicts)
    case.assertTrue(np.array_equal(segmentation.read(loaded.segmentation, loaded.input), before))


def slab():
    """The slices of a synthetic brain around its largest lesion as a volume node, and its lesions (K, J, I) bool."""
    from ZSADCLIPLib.synthetic.brains import make_case

    phantom = make_case(sampledata.SEED)
    lesions = phantom.seg.array.T > 0
    middle = int(lesions.sum(axis=(1, 2)).argmax())
    part = slice(middle - SLICES // 2, middle + SLICES // 2)
    affine = phantom.seg.affine.copy()
    affine[:3, 3] += affine[:3, 2] * part.start
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(affine.ravel())
    image = np.ascontiguousarray(phantom.volumes["t2w"].array.T[part])
    return slicer.util.addVolumeFromArray(image, matrix, "ZSADCLIP self test"), lesions[part]


def check(case, result, volume) -> None:
    """A result must lie on its input's grid and its findings in its segmentation, at any threshold."""
    scores = slicer.util.arrayFromVolume(result.map)
    case.assertEqual(scores.shape, slicer.util.arrayFromVolume(volume).shape)
    for row in range(3):
        for column in range(4):
            case.assertEqual(*(_matrix(node).GetElement(row, column) for node in (result.map, volume)))
    low, high = result.range
    sizes = []
    for value in np.linspace(low, high, 4)[1:]:
        result.setThreshold(float(value), 0.0)
        mask = segmentation.read(result.segmentation, volume)
        rows = findingstable.rowsOf(result.findings)
        voxel = float(np.prod(volume.GetSpacing()))
        case.assertAlmostEqual(sum(row["Volume"] for row in rows), mask.sum() * voxel, delta=voxel)
        case.assertTrue(reaches(scores[mask > 0], value).all())
        sizes.append(int(mask.sum()))
    case.assertEqual(sizes, sorted(sizes, reverse=True))


def _matrix(node):
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return matrix
