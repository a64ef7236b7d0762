"""Two results swapped, side by side and subtracted; several counted."""

import numpy as np
import pytest
from slicer_cases import head, ready
from slicer_harness import grab, overlay_shown, spin

pytest_plugins = ["slicer_fixtures", "panel_fixtures"]


@pytest.fixture
def two(shown):
    """A panel with two results of one volume; the second has scores of 0.1 more everywhere."""
    import slicer

    here = shown.results.result
    scores = slicer.util.arrayFromVolume(here.map).T + 0.1
    there = ready(here.input, method="winclip", threshold=0.95, scores=scores)
    shown._parameters.compared = there.map
    return shown, here, there


def composite(name):
    import slicer

    nodes = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    return next(node for node in nodes if node.GetLayoutName() == name)


def test_two_results_change_places_by_button_and_key(two):
    panel, here, there = two
    assert overlay_shown(here.map)
    panel.ui.swapButton.click()
    assert panel.results.result.map is there.map and panel._parameters.compared is here.map
    assert overlay_shown(there.map) and panel.ui.thresholdSlider.value == pytest.approx(0.95)
    panel._actions()["swap"]()
    assert panel.results.result.map is here.map and overlay_shown(here.map)
    panel._parameters.compared = here.map  # itself
    assert not panel.ui.swapButton.enabled and not panel.ui.sideButton.enabled


def legend(result):
    import slicer

    return slicer.modules.colors.logic().GetColorLegendDisplayNode(result.map)


def test_side_by_side_shows_each_over_its_image_and_gives_the_views_back(two, slicer_env):
    import slicer

    panel, here, there = two
    other = ready(head(name="earlier"), threshold=0.9)
    panel._parameters.compared = other.map
    manager, yellow = slicer.app.layoutManager(), slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeYellow")
    before = manager.layout, yellow.GetOrientation()
    panel.ui.sideButton.checked = True
    assert manager.layout == slicer.vtkMRMLLayoutNode.SlicerLayoutSideBySideView
    assert yellow.GetOrientation() == slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed").GetOrientation() == "Axial"
    for name, result in (("Red", here), ("Yellow", other)):
        assert composite(name).GetForegroundVolumeID() == result.map.GetID()
        assert composite(name).GetBackgroundVolumeID() == result.input.GetID() and composite(name).GetLinkedControl()
        for shown in (result.segmentation.GetDisplayNode(), legend(result)):
            assert shown.GetViewNodeIDs() == ("vtkMRMLSliceNode" + name,) and shown.GetVisibility()
    panel.ui.opacitySlider.value = 0.3
    assert composite("Yellow").GetForegroundVolumeID() == other.map.GetID()
    assert composite("Yellow").GetForegroundOpacity() == pytest.approx(0.3)
    panel._parameters.compared = there.map
    assert composite("Yellow").GetForegroundVolumeID() == there.map.GetID()
    assert not other.segmentation.GetDisplayNode().GetVisibility() and not legend(other).GetVisibility()
    panel.ui.sideButton.checked = False
    assert (manager.layout, yellow.GetOrientation()) == before
    assert composite("Yellow").GetForegroundVolumeID() == here.map.GetID() and not composite("Red").GetLinkedControl()
    assert (
        not here.segmentation.GetDisplayNode().GetViewNodeIDs() and here.segmentation.GetDisplayNode().GetVisibility()
    )
    assert not legend(here).GetViewNodeIDs() and legend(here).GetVisibility() and not legend(there).GetVisibility()


def test_side_by_side_in_the_pictures(two, slicer_env):
    """What is drawn: on the left one finding has an outline, on the right the other threshold leaves one of them out."""
    from PIL import Image
    from slicer_harness import PICTURES
    from slicer_views import SliceView

    panel, here, there = two
    views = [SliceView(name, slicer_env.app_logic, (300, 300)) for name in ("Red", "Yellow")]
    try:
        panel.ui.sideButton.checked = True
        pictures = []
        for view in views:
            view.fit((-25.0, -12.0, -5.0))
            pictures.append(view.render())
        PICTURES.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.concatenate(pictures, axis=1)).save(PICTURES / "side-by-side.png")
        green = [int(((p[..., 1] > 180) & (p[..., 0] < 100) & (p[..., 2] < 150)).sum()) for p in pictures]
        assert green[0] > 50 and green[1] == 0  # 0.8 reaches 0.6; 0.9 does not reach 0.95
        panel.ui.sideButton.checked = False
    finally:
        for view in views:
            view.close()


def test_a_deleted_result_ends_side_by_side(two):
    import slicer

    panel, here, there = two
    third = ready(here.input, method="anovl")  # now: slicer-core leaves the tree items of deleted nodes behind
    panel.ui.sideButton.checked = True
    slicer.mrmlScene.RemoveNode(there.map)
    assert not panel.ui.sideButton.checked
    assert slicer.app.layoutManager().layout == slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView
    panel._parameters.compared = third.map
    panel.ui.sideButton.checked = True
    slicer.mrmlScene.RemoveNode(here.map)
    assert panel.results.result is None and not panel.ui.sideButton.checked


def test_the_difference_is_on_display_and_leaves_with_the_result(two):
    import slicer
    from ZSADCLIPSlicer.scene import nodes
    from ZSADCLIPSlicer.scene.results import inputVolumes

    panel, here, there = two
    panel.ui.layerSelector.setCurrentIndex(1)
    node = here.difference
    values, brain = slicer.util.arrayFromVolume(node), here.brain.T
    # different methods: shares of the display window, cut at its upper end
    assert np.allclose(values[brain & (slicer.util.arrayFromVolume(here.map) < 0.5)], -0.1, atol=1e-5)
    assert not values[~brain].any() and overlay_shown(node) and node not in inputVolumes()
    assert panel.ui.inputSelector.sortFilterProxyModel().hiddenNodeIDs.count(node.GetID()) == 1
    panel.ui.compareSection.collapsed = False
    colors = node.GetDisplayNode().GetColorNode()
    clear = [
        not colors.GetLookupTable().GetOpacity(share) for share in np.linspace(*colors.GetLookupTable().GetRange(), 21)
    ]
    assert clear == [abs(n - 10) <= 1 for n in range(21)]  # what hardly differs
    grab(panel, "compare", 300)
    panel.ui.layerSelector.setCurrentIndex(0)
    assert overlay_shown(here.map)
    panel.ui.layerSelector.setCurrentIndex(1)
    nodes.remove(here)
    assert not [
        n for n in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if "Derived" in str(n.GetAttributeNames())
    ]


def test_the_difference_of_one_method_is_raw_and_places_are_those_of_the_patient(shown):
    import slicer
    import vtk
    from ZSADCLIPSlicer.scene import compare

    here = shown.results.result
    moved = head(name="moved", axes="LPS", shape=(48, 56, 40))
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    there = ready(moved)
    values = slicer.util.arrayFromVolume(compare.difference(here, there))
    assert np.abs(values).max() < 1e-5  # the same head stored the other way round
    matrix = vtk.vtkMatrix4x4()
    matrix.SetElement(0, 3, 20.0)
    transform.SetMatrixTransformToParent(matrix)
    for node in (moved, there.map):
        node.SetAndObserveTransformNodeID(transform.GetID())
    values = slicer.util.arrayFromVolume(compare.difference(here, there))
    assert np.abs(values).max() > 0.5


def test_the_agreement_counts_results_at_their_own_thresholds(two):
    import qt
    import slicer

    panel, here, there = two
    third = ready(here.input, method="anovl", threshold=0.3)
    panel.ui.layerSelector.setCurrentIndex(2)
    scores, brain = slicer.util.arrayFromVolume(here.map), here.brain.T
    expected = sum(((scores + plus) >= cut).astype(int) * brain for plus, cut in ((0, 0.6), (0.1, 0.95), (0, 0.3)))
    counts = lambda: slicer.util.arrayFromVolume(here.agreement)  # noqa: E731
    assert counts().max() == 3 and np.array_equal(counts(), expected)
    assert overlay_shown(here.agreement) and not panel.ui.agreeList.isHidden() and panel.ui.agreeList.count == 3
    row = [panel.ui.agreeList.item(n).text() for n in range(3)].index(third.title)
    panel.ui.agreeList.item(row).setCheckState(qt.Qt.Unchecked)
    assert counts().max() == 2 and "2 results" in here.agreement.GetName()
    panel.ui.compareSection.collapsed = False
    grab(panel, "agreement", 420)
    panel.ui.thresholdSlider.value = 0.9
    spin(lambda: not panel.results._settle.active)
    assert counts().sum() < (expected > 1).sum() * 2
    panel._parameters.result = third.map
    assert overlay_shown(third.agreement) and panel.results.layer is third.agreement
