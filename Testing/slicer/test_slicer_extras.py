"""Brain with one click, the map as a cloud, the picture of all findings, review files."""

import json

import numpy as np
import pytest
from slicer_cases import LESION, fake, head, ready
from slicer_harness import PICTURES, grab, spin

from ZSADCLIPLib.errors import InputError

pytest_plugins = ["slicer_fixtures", "panel_fixtures"]


def test_the_brain_is_found_shown_and_chosen(panel, monkeypatch):
    import slicer

    monkeypatch.setattr(panel.logic, "ready", lambda: False)
    monkeypatch.setattr(panel.inputs, "onInstall", lambda: False)
    panel._parameters.inputVolume = node = head()
    panel.ui.brainButton.click()
    assert "packages are not installed" in panel.ui.statusLabel.text and panel.brain.find is None
    monkeypatch.setattr(panel.logic, "ready", lambda: True)
    panel.brain.command = fake()
    ui = panel.ui
    ui.brainButton.click()
    assert ui.brainButton.text == "Stop"
    spin(lambda: panel.brain.find is None)
    mask = panel._parameters.brainMask
    assert mask is not None and ui.brainMaskSelector.currentNode() is mask and "Look at it" in ui.statusLabel.text
    array = slicer.util.arrayFromSegmentBinaryLabelmap(mask, "brain", node)
    assert np.array_equal(array > 0, slicer.util.arrayFromVolume(node) > 0)
    assert mask.GetDisplayNode().GetVisibility2DOutline()
    ui.brainButton.click()
    spin(lambda: panel.brain.find is None)
    assert panel._parameters.brainMask is mask  # again into the same segmentation
    panel.brain.command = fake("missing")
    ui.brainButton.click()
    spin(lambda: panel.brain.find is None)
    assert "Error: No module named 'wonder'" in ui.statusLabel.text and ui.brainButton.text == "Find"
    grab(panel, "brain", 300)


def test_the_map_is_a_cloud_from_its_threshold_on(shown):
    import slicer

    ui, result = shown.ui, shown.results.result
    logic = slicer.modules.volumerendering.logic()
    ui.renderingCheckBox.checked = True
    node = logic.GetFirstVolumeRenderingDisplayNode(result.map)
    opacity = node.GetVolumePropertyNode().GetScalarOpacity()
    assert node.GetVisibility() and opacity.GetValue(0.59) == 0 and 0 < opacity.GetValue(0.61) < opacity.GetValue(1.0)
    ui.thresholdSlider.value = 0.9
    spin(lambda: not shown.results._settle.active)
    assert opacity.GetValue(0.89) == 0 and opacity.GetValue(0.95) > 0
    ui.renderingCheckBox.checked = False
    assert not node.GetVisibility()


def test_one_picture_has_all_accepted_findings(shown, tmp_path, monkeypatch):
    import qt
    from PIL import Image

    result, path = shown.results.result, tmp_path / "findings.png"
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", staticmethod(lambda *a: str(path)))
    shown.ui.pictureButton.click()
    two = Image.open(path).size
    PICTURES.mkdir(parents=True, exist_ok=True)
    Image.open(path).save(PICTURES / "findings-montage.png")
    result.accept(2, False)
    shown.ui.pictureButton.click()
    assert Image.open(path).size[1] < two[1]  # a row less
    result.accept(1, False)
    with pytest.raises(InputError, match="No finding is accepted"):
        shown.results.exports.onPicture()


def saved(panel, path, monkeypatch):
    import qt

    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", staticmethod(lambda *a: str(path)))
    panel.ui.saveReviewButton.click()
    return json.loads(path.read_text(encoding="utf-8"))


def opened(panel, path, monkeypatch):
    import qt
    import slicer

    said = []
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", staticmethod(lambda *a: str(path)))
    for name in ("errorDisplay", "infoDisplay"):
        monkeypatch.setattr(slicer.util, name, lambda text, *a, **more: said.append(text))
    panel.ui.openReviewButton.click()
    return " ".join(said)


def test_verdicts_go_into_a_review_file_and_come_back(shown, tmp_path, monkeypatch):
    from ZSADCLIPSlicer.scene import findingstable

    from ZSADCLIPLib.review.verdicts import read_review

    ui, result, path = shown.ui, shown.results.result, tmp_path / "head_review.json"
    ui.readerEdit.text = "AB"
    accepted = lambda: [row["Accepted"] for row in findingstable.rowsOf(result.findings)]  # noqa: E731
    result.accept(2, False)
    written = saved(shown, path, monkeypatch)
    case = read_review(path).cases[0]
    assert written["reviewer"] == "AB" and case.id == "head" and case.seal == result.attribute("Seal")
    assert [(each.rank, each.verdict) for each in case.findings] == [(1, "accept"), (2, "reject")]
    assert np.linalg.norm(np.subtract(case.findings[0].peak_ras, LESION)) < 10 and case.threshold == pytest.approx(0.6)
    result.setThreshold(0.9)  # hides the second, which was judged
    again = read_review(path_of(shown, tmp_path / "b.json", monkeypatch)).cases[0]
    assert [each.verdict for each in again.findings] == ["accept", "reject"] and again.threshold == pytest.approx(0.9)
    result.setThreshold(0.6)
    result.accept(2, True)
    assert accepted() == [1, 1]
    assert "AB" in opened(shown, path, monkeypatch)
    assert accepted() == [1, 0] and ui.thresholdSlider.value == pytest.approx(0.6)
    ui.undoButton.click()
    assert accepted() == [1, 1]
    ui.readerEdit.text = ""


def path_of(panel, path, monkeypatch):
    saved(panel, path, monkeypatch)
    return path


def test_marks_of_what_was_missed_become_points_and_are_written_again(shown, tmp_path, monkeypatch):
    result, path = shown.results.result, tmp_path / "r.json"
    shown.ui.readerEdit.text = "AB"
    written = saved(shown, path, monkeypatch)
    written["cases"][0]["missed"] = [{"ras": [1.0, 2.0, 3.0], "note": "here"}]
    written["cases"][0]["findings"][0]["verdict"] = "unsure"
    path.write_text(json.dumps(written), encoding="utf-8")
    opened(shown, path, monkeypatch)
    assert tuple(result.missed.GetNthControlPointPositionWorld(0)) == (1.0, 2.0, 3.0)
    assert saved(shown, path, monkeypatch)["cases"][0]["missed"] == [{"ras": [1.0, 2.0, 3.0], "note": "here"}]
    shown.ui.readerEdit.text = ""


def test_a_review_of_another_result_and_one_without_a_reader_are_refused(shown, tmp_path, monkeypatch):
    from ZSADCLIPSlicer.scene import reviewfile

    path = tmp_path / "r.json"
    with pytest.raises(InputError, match="field Reader"):
        reviewfile.write(shown.results.result, path, " ")
    assert not path.exists()
    shown.ui.readerEdit.text = "AB"
    saved(shown, path, monkeypatch)
    other = ready(head(name="other"), scores=np.zeros((48, 56, 40)) + 0.7)
    shown._parameters.result = other.map
    with pytest.raises(InputError, match="its seal differs"):
        reviewfile.read(other, path)
    shown.ui.readerEdit.text = ""
