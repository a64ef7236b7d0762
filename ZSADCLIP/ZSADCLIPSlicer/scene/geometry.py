"""Between MRML volume nodes and the engine's Volume: which nodes are accepted, and where their voxels are."""

from __future__ import annotations

import numpy as np
import slicer
import vtk
from slicer.i18n import tr as _

from ZSADCLIPLib.errors import InputError
from ZSADCLIPLib.volume import Volume


def _refused(className: str) -> str:
    """What a kind of volume that cannot be used is called, or empty."""
    return {
        "vtkMRMLLabelMapVolumeNode": _("a label map"),
        "vtkMRMLVectorVolumeNode": _("a colour or vector volume"),
        "vtkMRMLDiffusionWeightedVolumeNode": _("a diffusion weighted volume"),
        "vtkMRMLDiffusionTensorVolumeNode": _("a tensor volume"),
        "vtkMRMLMultiVolumeNode": _("a 4D volume"),
    }.get(className, "")


def checkInput(node) -> None:
    """Raise InputError unless `node` is a scalar volume with one value a voxel and three axes."""
    if node is None:
        raise InputError(_("No input volume is selected."))
    kind = _refused(node.GetClassName())
    if kind:
        raise InputError(_("'{name}' is {kind}. Choose a scalar volume, such as one MR sequence.").format(
            name=node.GetName(), kind=kind))  # fmt: skip
    if node.GetAttribute("ZSADCLIP.Result") or node.GetAttribute("ZSADCLIP.Derived"):
        raise InputError(_("'{name}' is itself an anomaly map. Choose the image.").format(name=node.GetName()))
    image = node.GetImageData()
    if image is None or 0 in image.GetDimensions() or image.GetPointData().GetScalars() is None:
        raise InputError(_("'{name}' has no voxels.").format(name=node.GetName()))
    if image.GetNumberOfScalarComponents() != 1:
        raise InputError(_("'{name}' has {count} values in each voxel; one is expected.").format(
            name=node.GetName(), count=image.GetNumberOfScalarComponents()))  # fmt: skip


def ijkToRas(node) -> np.ndarray:
    """The (4, 4) matrix from voxel indices to the node's own RAS, in mm."""
    matrix = vtk.vtkMatrix4x4()
    node.GetIJKToRASMatrix(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix)


def affineOf(node) -> np.ndarray:
    """The (4, 4) matrix from voxel indices to the patient: through linear parent transforms, never through warps."""
    parent = node.GetParentTransformNode()
    if parent is None or not parent.IsTransformToWorldLinear():
        return ijkToRas(node)
    matrix = vtk.vtkMatrix4x4()
    parent.GetMatrixTransformToWorld(matrix)
    return slicer.util.arrayFromVTKMatrix(matrix) @ ijkToRas(node)


def volumeOf(node) -> Volume:
    """The node as a Volume (I, J, K) without copying its voxels; raises InputError as `checkInput`."""
    checkInput(node)
    return Volume(slicer.util.arrayFromVolume(node).T, affineOf(node), name=node.GetName())


def worldOf(node, ijk) -> tuple[float, float, float]:
    """Where a voxel (i, j, k) of a node is in the world, RAS mm, through any parent transform."""
    world = [0.0, 0.0, 0.0]
    node.TransformPointToWorld((ijkToRas(node) @ [*ijk, 1.0])[:3].tolist(), world)
    return tuple(world)


def notesOn(node) -> list[str]:
    """What a user should know about an input before trusting the result, as sentences."""
    from ZSADCLIPLib.volumes.intensity import is_skull_stripped
    from ZSADCLIPLib.volumes.slicing import slice_volume

    volume, notes = volumeOf(node), []
    if is_skull_stripped(volume):
        notes.append(_("The image looks skull-stripped: no brain mask is needed."))
    else:
        notes.append(
            _("The image looks like a whole head: choose a brain mask, or findings may lie outside the brain.")
        )
    warning = slice_volume(volume).warning
    if warning:
        notes.append(_("Oblique: {warning}.").format(warning=warning))
    parent = node.GetParentTransformNode()
    if parent is not None and not parent.IsTransformToWorldLinear():
        notes.append(
            _("The volume is warped by '{name}': slices are taken before the warp.").format(name=parent.GetName())
        )
    if sequenceOf(node) is not None:
        notes.append(_("The volume belongs to a sequence: only the frame shown now is used."))
    return notes


def sequenceOf(node):
    """The sequence browser that feeds a node, or None."""
    sequences = getattr(slicer.modules, "sequences", None)
    return sequences.logic().GetFirstBrowserNodeForProxyNode(node) if sequences else None


def framesOf(node) -> list:
    """New volumes, one for each frame of the sequence that feeds a node; none where no sequence does."""
    browser = sequenceOf(node)
    sequence = browser.GetSequenceNode(node) if browser is not None else None
    frames = []
    for index in range(sequence.GetNumberOfDataNodes() if sequence is not None else 0):
        name = f"{sequence.GetName()} {index + 1}"
        frame = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
        frame.CopyContent(sequence.GetNthDataNode(index), True)
        frame.CreateDefaultDisplayNodes()
        frames.append(frame)
    return frames
