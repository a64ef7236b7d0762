"""What ZSADCLIPTest checks: the way from a synthetic volume to findings, with the engine's embedded model."""

from __future__ import annotations

import numpy as np
import slicer.util

from . import findingstable, sampledata, segmentation


def run(case, logic) -> None:
    """Run with a unittest case: detect on the synthetic brain, check geometry, findings and threshold."""
    volume = sampledata.load()
    result = logic.process(volume, method="vand", backbone="mini", min_size_mm3=20.0, batch_size=4)
    case.assertTrue(result.complete)
    check(case, result, volume)


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
        case.assertTrue((scores[mask > 0] >= value).all())
        sizes.append(int(mask.sum()))
    case.assertEqual(sizes, sorted(sizes, reverse=True))


def _matrix(node):
    import vtk

    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return matrix
