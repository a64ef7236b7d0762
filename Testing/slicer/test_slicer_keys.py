"""Keys of the module, undo and redo on stand-in widgets."""

import pytest
from slicer_cases import ready
from slicer_harness import grab, spin

pytest_plugins = ["slicer_fixtures", "panel_fixtures"]

SLICERS = {"B", "F", "G", "R", "T", "V", "[", "]", "{", "}", "Left", "Right", "Up", "Down", "+", "-"}
"""Keys of slice and 3D views, as Slicer's user guide lists them."""


@pytest.fixture
def press(shown):
    """Press keys in the window of the panel, as while the module is open."""
    import qt
    from PySide6.QtTest import QTest

    shown.parent.show()
    shown.enter()
    qt.QApplication.setActiveWindow(shown.parent)
    shown.parent.activateWindow()
    spin(lambda: shown.parent.isActiveWindow)
    shown.parent.setFocus()
    yield lambda letter, shift=False, to=None: QTest.keyClick(
        to or shown.parent,
        getattr(qt.Qt, f"Key_{letter}"),
        qt.Qt.ShiftModifier if shift else qt.Qt.NoModifier,
    )
    shown.parent.hide()


def rested(panel):
    spin(lambda: not panel.results._settle.active)


def test_keys_step_through_findings_and_judge_them(shown, press):
    from ZSADCLIPSlicer.scene import findingstable

    result, table = shown.results.result, shown.ui.findingsTable
    accepted = lambda: [row["Accepted"] for row in findingstable.rowsOf(result.findings)]  # noqa: E731
    press("J")
    assert table.currentRow() == 0
    press("J")
    press("J")
    assert table.currentRow() == 1  # the last one
    press("X")
    assert accepted() == [1, 0]
    press("K")
    assert table.currentRow() == 0
    press("U")
    assert accepted() == [1, 1]
    press("U", shift=True)
    assert accepted() == [1, 0]
    press("J")
    press("A")
    assert accepted() == [1, 1]
    press("H")
    assert not shown.ui.overlayCheckBox.checked


def test_letters_go_into_fields_and_keys_leave_with_the_module(shown, press):
    field = shown.ui.objectNameEdit
    field.setFocus()
    press("H", to=field)
    assert field.text == "h" and shown.ui.overlayCheckBox.checked
    field.text = ""
    shown.exit()
    press("H")
    assert shown.ui.overlayCheckBox.checked
    shown.enter()
    press("H")
    assert not shown.ui.overlayCheckBox.checked


def test_no_key_is_one_of_slicers_and_all_are_in_the_help(shown):
    from ZSADCLIPSlicer.panels import keys

    taken = [key for key, _name, _words in keys.listed()]
    assert len(set(taken)) == len(taken) and not set(taken) & SLICERS
    assert not [key for key in taken if key.startswith(("Ctrl", "Alt"))]
    text = shown.ui.keysLabel.text
    assert all(key in text and words in text for key, _name, words in keys.listed())
    assert set(shown._actions()) == {name for _key, name, _words in keys.listed()}


def test_thresholds_and_verdicts_are_taken_back_and_done_again(shown):
    import qt
    from ZSADCLIPSlicer.scene import findingstable, segmentation

    ui, result = shown.ui, shown.results.result
    state = lambda: (  # noqa: E731
        round(result.threshold, 6),
        [row["Accepted"] for row in findingstable.rowsOf(result.findings)],
        int(segmentation.read(result.segmentation, result.input).sum()),
    )
    assert not ui.undoButton.enabled and not ui.redoButton.enabled
    seen = [state()]
    for act in (
        lambda: setattr(ui.thresholdSlider, "value", 0.7),
        lambda: ui.findingsTable.item(0, 0).setCheckState(qt.Qt.Unchecked),
        lambda: setattr(ui.thresholdSlider, "value", 0.9),
    ):
        act()
        rested(shown)
        seen.append(state())
    assert len({str(each) for each in seen}) == 4
    for expected in seen[-2::-1]:
        ui.undoButton.click()
        assert state() == expected and ui.thresholdSlider.value == pytest.approx(expected[0], abs=1e-3)
    assert not ui.undoButton.enabled
    for expected in seen[1:]:
        ui.redoButton.click()
        assert state() == expected
    assert not ui.redoButton.enabled
    ui.undoButton.click()
    ui.thresholdSlider.value = 0.8
    rested(shown)
    assert not ui.redoButton.enabled  # another step was taken from there
    ui.thresholdSlider.value = 0.65
    ui.undoButton.click()  # before the slider rests
    assert result.threshold == pytest.approx(0.8) and ui.thresholdSlider.value == pytest.approx(0.8)
    grab(shown, "panel-undo", 300)


def test_each_result_has_its_own_steps(shown):
    ui, first = shown.ui, shown.results.result
    ui.thresholdSlider.value = 0.7
    rested(shown)
    shown._parameters.result = ready(first.input, method="winclip").map
    assert shown.results.result.map is not first.map and not ui.undoButton.enabled
    ui.resultSelector.setCurrentNode(first.map)
    assert ui.undoButton.enabled
    ui.undoButton.click()
    assert shown.results.result.threshold == pytest.approx(0.6)
