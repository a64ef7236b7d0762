"""The histogram of scores, and findings as a segment each."""

import numpy as np
import pytest
from slicer_harness import grab, spin

pytest_plugins = ["slicer_fixtures", "panel_fixtures"]


def rested(panel):
    spin(lambda: not panel.results._settle.active)


def names(node):
    return [node.GetSegmentation().GetSegment(key).GetName() for key in node.GetSegmentation().GetSegmentIDs()]


def test_the_histogram_counts_the_brain_and_moves_with_the_slider(shown):
    from PySide6.QtCore import QPoint
    from PySide6.QtTest import QTest

    ui, histogram, result = shown.ui, shown.results.histogram, shown.results.result
    scores = result.brainScores
    counts = np.histogram(scores, len(histogram.heights), histogram.range)[0]
    assert counts.sum() == scores.size and histogram.heights.max() == 1
    assert np.allclose(histogram.heights, np.log1p(counts) / np.log1p(counts.max()))
    grab(shown, "histogram", 300)
    ui.thresholdSlider.value = 0.75
    assert histogram.threshold == pytest.approx(0.75)
    import qt

    for share in (0.25, 0.9):
        QTest.mousePress(histogram, qt.Qt.LeftButton, pos=QPoint(int(share * histogram.width), 20))
        expected = histogram.range[0] + share * np.ptp(histogram.range)
        assert ui.thresholdSlider.value == pytest.approx(expected, abs=0.02)
        assert histogram.threshold == pytest.approx(ui.thresholdSlider.value, abs=1e-3)
    rested(shown)
    assert result.threshold == pytest.approx(histogram.threshold, abs=1e-3)


def test_the_histogram_shows_the_line_and_what_reaches_it(shown):
    import qt

    histogram = shown.results.histogram
    shown.parent.show()
    shown.ui.thresholdSlider.value = 0.7
    image = histogram.grab().toImage()
    place = round(histogram.place(0.7))
    text = histogram.palette.color(qt.QPalette.Text)
    assert image.pixelColor(place, 5) == text
    shown.parent.hide()


def test_the_score_of_the_volume_is_explained_beside_the_threshold(shown):
    text = shown.ui.scoreLabel.text
    assert "Score of the volume: 1" in text and "most abnormal slice" in text
    assert text.endswith("Scored in axial slices.")  # and no word of a sequence that was not asked for
    before = shown.results.result.reaching / 1000
    assert f"{before:.1f} ml reach it" in text
    shown.ui.thresholdSlider.value = 0.9
    rested(shown)
    assert shown.results.result.reaching / 1000 < before and shown.ui.scoreLabel.text != text


def test_a_segment_a_finding_named_coloured_and_following(shown):
    import slicer
    from ZSADCLIPSlicer.scene import findingstable, segments

    ui, result = shown.ui, shown.results.result
    ui.separateCheckBox.checked = True
    node, rows = result.segments, findingstable.rowsOf(result.findings)
    assert names(node) == ["#1 R22 A10 S8, 20 mm", "#2 L25 P12 I5, 14 mm"]
    assert not result.segmentation.GetDisplayNode().GetVisibility2DOutline() and node.GetDisplayNode().GetVisibility()
    ids = list(node.GetSegmentation().GetSegmentIDs())
    voxel = float(np.prod(result.input.GetSpacing()))
    for key, row in zip(ids, rows, strict=True):  # what Segment Statistics counts
        mask = slicer.util.arrayFromSegmentBinaryLabelmap(node, key, result.input)
        assert mask.sum() * voxel == pytest.approx(row["Volume"])
    colors = [np.array(node.GetSegmentation().GetSegment(key).GetColor()) for key in ids]
    assert colors[0].sum() > colors[1].sum()  # the higher score is the brighter
    ui.colorSelector.setCurrentIndex(ui.colorSelector.findText("Viridis"))
    assert not np.allclose(colors[0], node.GetSegmentation().GetSegment(ids[0]).GetColor())
    ui.thresholdSlider.value = 0.9
    rested(shown)
    assert len(names(node)) == 1
    ui.undoButton.click()
    assert len(names(node)) == 2
    grab(shown, "one-by-one", 300)
    assert not segments.edited(result)
    ui.separateCheckBox.checked = False
    assert result.segments is None and slicer.mrmlScene.GetNodeByID(node.GetID() or "") is None
    assert result.segmentation.GetDisplayNode().GetVisibility2DOutline()


def test_segments_are_shown_one_by_one_and_rejected_ones_leave(shown):
    import qt

    ui, result = shown.ui, shown.results.result
    ui.separateCheckBox.checked = True
    display, ids = result.segments.GetDisplayNode(), list(result.segments.GetSegmentation().GetSegmentIDs())
    seen = lambda: [bool(display.GetSegmentVisibility(key)) for key in ids]  # noqa: E731
    assert seen() == [True, True]
    ui.chosenOnlyCheckBox.checked = True
    for row, expected in ((0, [True, False]), (1, [False, True])):
        ui.findingsTable.setCurrentCell(row, 1)
        assert seen() == expected
    ui.chosenOnlyCheckBox.checked = False
    assert seen() == [True, True]
    ui.findingsTable.item(0, 0).setCheckState(qt.Qt.Unchecked)
    assert list(result.segments.GetSegmentation().GetSegmentIDs()) == ids[1:]


def test_segments_edited_by_hand_are_kept_until_the_user_gives_them_up(shown):
    import slicer
    from ZSADCLIPSlicer.scene import nodes

    ui, result = shown.ui, shown.results.result
    ui.separateCheckBox.checked = True
    key = result.segments.GetSegmentation().GetSegmentIDs()[0]
    mask = slicer.util.arrayFromSegmentBinaryLabelmap(result.segments, key, result.input)
    mask[2, 2, 2] = 1
    slicer.util.updateSegmentBinaryLabelmapFromArray(mask, result.segments, key, result.input)
    ui.thresholdSlider.value = 0.9
    rested(shown)
    assert len(names(result.segments)) == 2 and not ui.editedLabel.isHidden()
    ui.replaceEditsButton.click()
    assert len(names(result.segments)) == 1 and ui.editedLabel.isHidden()
    nodes.remove(result)
    assert not slicer.util.getNodesByClass("vtkMRMLSegmentationNode")


def test_places_have_the_letters_of_the_data_probe(slicer_env):
    from ZSADCLIPSlicer.scene import findingstable

    assert findingstable.placeOf({"R": -12.4, "A": 0.2, "S": -7.6}) == "L12 A0 I8"
    assert findingstable.diameterOf({"Volume": 4 / 3 * np.pi * 6**3}) == pytest.approx(12)


def test_the_sequence_and_the_planes_of_a_run_are_said():
    from ZSADCLIPSlicer.engine.choices import seenAs

    seen = {"plane": "axial", "sequence": {"name": "t2f", "share": 0.914}}
    told = seenAs({"preprocessing": seen, "further_planes": [{"plane": "coronal"}]})
    assert told == "Scored in axial + coronal slices. The image looks like FLAIR (91 %)."
    assert seenAs({}) == ""
