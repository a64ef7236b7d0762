"""The button beside the brain mask: lets the engine find the brain, and shows it before it is used."""

from __future__ import annotations

import qt
from slicer.i18n import tr as _

from ZSADCLIPLib.errors import ZSADCLIPError

from ..engine.brain import FindBrain
from ..scene import brainmask
from .preferences import setting


class BrainPanel:
    """`unready()` says why nothing can run, `say(text, bad)` shows a status; `find` is None unless the engine is at it."""

    def __init__(self, ui, unready, say):
        self.ui, self._unready, self._say = ui, unready, say
        self.parameters = None
        self.find: FindBrain | None = None
        self.command = None  # stands in for the engine's own command line
        self._timer = qt.QTimer()
        self._timer.setInterval(100)
        self._timer.connect("timeout()", self._follow)
        ui.brainButton.connect("clicked()", self.onBrain)

    def show(self, parameters) -> None:
        """Follow the parameter node."""
        self.parameters = parameters
        node = parameters.inputVolume if parameters else None
        self.ui.brainButton.enabled = self.find is not None or node is not None

    def onBrain(self) -> None:
        """Start, or stop what runs."""
        if self.find is not None:
            self.find.cancel()
            return
        if reason := self._unready():
            self._say(reason, bad=True)
            return
        find = FindBrain(self.parameters.inputVolume, self.parameters.device, setting("Python"), self.command)
        try:
            find.start()
        except (ZSADCLIPError, OSError) as error:
            self._say(str(error), bad=True)
            return
        self.find = find
        self.ui.brainButton.text = _("Stop")
        self._say(_("Looking for the brain..."))
        self._timer.start()

    def _follow(self) -> None:
        find = self.find
        find.poll()
        if not find.done:
            return
        self._rest()
        if find.error is None and find.gone:
            self._say(_("The volume is gone: its brain was not kept."))
        elif find.error is None:
            node = brainmask.show(find.input, find.mask)
            if self.parameters is not None and self.parameters.inputVolume is find.input:
                self.parameters.brainMask = node
            self._say(_("A brain of {ml:.0f} ml is outlined. Look at it, correct it in Segment Editor, then press Apply.").format(
                ml=find.ml))  # fmt: skip
        else:
            self._say(find.error or _("Stopped."), bad=bool(find.error))

    def _rest(self) -> None:
        self._timer.stop()
        self.find = None
        self.ui.brainButton.text = _("Find")

    def abort(self) -> None:
        """Stop at once: the scene closes or the module is left for good."""
        if self.find is not None:
            self.find.abort()
            self._rest()
