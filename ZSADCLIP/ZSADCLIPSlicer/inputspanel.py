"""The upper part of the panel: what to examine and with which model, downloads and the health check."""

from __future__ import annotations

import qt
import slicer
from slicer.i18n import tr as _

from ZSADCLIPLib.errors import ZSADCLIPError

from . import choices, geometry, install
from .download import Download

FOLDERS = {"weightsFolderEdit": "WeightsFolder", "wheelsFolderEdit": "WheelsFolder", "pythonEdit": "Python"}


def setting(name: str) -> str:
    """A setting of the user, kept over sessions."""
    return str(slicer.app.userSettings().value("ZSADCLIP/" + name) or "")


class InputsPanel:
    """Fills the menus from the registries and keeps them equal to the parameter node; `changed` is called after edits."""

    def __init__(self, ui, changed):
        self.ui, self._changed = ui, changed
        self.parameters = None
        self.models: list[choices.Model] = []
        self.download: Download | None = None
        self._updating = False
        self._notesFor = None
        self._timer = qt.QTimer()
        self._timer.setInterval(100)
        self._timer.connect("timeout()", self._followDownload)
        for name, key in FOLDERS.items():
            getattr(ui, name).currentPath = setting(key)
            getattr(ui, name).connect("currentPathChanged(QString)", self._folderChanged)
        ui.methodSelector.connect("currentIndexChanged(int)", self._methodChanged)
        for name in ("modelSelector", "checkpointSelector"):
            getattr(ui, name).connect("currentIndexChanged(int)", self._menuChanged)
        ui.promptSelector.connect("editTextChanged(QString)", self._menuChanged)
        ui.downloadButton.connect("clicked()", self.onDownload)
        ui.healthButton.connect("clicked()", self.onHealth)
        ui.installButton.connect("clicked()", self.onInstall)
        ui.healthText.visible = False
        self._fill(ui.methodSelector, choices.methods())
        self._fill(ui.promptSelector, choices.promptSets())
        self.refreshModels()

    def _fill(self, combo, entries) -> None:
        self._updating = True
        combo.clear()
        for index, entry in enumerate(entries):
            combo.addItem(entry.label, entry.key)
            combo.setItemData(index, entry.tip, qt.Qt.ToolTipRole)
        self._updating = False

    def refreshModels(self) -> None:
        """Look again at what is installed."""
        self.models = choices.models(setting("WeightsFolder"))
        self._fill(self.ui.modelSelector, self.models)
        self.show(self.parameters)

    def show(self, parameters) -> None:
        """Set the menus from the parameter node (None while there is none)."""
        self.parameters = parameters
        if parameters is None or self._updating:
            return
        self._select(self.ui.methodSelector, parameters.method)
        self._fillCheckpoints()
        self._select(self.ui.modelSelector, parameters.model)
        self._select(self.ui.checkpointSelector, parameters.checkpoint)
        if self.promptKey() != parameters.prompts:
            self._select(self.ui.promptSelector, parameters.prompts)
        self._showState()

    def _select(self, combo, key: str) -> None:
        self._updating = True
        index = combo.findData(key)
        if index < 0 and key:  # a file of the user, or a model that this version does not know
            combo.addItem(key, key)
            index = combo.count - 1
        combo.setCurrentIndex(max(index, 0))
        self._updating = False

    def _fillCheckpoints(self) -> None:
        folder, method = setting("WeightsFolder"), self.parameters.method
        self._fill(self.ui.checkpointSelector, choices.checkpoints(method, folder))

    def promptKey(self) -> str:
        """The chosen prompt set: a name, a path typed by the user, or empty."""
        combo = self.ui.promptSelector
        text = combo.currentText.strip()
        index = combo.findText(text)
        return str(combo.itemData(index) or "") if index >= 0 else text

    def _methodChanged(self, *_args) -> None:
        if not self._updating and self.parameters is not None:
            self.parameters.method = str(self.ui.methodSelector.currentData)
            self.parameters.checkpoint = ""
            self._fillCheckpoints()
            self._changed()

    def _menuChanged(self, *_args) -> None:
        if self._updating or self.parameters is None:
            return
        with slicer.util.NodeModify(self.parameters.parameterNode):
            self.parameters.model = str(self.ui.modelSelector.currentData or "mini")
            self.parameters.checkpoint = str(self.ui.checkpointSelector.currentData or "")
            self.parameters.prompts = self.promptKey()
        self._showState()
        self._changed()

    def _folderChanged(self, *_args) -> None:
        for name, key in FOLDERS.items():
            slicer.app.userSettings().setValue("ZSADCLIP/" + key, getattr(self.ui, name).currentPath)
        self.refreshModels()

    def model(self) -> choices.Model | None:
        """The chosen model."""
        return next((m for m in self.models if m.key == self.parameters.model), None)

    def _showState(self) -> None:
        model = self.model()
        self.ui.downloadButton.visible = model is not None and model.state == "missing"
        node = self.parameters.inputVolume
        image = node.GetImageData() if node else None
        state = (node.GetID(), image and image.GetMTime(), node.GetTransformNodeID()) if node else None
        if state != self._notesFor:
            self._notesFor = state
            self.ui.inputNotesLabel.text = self._notes(node)
        self.ui.inputNotesLabel.visible = bool(self.ui.inputNotesLabel.text)

    def _notes(self, node) -> str:
        if node is None:
            return ""
        try:
            return " ".join(geometry.notesOn(node))
        except ZSADCLIPError as error:
            return str(error)

    def reason(self) -> str:
        """Why the detection cannot start, or empty."""
        try:
            geometry.checkInput(self.parameters.inputVolume)
        except ZSADCLIPError as error:
            return str(error)
        model = self.model()
        if model is not None and model.state == "missing":
            return _("The model is not on this computer: download it, or choose a folder that has it under Advanced.")
        return ""

    def onDownload(self) -> None:
        """Start the download after saying what it is, or stop the one that runs."""
        if self.download is not None:
            self.download.cancel()
            return
        model = self.model()
        if not slicer.util.confirmOkCancelDisplay(choices.downloadText(model), _("Download a model")):
            return
        self.download = Download(model.key, setting("WeightsFolder"))
        self.download.start()
        self._timer.start()

    def _followDownload(self) -> None:
        fraction, text = self.download.poll()
        self.ui.downloadButton.text = _("Stop download ({percent} %)").format(percent=round(100 * fraction))
        self.ui.statusLabel.text = text
        if not self.download.done:
            return
        error, self.download = self.download.error, None
        self._timer.stop()
        self.ui.downloadButton.text = _("Download the model...")
        self.ui.statusLabel.text = error or ""
        self.refreshModels()
        self._changed()

    def onHealth(self) -> None:
        """Show the health report."""
        self.ui.healthText.plainText = install.report(setting("Python"), setting("WeightsFolder"))
        self.ui.healthText.visible = True

    def onInstall(self) -> bool:
        """Install what is missing after asking once; True when everything is there."""
        absent = install.missing()
        if absent and slicer.util.confirmOkCancelDisplay(install.explanation(absent), _("Install Python packages")):
            with slicer.util.tryWithErrorDisplay(_("The packages could not be installed."), waitCursor=True):
                install.install(setting("WheelsFolder"))
        self.onHealth()
        return not install.missing()

    def cleanup(self) -> None:
        """Stop what runs."""
        self._timer.stop()
        if self.download is not None:
            self.download.cancel()
