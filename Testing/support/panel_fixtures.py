"""Fixtures of the panel's tests: `pytest_plugins = ["slicer_fixtures", "panel_fixtures"]`."""

import pytest
from slicer_cases import fake, head, ready
from slicer_harness import spin


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


@pytest.fixture
def shown(panel):
    """A panel with a result of the test head, without a run."""
    panel._parameters.inputVolume = node = head()
    panel._parameters.result = ready(node).map
    return panel
