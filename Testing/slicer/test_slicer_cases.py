"""Several volumes in one go: a table of cases, failures that are named, a cancel that keeps what is done."""

import types

import numpy as np
import pytest
from slicer_cases import head, ready
from slicer_harness import grab, spin

from ZSADCLIPLib.errors import InputError

pytest_plugins = ["slicer_fixtures", "panel_fixtures"]


class Run:
    """What of an EngineRun the panel uses; it ends at its second poll, or fails for volumes called bad."""

    def __init__(self, volume, settings):
        self.volume, self.settings = volume, settings
        self.result = self.error = None
        self.cancelled, self.dropped, self.notes, self.log, self.polls = False, False, [], ["loading", "scoring"], 0

    @property
    def done(self):
        return bool(self.result or self.error or self.cancelled or self.dropped)

    def uses(self, node):
        return node is self.volume

    def poll(self):
        self.polls += 1
        if self.polls == 2 and "slow" not in self.volume.GetName():
            if "bad" in self.volume.GetName():
                self.error = InputError("the image is doubtful")
            else:
                self.result = ready(self.volume)
        return [] if self.done else [{"fraction": 0.5, "text": "slice", "done": 1, "total": 2}]

    def cancel(self):
        self.cancelled = True

    def abort(self):
        self.dropped = True


@pytest.fixture
def cases(panel, monkeypatch):
    panel.began = []

    def start(volume, settings, **options):
        panel.began.append((volume.GetName(), options["brainMask"]))
        return Run(volume, settings)

    monkeypatch.setattr(panel.logic, "start", start)
    monkeypatch.setattr(panel.logic, "ready", lambda: True)
    return panel


def rows(panel):
    table = panel.ui.casesTable
    return [[table.item(row, column).text() for column in range(4)] for row in range(table.rowCount)]


def run_all(panel):
    panel.cases.update()
    panel.ui.runAllButton.click()
    spin(lambda: not panel.cases.running and not panel.run.running)


def test_each_volume_gets_its_result_and_a_failing_one_is_named(cases):
    import slicer
    from ZSADCLIPSlicer.scene.results import resultsOf

    nodes = [head(name=name) for name in ("one", "bad", "three")]
    cases.initializeParameterNode()
    mask = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "mask")
    cases._parameters.brainMask = mask
    run_all(cases)
    assert cases.began == [("one", mask), ("bad", None), ("three", None)]  # the mask is that of the chosen volume
    assert rows(cases) == [["one", "done", "1", "2"], ["bad", "failed", "", ""], ["three", "done", "1", "2"]]
    text = cases.ui.statusLabel.text
    assert "2 volumes are done" in text and "bad failed: the image is doubtful" in text
    shown = [resultsOf(nodes[n])[0].segmentation.GetDisplayNode().GetVisibility() for n in (0, 2)]
    assert shown == [1, 0]
    assert cases.ui.casesTable.item(1, 1).toolTip() == "the image is doubtful"
    assert cases._parameters.inputVolume is nodes[0] and cases.results.result.input is nodes[0]
    cases.ui.casesSection.collapsed = False
    grab(cases, "cases", 420)


def test_cases_are_stepped_through_by_click_and_key(cases):
    nodes = [head(name=name) for name in ("one", "two", "three")]
    cases.initializeParameterNode()
    cases.cases.update()
    cases.ui.casesTable.item(1, 0).setCheckState(cases_unchecked())
    run_all(cases)
    assert [name for name, _mask in cases.began] == ["one", "three"]
    cases.ui.casesTable.cellClicked.emit(2, 0)
    assert cases._parameters.inputVolume is nodes[2] and cases.results.result.input is nodes[2]
    cases.ui.casesTable.setCurrentCell(2, 0)
    cases._actions()["previousCase"]()
    assert cases._parameters.inputVolume is nodes[1] and cases.results.result is None
    cases._actions()["previousCase"]()
    cases._actions()["previousCase"]()
    assert cases.results.result.input is nodes[0]
    cases._actions()["nextCase"]()
    assert cases._parameters.inputVolume is nodes[1]


def cases_unchecked():
    import qt

    return qt.Qt.Unchecked


def test_cancel_keeps_what_is_done_and_starts_nothing_more(cases):
    for name in ("one", "slow", "three"):
        head(name=name)
    cases.initializeParameterNode()
    cases.cases.update()
    cases.ui.runAllButton.click()
    spin(lambda: len(cases.began) == 2 and cases.run.detection.polls > 2)
    assert [row[1] for row in rows(cases)] == ["done", "running", "waiting"] and not cases.ui.runAllButton.enabled
    assert not cases.ui.logButton.isHidden()
    cases.ui.logButton.checked = True
    assert cases.ui.logText.plainText == "loading\nscoring"
    cases.run.detection.log.append("more")
    spin(lambda: cases.ui.logText.plainText.endswith("more"))
    cases.ui.applyButton.click()
    spin(lambda: not cases.cases.running)
    assert [row[1] for row in rows(cases)] == ["done", "", ""] and len(cases.began) == 2
    assert "1 volumes are done" in cases.ui.statusLabel.text and cases.ui.runAllButton.enabled


def test_a_volume_that_is_deleted_meanwhile_does_not_stop_the_rest(cases):
    import slicer

    nodes = [head(name=name) for name in ("slow", "two")]
    cases.initializeParameterNode()
    cases.cases.update()
    cases.ui.runAllButton.click()
    spin(lambda: cases.run.running)
    slicer.mrmlScene.RemoveNode(nodes[0])
    spin(lambda: len(cases.began) == 2 and not cases.cases.running)
    assert rows(cases) == [["two", "done", "1", "2"]]


def test_a_folder_is_loaded_and_what_cannot_be_read_is_named(cases, tmp_path, monkeypatch):
    import slicer

    from ZSADCLIPLib.volume import Volume
    from ZSADCLIPLib.volumes.reading import write_volume

    array = np.arange(60, dtype=np.int16).reshape(3, 4, 5)
    for name in ("a.nii.gz", "b.nrrd"):
        write_volume(tmp_path / name, Volume(array, np.eye(4)))
    (tmp_path / "notes.txt").write_text("no volume", encoding="utf-8")
    load = slicer.util.loadVolume
    monkeypatch.setattr(slicer.util, "loadVolume", lambda path, *a: load(path, *a) if "b.nrrd" not in path else 1 / 0)
    cases.cases.load(tmp_path)
    assert [row[0] for row in rows(cases)] == ["a"]
    assert "1 of 2 volumes" in cases.ui.statusLabel.text and "b.nrrd" in cases.ui.statusLabel.text
    assert np.array_equal(slicer.util.arrayFromVolume(slicer.util.getNode("a")).T, array)
    empty = tmp_path / "empty"
    empty.mkdir()
    cases.cases.load(empty)
    assert "No volume in empty" in cases.ui.statusLabel.text


def test_a_closed_scene_ends_it(cases):
    import slicer

    for name in ("slow", "two"):
        head(name=name)
    cases.initializeParameterNode()
    cases.cases.update()
    cases.ui.runAllButton.click()
    spin(lambda: cases.run.running)
    slicer.mrmlScene.Clear(0)
    spin(lambda: not rows(cases))
    assert len(cases.began) == 1 and not cases.cases.running


def test_nothing_runs_without_a_model(cases, monkeypatch):
    head()
    cases.initializeParameterNode()
    monkeypatch.setattr(cases.models, "reason", types.MethodType(lambda self: "no model", cases.models))
    run_all(cases)
    assert not cases.began and "no model" in cases.ui.statusLabel.text


def test_the_frames_of_a_sequence_become_volumes(cases):
    import slicer

    assert not cases.ui.addFramesButton.visible
    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "dynamic")
    for index in range(3):
        frame = head(name=f"frame {index}")
        slicer.util.arrayFromVolume(frame)[:] = 10 + index
        frame.SetSpacing(1, 2, 3)
        sequence.SetDataNodeAtValue(frame, str(index))
        slicer.mrmlScene.RemoveNode(frame)
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    cases.cases.update()
    assert cases.ui.addFramesButton.isVisibleTo(cases.ui.addFramesButton.parent())
    cases.ui.addFramesButton.click()
    made = [slicer.util.getNode(f"dynamic {n}") for n in (1, 2, 3)]
    assert [slicer.util.arrayFromVolume(node).max() for node in made] == [10, 11, 12]
    assert made[0].GetSpacing() == (1, 2, 3) and made[0].GetImageData() is not sequence.GetNthDataNode(0).GetImageData()
    proxy = browser.GetProxyNode(sequence)
    run_all(cases)
    assert [name for name, _ in cases.began] == ["dynamic 1", "dynamic 2", "dynamic 3"]
    assert proxy.GetName() not in [name for name, _ in cases.began]
