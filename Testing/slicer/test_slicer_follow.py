"""What the panel and its results do when something else changes: views, voxels, transforms, a script's own runs."""

import numpy as np
import pytest
from slicer_cases import LESION, fake, head
from slicer_harness import make_panel, spin

pytest_plugins = ["slicer_fixtures", "panel_fixtures"]


def change(volume):
    import slicer

    slicer.util.updateVolumeFromArray(volume, slicer.util.arrayFromVolume(volume) + 1)


def test_a_new_volume_is_not_replaced_by_the_old_one(done):
    import slicer
    from ZSADCLIPSlicer.scene import display

    second = head(name="second")
    slicer.util.setSliceViewerLayers(background=second, foreground=None)
    done.inputs._select(second)
    assert done.results.result is None
    for composite in display.compositeNodes():
        assert composite.GetBackgroundVolumeID() == second.GetID() and not composite.GetForegroundVolumeID()


def test_the_views_belong_to_the_user_between_changes_of_the_overlay(done):
    """Neither another parameter, nor other voxels, nor coming back takes the views from what was chosen there."""
    import slicer
    from ZSADCLIPSlicer.scene import display

    other, composite = head(name="other"), display.compositeNodes()[0]
    slicer.util.setSliceViewerLayers(background=other)
    done._parameters.objectName = "liver"
    done.exit()
    change(done.results.result.input)
    done.enter()
    change(done.results.result.input)
    assert composite.GetBackgroundVolumeID() == other.GetID()
    done.ui.opacitySlider.value = 0.3
    assert composite.GetBackgroundVolumeID() == done.results.result.input.GetID()


def test_a_panel_that_was_left_does_not_look_at_new_voxels(done, monkeypatch):
    looked = []
    monkeypatch.setattr(done.inputs, "showNotes", lambda: looked.append("notes"))
    change(done._parameters.inputVolume)
    assert looked
    done.exit()
    looked.clear()
    change(done.results.result.input)
    assert not looked


def test_results_go_where_their_input_goes(done):
    import slicer
    import vtk
    from ZSADCLIPSlicer.scene import findingstable, geometry

    result, shift = done.results.result, vtk.vtkTransform()
    shift.Translate(30, 20, 10)
    parent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "shift")
    parent.SetMatrixTransformToParent(shift.GetMatrix())
    result.input.SetAndObserveTransformNodeID(parent.GetID())
    assert result.map.GetTransformNodeID() == parent.GetID() == result.segmentation.GetTransformNodeID()
    centre = lambda: [findingstable.rowsOf(result.findings)[0][axis] for axis in "RAS"]  # noqa: E731
    spin(lambda: np.allclose(centre(), np.add(LESION, (30, 20, 10)), atol=1))
    result.input.HardenTransform()
    assert result.map.GetTransformNodeID() is None
    assert np.array_equal(geometry.ijkToRas(result.map), geometry.ijkToRas(result.input))
    spin(lambda: not done.results._settle.active)
    assert np.allclose(centre(), np.add(LESION, (30, 20, 10)), atol=1)


def test_a_result_that_was_not_on_display_follows_when_it_is(done):
    import slicer
    import vtk
    from ZSADCLIPSlicer.scene import findingstable

    result, shift = done.results.result, vtk.vtkTransform()
    done.ui.resultSelector.setCurrentNode(None)
    shift.Translate(30, 0, 0)
    parent = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "shift")
    parent.SetMatrixTransformToParent(shift.GetMatrix())
    result.input.SetAndObserveTransformNodeID(parent.GetID())
    done.ui.resultSelector.setCurrentNode(result.map)
    assert result.map.GetTransformNodeID() == parent.GetID() == result.segmentation.GetTransformNodeID()
    assert findingstable.rowsOf(result.findings)[0]["R"] == pytest.approx(LESION[0] + 30, abs=1)


def test_a_change_of_the_image_during_the_run_is_said(logic):
    import slicer

    node = head()
    run = logic.process(node, wait=False, command=fake())  # nothing of it is read before it is waited for
    slicer.util.arrayFromVolumeModified(node)
    run.wait()
    assert any("changed during the run" in note for note in run.notes)
    run = logic.process(node, wait=False, command=fake())
    run.wait()
    assert not any("changed" in note for note in run.notes)


def test_the_panel_follows_a_run_of_a_script(done):
    import slicer

    result = done.results.result
    array = slicer.util.arrayFromVolume(result.input)
    array[array == 800] = 1000  # the second lesion is now as bright as the first
    slicer.util.arrayFromVolumeModified(result.input)
    done.logic.process(result.input, result=result, threshold="0.9")
    spin(lambda: done.ui.thresholdSlider.value == pytest.approx(0.9))
    assert done.ui.findingsTable.rowCount == 2
    result.setThreshold(0.95)  # a Result from before the script's run has no arrays of the former map
    assert np.isclose(result.inside.max(), 1.0) and (result.inside >= 0.95).sum() > (array == 1000).sum() / 2


def test_results_are_told_apart_by_their_names(logic):
    node = head()
    first, second = (logic.process(node, command=fake()) for _ in range(2))
    coronal = logic.process(node, command=fake(), plane="coronal", checkpoint="/data/own.safetensors")
    names = [result.map.GetName() for result in (first, second, coronal)]
    assert len(set(names)) == 3
    assert all("vand" in name and "mini" in name for name in names)
    assert "coronal" in names[2] and "own" in names[2]
    first.setThreshold(0.7)
    first.setThreshold(0.6)
    assert first.map.GetName() == names[0] and first.chart.GetName() != second.chart.GetName()


def test_rejected_findings_stay_rejected_after_another_run(logic):
    from ZSADCLIPSlicer.scene import findingstable

    result = logic.process(head(), command=fake())
    result.accept(2, False)
    run = logic.process(result.input, result=result, wait=False, command=fake())
    again = run.wait()
    assert [row["Accepted"] for row in findingstable.rowsOf(again.findings)] == [1, 0]
    assert any("rejected before" in note for note in run.notes)


def test_nothing_of_a_closed_scene_is_held(slicer_env, done):
    import gc
    import weakref

    from slicer_harness import clear_scene

    done.ui.applyButton.click()
    spin(lambda: not done.run.running)
    run = done.run.detection
    assert run._volume is None
    held = [weakref.ref(run), weakref.ref(done.results.result)]
    del run
    clear_scene()
    slicer_env.qt_application.processEvents()
    gc.collect()
    assert [one() for one in held] == [None, None] and done.ui.logButton.isHidden()


def test_the_plot_is_let_go_with_the_panel(slicer_env, monkeypatch):
    import types

    import slicer

    connected = []
    view = types.SimpleNamespace(
        connect=lambda signal, slot: connected.append(slot), disconnect=lambda signal, slot: connected.remove(slot)
    )
    manager = slicer.app.layoutManager()
    monkeypatch.setattr(manager, "plotViewCount", 1)
    monkeypatch.setattr(manager, "plotWidget", lambda n: types.SimpleNamespace(plotView=lambda: view), raising=False)
    monkeypatch.setattr(slicer.modules.plots, "logic", lambda: types.SimpleNamespace(ShowChartInLayout=lambda n: None))
    panel = make_panel(slicer_env)
    panel.results.result = types.SimpleNamespace(chart=object(), map=None)
    panel.results.plot._showChart()
    panel.results.plot._showChart()
    assert connected == [panel.results.plot.onProfileSelected]
    panel.results.result = None
    panel.cleanup()
    assert not connected


def test_a_failed_installation_is_said_in_the_panel(panel, monkeypatch):
    import slicer
    from ZSADCLIPSlicer.engine import install

    def fails(wheels, again):
        raise RuntimeError("pip ended with code 1")

    monkeypatch.setattr(install, "missing", lambda: [install.Package("torch>=2.6", "", False)])
    monkeypatch.setattr(install, "install", fails)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *a: True)
    panel.ui.installButton.click()
    assert "pip ended with code 1" in panel.ui.statusLabel.text and not panel.ui.healthText.isHidden()


def test_a_path_typed_as_prompts_is_taken(panel):
    import qt

    combo = panel.ui.promptSelector
    count = combo.count
    combo.setEditText("/data/own.json")
    combo.lineEdit().returnPressed.emit()  # here Qt would insert the text as an entry without data
    assert panel._parameters.prompts == "/data/own.json" and combo.count == count
    assert combo.insertPolicy == qt.QComboBox.NoInsert
    combo.addItem("/data/other.json")
    combo.setEditText("/data/other.json")
    assert panel._parameters.prompts == "/data/other.json"


def test_a_run_that_ends_while_another_module_is_open_leaves_its_views(panel, use):
    import slicer
    from ZSADCLIPSlicer.scene import display

    head()
    panel.initializeParameterNode()
    for run in range(2):  # into new nodes, and into those of the first run
        panel.ui.applyButton.click()
        panel.exit()
        other = head(name=f"other {run}")
        slicer.util.setSliceViewerLayers(background=other, foreground=None)
        spin(lambda: not panel.run.running)
        spin(lambda: not panel.results._stale.isActive())
        composite = display.compositeNodes()[0]
        assert panel.results.result is not None and composite.GetBackgroundVolumeID() == other.GetID()
        assert not composite.GetForegroundVolumeID()
        panel.enter()
        assert composite.GetForegroundVolumeID() == panel.results.result.map.GetID()


def test_a_scene_that_is_added_is_looked_at_when_it_is_whole(done, monkeypatch):
    import slicer

    looked = []
    monkeypatch.setattr(done.results, "show", lambda parameters: looked.append(slicer.mrmlScene.IsImporting()))
    slicer.mrmlScene.StartState(slicer.vtkMRMLScene.ImportState)
    done._parameters.objectName = "liver"
    assert not looked
    slicer.mrmlScene.EndState(slicer.vtkMRMLScene.ImportState)
    assert looked == [False]


def test_nothing_starts_while_packages_are_installed(panel, use, monkeypatch):
    """Slicer handles events at every line that pip prints."""
    import slicer
    from ZSADCLIPSlicer.engine import install

    head()
    panel.initializeParameterNode()
    seen, package = [], install.Package("wonder>=1", "", False)

    def installing(wheels, again):
        seen.append((panel.ui.applyButton.enabled, panel.ui.installButton.enabled, panel.ui.statusLabel.text))
        panel._parameters.objectName = "liver"  # the panel looks again
        seen.append(panel.ui.applyButton.enabled)
        seen.append(panel.inputs.onInstall())
        monkeypatch.setattr(install, "missing", lambda: [])

    monkeypatch.setattr(install, "missing", lambda: [package])
    monkeypatch.setattr(install, "install", installing)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *a: True)
    panel.ui.installButton.click()
    assert seen == [(False, False, "Installing packages..."), False, False]
    assert panel.ui.applyButton.enabled and panel.ui.installButton.enabled
    assert panel.ui.statusLabel.text == "The packages are installed."


def test_packages_that_no_longer_exist_are_not_asked_for(panel, monkeypatch):
    import slicer
    from ZSADCLIPSlicer.engine import install

    monkeypatch.setattr(install.sys, "platform", "darwin")
    monkeypatch.setattr(install.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(install, "missing", lambda: [install.Package("torch>=2.6", "", False)])
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *a: pytest.fail("asked"))
    assert not panel.inputs.onInstall()
    assert "Intel" in panel.ui.statusLabel.text and "Advanced" in panel.ui.statusLabel.text
