"""The middle of the panel: Apply that turns into Cancel, progress, errors and the log."""

from __future__ import annotations

from dataclasses import replace

import qt
from slicer.i18n import tr as _

from ZSADCLIPLib.errors import ZSADCLIPError

from ..engine.run import hint

POLL_MILLISECONDS = 50


class RunPanel:
    """Follows one detection at a time.

    `begin(settings, volume)` makes and starts an `EngineRun` (None: what the panel says); `finished(result)` is called when one
    landed.
    """

    def __init__(self, ui, begin, finished):
        self.ui, self._begin, self._finished = ui, begin, finished
        self.detection = self._volume = None  # the volume, where it is not that of the panel
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MILLISECONDS)
        self._timer.connect("timeout()", self.poll)
        ui.applyButton.connect("clicked()", self.onApply)
        ui.cpuButton.connect("clicked()", self.onCpu)
        ui.allowButton.connect("clicked()", self.onAllow)
        ui.logButton.connect("toggled(bool)", self._showLog)
        for widget in (ui.progressBar, ui.cpuButton, ui.allowButton, ui.logButton, ui.logText):
            widget.visible = False

    @property
    def running(self) -> bool:
        return self.detection is not None and not self.detection.done

    def uses(self, node) -> bool:
        """True when the run that goes on is about this volume node."""
        return self.running and self.detection.uses(node)

    def onApply(self) -> None:
        """Start, or cancel what runs."""
        if self.running:
            self.detection.cancel()
            self.ui.applyButton.enabled = False
            self.ui.statusLabel.text = _("Cancelling...")
        else:
            self.start()

    def start(self, settings=None, volume=None) -> bool:
        """Start a run, over another volume than the panel's perhaps; what goes wrong is said in the panel. True when it runs."""
        self.ui.logButton.checked = False
        self._hideButtons()
        self._volume = volume
        self.ui.progressBar.value = 0
        try:
            self.detection = self._begin(settings, volume)
        except (ZSADCLIPError, OSError) as error:
            self.say(str(error), bad=True)
            return False
        except ImportError as error:
            self.say(str(error) + hint("ImportError"), bad=True)
            return False
        if self.detection is None:  # the user did not want the packages
            return False
        self.say(_("Starting the engine..."))
        self._timer.start()
        self._showRunning()
        self.ui.logButton.visible = True
        return True

    def onCpu(self) -> None:
        """Run the failed detection again without the graphics card."""
        self.start(replace(self.detection.settings, device="cpu", batch_size="auto"), self._volume)

    def onAllow(self) -> None:
        """Score the volume in spite of the doubts that stopped the run; they stay in what is said of the result."""
        settings = self.detection.settings
        self.start(replace(settings, allow=tuple({*settings.allow, *self.detection.error.doubts})), self._volume)

    def _hideButtons(self) -> None:
        self.ui.logButton.visible = self.ui.cpuButton.visible = self.ui.allowButton.visible = False

    def poll(self) -> None:
        """Follow the run; called by the timer."""
        if self.detection is None:
            self._timer.stop()
            return
        for event in self.detection.poll():
            self.ui.progressBar.value = round(100 * event["fraction"])
            self.say(progressText(event))
        self._fillLog()
        if self.detection.done:
            self._end()

    def _end(self) -> None:
        self._timer.stop()
        run = self.detection
        self._showRunning()
        if run.error is not None:
            self.say(str(run.error), bad=True)
            self.ui.cpuButton.visible = getattr(run.error, "cpuMayHelp", False)
            self.ui.allowButton.visible = bool(getattr(run.error, "doubts", ()))
        elif run.cancelled:
            self.say(_("Cancelled. Nothing was changed."))
        elif run.dropped:
            self.say(_("The run was stopped because its volume or scene is gone."))
        else:
            seconds = float(run.result.attribute("Seconds"))
            self.say(" ".join([_("Done in {seconds:.0f} s.").format(seconds=seconds), *run.notes]))
        self.ui.logButton.visible = bool(run.log)
        self._finished(run.result)

    def say(self, text: str, bad: bool = False) -> None:
        """Show what is going on."""
        self.ui.statusLabel.text = _("Error: {text}").format(text=text) if bad else text

    def _showRunning(self) -> None:
        running = self.running
        self.ui.applyButton.text = _("Cancel") if running else _("Apply")
        self.ui.applyButton.enabled = True
        self.ui.progressBar.visible = running

    def _showLog(self, shown: bool) -> None:
        self.ui.logText.visible = shown
        self.ui.logButton.text = _("Hide log") if shown else _("Show log")
        self._fillLog()

    def _fillLog(self) -> None:
        """What the engine printed so far, where it is looked at; the end stays in view."""
        if self.detection is None or not self.ui.logButton.checked:
            return
        text = "\n".join(self.detection.log)
        if text != self.ui.logText.plainText:
            self.ui.logText.plainText = text
            self.ui.logText.moveCursor(qt.QTextCursor.End)

    def abort(self) -> None:
        """Stop at once: the scene closes, the module is reloaded, or the application ends."""
        self._timer.stop()
        if self.running:
            self.detection.abort()
            self.say(_("The run was stopped because its volume or scene is gone."))
            self._showRunning()

    def forget(self) -> None:
        """Let go of the last run, whose result holds arrays and nodes of the scene that closes."""
        self.detection = None
        self.ui.logButton.checked = False
        self._hideButtons()


def progressText(event: dict) -> str:
    """One line for a progress event: slice count and time left where they are known."""
    phases = {"writing": _("writing"), "done": _("done"), "packing": _("packing"), "sending": _("sending"),
              "waiting": _("waiting in the queue"), "fetching": _("fetching")}  # fmt: skip
    parts = [phases.get(event["text"], event["text"])]
    if event.get("done") is not None and event.get("total"):  # of a single volume the engine counts only slices
        parts = [_("Slice {done} of {total}").format(done=event["done"], total=event["total"])]
    if event.get("eta") and event["fraction"] > 0.05:
        parts.append(_("about {seconds:.0f} s left").format(seconds=event["eta"]))
    return ", ".join(parts)
