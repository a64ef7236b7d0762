"""Slice views drawn offscreen: the overlay is where the lesion is, on the right side, for any grid and transform."""

import os

import numpy as np
import pytest
from slicer_cases import LESION, fake, head
from slicer_harness import PICTURES, overlay_shown

pytest_plugins = ["slicer_fixtures"]


@pytest.fixture
def views(slicer_env):
    from slicer_views import SliceView

    made = {name: SliceView(name, slicer_env.app_logic, (240, 240)) for name in ("Red", "Green", "Yellow")}
    yield made
    for view in made.values():
        view.close()


def shown(views, result, world, opacity=1.0):
    """Pictures of the three views with the overlay, at a world point."""
    from ZSADCLIPSlicer.scene import display

    display.showOverlay(result.map, result.input, opacity)
    result.segmentation.GetDisplayNode().SetVisibility(False)
    for view in views.values():
        view.fit(world)
    pictures = {name: view.render() for name, view in views.items()}
    keep(pictures)
    return pictures


def keep(pictures):
    """Leave the pictures, side by side, for people to look at."""
    from PIL import Image

    PICTURES.mkdir(parents=True, exist_ok=True)
    name = os.environ["PYTEST_CURRENT_TEST"].split("::")[1].split(" ")[0].replace("[", "-").rstrip("]")
    Image.fromarray(np.concatenate(list(pictures.values()), axis=1)).save(
        PICTURES / f"{name.removeprefix('test_')}.png"
    )


def test_the_sample_and_its_findings_are_in_view(logic, views):
    import slicer
    from ZSADCLIPSlicer.scene import display, sampledata

    composite = display.compositeNodes()[0]
    node = sampledata.load()
    assert composite.GetBackgroundVolumeID() == node.GetID()
    pictures = {name: view.render() for name, view in views.items()}
    keep(pictures)
    for name, picture in pictures.items():
        assert (picture.max(axis=2) > 30).mean() > 0.1, name  # its voxels are far from the origin
    corner = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed").GetXYToRAS().MultiplyPoint([-200, 400, 0, 1])[:3]
    display.jump(corner)
    for name, view in views.items():
        toView = np.linalg.inv(slicer.util.arrayFromVTKMatrix(view.node.GetXYToRAS()))
        x, y, distance = (toView @ [*corner, 1])[:3]
        assert 0 < x < view.size[0] and 0 < y < view.size[1] and abs(distance) < 0.6, name


def test_an_error_of_vtk_does_not_pass_unnoticed(slicer_env):
    """The fixture fails a test on what `take` returns at its end."""
    import vtk

    reader = vtk.vtkXMLImageDataReader()
    reader.SetFileName("/no/such/file.vti")
    reader.Update()
    assert any("file.vti" in line for line in slicer_env.messages.take())
    assert not slicer_env.messages.take()


def coloured(pixel):
    return int(pixel.max()) - int(pixel.min()) > 60


def test_overlay_covers_the_lesion_only_and_at_the_radiological_side(logic, views):
    result = logic.process(head(), command=fake())
    pictures = shown(views, result, LESION)
    for name, view in views.items():
        assert coloured(pictures[name][view.pixel(LESION)]), name
    elsewhere = (0.0, -30.0, LESION[2])
    assert not coloured(pictures["Red"][views["Red"].pixel(elsewhere)])
    assert views["Red"].pixel(LESION)[1] < 120  # the patient's right is on the left of an axial view
    from ZSADCLIPSlicer.scene import display

    display.hideOverlay()
    assert not coloured(views["Red"].render()[views["Red"].pixel(LESION)])


def test_opacity_and_threshold_change_the_picture(logic, views):
    result = logic.process(head(), command=fake())
    full = shown(views, result, LESION)["Red"][views["Red"].pixel(LESION)].astype(int)
    half = shown(views, result, LESION, 0.4)["Red"][views["Red"].pixel(LESION)].astype(int)
    assert np.abs(full - half).max() > 10
    result.setThreshold(1.5)
    assert not coloured(views["Red"].render()[views["Red"].pixel(LESION)])


def test_dragging_moves_the_segmentation_outline(logic, views):
    result = logic.process(head(), command=fake())
    for view in views.values():
        view.fit(LESION)
    outlines = []
    for value in (0.9, 0.3):
        result.dragThreshold(value)
        picture = views["Red"].render().astype(int)
        outlines.append(int(((picture[..., 1] - picture[..., [0, 2]].max(-1)) > 80).sum()))
    assert outlines[0] > 20
    assert outlines[1] > 2 * outlines[0]  # at 0.3 the outline runs around the whole brain


@pytest.mark.parametrize("axes", ["LPS", "PIR", "SAL", "ILA"])
def test_scrambled_grids_show_the_lesion_in_its_place(logic, views, axes):
    result = logic.process(head(axes), command=fake())
    pictures = shown(views, result, LESION)
    for name, view in views.items():
        assert coloured(pictures[name][view.pixel(LESION)]), name


def test_anisotropic_sagittal_acquisition(logic, views):
    node = head("PIR", shape=(112, 80, 20), spacing=(1.0, 1.0, 5.0))
    result = logic.process(node, command=fake(), plane="sagittal")
    pictures = shown(views, result, LESION)
    for name, view in views.items():
        assert coloured(pictures[name][view.pixel(LESION)]), name
    import slicer

    position = slicer.util.arrayFromTableColumn(result.profile, "Position")
    assert len(position) == 20 and np.allclose(np.abs(np.diff(position)), 5.0)


def rotated():
    import slicer
    import vtk

    transform = vtk.vtkTransform()
    transform.RotateZ(35)
    transform.Translate(10, 5, 4)
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "rotated")
    node.SetMatrixTransformToParent(transform.GetMatrix())
    return node, transform


def test_rotated_parent_transform(logic, views):
    node = head()
    parent, transform = rotated()
    node.SetAndObserveTransformNodeID(parent.GetID())
    result = logic.process(node, command=fake())
    assert result.map.GetTransformNodeID() == parent.GetID() == result.segmentation.GetTransformNodeID()
    world = transform.TransformPoint(LESION)
    pictures = shown(views, result, world)
    for name, view in views.items():
        assert coloured(pictures[name][view.pixel(world)]), name
    from ZSADCLIPSlicer.scene import findingstable

    assert np.allclose([findingstable.rowsOf(result.findings)[0][a] for a in "RAS"], world, atol=1.5)


def test_non_linear_parent_transform(logic, views):
    import slicer
    import vtk

    warp = vtk.vtkThinPlateSplineTransform()
    warp.SetBasisToR()
    source, target = vtk.vtkPoints(), vtk.vtkPoints()
    for x in (-60, 60):
        for y in (-60, 60):
            for z in (-60, 60):
                source.InsertNextPoint(x, y, z)
                target.InsertNextPoint(x + 0.1 * y, y + (8 if x > 0 else -4), z + 5)
    warp.SetSourceLandmarks(source)
    warp.SetTargetLandmarks(target)
    parent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLTransformNode", "warp")
    parent.SetAndObserveTransformToParent(warp)
    node = head()
    node.SetAndObserveTransformNodeID(parent.GetID())
    result = logic.process(node, command=fake())
    world = warp.TransformPoint(LESION)
    pictures = shown(views, result, world)
    assert coloured(pictures["Red"][views["Red"].pixel(world)])
    from ZSADCLIPSlicer.scene import findingstable, geometry

    row = findingstable.rowsOf(result.findings)[0]
    jumped = geometry.worldOf(result.map, (row["Peak I"], row["Peak J"], row["Peak K"]))
    assert np.linalg.norm(np.subtract(jumped, world)) < 11
    assert "warped" in " ".join(geometry.notesOn(node))


def test_legend_and_own_colours(logic):
    import matplotlib
    import slicer
    from ZSADCLIPSlicer.scene import colors, display

    for name, reference in (("Inferno", "inferno"), ("Viridis", "viridis"), ("Blue-White-Red", "RdBu_r")):
        expected = matplotlib.colormaps[reference](np.linspace(0, 1, 256))[:, :3]
        assert np.abs(colors.table(name) - expected).max() < 0.08, name
    result = logic.process(
        head(),
        command=fake(),
    )
    assert result.map.GetDisplayNode().GetColorNode() is colors.colorNode("Inferno")
    display.setLegend(result.map, True)
    legend = slicer.modules.colors.logic().GetColorLegendDisplayNode(result.map)
    assert legend.GetVisibility()
    display.setLegend(result.map, False)
    assert not legend.GetVisibility()


def test_the_users_layers_come_back(logic):
    import slicer
    from ZSADCLIPSlicer.scene import display

    node, other = head(), head(name="other")
    slicer.util.setSliceViewerLayers(background=node, foreground=other, foregroundOpacity=0.3)
    result = logic.process(node, command=fake())
    display.showOverlay(result.map, node, 0.6)
    display.showOverlay(result.map, node, 0.8)
    assert overlay_shown(result.map)
    display.hideOverlay()
    composite = display.compositeNodes()[0]
    assert composite.GetForegroundVolumeID() == other.GetID()
    assert composite.GetForegroundOpacity() == pytest.approx(0.3)


def test_layers_that_the_user_chose_meanwhile_stay(logic):
    import slicer
    from ZSADCLIPSlicer.scene import display

    node, other = head(), head(name="other")
    result = logic.process(node, command=fake())
    display.showOverlay(result.map, node, 0.6)
    slicer.util.setSliceViewerLayers(background=other, foreground=None)
    display.hideOverlay()
    composite = display.compositeNodes()[0]
    assert composite.GetBackgroundVolumeID() == other.GetID() and not composite.GetForegroundVolumeID()
    display.showOverlay(result.map, node, 0.6)
    slicer.util.setSliceViewerLayers(foreground=other, foregroundOpacity=0.2)
    display.showOverlay(result.map, node, 0.8)
    display.hideOverlay()
    assert composite.GetForegroundVolumeID() == other.GetID()
    assert composite.GetForegroundOpacity() == pytest.approx(0.2)


def test_the_legend_has_the_decimals_that_its_window_needs(logic):
    import slicer
    from ZSADCLIPSlicer.scene import display

    result = logic.process(head(), command=fake())
    display.setLegend(result.map, True)
    legend = slicer.modules.colors.logic().GetColorLegendDisplayNode(result.map)
    assert legend.GetLabelFormat() == "%.2f"
    display.setWindow(result.map, 0.0, 0.01)
    display.setLegend(result.map, True)
    assert legend.GetLabelFormat() == "%.5f"
    legend.SetLabelFormat("%.1e")
    display.setWindow(result.map, 0.0, 1.0)
    display.setLegend(result.map, True)
    assert legend.GetLabelFormat() == "%.1e"
