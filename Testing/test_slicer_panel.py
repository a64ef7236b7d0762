"""The panel on stand-in widgets: every control, Apply-Cancel-Apply with a real child process, errors, findings."""

import pytest
from slicer_cases import LESION, fake, head
from slicer_harness import grab, make_panel, spin

pytest_plugins = ["slicer_fixtures"]


@pytest.fixture
def use(panel, monkeypatch):
    """Let the panel's runs use the fake engine: `use(behaviour)`."""
    start = panel.logic.start

    def behave(behaviour):
        command = fake(behaviour)
        monkeypatch.setattr(panel.logic, "start", lambda *a, **k: start(*a, **{**k, "command": command}))

    monkeypatch.setattr(panel.logic, "ready", lambda: True)
    behave("quick")
    return behave


@pytest.fixture
def done(panel, use):
    """A panel after a run on the test head."""
    head()
    panel.initializeParameterNode()
    panel.ui.applyButton.click()
    spin(lambda: not panel.run.running)
    assert panel.results.result is not None, panel.ui.statusLabel.text
    return panel


def cell(panel, row, column):
    return panel.ui.findingsTable.item(row, column)


def test_apply_needs_a_volume_and_says_so(panel):
    assert not panel.ui.applyButton.enabled
    assert "No input volume" in panel.ui.applyButton.toolTip
    node = head()
    panel._parameters.inputVolume = node
    assert panel.ui.applyButton.enabled and panel.ui.inputSelector.currentNode() is node
    assert "skull-stripped" in panel.ui.inputNotesLabel.text


def test_menus_come_from_the_registries(panel):
    from ZSADCLIPLib.adapters import METHODS
    from ZSADCLIPLib.backbones import BACKBONES

    ui = panel.ui
    assert {ui.methodSelector.itemData(n) for n in range(ui.methodSelector.count)} == set(METHODS)
    assert {ui.modelSelector.itemData(n) for n in range(ui.modelSelector.count)} == set(BACKBONES)
    assert panel._parameters.model == "mini" and ui.modelSelector.currentIndex == 0


def test_choosing_in_menus_changes_the_parameters_and_back(panel):
    ui, p = panel.ui, panel._parameters
    ui.methodSelector.setCurrentIndex(ui.methodSelector.findData("anovl"))
    assert p.method == "anovl"
    p.method = "adaclip"
    assert ui.methodSelector.currentData == "adaclip"
    ui.promptSelector.setCurrentIndex(ui.promptSelector.findData("medical-mri"))
    assert p.prompts == "medical-mri"
    ui.promptSelector.setEditText("/data/own.json")
    assert p.prompts == "/data/own.json"
    p.prompts = "vand"
    assert ui.promptSelector.currentText == "vand"


@pytest.mark.parametrize("widget, attribute, name, value", [
    ("planeSelector", "currentText", "plane", "coronal"),
    ("deviceSelector", "currentText", "device", "cpu"),
    ("batchSelector", "currentText", "batchSize", "4"),
    ("colorSelector", "currentText", "colors", "Viridis"),
    ("objectNameEdit", "text", "objectName", "liver"),
    ("overlayCheckBox", "checked", "overlay", False),
    ("outlineCheckBox", "checked", "outline", False),
    ("legendCheckBox", "checked", "legend", False),
    ("surfaceCheckBox", "checked", "surface", True),
    ("opacitySlider", "value", "opacity", 0.25),
    ("minimumSizeSpinBox", "value", "minimumSize", 120.0),
])  # fmt: skip
def test_controls_follow_parameters_both_ways(panel, widget, attribute, name, value):
    control, p = getattr(panel.ui, widget), panel._parameters
    before = getattr(p, name)
    assert before != value
    if attribute == "currentText":
        control.setCurrentIndex(control.findText(value))
    else:
        setattr(control, attribute, value)
    assert getattr(p, name) == value
    setattr(p, name, before)
    assert getattr(control, attribute) == before


def test_a_missing_model_offers_its_download(panel, monkeypatch):
    import slicer
    from ZSADCLIPSlicer import choices

    head()
    panel.initializeParameterNode()
    missing = next(m for m in panel.models.models if m.state == "missing")
    panel._parameters.model = missing.key
    assert not panel.ui.downloadButton.isHidden() and not panel.ui.applyButton.enabled
    text = choices.downloadText(missing)
    assert "MB" in text and "Licence" in text and "SHA-256" in text
    asked = []
    monkeypatch.setattr(slicer.util, "confirmOkCancelDisplay", lambda *a: asked.append(a[0]) or True)
    panel.ui.downloadButton.click()
    spin(lambda: panel.models.fetch is None, 60)
    assert asked == [text]
    assert "offline" in panel.ui.statusLabel.text  # HF_HUB_OFFLINE=1 in tests


def test_apply_cancel_apply(panel, use):
    head()
    panel.initializeParameterNode()
    use("slow")
    ui = panel.ui
    ui.applyButton.click()
    assert ui.applyButton.text == "Cancel" and not ui.progressBar.isHidden()
    spin(lambda: "Slice" in ui.statusLabel.text and ui.progressBar.value > 1)
    assert "of 200" in ui.statusLabel.text
    ui.applyButton.click()
    spin(lambda: not panel.run.running)
    assert "Cancelled" in ui.statusLabel.text and ui.applyButton.text == "Apply" and ui.applyButton.enabled
    assert panel._parameters.result is None
    use("quick")
    ui.applyButton.click()
    spin(lambda: not panel.run.running)
    assert "Done" in ui.statusLabel.text and panel._parameters.result is not None
    assert ui.findingsTable.rowCount == 2 and ui.progressBar.isHidden()


def test_an_error_shows_its_cause_and_the_log(panel, use):
    head()
    panel.initializeParameterNode()
    use("crash")
    panel.ui.applyButton.click()
    spin(lambda: not panel.run.running)
    assert "no module named wonder" in panel.ui.statusLabel.text
    assert not panel.ui.logButton.isHidden() and panel.ui.logText.isHidden()
    panel.ui.logButton.click()
    assert "wonder" in panel.ui.logText.plainText and not panel.ui.logText.isHidden()
    assert panel.ui.cpuButton.isHidden()


def test_short_memory_offers_the_cpu(panel, use):
    head()
    panel.initializeParameterNode()
    use("memory-always")
    panel.ui.applyButton.click()
    spin(lambda: not panel.run.running)
    assert not panel.ui.cpuButton.isHidden()
    use("quick")
    panel.ui.cpuButton.click()
    spin(lambda: not panel.run.running)
    assert panel.run.detection.settings.device == "cpu" and panel.results.result is not None


def test_a_run_that_lacks_a_package_says_where_to_look(panel, monkeypatch):
    head()
    panel.initializeParameterNode()

    def lacking(*_, **__):
        raise ModuleNotFoundError("No module named 'wonder'")

    monkeypatch.setattr(panel.logic, "ready", lambda: True)
    monkeypatch.setattr(panel.logic, "start", lacking)
    panel.ui.applyButton.click()
    assert "wonder" in panel.ui.statusLabel.text and "health check" in panel.ui.statusLabel.text
    assert not panel.run.running and panel.ui.applyButton.enabled


def test_a_panel_that_was_left_changes_no_parameter(panel):
    """What a widget shows after another module was opened, or its scene closed, must not reach the old parameter node."""
    import vtk

    parameters = panel._parameters
    panel.exit()
    panel.ui.opacitySlider.value = 0.25
    assert parameters.opacity == pytest.approx(0.6)
    parameters.opacity = 0.9
    assert panel.ui.opacitySlider.value == pytest.approx(0.25)
    assert not panel.hasObserver(parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, panel.onParametersChanged)
    panel.enter()
    assert panel.ui.opacitySlider.value == pytest.approx(0.9)
    panel.ui.opacitySlider.value = 0.5
    assert panel._parameters.opacity == pytest.approx(0.5)


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


def test_unticking_a_finding_rejects_it_and_sorting_keeps_ranks(done):
    import qt
    from ZSADCLIPSlicer import findingstable, segmentation

    result = done.results.result
    before = segmentation.read(result.segmentation, result.input).sum()
    done.ui.findingsTable.sortItems(2, qt.Qt.AscendingOrder)  # smallest first: rank 2 on top
    assert cell(done, 0, 1).text() == "2"
    cell(done, 0, 0).setCheckState(qt.Qt.Unchecked)
    assert [row["Accepted"] for row in findingstable.rowsOf(result.findings)] == [1, 0]
    assert segmentation.read(result.segmentation, result.input).sum() < before


def test_overlay_switch_gives_the_view_back(done):
    import slicer
    from ZSADCLIPSlicer import display

    assert display.overlayShown(done.results.result.map)
    composite = display.compositeNodes()[0]
    assert composite.GetForegroundOpacity() == pytest.approx(0.6)
    done.ui.opacitySlider.value = 0.9
    assert composite.GetForegroundOpacity() == pytest.approx(0.9)
    done.ui.overlayCheckBox.checked = False
    assert not display.overlayShown(done.results.result.map)
    legend = slicer.modules.colors.logic().GetColorLegendDisplayNode(done.results.result.map)
    assert not legend.GetVisibility()


def test_surface_on_request(done):
    from ZSADCLIPSlicer import segmentation

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
    from ZSADCLIPSlicer import segmentation

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
    ui.applyButton.click()
    spin(lambda: not done.run.running)
    assert done.results.result.map is first


def test_scene_close_stops_the_run_and_empties_the_panel(panel, use):
    import psutil
    import slicer
    from slicer_harness import clear_scene

    head()
    panel.initializeParameterNode()
    use("slow")
    panel.ui.applyButton.click()
    spin(lambda: panel.ui.progressBar.value > 0)
    run = panel.run.detection
    clear_scene()
    assert run.dropped and not psutil.pid_exists(run.childPid)
    slicer.app.processEvents()
    assert not panel.run.running and panel._parameters.inputVolume is None and not panel.ui.applyButton.enabled
    assert panel.ui.applyButton.text == "Apply"


def test_reload_stops_the_run(slicer_env, monkeypatch):
    import psutil

    widget = make_panel(slicer_env)
    head()
    widget.initializeParameterNode()
    start = widget.logic.start
    monkeypatch.setattr(widget.logic, "ready", lambda: True)
    monkeypatch.setattr(widget.logic, "start", lambda *a, **k: start(*a, **{**k, "command": fake("slow")}))
    widget.ui.applyButton.click()
    spin(lambda: widget.ui.progressBar.value > 0)
    pid = widget.run.detection.childPid
    widget.cleanup()
    assert not psutil.pid_exists(pid)


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
    done.results.onProfileSelected(None, selection)
    red = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
    position = slicer.util.arrayFromTableColumn(done.results.result.profile, "Position")[24]
    assert red.GetSliceOffset() == pytest.approx(position, abs=1.01)


def test_health_report_names_packages_and_models(panel):
    panel.ui.healthButton.click()
    text = panel.ui.healthText.plainText
    assert "torch>=2.6" in text and "Mini ViT" in text and "PMC-CLIP" in text
    assert not panel.ui.healthText.isHidden()


def test_research_notice_is_visible(panel):
    assert not panel.ui.researchLabel.isHidden()
    assert "not for diagnosis" in panel.ui.researchLabel.text


@pytest.mark.parametrize("style", ["light", "dark"])
def test_panel_fits_300_pixels(done, style):
    import qt

    dark = qt.QPalette(qt.QColor(50, 50, 50)) if style == "dark" else None
    application = qt.QApplication.instance()
    plain = application.palette()
    application.setStyle("Fusion")
    if dark:
        for role, colour in ((qt.QPalette.Window, 50), (qt.QPalette.Base, 35), (qt.QPalette.AlternateBase, 45),
                             (qt.QPalette.Button, 60), (qt.QPalette.Text, 220), (qt.QPalette.WindowText, 220),
                             (qt.QPalette.ButtonText, 220)):  # fmt: skip
            dark.setColor(role, qt.QColor(colour, colour, colour))
        application.setPalette(dark)
    try:
        done.run.say("Done in 3 s.")
        grab(done, f"panel-narrow-{style}", 300)
        assert done.parent.minimumSizeHint().width() <= 300
    finally:
        application.setPalette(plain)


def test_a_method_without_an_adapter_says_what_to_do(panel, tmp_path, monkeypatch):
    import qt

    head()
    panel.initializeParameterNode()
    ui = panel.ui
    assert ui.applyButton.enabled
    ui.modelSelector.setCurrentIndex(ui.modelSelector.findData("mini-rn"))
    ui.methodSelector.setCurrentIndex(ui.methodSelector.findData("adaclip"))
    assert not ui.applyButton.enabled and "has to be trained" in ui.applyButton.toolTip
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", staticmethod(lambda *a: str(tmp_path / "own.pth")))
    ui.checkpointFileButton.click()
    assert panel._parameters.checkpoint == str(tmp_path / "own.pth") == ui.checkpointSelector.currentData
    assert ui.applyButton.enabled
    ui.methodSelector.setCurrentIndex(ui.methodSelector.findData("anovl"))
    assert panel._parameters.checkpoint == "" and ui.applyButton.enabled  # needs no training


def test_adapters_in_the_list_fit_the_model(panel):
    ui = panel.ui
    assert any("vand-mini" in ui.checkpointSelector.itemText(n) for n in range(ui.checkpointSelector.count))
    ui.modelSelector.setCurrentIndex(ui.modelSelector.findData("ViT-L-14-336"))
    assert ui.checkpointSelector.count == 1


def test_local_files_of_a_missing_model(panel, tmp_path, monkeypatch):
    import qt

    head()
    panel.initializeParameterNode()
    panel._parameters.model = "ViT-L-14-336"
    assert not panel.ui.localFilesButton.isHidden() and "licence" in panel.ui.modelNotesLabel.text
    wrong = tmp_path / "ViT-L-14-336px.pt"
    wrong.write_bytes(b"no weights")
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileNames", staticmethod(lambda *a: [str(wrong)]))
    panel.ui.localFilesButton.click()
    spin(lambda: panel.models.fetch is None, 60)
    assert "sha256" in panel.ui.statusLabel.text and panel.models.model().state == "missing"


def test_segments_are_offered_for_a_brain_mask(panel):
    import slicer

    ui, node = panel.ui, head()
    mask = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mask")
    for name in ("brain", "tumour"):
        mask.GetSegmentation().AddEmptySegment(name, name)
    panel._parameters.inputVolume = node
    assert ui.brainSegmentSelector.isHidden()
    panel._parameters.brainMask = mask
    assert not ui.brainSegmentSelector.isHidden() and ui.brainSegmentSelector.count == 3
    ui.brainSegmentSelector.setCurrentIndex(1)
    assert panel._parameters.brainSegment == "brain"


def test_public_samples_come_from_slicers_own_source(panel, monkeypatch):
    import sys
    import types

    asked = []
    module = types.ModuleType("SampleData")
    module.downloadSample = lambda name: asked.append(name) or head(name=name)
    monkeypatch.setitem(sys.modules, "SampleData", module)
    panel.ui.tumor1Button.click()
    panel.ui.tumor2Button.click()
    assert asked == ["MRBrainTumor1", "MRBrainTumor2"]
    assert panel._parameters.inputVolume.GetName() == "MRBrainTumor2" and panel.ui.applyButton.enabled


def test_deleting_the_volume_stops_its_run(panel, use):
    import psutil
    import slicer

    node = head()
    panel.initializeParameterNode()
    use("slow")
    panel.ui.applyButton.click()
    spin(lambda: panel.ui.progressBar.value > 0)
    run = panel.run.detection
    slicer.mrmlScene.RemoveNode(node)
    assert run.dropped and not psutil.pid_exists(run.childPid)
    assert "gone" in panel.ui.statusLabel.text and not panel.ui.applyButton.enabled
    assert panel.ui.applyButton.text == "Apply"


def test_findings_sort_by_number_and_follow_the_arrow_keys(done):
    import qt
    import slicer

    table = done.ui.findingsTable
    titles = [table.horizontalHeaderItem(n).text() for n in range(table.columnCount)]
    for title in ("mm3", "Peak", "R", "A", "S", "First", "Last"):
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
    from ZSADCLIPSlicer import display

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
    from ZSADCLIPSlicer import segmentation

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
    monkeypatch.setattr(type(done.results), "_showChart", lambda self: shown.append(self.result.chart))
    done.ui.profileButton.checked = True
    first = done.results.result
    done.ui.resultSelector.setCurrentNode(None)
    assert not done.ui.profileButton.checked and slicer.app.layoutManager().layout == before
    done.ui.resultSelector.setCurrentNode(first.map)
    done.ui.profileButton.checked = True
    assert shown == [first.chart, first.chart]


def test_reload_replaces_the_panel_and_its_helpers(slicer_env):
    """As the Reload button of developer mode does it: Slicer's own function, the former panel cleaned up."""
    import sys

    import slicer

    widget = make_panel(slicer_env)
    container, made = widget.parent, []
    container.reload = lambda: made.append(sys.modules["ZSADCLIP"].ZSADCLIPWidget)
    saved = {n: m for n, m in sys.modules.items() if n.split(".")[0] in ("ZSADCLIP", "ZSADCLIPLib", "ZSADCLIPSlicer")}
    former = sys.modules["ZSADCLIPSlicer.results"]
    slicer.modules.zsadclip.widgetRepresentation = lambda: container
    slicer.modules.ZSADCLIPWidget = widget
    try:
        widget.onReload()
        assert sys.modules["ZSADCLIPSlicer.results"] is not former
        assert made and made[0] is not type(widget)
        assert widget._parameters is None and not widget.Observations
    finally:
        for name in [n for n in sys.modules if n.split(".")[0] in ("ZSADCLIP", "ZSADCLIPLib", "ZSADCLIPSlicer")]:
            del sys.modules[name]
        sys.modules.update(saved)
        del slicer.modules.ZSADCLIPWidget
