"""Keys of the module, undo and redo on stand-in widgets."""

import pytest
from slicer_harness import grab, spin

pytest_plugins = ["slicer_fixtures", "panel_fixtures"]

SLICERS = {"B", "F", "G", "R", "T", "V", "[", "]", "{", "}", "Left", "Right", "Up", "Down", "+", "-"}
"""Keys of slice and 3D views, as Slicer's user guide lists them."""


@pytest.fixture
def press(done):
    """Press keys in the window of the panel, as while the module is open."""
    import qt
    from PySide6.QtTest import QTest

    done.parent.show()
    done.enter()
    qt.QApplication.setActiveWindow(done.parent)
    done.parent.activateWindow()
    spin(lambda: done.parent.isActiveWindow)
    done.parent.setFocus()
    yield lambda letter, shift=False, to=None: QTest.keyClick(
        to or done.parent,
        getattr(qt.Qt, f"Key_{letter}"),
        qt.Qt.ShiftModifier if shift else qt.Qt.NoModifier,
    )
    done.parent.hide()


def rested(panel):
    spin(lambda: not panel.results._settle.active)


def test_keys_step_through_findings_and_judge_them(done, press):
    from ZSADCLIPSlicer.scene import findingstable

    result, table = done.results.result, done.ui.findingsTable
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
    assert not done.ui.overlayCheckBox.checked


def test_letters_go_into_fields_and_keys_leave_with_the_module(done, press):
    field = done.ui.objectNameEdit
    field.setFocus()
    press("H", to=field)
    assert field.text == "h" and done.ui.overlayCheckBox.checked
    field.text = ""
    done.exit()
    press("H")
    assert done.ui.overlayCheckBox.checked
    done.enter()
    press("H")
    assert not done.ui.overlayCheckBox.checked


def test_no_key_is_one_of_slicers_and_all_are_in_the_help(done):
    from ZSADCLIPSlicer.panels import keys

    taken = [key for key, _name, _words in keys.listed()]
    assert len(set(taken)) == len(taken) and not set(taken) & SLICERS
    assert not [key for key in taken if key.startswith(("Ctrl", "Alt"))]
    text = done.ui.keysLabel.text
    assert all(key in text and words in text for key, _name, words in keys.listed())
    assert set(done._actions()) == {name for _key, name, _words in keys.listed()}


def test_thresholds_and_verdicts_are_taken_back_and_done_again(done):
    import qt
    from ZSADCLIPSlicer.scene import findingstable, segmentation

    ui, result = done.ui, done.results.result
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
        rested(done)
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
    rested(done)
    assert not ui.redoButton.enabled  # another step was taken from there
    ui.thresholdSlider.value = 0.65
    ui.undoButton.click()  # before the slider rests
    assert result.threshold == pytest.approx(0.8) and ui.thresholdSlider.value == pytest.approx(0.8)
    grab(done, "panel-undo", 300)


def test_each_result_has_its_own_steps(done, use):
    ui, first = done.ui, done.results.result
    ui.thresholdSlider.value = 0.7
    rested(done)
    done._parameters.method = "winclip"
    done._parameters.model = "mini"
    done.updateApply()
    ui.applyButton.click()
    spin(lambda: not done.run.running)
    assert done.results.result.map is not first.map and not ui.undoButton.enabled
    ui.resultSelector.setCurrentNode(first.map)
    assert ui.undoButton.enabled
    ui.undoButton.click()
    assert done.results.result.threshold == pytest.approx(0.6)
