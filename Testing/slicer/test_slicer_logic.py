"""The way from a volume node to result nodes on real MRML, with a child process that needs no model."""

import json

import numpy as np
import pytest
from slicer_cases import LESION, SECOND, fake, head

pytest_plugins = ["slicer_fixtures"]


@pytest.fixture
def result(logic):
    return logic.process(head(), command=fake())


def test_result_nodes_lie_on_the_grid_of_the_input(result):
    import slicer
    import vtk

    matrices = [vtk.vtkMatrix4x4(), vtk.vtkMatrix4x4()]
    result.input.GetIJKToRASMatrix(matrices[0])
    result.map.GetIJKToRASMatrix(matrices[1])
    assert [m.GetElement(r, c) for m in matrices[:1] for r in range(4) for c in range(4)] == [
        matrices[1].GetElement(r, c) for r in range(4) for c in range(4)
    ]
    assert slicer.util.arrayFromVolume(result.map).dtype == np.float32


def test_segmentation_holds_exactly_the_voxels_over_the_threshold(result):
    import slicer
    from ZSADCLIPSlicer.scene import segmentation

    image = slicer.util.arrayFromVolume(result.input)
    assert np.array_equal(segmentation.read(result.segmentation, result.input), (image >= 600).astype(np.uint8))
    segment = result.segmentation.GetSegmentation().GetSegment("anomaly")
    assert "52988006^Lesion" in segment.GetTerminology() and "Mass" not in segment.GetTerminology()


def test_findings_table_measures_the_lesions(result):
    from ZSADCLIPSlicer.scene import findingstable

    rows = findingstable.rowsOf(result.findings)
    assert [row["Rank"] for row in rows] == [1, 2]
    assert np.allclose([rows[0][a] for a in "RAS"], LESION, atol=1.0)
    assert np.allclose([rows[1][a] for a in "RAS"], SECOND, atol=1.0)
    assert [row["Side"] for row in rows] == ["right", "left"]
    assert rows[0]["Volume"] == pytest.approx(4 / 3 * np.pi * 10**3, rel=0.1)
    assert rows[0]["Peak"] == pytest.approx(1.0) and rows[1]["Peak"] == pytest.approx(0.8)


def test_profile_has_the_threshold_line_and_the_findings(result):
    import slicer

    table = result.profile
    position, highest, line, marks = (
        slicer.util.arrayFromTableColumn(table, name) for name in ("Position", "Highest score", "Threshold", "Findings")
    )
    assert (np.diff(position) > 0).all() and len(position) == 40
    assert abs(position[highest.argmax()] - LESION[2]) <= 10
    assert (line == np.float64(result.threshold)).all()
    assert np.isfinite(marks).sum() == 2
    assert result.chart.GetNumberOfPlotSeriesNodes() == 3


def test_results_are_beside_the_input_in_the_subject_hierarchy(logic):
    import slicer

    node = head()
    tree = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    study = tree.CreateStudyItem(tree.CreateSubjectItem(tree.GetSceneItemID(), "patient"), "study")
    tree.SetItemParent(tree.GetItemByDataNode(node) or tree.CreateItem(study, node), study)
    found = logic.process(node, command=fake())
    for part in (found.map, found.segmentation, found.findings, found.chart):
        assert tree.GetItemParent(tree.GetItemByDataNode(part)) == study


def test_rerun_updates_the_same_nodes_and_a_new_result_is_kept_beside_it(logic, result):
    import slicer

    before = {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode")}
    again = logic.process(result.input, result=result, command=fake(), threshold="0.9")
    assert again.map is result.map and again.segmentation is result.segmentation
    assert {node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLNode")} == before
    assert again.threshold == 0.9
    other = logic.process(result.input, command=fake(), method="anovl")
    assert other.map is not result.map
    assert "anovl" in other.map.GetName() and "vand" in result.map.GetName()
    assert {r.map.GetID() for r in logic.results(result.input)} == {result.map.GetID(), other.map.GetID()}


def test_threshold_and_minimum_size_move_everything(result):
    from ZSADCLIPSlicer.scene import findingstable, segmentation

    result.setThreshold(0.9)
    assert len(findingstable.rowsOf(result.findings)) == 1
    result.setThreshold(0.6, minimumSize=2500.0)
    assert len(findingstable.rowsOf(result.findings)) == 1
    assert result.map.GetDisplayNode().GetLowerThreshold() == pytest.approx(0.6)
    result.setThreshold(0.6, minimumSize=0.0)
    assert len(findingstable.rowsOf(result.findings)) == 2
    deepest = max(row["Last slice"] - row["First slice"] + 1 for row in findingstable.rowsOf(result.findings))
    spacing = result.stack.spacing[2]
    result.setThreshold(0.6, minimumDepth=(deepest + 0.5) * spacing)
    assert not findingstable.rowsOf(result.findings) and not segmentation.read(result.segmentation, result.input).any()
    result.setThreshold(0.6, minimumDepth=deepest * spacing)
    kept = findingstable.rowsOf(result.findings)
    assert kept and all(row["Last slice"] - row["First slice"] + 1 == deepest for row in kept)
    result.setThreshold(0.6, minimumDepth=0.0)
    assert len(findingstable.rowsOf(result.findings)) == 2
    assert not segmentation.edited(result.segmentation, result.input)


def test_a_threshold_between_two_scores_cuts_as_detection_and_benchmark_do(logic):
    """700 of 1000 gives a float32 score a little below 0.7, which NumPy and VTK would round the threshold to."""
    import slicer
    import vtk
    from vtk.util.numpy_support import vtk_to_numpy
    from ZSADCLIPSlicer.scene import findingstable, segmentation

    from ZSADCLIPLib.evaluation.case import evaluate_case

    node = head()
    image = slicer.util.arrayFromVolume(node)
    image[image == 800] = 700
    result = logic.process(node, command=fake(), threshold="0.7")
    scores = slicer.util.arrayFromVolume(result.map)
    assert (float(scores[image == 700].max()), result.threshold) == (float(np.float32(0.7)), 0.7)
    expected = image > 700
    assert not np.array_equal(scores >= result.threshold, expected)
    case = evaluate_case(scores, expected, np.ones(scores.shape, bool), {"fixed:0.7": 0.7})["rules"]["fixed:0.7"]["all"]
    assert (case["tp"], case["fp"], case["fn"]) == (expected.sum(), 0, 0)

    written = segmentation.read(result.segmentation, node)
    result.dragThreshold(0.5)
    result.dragThreshold(0.7)
    dragged = segmentation.read(result.segmentation, node)
    result.setThreshold(0.7)
    for found in (written, dragged, segmentation.read(result.segmentation, node)):
        assert np.array_equal(found > 0, expected)
    rows = findingstable.rowsOf(result.findings)
    assert len(rows) == 1 and rows[0]["Volume"] == pytest.approx(expected.sum() * 8)
    shown, display = vtk.vtkImageThreshold(), result.map.GetDisplayNode()
    shown.SetInputData(result.map.GetImageData())
    shown.ThresholdBetween(display.GetLowerThreshold(), display.GetUpperThreshold())
    shown.ReplaceInOn()
    shown.SetInValue(1)
    shown.SetOutValue(0)
    shown.Update()
    assert np.array_equal(vtk_to_numpy(shown.GetOutput().GetPointData().GetScalars()) > 0, expected.ravel())


def test_dragging_gives_the_same_segmentation_as_setting(result):
    from ZSADCLIPSlicer.scene import segmentation

    for value in (0.7, 0.9, 0.3):
        result.dragThreshold(value)
        dragged = segmentation.read(result.segmentation, result.input).copy()
        result.setThreshold(value)
        assert np.array_equal(dragged, segmentation.read(result.segmentation, result.input))


def test_rejected_findings_leave_the_segmentation_and_stay_rejected(result):
    from ZSADCLIPSlicer.scene import findingstable, segmentation

    whole = segmentation.read(result.segmentation, result.input).sum()
    result.accept(2, False)
    assert 0 < segmentation.read(result.segmentation, result.input).sum() < whole
    result.setThreshold(0.7)
    assert [row["Accepted"] for row in findingstable.rowsOf(result.findings)] == [1, 0]
    result.setThreshold(0.3)  # the two grow together: an accepted finding must not be lost with a rejected one
    assert [row["Accepted"] for row in findingstable.rowsOf(result.findings)] == [1]
    result.setThreshold(0.6)
    result.accept(2, True)
    assert segmentation.read(result.segmentation, result.input).sum() == whole


def test_edits_are_noticed_and_kept(logic, result):
    import slicer
    from ZSADCLIPSlicer.scene import segmentation

    mask = segmentation.read(result.segmentation, result.input)
    mask[:3] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, result.segmentation, "anomaly", result.input)
    assert segmentation.edited(result.segmentation, result.input)
    result.dragThreshold(0.7)
    result.setThreshold(0.8)
    assert np.array_equal(segmentation.read(result.segmentation, result.input), mask)
    again = logic.process(result.input, result=result, command=fake())
    assert again.segmentation is not result.segmentation
    assert np.array_equal(segmentation.read(result.segmentation, result.input), mask)
    assert result.refresh(overwriteEdits=True)
    assert not segmentation.edited(result.segmentation, result.input)


def test_export_has_units_and_all_rows(result, tmp_path):
    from ZSADCLIPSlicer.scene import findingstable

    path = tmp_path / "Ünï côde" / "findings.csv"
    path.parent.mkdir()
    findingstable.export(result.findings, path)
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 3 and "Volume (mm3)" in lines[0] and lines[1].startswith("1,1,")


def test_unusable_nodes_are_refused_with_a_reason(logic):
    import slicer

    from ZSADCLIPLib.errors import InputError

    with pytest.raises(InputError, match="No input"):
        logic.process(None)
    node = head()
    label = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    slicer.util.updateVolumeFromArray(label, np.ones((3, 4, 5), np.uint8))
    with pytest.raises(InputError, match="label map"):
        logic.process(label)
    colour = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLVectorVolumeNode", "colour")
    slicer.util.updateVolumeFromArray(colour, np.ones((3, 4, 5, 3), np.uint8))
    with pytest.raises(InputError, match="colour"):
        logic.process(colour)
    with pytest.raises(InputError, match="no voxels"):
        logic.process(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty"))
    with pytest.raises(InputError, match="itself an anomaly map"):
        logic.process(logic.process(node, command=fake()).map)


def test_scene_save_and_load_keep_the_result_usable(result, logic, tmp_path):
    import slicer
    from slicer_harness import clear_scene
    from ZSADCLIPSlicer.scene import findingstable, segmentation

    result.accept(2, False)
    result.setThreshold(0.65)
    expected = segmentation.read(result.segmentation, result.input)
    colors = result.map.GetDisplayNode().GetColorNode()
    for node, suffix in ((result.input, ".nrrd"), (result.map, ".nrrd"), (result.segmentation, ".seg.nrrd"),
                         (result.findings, ".tsv"), (result.profile, ".tsv"), (colors, ".ctbl")):  # fmt: skip
        storage = node.CreateDefaultStorageNode()
        slicer.mrmlScene.AddNode(storage)
        storage.SetFileName(str(tmp_path / (node.GetID() + suffix)))
        node.SetAndObserveStorageNodeID(storage.GetID())
        assert storage.WriteData(node)
    path = str(tmp_path / "scene.mrml")
    slicer.mrmlScene.SetURL(path)
    assert slicer.mrmlScene.Commit(path)
    name = result.map.GetName()
    clear_scene()
    slicer.mrmlScene.SetURL(path)
    assert slicer.mrmlScene.Import()
    table = slicer.util.getNode(name).GetDisplayNode().GetColorNode()  # before the module had a look
    assert table is not None and table.GetLookupTable().GetTableValue(255)[:3] == pytest.approx(
        (0.988, 1, 0.643), abs=0.01
    )
    loaded = logic.result(slicer.util.getNode(name))
    assert loaded.complete and loaded.threshold == 0.65
    assert not segmentation.edited(loaded.segmentation, loaded.input)
    assert np.array_equal(segmentation.read(loaded.segmentation, loaded.input), expected)
    assert [row["Accepted"] for row in findingstable.rowsOf(loaded.findings)] == [1, 0]
    loaded.setThreshold(0.7)
    assert [row["Accepted"] for row in findingstable.rowsOf(loaded.findings)] == [1, 0]
    assert json.loads(loaded.attribute("Settings"))["method"] == "vand"
    assert loaded.map.GetDisplayNode().GetColorNode() is not None


def test_a_frame_of_a_sequence_says_so(logic):
    import slicer
    from ZSADCLIPSlicer.scene import geometry

    sequence = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceNode", "frames")
    for index in range(2):
        sequence.SetDataNodeAtValue(head(name=f"frame {index}"), str(index))
    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", "browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    slicer.modules.sequences.logic().UpdateProxyNodesFromSequences(browser)
    proxy = browser.GetProxyNode(sequence)
    assert "only the frame" in " ".join(geometry.notesOn(proxy))
    assert logic.process(proxy, command=fake()).complete


def test_the_example_of_the_documentation_runs(slicer_env, monkeypatch):
    """The ten lines of README, with the fake engine in place of the model."""
    import re

    import slicer
    from slicer_harness import ROOT

    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("## In 3D Slicer")[2]
    (code,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    start = slicer_env.module.ZSADCLIPLogic.start
    monkeypatch.setattr(
        slicer_env.module.ZSADCLIPLogic, "start", lambda self, *a, **k: start(self, *a, **{**k, "command": fake()})
    )
    head(name="MRHead")
    scope = {"slicer": slicer, "print": lambda *a: None}
    exec(code, scope)
    assert scope["result"].complete and len(code.splitlines()) <= 12


def test_names_given_by_the_user_stay(result):
    result.map.SetName("my map")
    result.setThreshold(0.7)
    assert result.map.GetName() == "my map" and "vand" in result.segmentation.GetName()


def test_deleted_tables_and_charts_do_not_stop_the_threshold(result):
    import slicer
    from ZSADCLIPSlicer.scene import findingstable

    slicer.mrmlScene.RemoveNode(result.chart)
    slicer.mrmlScene.RemoveNode(result.profile)
    result.setThreshold(0.9)
    assert len(findingstable.rowsOf(result.findings)) == 1


def test_dragging_leaves_the_map_node_alone(result):
    """An event of the map would make every slice view interpolate it again, which halves the rate of a drag."""
    import vtk

    events = []
    result.map.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda *a: events.append(a))
    result.dragThreshold(0.77)
    assert not events and result.threshold == 0.77


def test_local_model_files_are_checked_before_they_are_taken(slicer_env, tmp_path, monkeypatch):
    import hashlib

    from ZSADCLIPSlicer.engine import choices

    from ZSADCLIPLib.backbones import BACKBONES, BackboneInfo
    from ZSADCLIPLib.backbones.weights import adopt
    from ZSADCLIPLib.errors import WeightsError

    one = BackboneInfo("One", files={"one.pt": ("https://x", hashlib.sha256(b"weights").hexdigest())})
    two = BackboneInfo("Two", files={"a.bin": ("https://x", ""), "vocab.txt": ("https://x", "")})
    monkeypatch.setitem(BACKBONES, "One", one)
    monkeypatch.setitem(BACKBONES, "Two", two)
    good, bad, target = tmp_path / "renamed.pt", tmp_path / "one.pt", str(tmp_path / "Ünï côde")
    good.write_bytes(b"weights")
    bad.write_bytes(b"something else")
    with pytest.raises(WeightsError, match="sha256"):
        adopt("One", [str(bad)], target)
    assert [m.state for m in choices.models(target) if m.key == "One"] == ["missing"]
    adopt("One", [str(good)], target)
    assert [m.state for m in choices.models(target) if m.key == "One"] == ["installed"]
    with pytest.raises(WeightsError, match="vocab.txt.*all of its files"):
        adopt("Two", [str(tmp_path / "a.bin")], target)


def test_a_new_method_is_in_the_menu(slicer_env, monkeypatch):
    from toy_method import ENTRY, NAME
    from ZSADCLIPSlicer.engine import choices

    from ZSADCLIPLib.adapters import METHODS

    monkeypatch.setitem(METHODS, NAME, ENTRY)
    new = next(choice for choice in choices.methods() if choice.key == NAME)
    assert new.label == ENTRY.label and ENTRY.summary in new.tip
    assert not choices.hasAdapter(NAME, "mini") and [c.key for c in choices.checkpoints(NAME, "mini")] == [""]
