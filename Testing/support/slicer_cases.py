"""Volumes for the Slicer tests: an ellipsoid head with a bright lesion, in any orientation, as MRML nodes."""

import hashlib
import sys
from pathlib import Path

import numpy as np

FAKE = Path(__file__).resolve().parent / "fake_engine.py"
LESION = (22.0, 10.0, 8.0)  # RAS mm: on the patient's right, in front
SECOND = (-25.0, -12.0, -5.0)


def fake(behaviour="quick"):
    """A `command` for Detection that runs the fake engine."""
    return lambda job: [sys.executable, "-u", str(FAKE), str(job), behaviour]


def head(axes="RAS", shape=(48, 56, 40), spacing=(2.0, 2.0, 2.0), name="head", dtype=np.int16):
    """A head node whose voxel axes run towards `axes`; brain 400, lesions 1000 (10 mm) and 800 (7 mm), air 0."""
    import slicer
    import vtk

    affine = np.zeros((4, 4))
    for column, (letter, step) in enumerate(zip(axes, spacing, strict=True)):
        affine["RLAPSI".index(letter) // 2, column] = step if letter in "RAS" else -step
    affine[3, 3] = 1
    affine[:3, 3] = -affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    ijk = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1)
    ras = ijk @ affine[:3, :3].T + affine[:3, 3]
    array = np.zeros(shape, dtype)
    array[((ras / (42, 50, 36)) ** 2).sum(-1) <= 1] = 400
    array[np.linalg.norm(ras - LESION, axis=-1) <= 10] = 1000
    array[np.linalg.norm(ras - SECOND, axis=-1) <= 7] = 800
    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(affine.ravel())
    return slicer.util.addVolumeFromArray(np.ascontiguousarray(array.T), matrix, name)


def ready(node, method="vand", model="mini", threshold=0.6, scores=None, **attributes):
    """A result of a volume as a run leaves it, without a child process: brightness is the score, unless `scores` (I, J, K)
    are given."""
    import slicer
    from ZSADCLIPSlicer.scene import nodes

    array = slicer.util.arrayFromVolume(node).T
    scores = (array / max(float(array.max()), 1.0)).astype(np.float32) if scores is None else scores.astype(np.float32)
    outcome = {
        "provenance": {"preprocessing": {"plane": "axial"}, "min_size_mm3": 20.0, "min_depth_mm": 3.0},
        "display": {"lo": 0.0, "hi": 1.0}, "threshold": threshold, "threshold_rule": "checkpoint",
        "volume_score": float(scores.max()), "slice_scores": scores.max(axis=(0, 1)).tolist(),
        "seal": hashlib.sha256(scores.tobytes()).hexdigest(),
    }  # fmt: skip
    result = nodes.store(None, node, None, scores, outcome, "Inferno")
    facts = {"Method": method, "Model": model, "Settings": {"method": method}, "Seconds": "1.0"}
    for name, value in (facts | attributes).items():
        result.setAttribute(name, value)
    result.refresh()
    return result
