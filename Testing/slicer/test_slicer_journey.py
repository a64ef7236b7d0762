"""The whole way of a user with the engine's own child process, and the self test that Slicer runs."""

import json
from dataclasses import replace

import numpy as np
import psutil
import pytest
from slicer_cases import head
from slicer_harness import clear_scene, grab, spin
from small_models import VIT

from ZSADCLIPLib.files.packaged import DATA

pytest_plugins = ["slicer_fixtures"]
EMBEDDED = (DATA / "mini.safetensors").is_file()


@pytest.fixture
def tiny(tmp_path):
    """Settings of a small untrained model, which runs the real engine in a moment."""
    config = tmp_path / "tiny.json"
    config.write_text(json.dumps(VIT), encoding="utf-8")
    return {
        "backbone": str(config),
        "weights": "random",
        "checkpoint": "vand:random",
        "image_size": 64,
        "threshold": "quantile:0.99",
        "min_size_mm3": 0.0,
        "min_depth_mm": 0.0,
        "device": "cpu",
    }


@pytest.fixture
def panel_with_engine(panel, tiny, monkeypatch):
    settings = panel.logic.settings
    panel.longer = {"image_size": 240, "batch_size": 1}  # so that even a busy machine is there before its end
    monkeypatch.setattr(panel.logic, "settings", lambda *a: replace(settings(*a), **{**tiny, **panel.longer}))
    monkeypatch.setattr(panel.logic, "ready", lambda: True)
    return panel


def saved(result, folder):
    """Save the scene with its data as Slicer does; returns the path of the .mrml file."""
    import slicer

    kinds = {"vtkMRMLScalarVolumeNode": ".nrrd", "vtkMRMLSegmentationNode": ".seg.nrrd", "vtkMRMLTableNode": ".tsv",
             "vtkMRMLColorTableNode": ".ctbl"}  # fmt: skip
    colors = result.map.GetDisplayNode().GetColorNode()
    for node in (result.input, result.map, result.segmentation, result.findings, result.profile, colors):
        path = folder / (node.GetID() + kinds[node.GetClassName()])
        assert slicer.util.saveNode(node, str(path))
    path = str(folder / "scene.mrml")
    slicer.mrmlScene.SetURL(path)
    assert slicer.mrmlScene.Commit(path)
    return path


def test_sample_apply_cancel_apply_threshold_click_reject_save_load(panel_with_engine, tmp_path):
    import qt
    import slicer
    from ZSADCLIPSlicer.scene import findingstable, segmentation

    panel, ui = panel_with_engine, panel_with_engine.ui
    ui.sampleButton.click()
    volume = panel._parameters.inputVolume
    assert volume.GetImageData().GetDimensions() == (240, 240, 155) and ui.applyButton.enabled

    ui.applyButton.click()
    spin(lambda: "Slice" in ui.statusLabel.text)
    run = panel.run.detection
    told, poll = [], run.poll
    run.poll = lambda: told.extend(found := poll()) or found
    ui.applyButton.click()
    spin(lambda: not panel.run.running)
    assert run.cancelled and not psutil.pid_exists(run.childPid)
    assert all(event["done"] < event["total"] for event in told if event.get("total"))  # it did not go on to the end

    panel.longer.clear()
    ui.applyButton.click()
    spin(lambda: not panel.run.running)
    result = panel.results.result
    assert result is not None, ui.statusLabel.text
    assert ui.findingsTable.rowCount >= 2

    low, high = result.range
    before = result.threshold
    for share in (0.02, 0.04, 0.06):
        ui.thresholdSlider.value = before + share * (high - before)
    spin(lambda: not panel.results._settle.active)
    mask = segmentation.read(result.segmentation, volume)
    scores = slicer.util.arrayFromVolume(result.map)
    assert (scores[mask > 0] >= result.threshold).all() and mask.any()

    rows = findingstable.rowsOf(result.findings)
    ui.findingsTable.cellClicked.emit(0, 1)
    red = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
    assert red.GetSliceOffset() == pytest.approx(rows[0]["Peak K"], abs=1.0)
    ui.findingsTable.item(0, 0).setCheckState(qt.Qt.Unchecked)
    kept = segmentation.read(result.segmentation, volume)
    peak = rows[0]["Peak K"], rows[0]["Peak J"], rows[0]["Peak I"]
    assert mask[peak] == 1 and kept[peak] == 0
    grab(panel, "panel-after-run", 380)

    threshold, name = result.threshold, result.map.GetName()
    path = saved(result, tmp_path)
    clear_scene()
    assert panel.results.result is None
    slicer.mrmlScene.SetURL(path)
    assert slicer.mrmlScene.Import()
    spin(lambda: panel.results.result is not None)
    result = panel.results.result
    assert result.map.GetName() == name and result.threshold == pytest.approx(threshold)
    assert np.array_equal(segmentation.read(result.segmentation, result.input), kept)
    assert findingstable.rowsOf(result.findings)[0]["Accepted"] == 0
    assert ui.thresholdSlider.value == pytest.approx(threshold, abs=1e-3)
    assert panel._parameters.inputVolume is result.input and ui.applyButton.enabled
    assert not segmentation.edited(result.segmentation, result.input)


def test_findings_agree_with_the_engines_own(logic, tiny):
    """The panel computes findings anew; at the run's threshold they must be what the engine said."""
    from ZSADCLIPSlicer.engine.run import EngineRun
    from ZSADCLIPSlicer.scene import findingstable, reviewfile

    kept = {}
    read = EngineRun._read

    def spy(self):
        kept["outcome"], scores = read(self)
        return kept["outcome"], scores

    EngineRun._read = spy
    try:
        result = logic.process(head("PIR"), **tiny)
    finally:
        EngineRun._read = read
    stated = kept["outcome"]["findings"]
    assert [each.label for each in reviewfile.ofRun(result)[1]] == [each["label"] for each in stated]
    assert result.attribute("Seal") == kept["outcome"]["seal"]
    result.setThreshold(result.threshold * 1.01)
    assert [each.label for each in reviewfile.ofRun(result)[1]] == [each["label"] for each in stated]
    result.setThreshold(kept["outcome"]["threshold"])
    rows = findingstable.rowsOf(result.findings)
    assert len(rows) == len(stated) > 0
    for row, finding in zip(rows, stated, strict=True):
        assert row["Volume"] == pytest.approx(finding["volume_mm3"])
        assert row["Peak"] == pytest.approx(finding["peak"])
        assert [row[a] for a in "RAS"] == pytest.approx(finding["centroid_ras"], abs=1e-3)
        assert [row["First slice"], row["Last slice"]] == finding["slices"] and row["Side"] == finding["side"]


def test_an_engine_error_names_its_cause(logic, tiny):
    from ZSADCLIPSlicer.engine.run import EngineError

    with pytest.raises(EngineError, match="no-such-file"):
        logic.process(head(), **{**tiny, "weights": "/no-such-file.pt"})


@pytest.mark.skipif(not EMBEDDED, reason="the embedded model is not in this tree")
def test_the_self_test_of_the_module(slicer_env):
    slicer_env.module.ZSADCLIPTest().runTest()


def test_reruns_do_not_grow_the_scene(logic):
    import slicer
    from slicer_cases import fake

    result = logic.process(head(), command=fake())
    nodes = slicer.mrmlScene.GetNumberOfNodes()
    for _ in range(4):
        result = logic.process(result.input, result=result, command=fake())
    assert slicer.mrmlScene.GetNumberOfNodes() == nodes
