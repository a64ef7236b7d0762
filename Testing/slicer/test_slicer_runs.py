"""The panel's runs: Apply-Cancel-Apply with a real child process, errors, scenes that close, reload."""

import pytest
from slicer_cases import fake, head
from slicer_harness import make_panel, spin

pytest_plugins = ["slicer_fixtures", "panel_fixtures"]


def test_apply_cancel_apply(panel, use):
    head()
    panel.initializeParameterNode()
    use("slow")
    ui = panel.ui
    ui.applyButton.click()
    assert ui.applyButton.text == "Cancel" and not ui.progressBar.isHidden()
    spin(lambda: "Slice" in ui.statusLabel.text and ui.progressBar.value > 1)
    assert "of 4000" in ui.statusLabel.text
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


def test_a_doubt_stops_a_run_and_the_user_may_go_on(panel, use):
    head()
    panel.initializeParameterNode()
    use("doubtful")
    panel.ui.applyButton.click()
    spin(lambda: not panel.run.running)
    assert "2 m long" in panel.ui.statusLabel.text and panel.results.result is None
    assert not panel.ui.allowButton.isHidden() and panel.ui.cpuButton.isHidden()
    panel.ui.allowButton.click()
    spin(lambda: not panel.run.running)
    assert panel.run.detection.settings.allow == ("extent",) and panel.results.result is not None
    assert panel.ui.allowButton.isHidden()


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


def test_reload_replaces_the_panel_and_its_helpers(slicer_env):
    """As the Reload button of developer mode does it: Slicer's own function, the former panel cleaned up."""
    import sys

    import slicer

    widget = make_panel(slicer_env)
    container, made = widget.parent, []
    container.reload = lambda: made.append(sys.modules["ZSADCLIP"].ZSADCLIPWidget)
    saved = {n: m for n, m in sys.modules.items() if n.split(".")[0] in ("ZSADCLIP", "ZSADCLIPLib", "ZSADCLIPSlicer")}
    former = sys.modules["ZSADCLIPSlicer.scene.results"]
    slicer.modules.zsadclip.widgetRepresentation = lambda: container
    slicer.modules.ZSADCLIPWidget = widget
    try:
        widget.onReload()
        assert sys.modules["ZSADCLIPSlicer.scene.results"] is not former
        assert made and made[0] is not type(widget)
        assert widget._parameters is None and not widget.Observations
    finally:
        for name in [n for n in sys.modules if n.split(".")[0] in ("ZSADCLIP", "ZSADCLIPLib", "ZSADCLIPSlicer")]:
            del sys.modules[name]
        sys.modules.update(saved)
        del slicer.modules.ZSADCLIPWidget, slicer.modules.zsadclip.widgetRepresentation
