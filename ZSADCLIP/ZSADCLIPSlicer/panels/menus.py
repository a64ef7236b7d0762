"""Filling and selecting in combo boxes whose entries are Choices."""

from __future__ import annotations

import qt

from ZSADCLIPLib.volumes.fusion import FUSIONS

from ..engine import choices
from ..scene.colors import NAMES


def fill(combo, entries) -> None:
    """Replace the entries of a combo box, without telling anyone."""
    blocked = combo.blockSignals(True)
    combo.clear()
    for index, entry in enumerate(entries):
        combo.addItem(entry.label, entry.key)
        combo.setItemData(index, entry.tip, qt.Qt.ToolTipRole)
    combo.blockSignals(blocked)


def translate(ui) -> None:
    """Give the menus of parameters with fixed choices their labels; the choice is known by its place."""
    for combo, keys, label in (
        (ui.planeSelector, choices.PLANES, choices.planeLabel),
        (ui.fuseSelector, FUSIONS, choices.fuseLabel),
        (ui.deviceSelector, choices.DEVICES, choices.deviceLabel),
        (ui.batchSelector, choices.BATCHES, choices.batchLabel),
        (ui.colorSelector, NAMES, choices.colorLabel),
    ):
        for index, each in enumerate(keys):
            combo.setItemText(index, label(each))


def select(combo, key: str) -> None:
    """Select the entry with a key, without telling anyone.

    An unknown key (a file of the user, a model that this version does not know) is added as its own entry.
    """
    blocked = combo.blockSignals(True)
    index = combo.findData(key)
    if index < 0 and key:
        combo.addItem(key, key)
        index = combo.count - 1
        combo.setItemData(index, key, qt.Qt.ToolTipRole)
    combo.setCurrentIndex(max(index, 0))
    combo.blockSignals(blocked)


def key(combo) -> str:
    """The key of the selected entry."""
    return str(combo.currentData or "")
