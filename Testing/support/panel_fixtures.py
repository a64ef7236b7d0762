"""Fixtures of the panel's tests: `pytest_plugins = ["slicer_fixtures", "panel_fixtures"]`."""

import json
from dataclasses import asdict

import pytest
from slicer_cases import fake, head, ready


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
    """A panel as after a run on the test head; another run is one of the fake engine."""
    node = head()
    panel.initializeParameterNode()
    settings = json.loads(json.dumps(asdict(panel.logic.settings(panel._parameters))))
    panel.onFinished(ready(node, settings["method"], Settings=settings))
    assert panel.results.result is not None
    return panel


@pytest.fixture
def shown(panel):
    """A panel with a result of the test head, without a run."""
    panel._parameters.inputVolume = node = head()
    panel._parameters.result = ready(node).map
    return panel
