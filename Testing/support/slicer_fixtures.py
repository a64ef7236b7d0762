"""Fixtures of the Slicer tests: `pytest_plugins = ["slicer_fixtures"]`."""

import sys
from traceback import format_exception

import pytest
from slicer_harness import clear_scene, close_panels, make_panel, require_slicer_core, start


@pytest.fixture
def slicer_env(monkeypatch):
    """The booted environment with an empty scene; errors of VTK or MRML and exceptions in slots fail the test."""
    require_slicer_core()
    env = start()
    clear_scene()
    env.messages.take()
    monkeypatch.setattr(sys, "excepthook", lambda *error: env.messages.lines.append("".join(format_exception(*error))))
    yield env
    close_panels(env)
    errors = env.messages.take()
    clear_scene()
    env.messages.take()
    assert not errors, "VTK or MRML reported: " + "\n".join(errors)


@pytest.fixture
def logic(slicer_env):
    return slicer_env.module.ZSADCLIPLogic()


@pytest.fixture
def panel(slicer_env):
    """The module's panel as Slicer would show it."""
    return make_panel(slicer_env)
