"""What ZSADCLIPTest checks: the way from a synthetic volume to findings, with the engine's embedded model."""

from __future__ import annotations

import numpy as np
import slicer.util
import vtk

from ZSADCLIPLib.adapters import DEFAULT_METHOD
from ZSADCLIPLib.evaluation.thresholds import reaches
from ZSADCLIPLib.synthetic.brains import make_case

from .scene import findingstable, sampledata, segmentation

SLICES = 16


def run(case, logic) -> None:
    """Run with a unittest case: detect on a slab of a synthetic brain, find its lesion, check geometry and threshold."""
    volume, lesion = slab()
    result = logic.process(volume, method=DEFAULT_METHOD, min_size_mm3=20.0)
    case.assertTrue(result.complete)
    first = findingstable.rowsOf(result.findings)[0]
    case.assertTrue(lesion[first["Peak K"], first["Peak J"], first["Peak I"]], "the first finding is not in a lesion")
    check(case, result, volume)


def slab():
    """The slices of a synthetic brain around its largest lesion as a volume node, and its lesions (K, J, I) bool."""
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
