"""Keys of the module: those that Slicer leaves free, there only while the module is open."""

from __future__ import annotations

import qt
from slicer.i18n import tr as _


def listed() -> tuple[tuple[str, str, str], ...]:
    """(key, name of what it does, words for it) in the order of the help.

    Slicer's own views take B, F, G, R, T, V, brackets and arrows; letters go into a field of text where one has the focus.
    """
    return (
        ("J", "next", _("next finding")),
        ("K", "previous", _("previous")),
        ("A", "accept", _("accept")),
        ("X", "reject", _("reject")),
        ("H", "hide", _("hide the map")),
        ("C", "swap", _("compare")),
        ("Shift+J", "nextCase", _("next volume")),
        ("Shift+K", "previousCase", _("previous volume")),
        ("U", "undo", _("undo")),
        ("Shift+U", "redo", _("redo")),
    )


def helpText() -> str:
    """All keys in one line."""
    return _("Keys: {keys}").format(keys=", ".join(f"{key} {words}" for key, _name, words in listed()))


class Keys:
    """Shortcuts of the window that holds the panel; `actions` has a function for each name in `listed`."""

    def __init__(self, actions):
        self._actions, self._shortcuts = actions, []

    def enter(self, window) -> None:
        """Take the keys; again without effect."""
        if self._shortcuts:
            return
        for key, name, _words in listed():
            shortcut = qt.QShortcut(qt.QKeySequence(key), window)
            shortcut.connect("activated()", self._actions[name])
            self._shortcuts.append(shortcut)

    def exit(self) -> None:
        """Give the keys back."""
        for shortcut in self._shortcuts:
            shortcut.setEnabled(False)
            shortcut.setParent(None)
        self._shortcuts = []
