"""Brain masks: label maps, segmentations, one of their segments, and masks that are gone later."""

import numpy as np
import pytest
from slicer_cases import LESION, fake, head

pytest_plugins = ["slicer_fixtures"]


def test_brain_mask_limits_the_findings(logic):
    import slicer
    from ZSADCLIPSlicer.scene import findingstable

    node = head()
    label = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "mask")
    half = (slicer.util.arrayFromVolume(node) > 0).astype(np.uint8)
    half[:, :, :24] = 0  # only the patient's right
    label.CopyOrientation(node)
    slicer.util.updateVolumeFromArray(label, half)
    found = logic.process(node, brainMask=label, command=fake())
    assert [row["Side"] for row in findingstable.rowsOf(found.findings)] in (["right"], ["midline"])
    assert np.allclose([findingstable.rowsOf(found.findings)[0][a] for a in "RAS"], LESION, atol=1)


def brain_of_two_segments(node):
    """A segmentation with the patient's right half and the whole head."""
    import slicer

    mask = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "brain")
    mask.SetReferenceImageGeometryParameterFromVolumeNode(node)
    whole = (slicer.util.arrayFromVolume(node) > 0).astype(np.uint8)
    half = whole.copy()
    half[:, :, :24] = 0
    for name, array in (("right", half), ("whole", whole)):
        mask.GetSegmentation().AddEmptySegment(name, name)
        slicer.util.updateSegmentBinaryLabelmapFromArray(array, mask, name, node)
    return mask


def test_one_segment_can_be_the_brain(logic):
    from ZSADCLIPSlicer.scene import findingstable

    from ZSADCLIPLib.errors import InputError

    node = head()
    mask = brain_of_two_segments(node)
    both = logic.process(node, brainMask=mask, command=fake())
    assert len(findingstable.rowsOf(both.findings)) == 2
    right = logic.process(node, brainMask=mask, brainSegment="right", command=fake())
    assert len(findingstable.rowsOf(right.findings)) == 1
    with pytest.raises(InputError, match="no segment 'gone'"):
        logic.process(node, brainMask=mask, brainSegment="gone", command=fake())


def test_a_brain_mask_that_was_deleted_later_is_said(logic):
    import slicer

    node = head()
    mask = brain_of_two_segments(node)
    result = logic.process(node, brainMask=mask, brainSegment="right", command=fake())
    assert result.note == ""
    mask.GetSegmentation().RemoveSegment("right")
    again = logic.result(result.map)
    again.setThreshold(0.7)
    assert "'brain'" in again.note
    slicer.mrmlScene.RemoveNode(mask)
    assert "'brain'" in logic.result(result.map).note


@pytest.mark.parametrize("moved", ["volume", "mask"])
def test_a_segmentation_counts_where_its_transform_puts_it(logic, moved):
    """As Slicer's own export of a segment onto a volume does."""
    import slicer
    import vtk
    from ZSADCLIPSlicer.scene.brainmask import maskArray

    node = head()
    mask = brain_of_two_segments(node)
    transform, matrix = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode"), vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 20.0)
    transform.SetMatrixTransformToParent(matrix)
    before = maskArray(mask, node, "whole")
    (node if moved == "volume" else mask).SetAndObserveTransformNodeID(transform.GetID())
    expected = slicer.util.arrayFromSegmentBinaryLabelmap(mask, "whole", node) != 0
    found = maskArray(mask, node, "whole")
    assert np.array_equal(found, expected) and not np.array_equal(found, before)
    (mask if moved == "volume" else node).SetAndObserveTransformNodeID(transform.GetID())
    assert np.array_equal(maskArray(mask, node, "whole"), before)
