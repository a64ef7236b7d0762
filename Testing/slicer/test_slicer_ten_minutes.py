"""The first ten minutes of a radiologist as one test: three volumes, two methods, compare, judge, export, save, reload."""

import csv
import json

import numpy as np
import pytest
from slicer_cases import head
from slicer_harness import clear_scene, grab, overlay_shown, spin

pytest_plugins = ["slicer_fixtures", "panel_fixtures"]
NAMES = ("patient A", "patient B", "patient B earlier")


def save(folder):
    """Save the scene with its data in one file, as Slicer does."""
    import slicer

    path = str(folder / "scene.mrb")
    assert slicer.mrmlScene.WriteToMRB(path)
    return path


def run_all(panel):
    panel.ui.runAllButton.click()
    spin(lambda: not panel.cases.running and not panel.run.running)


def test_ten_minutes(panel, use, tmp_path, monkeypatch):
    import qt
    import slicer
    from ZSADCLIPSlicer.scene import findingstable, segmentation
    from ZSADCLIPSlicer.scene.results import resultsOf

    ui, p = panel.ui, panel._parameters
    volumes = [head(name=name, axes=axes) for name, axes in zip(NAMES, ("RAS", "LPS", "PIR"), strict=True)]
    panel.initializeParameterNode()
    panel.cases.update()

    # Two methods over all three.
    p.method = "winclip"
    run_all(panel)
    ui.resultSelector.setCurrentNode(None)
    p.method = "anovl"
    run_all(panel)
    assert [len(resultsOf(volume)) for volume in volumes] == [2, 2, 2]
    assert "3 volumes are done" in ui.statusLabel.text
    first, second = resultsOf(volumes[1])
    assert (first.attribute("Method"), second.attribute("Method")) == ("winclip", "anovl")

    # The second patient, both methods against each other, then the earlier study.
    ui.casesTable.cellClicked.emit(1, 0)
    assert panel.results.result.map is second.map and p.inputVolume is volumes[1]
    p.compared = first.map
    panel._actions()["swap"]()
    assert panel.results.result.map is first.map and overlay_shown(first.map)
    ui.layerSelector.setCurrentIndex(2)
    agreed = slicer.util.arrayFromVolume(first.agreement)
    assert agreed.max() == 2
    ui.layerSelector.setCurrentIndex(0)
    p.compared = resultsOf(volumes[2])[0].map
    ui.sideButton.checked = True
    ui.sideButton.checked = False

    # Threshold, verdicts, one taken back.
    ui.thresholdSlider.value = 0.7
    spin(lambda: not panel.results._settle.active)
    act = panel._actions()
    act["next"]()
    act["next"]()
    act["reject"]()
    act["previous"]()
    act["reject"]()
    act["undo"]()
    verdicts = [row["Accepted"] for row in findingstable.rowsOf(first.findings)]
    assert verdicts == [1, 0]
    ui.separateCheckBox.checked = True
    assert first.segments.GetSegmentation().GetNumberOfSegments() == 1
    for section in (ui.compareSection, ui.casesSection):
        section.collapsed = False
    grab(panel, "ten-minutes", 420)

    # What goes out.
    for button, name in ((ui.exportButton, "f.csv"), (ui.pictureButton, "f.png"), (ui.saveReviewButton, "r.json")):
        path = str(tmp_path / name)
        monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", staticmethod(lambda *a, path=path: path))
        ui.readerEdit.text = "AB"
        button.click()
    ui.readerEdit.text = ""
    table = list(csv.reader((tmp_path / "f.csv").read_text(encoding="utf-8").splitlines()))
    assert [row[1] for row in table] == ["Accepted", "1", "0"]
    review = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))["cases"][0]
    assert [each["verdict"] for each in review["findings"]] == ["accept", "reject"] and review["id"] == "patient_B"
    assert (tmp_path / "f.png").read_bytes()[:4] == b"\x89PNG"

    # Saved and loaded: the same picture.
    marked = segmentation.read(first.segmentation, first.input)
    name, path = first.map.GetName(), save(tmp_path)
    clear_scene()
    assert panel.results.result is None
    assert slicer.mrmlScene.ReadFromMRB(path)
    spin(lambda: panel.results.result is not None)
    result = panel.results.result
    assert result.map.GetName() == name and result.threshold == pytest.approx(0.7)
    assert [row["Accepted"] for row in findingstable.rowsOf(result.findings)] == verdicts
    assert np.array_equal(segmentation.read(result.segmentation, result.input), marked)
    assert result.segments.GetSegmentation().GetNumberOfSegments() == 1 and ui.separateCheckBox.checked
    assert not segmentation.edited(result.segmentation, result.input)
    spin(lambda: ui.casesTable.rowCount == 3)
    states = [[ui.casesTable.item(row, column).text() for column in (0, 1)] for row in range(3)]
    assert states == [[name, "done"] for name in NAMES]
    assert panel._parameters.compared.GetName() and panel.compare.other is not None
