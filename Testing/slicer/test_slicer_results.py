"""The lower part of the panel: threshold, findings, overlay, profile, several results."""

import pytest
from slicer_cases import LESION, head
from slicer_harness import overlay_shown, spin

pytest_plugins = ["slicer_fixtures", "panel_fixtures"]


def cell(panel, row, column):
    return panel.ui.findingsTable.item(row, column)


def test_dragging_the_threshold_updates_findings_when_it_rests(done):
    slider = done.ui.thresholdSlider
    assert slider.value == pytest.approx(0.6) and slider.maximum >= 1.0
    slider.value = 0.9
    assert done.results.result.threshold == pytest.approx(0.9)
    assert done.ui.findingsTable.rowCount == 2
    spin(lambda: done.ui.findingsTable.rowCount == 1)
    assert "Findings: 1 of 1" in done.ui.summaryLabel.text


def test_clicking_a_finding_jumps_and_marks_it(done):
    import numpy as np
    import slicer

    done.ui.findingsTable.cellClicked.emit(0, 1)
    red = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
    assert abs(red.GetSliceOffset() - LESION[2]) < 11
    mark = slicer.mrmlScene.GetSingletonNode("ZSADCLIP-Finding", "vtkMRMLMarkupsFiducialNode")
    assert np.linalg.norm(np.subtract(mark.GetNthControlPointPositionWorld(0), LESION)) < 11
    assert mark.GetNthControlPointLabel(0) == "#1"


def test_clicking_a_finding_leaves_the_users_points_alone(done):
    """Slicer's own logic makes every list that is added the one that the next point goes into."""
    import slicer

    users = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", "mine")
    selection = slicer.mrmlScene.GetSingletonNode("Singleton", "vtkMRMLSelectionNode")
    assert selection.GetActivePlaceNodeID() == users.GetID()
    done.ui.findingsTable.cellClicked.emit(0, 1)
    assert slicer.mrmlScene.GetSingletonNode("ZSADCLIP-Finding", "vtkMRMLMarkupsFiducialNode") is not None
    assert selection.GetActivePlaceNodeID() == users.GetID()
    assert selection.GetActivePlaceNodeClassName() == "vtkMRMLMarkupsFiducialNode"


def test_the_series_of_the_profile_stay_out_of_the_data_tree(done):
    chart = done.results.result.chart
    series = [chart.GetNthPlotSeriesNode(n) for n in range(chart.GetNumberOfPlotSeriesNodes())]
    assert len(series) == 3 and all(node.GetHideFromEditors() for node in series)


def test_a_finding_is_marked_after_the_scene_was_closed_as_the_application_does(done):
    """Which keeps singleton nodes, and takes their display and lock."""
    import slicer

    mark = lambda: slicer.mrmlScene.GetSingletonNode("ZSADCLIP-Finding", "vtkMRMLMarkupsFiducialNode")  # noqa: E731
    done.ui.findingsTable.cellClicked.emit(0, 1)
    slicer.mrmlScene.Clear(0)
    assert mark() is not None and mark().GetDisplayNode() is None
    head()
    done.initializeParameterNode()
    done.ui.applyButton.click()
    spin(lambda: not done.run.running)
    done.ui.findingsTable.cellClicked.emit(0, 1)
    assert mark().GetDisplayNode() is not None and mark().GetLocked() and mark().GetDisplayVisibility()


def test_unticking_a_finding_rejects_it_and_sorting_keeps_ranks(done):
    import qt
    from ZSADCLIPSlicer.scene import findingstable, segmentation

    result = done.results.result
    before = segmentation.read(result.segmentation, result.input).sum()
    done.ui.findingsTable.sortItems(2, qt.Qt.AscendingOrder)  # smallest first: rank 2 on top
    assert cell(done, 0, 1).text() == "2"
    cell(done, 0, 0).setCheckState(qt.Qt.Unchecked)
    assert [row["Accepted"] for row in findingstable.rowsOf(result.findings)] == [1, 0]
    assert segmentation.read(result.segmentation, result.input).sum() < before


def test_overlay_switch_gives_the_view_back(done):
    import slicer
    from ZSADCLIPSlicer.scene import display

    assert overlay_shown(done.results.result.map)
    composite = display.compositeNodes()[0]
    assert composite.GetForegroundOpacity() == pytest.approx(0.6)
    done.ui.opacitySlider.value = 0.9
    assert composite.GetForegroundOpacity() == pytest.approx(0.9)
    done.ui.overlayCheckBox.checked = False
    assert not overlay_shown(done.results.result.map)
    legend = slicer.modules.colors.logic().GetColorLegendDisplayNode(done.results.result.map)
    assert not legend.GetVisibility()


def test_surface_on_request(done):
    from ZSADCLIPSlicer.scene import segmentation

    node = done.results.result.segmentation
    assert not segmentation.shown3D(node)
    done.ui.surfaceCheckBox.checked = True
    assert segmentation.shown3D(node)
    done.ui.thresholdSlider.value = 0.7
    assert not segmentation.shown3D(node)  # while dragging there is no surface to keep up to date
    spin(lambda: segmentation.shown3D(node))
    done.ui.surfaceCheckBox.checked = False
    assert not segmentation.shown3D(node)


def test_edits_are_kept_until_the_user_gives_them_up(done):
    import slicer
    from ZSADCLIPSlicer.scene import segmentation

    result = done.results.result
    mask = segmentation.read(result.segmentation, result.input)
    mask[:2] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, result.segmentation, "anomaly", result.input)
    done.ui.thresholdSlider.value = 0.9
    spin(lambda: not done.ui.editedLabel.isHidden())
    assert (segmentation.read(result.segmentation, result.input) == mask).all()
    done.ui.replaceEditsButton.click()
    assert done.ui.editedLabel.isHidden()
    assert (segmentation.read(result.segmentation, result.input) != mask).any()


def test_several_results_can_be_kept_and_looked_at(done):
    ui, first = done.ui, done.results.result.map
    ui.resultSelector.setCurrentNode(None)
    assert done.results.result is None and not ui.findingsSection.enabled
    ui.methodSelector.setCurrentIndex(ui.methodSelector.findData("anovl"))
    ui.applyButton.click()
    spin(lambda: not done.run.running)
    second = done.results.result.map
    assert second is not first and "anovl" in second.GetName()
    ui.resultSelector.setCurrentNode(first)
    assert done.results.result.map is first
    ui.methodSelector.setCurrentIndex(ui.methodSelector.findData("vand"))
    ui.applyButton.click()
    spin(lambda: not done.run.running)
    assert done.results.result.map is first


def test_another_method_never_takes_the_place_of_a_result_nor_of_its_verdicts(done):
    from ZSADCLIPSlicer.scene import findingstable

    ui, first = done.ui, done.results.result
    before, name = first.attribute("Settings"), first.map.GetName()
    cell(done, 1, 0).setCheckState(done_unchecked())
    ui.methodSelector.setCurrentIndex(ui.methodSelector.findData("anovl"))
    ui.applyButton.click()
    spin(lambda: not done.run.running)
    second = done.results.result
    assert second.map is not first.map and first.attribute("Settings") == before and first.map.GetName() == name
    assert [row["Accepted"] for row in findingstable.rowsOf(first.findings)] == [1, 0]
    assert [row["Accepted"] for row in findingstable.rowsOf(second.findings)] == [1, 1]
    ui.methodSelector.setCurrentIndex(ui.methodSelector.findData("vand"))
    ui.applyButton.click()
    spin(lambda: not done.run.running)
    assert done.results.result.map is first.map  # of the two the one that was made so
    ui.planeSelector.setCurrentIndex(ui.planeSelector.findData("coronal"))
    ui.applyButton.click()
    spin(lambda: not done.run.running)
    assert len(done.logic.results(first.input)) == 3


def done_unchecked():
    import qt

    return qt.Qt.Unchecked


def test_names_stay_when_the_threshold_moves(done):
    result = done.results.result
    names = [node.GetName() for node in (result.map, result.segmentation, result.findings, result.chart)]
    result.setThreshold(0.9)
    assert [n.GetName() for n in (result.map, result.segmentation, result.findings, result.chart)] == names


def nodes_of_results():
    import slicer

    kinds = ("vtkMRMLSegmentationNode", "vtkMRMLTableNode", "vtkMRMLPlotChartNode", "vtkMRMLPlotSeriesNode")
    return [node for kind in kinds for node in slicer.util.getNodesByClass(kind)]


def test_delete_removes_all_nodes_of_a_result(done):
    assert nodes_of_results()
    done.ui.deleteResultButton.click()
    assert nodes_of_results() == [] and done.results.result is None
    assert not done.ui.deleteResultButton.enabled


def test_delete_asks_when_the_segmentation_was_edited(done, monkeypatch):
    import slicer

    result, asked = done.results.result, []
    slicer.util.updateSegmentBinaryLabelmapFromArray(edited(result), result.segmentation, "anomaly", result.input)
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *a, **k: asked.append(a) or False)
    done.ui.deleteResultButton.click()
    assert asked and done.results.result is result
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *a, **k: True)
    done.ui.deleteResultButton.click()
    assert nodes_of_results() == []


def edited(result):
    from ZSADCLIPSlicer.scene import segmentation

    mask = segmentation.read(result.segmentation, result.input)
    mask[:2] = 1
    return mask


def test_a_deleted_map_takes_its_nodes_along_but_for_the_users_own_work(done):
    import slicer

    result = done.results.result
    slicer.util.updateSegmentBinaryLabelmapFromArray(edited(result), result.segmentation, "anomaly", result.input)
    kept = result.segmentation
    slicer.mrmlScene.RemoveNode(result.map)
    assert nodes_of_results() == [kept]


def test_maps_are_no_inputs(done):
    selector, result = done.ui.inputSelector, done.results.result
    offered = [selector.itemText(n) for n in range(selector.count)]
    assert result.map.GetName() not in offered and result.input.GetName() in offered


def test_deleting_a_result_empties_the_panel(done):
    import slicer

    slicer.mrmlScene.RemoveNode(done.results.result.map)
    assert done.results.result is None and done.ui.findingsTable.rowCount == 0


def test_export_asks_for_a_name(done, tmp_path, monkeypatch):
    import qt

    path = tmp_path / "findings.csv"
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", staticmethod(lambda *a: str(path)))
    done.ui.exportButton.click()
    assert len(path.read_text(encoding="utf-8").splitlines()) == 3


def test_profile_changes_the_layout_and_gives_it_back(done):
    import slicer
    import vtk

    manager = slicer.app.layoutManager()
    before = manager.layout
    done.ui.profileButton.checked = True
    done.ui.profileButton.checked = False
    assert manager.layout == before
    points, selection = vtk.vtkIdTypeArray(), vtk.vtkCollection()
    points.InsertNextValue(24)
    selection.AddItem(points)
    done.results.plot.onProfileSelected(None, selection)
    red = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
    position = slicer.util.arrayFromTableColumn(done.results.result.profile, "Position")[24]
    assert red.GetSliceOffset() == pytest.approx(position, abs=1.01)


def test_findings_sort_by_number_and_follow_the_arrow_keys(done):
    import qt
    import slicer

    table = done.ui.findingsTable
    titles = [table.horizontalHeaderItem(n).text() for n in range(table.columnCount)]
    for title in ("mm", "mm3", "Peak", "First", "Last"):
        column = titles.index(title)
        table.sortItems(column, qt.Qt.AscendingOrder)
        values = [float(cell(done, row, column).text()) for row in range(table.rowCount)]
        assert values == sorted(values), title
    mark = lambda: slicer.mrmlScene.GetSingletonNode("ZSADCLIP-Finding", "vtkMRMLMarkupsFiducialNode")  # noqa: E731
    for row in (0, 1):
        table.setCurrentCell(row, 1)
        assert mark().GetNthControlPointLabel(0) == "#" + cell(done, row, 1).text()


def test_the_view_is_given_back_for_a_new_result_and_after_deletion(done):
    import slicer
    from ZSADCLIPSlicer.scene import display

    composite, result = display.compositeNodes()[0], done.results.result
    assert composite.GetForegroundVolumeID() == result.map.GetID()
    done.ui.resultSelector.setCurrentNode(None)
    assert composite.GetForegroundVolumeID() is None and not result.segmentation.GetDisplayNode().GetVisibility()
    done.ui.resultSelector.setCurrentNode(result.map)
    assert composite.GetForegroundVolumeID() == result.map.GetID()
    assert result.segmentation.GetDisplayNode().GetVisibility()
    slicer.mrmlScene.RemoveNode(result.map)
    assert composite.GetForegroundVolumeID() is None and not composite.GetAttribute(display.SAVED_VIEW)


def test_the_segmentation_opens_in_segment_editor(done, monkeypatch):
    import types

    import slicer
    from ZSADCLIPSlicer.scene import segmentation

    calls = []
    editor = types.SimpleNamespace(
        setSegmentationNode=lambda n: calls.append(n),
        setSourceVolumeNode=lambda n: calls.append(n),
        setCurrentSegmentID=lambda n: calls.append(n),
    )
    module = types.SimpleNamespace(
        widgetRepresentation=lambda: module, self=lambda: types.SimpleNamespace(editor=editor)
    )
    monkeypatch.setattr(slicer.modules, "segmenteditor", module, raising=False)
    monkeypatch.setattr(slicer.util, "selectModule", calls.append)
    done.ui.editorButton.click()
    result = done.results.result
    assert calls == ["SegmentEditor", result.segmentation, result.input, "anomaly"]
    mask = segmentation.read(result.segmentation, result.input)
    mask[:2] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, result.segmentation, "anomaly", result.input)
    done.enter()  # back from Segment Editor
    assert not done.ui.editedLabel.isHidden()


def test_the_shown_profile_follows_the_result_and_leaves_with_it(done, monkeypatch):
    import slicer

    shown, before = [], slicer.app.layoutManager().layout
    plots = slicer.modules.plots.logic()
    monkeypatch.setattr(slicer.modules.plots, "logic", lambda: plots)
    monkeypatch.setattr(type(done.results.plot), "_showChart", lambda self: shown.append(self._current().chart))
    done.ui.profileButton.checked = True
    first = done.results.result
    done.ui.resultSelector.setCurrentNode(None)
    assert not done.ui.profileButton.checked and slicer.app.layoutManager().layout == before
    done.ui.resultSelector.setCurrentNode(first.map)
    done.ui.profileButton.checked = True
    assert shown == [first.chart, first.chart]
