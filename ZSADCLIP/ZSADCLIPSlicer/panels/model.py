"""Method, model and adapter: menus from the engine's registries, and what is missing fetched or taken from local files."""

from __future__ import annotations

import qt
import slicer
from slicer.i18n import tr as _

from ZSADCLIPLib.errors import ZSADCLIPError
from ZSADCLIPLib.neighbours import BANK

from ..engine import choices
from ..engine.download import Fetch
from . import menus
from .preferences import setting


class ModelPanel:
    """Keeps its menus equal to the parameter node; `changed` is called after edits, `say(text, bad)` shows a status."""

    def __init__(self, ui, changed, say):
        self.ui, self._changed, self._say = ui, changed, say
        self.parameters = None
        self.models: list[choices.Model] = []
        self.fetch: Fetch | None = None
        self._listed = self._made = None
        self._timer = qt.QTimer()
        self._timer.setInterval(100)
        self._timer.connect("timeout()", self._follow)
        ui.methodSelector.connect("currentIndexChanged(int)", self._methodChanged)
        ui.modelSelector.connect("currentIndexChanged(int)", self._modelChanged)
        ui.checkpointSelector.connect("currentIndexChanged(int)", self._checkpointChanged)
        ui.checkpointFileButton.connect("clicked()", self.onCheckpointFile)
        ui.downloadButton.connect("clicked()", self.onDownload)
        ui.localFilesButton.connect("clicked()", self.onLocalFiles)
        menus.fill(ui.methodSelector, choices.methods())
        self.refresh()

    def refresh(self) -> None:
        """Look again at what is installed."""
        self.models, self._listed = choices.models(setting("WeightsFolder")), None
        menus.fill(self.ui.modelSelector, self.models)
        self.show(self.parameters)

    def show(self, parameters) -> None:
        """Set the menus from the parameter node (None while there is none)."""
        self.parameters = parameters
        if parameters is None:
            return
        menus.select(self.ui.methodSelector, parameters.method)
        menus.select(self.ui.modelSelector, parameters.model)
        listed = (parameters.method, parameters.model, setting("WeightsFolder"))
        if listed != self._listed:  # reads files, so not at every change of a parameter
            menus.fill(self.ui.checkpointSelector, choices.checkpoints(*listed))
            self._listed, self._made = listed, None
        menus.select(self.ui.checkpointSelector, parameters.checkpoint)
        self._showBank(parameters)
        self._showState()

    def _showBank(self, parameters) -> None:
        """A bank stands where adapters do, and says itself how volumes are looked at."""
        ui, bank = self.ui, parameters.method == BANK
        ui.inputsLayoutLabel8.text = _("Bank:") if bank else _("Adapter:")
        planes = [ui.axialCheckBox, ui.coronalCheckBox, ui.sagittalCheckBox]
        for widget in (ui.modelSelector, ui.objectNameEdit, ui.promptSelector, ui.planeSelector, *planes):
            widget.enabled = not bank
        chosen = sum((parameters.axial, parameters.coronal, parameters.sagittal))
        ui.planeSelector.enabled = not bank and not chosen
        ui.fuseSelector.enabled = not bank and chosen > 1

    def model(self) -> choices.Model | None:
        """The chosen model."""
        return next((m for m in self.models if m.key == self.parameters.model), None)

    def reason(self) -> str:
        """Why the chosen method cannot run on the chosen model, or empty."""
        p, model = self.parameters, self.model()
        if p.method == BANK:
            return "" if p.checkpoint else _("A bank of healthy volumes is needed: choose its file under Bank.")
        if model is not None and model.state == "missing":
            return _("The model is not on this computer: download it, take it from local files, or name the weights "
                     "folder that has it under Advanced.")  # fmt: skip
        if not p.checkpoint and not choices.hasAdapter(p.method, p.model):
            return _("{method} has to be trained for {model}, and no adapter comes with the module: choose a checkpoint "
                     "file under Adapter, or another model.").format(
                method=self.ui.methodSelector.currentText, model=self.ui.modelSelector.currentText)  # fmt: skip
        return ""

    def _methodChanged(self, *_args) -> None:
        if self.parameters is not None:
            self._set(method=menus.key(self.ui.methodSelector), checkpoint="")

    def _modelChanged(self, *_args) -> None:
        if self.parameters is not None:
            self._set(model=menus.key(self.ui.modelSelector), checkpoint="")

    def _checkpointChanged(self, *_args) -> None:
        if self.parameters is not None:
            self._set(checkpoint=menus.key(self.ui.checkpointSelector))

    def _set(self, **values) -> None:
        with slicer.util.NodeModify(self.parameters.parameterNode):
            for name, value in values.items():
                setattr(self.parameters, name, value)
        self.show(self.parameters)
        self._changed()

    def onCheckpointFile(self) -> None:
        """Ask for a checkpoint file, or for that of a bank."""
        title, kinds = _("Choose a checkpoint"), _("Checkpoints") + " (*.safetensors *.pth *.pt)"
        if self.parameters is not None and self.parameters.method == BANK:
            title, kinds = _("Choose a bank"), _("Banks of healthy volumes") + " (*.bank)"
        path = qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), title, setting("WeightsFolder"), kinds)
        if path and self.parameters is not None:
            self._set(checkpoint=str(path))

    def _showState(self) -> None:
        model, busy = self.model(), self.fetch is not None
        missing = model is not None and model.state == "missing"
        self.ui.downloadButton.visible = missing or busy
        self.ui.localFilesButton.visible = missing and not busy
        self.ui.modelNotesLabel.text = self._madeFor() if not missing else _(
            "Not on this computer. {size:.0f} MB, licence: {licence}.").format(
            size=model.size / 1e6, licence=model.licence)  # fmt: skip
        self.ui.modelNotesLabel.visible = bool(self.ui.modelNotesLabel.text)

    def _madeFor(self) -> str:
        """What the chosen adapter was made for; its file is read once a choice."""
        p = self.parameters
        choice = (p.method, p.model, p.checkpoint)
        if self._made is None or self._made[0] != choice:
            self._made = choice, choices.madeFor(*choice)
        return self._made[1]

    def onDownload(self) -> None:
        """Start the download after saying what it is, or stop what runs."""
        if self.fetch is not None:
            self.fetch.cancel()
            return
        model = self.model()
        if slicer.util.confirmOkCancelDisplay(choices.downloadText(model), _("Download a model")):
            self._start(Fetch(model.key, (), setting("WeightsFolder"), setting("Python")))

    def onLocalFiles(self) -> None:
        """Ask for the files of the model and take them over."""
        model = self.model()
        names = ", ".join(name for name, _url, _sha in model.files)
        paths = qt.QFileDialog.getOpenFileNames(
            slicer.util.mainWindow(), _("Choose {names}").format(names=names), setting("WeightsFolder")
        )
        if paths:
            self._start(Fetch(model.key, paths, setting("WeightsFolder"), setting("Python")))

    def _start(self, fetch: Fetch) -> None:
        try:
            fetch.start()
        except (ZSADCLIPError, OSError) as error:
            self._say(str(error), bad=True)
            return
        self.fetch = fetch
        self._timer.start()
        self._showState()

    def _follow(self) -> None:
        fraction, text = self.fetch.poll()
        self.ui.downloadButton.text = _("Stop ({percent} %)").format(percent=round(100 * fraction))
        self._say(text)
        if not self.fetch.done:
            return
        error, self.fetch = self.fetch.error, None
        self._timer.stop()
        self.ui.downloadButton.text = _("Download...")
        self._say(error or ("" if error is None else _("Stopped. It goes on from there next time.")), bad=bool(error))
        self.refresh()
        self._changed()

    def cleanup(self) -> None:
        """Stop what runs."""
        self._timer.stop()
        if self.fetch is not None:
            self.fetch.abort()
            self.fetch = None
