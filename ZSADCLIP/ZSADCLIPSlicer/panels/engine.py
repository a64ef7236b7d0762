"""Where a run is done: on this computer or by a server; kept with this computer's settings, never with a scene."""

from __future__ import annotations

import slicer
from slicer.i18n import tr as _

from ZSADCLIPLib.errors import ZSADCLIPError

from ..engine.choices import Choice
from ..engine.remote import Remote, remoteSettings
from ..engine.settings import settingsOf
from . import menus
from .preferences import setSetting, setting

REMOTE = "remote"
TEXTS = {"engineAddressEdit": "RemoteAddress", "engineFingerprintEdit": "RemoteFingerprint"}


class EnginePanel:
    """Keeps its widgets equal to this computer's settings; `changed` is called after edits."""

    def __init__(self, ui, changed):
        self.ui, self._changed = ui, changed
        menus.fill(ui.engineSelector, [Choice("", _("This computer")), Choice(REMOTE, _("Remote server"))])
        menus.select(ui.engineSelector, setting("Engine"))
        for name, key in TEXTS.items():
            getattr(ui, name).text = setting(key)
            getattr(ui, name).cursorPosition = 0  # the beginning says more than the end
            getattr(ui, name).connect("textChanged(QString)", self._edited)
        ui.engineTokenEdit.currentPath = setting("RemoteTokenFile")
        ui.engineTokenEdit.connect("currentPathChanged(QString)", self._edited)
        ui.engineSelector.connect("currentIndexChanged(int)", self._edited)
        ui.engineTestButton.connect("clicked()", self.onTest)
        self._show()

    @property
    def remote(self) -> Remote | None:
        """The server that does the runs, None for this computer."""
        if setting("Engine") != REMOTE:
            return None
        address, token, pin = (setting(f"Remote{name}").strip() for name in ("Address", "TokenFile", "Fingerprint"))
        return Remote(address, token, pin)

    def _edited(self, *_args) -> None:
        setSetting("Engine", menus.key(self.ui.engineSelector))
        setSetting("RemoteTokenFile", self.ui.engineTokenEdit.currentPath)
        for name, key in TEXTS.items():
            setSetting(key, getattr(self.ui, name).text)
        self.ui.engineNotesLabel.text = ""
        self._show()
        self._changed()

    def _show(self) -> None:
        ui, shown = self.ui, setting("Engine") == REMOTE
        for widget in (ui.engineAddressLabel, ui.engineAddressEdit, ui.engineTokenLabel, ui.engineTokenEdit,
                       ui.engineFingerprintLabel, ui.engineFingerprintEdit, ui.engineTestButton):  # fmt: skip
            widget.visible = shown
        ui.engineNotesLabel.visible = shown and bool(ui.engineNotesLabel.text)

    def reason(self, parameters) -> str:
        """Why the server cannot do the run of the panel, as far as this is known here, or empty."""
        try:
            self.remote.check()
            remoteSettings(settingsOf(parameters))
        except ZSADCLIPError as error:
            return str(error)
        return ""

    def agreed(self) -> bool:
        """True when the user agreed that images go to this server; asked once an address."""
        address = self.remote.address
        if setting("RemoteAgreed") != address:
            question = _("The image will be sent to {address}: its voxels and its place in space, and no names or other texts. "
                         "Faces can be known again from voxels. Go on?").format(address=address)  # fmt: skip
            if not slicer.util.confirmOkCancelDisplay(question, _("Send images to a server")):
                return False
            setSetting("RemoteAgreed", address)
        return True

    def onTest(self) -> None:
        """Say whether the server answers, and what it offers."""
        try:
            told = self.remote.ask()
            jobs = told["jobs"]["queued"] + told["jobs"]["running"]
            text = _("The server {version} answers. Models: {models}. Jobs now: {jobs}.").format(
                version=told["version"], models=", ".join(told["models"]), jobs=jobs)  # fmt: skip
        except (ZSADCLIPError, KeyError, TypeError) as error:
            text = _("Error: {text}").format(text=error)
        self.ui.engineNotesLabel.text = text
        self._show()
