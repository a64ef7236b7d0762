"""Runs the Slicer module without the application; the fixtures are in slicer_fixtures.py.

`start()` boots slicer-core, puts the stand-ins of `standins/` in place and loads ZSADCLIP.py as Slicer does. A machine
without slicer-core skips these tests; with CI=true (or ZSADCLIP_REQUIRE_SLICER_CORE=1) it fails them instead.
"""

import importlib.util
import os
import sys
import types
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
MODULE = ROOT / "ZSADCLIP" / "ZSADCLIP.py"
PICTURES = Path(os.environ.get("ZSADCLIP_TEST_PICTURES") or HERE.parent / "artefacts")
os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("HF_HUB_OFFLINE", "1")


def require_slicer_core():
    if all(importlib.util.find_spec(name) for name in ("slicer", "PySide6")):
        return
    text = "slicer-core or PySide6 is not installed: pip install slicer-core PySide6-Essentials"
    if os.environ.get("CI", "").lower() in ("1", "true") or os.environ.get("ZSADCLIP_REQUIRE_SLICER_CORE") == "1":
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


@cache
def start(module_path=MODULE):
    """Boot once per process; returns a namespace with app_logic, messages, qt_application, module, parent and panels."""
    sys.path[:0] = [str(HERE / "standins"), str(HERE)]
    import slicer

    if base := os.environ.get("ZSADCLIP_SLICER_BASE"):  # before slicer-core's own modules of these names
        slicer.__path__.insert(0, base)
        for name in ("util", "logic", "cli"):
            sys.modules.pop(f"slicer.{name}", None)
    else:
        slicer.__path__.append(str(HERE / "standins" / "slicerbase"))
    import slicer_boot

    app_logic, messages = slicer_boot.boot()
    import qt

    qt_application = qt.QApplication.instance() or qt.QApplication(["tests"])
    import application
    import mrmlwidgets  # noqa: F401 - registers its widget classes

    slicer.app = application.Application(qt_application, app_logic, slicer.mrmlScene)
    import slicer.util

    parent = types.SimpleNamespace(path=str(module_path), icon=None)
    slicer.modules.zsadclip = types.SimpleNamespace(path=str(module_path), name="ZSADCLIP")
    slicer.util.modulePath = lambda name: getattr(slicer.modules, name.lower()).path
    sys.path.append(str(Path(module_path).parent))
    spec = importlib.util.spec_from_file_location("ZSADCLIP", module_path)
    module = importlib.util.module_from_spec(spec)
    sys.modules["ZSADCLIP"] = module
    spec.loader.exec_module(module)
    module.ZSADCLIP(parent)
    return types.SimpleNamespace(
        app_logic=app_logic, messages=messages, qt_application=qt_application, module=module, parent=parent, panels=[]
    )


def clear_scene():
    """An empty scene with the nodes that Slicer puts into every scene."""
    import slicer
    import slicer_boot

    slicer.mrmlScene.Clear()
    slicer_boot.fill_default_nodes(slicer.app.applicationLogic())


def make_panel(env):
    """Build the module's widget in a container of its own; it lives until `close_panels`."""
    import qt
    import slicer

    container = slicer.qMRMLWidget()
    container.setLayout(qt.QVBoxLayout())
    container.layout().setContentsMargins(0, 0, 0, 0)
    container.setMRMLScene(slicer.mrmlScene)
    container.isEntered = True
    widget = env.module.ZSADCLIPWidget(container)
    env.panels.append(widget)
    widget.setup()
    return widget


def close_panels(env):
    """End every panel: one that is only forgotten goes on observing the scene, and takes the views of later tests."""
    while env.panels:
        widget = env.panels.pop()
        widget.cleanup()
        widget.parent.deleteLater()
    env.qt_application.processEvents()


def overlay_shown(map_node):
    """True when some slice view shows this map in its foreground."""
    from ZSADCLIPSlicer.scene import display

    return any(node.GetForegroundVolumeID() == map_node.GetID() for node in display.compositeNodes())


def spin(condition, seconds=300.0):
    """Let Qt work until `condition()` is true; fails the test after `seconds`, which only what hangs ever takes."""
    import time

    import slicer

    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"nothing happened within {seconds} s")
        slicer.app.processEvents()
        time.sleep(0.005)


def grab(widget, name, width=400, height=None):
    """Save a picture of a panel (for people to look at); returns its path."""
    import slicer

    container = widget.parent
    container.show()
    slicer.app.processEvents()
    layout = container.layout()  # wrapped texts need more height in a narrow panel
    container.resize(width, height or max(layout.totalSizeHint().height(), layout.totalHeightForWidth(width)))
    slicer.app.processEvents()
    PICTURES.mkdir(parents=True, exist_ok=True)
    path = PICTURES / f"{name}.png"
    assert container.grab().save(str(path))
    container.hide()
    return path
