"""What the user set up on this computer, kept over sessions and apart from any scene."""

from __future__ import annotations

import slicer


def setting(name: str) -> str:
    """A setting of the module: WeightsFolder, WheelsFolder or Python; empty when it was never given."""
    return str(slicer.app.userSettings().value("ZSADCLIP/" + name) or "")


def setSetting(name: str, value: str) -> None:
    """Keep a setting of the module."""
    slicer.app.userSettings().setValue("ZSADCLIP/" + name, value)
