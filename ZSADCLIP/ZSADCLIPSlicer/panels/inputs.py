"""The upper part of the panel: what to examine, sample data, folders and the health check."""

from __future__ import annotations

import logging

import qt
import slicer
import vtk
from slicer.i18n import tr as _

from ZSADCLIPLib.errors import ZSADCLIPError

from ..engine import choices, health, install
from ..scene import geometry, sampledata
from ..scene.results import isOurs
from . import menus
from .preferences import setSetting, setting

FOLDERS = {"weightsFolderEdit": "WeightsFolder", "wheelsFolderEdit": "WheelsFolder", "pythonEdit": "Python"}
TYPING_MILLISECONDS = 400


class InputsPanel:
    """Keeps its widgets equal to the parameter node; `changed` is called after edits, `foldersChanged` after new folders,
    `say(text, bad)` shows a status."""

    def __init__(self, ui, changed, foldersChanged, say):
        self.ui, self._changed, self._foldersChanged, self._say = ui, changed, foldersChanged, say
        self.parameters = None
        self._notesFor = None
        self._installing = False
        self._typing = qt.QTimer()
        self._typing.setInterval(TYPING_MILLISECONDS)
        self._typing.setSingleShot(True)
        self._typing.connect("timeout()", self._typed)
        for name, key in FOLDERS.items():
            getattr(ui, name).currentPath = setting(key)
            getattr(ui, name).connect("currentPathChanged(QString)", self._folderChanged)
        ui.promptSelector.connect("editTextChanged(QString)", self._promptsChanged)
        ui.brainSegmentSelector.connect("currentIndexChanged(int)", self._segmentChanged)
        ui.sampleButton.connect("clicked()", self.onSample)
        ui.tumor1Button.connect("clicked()", lambda: self.onTumor("MRBrainTumor1"))
        ui.tumor2Button.connect("clicked()", lambda: self.onTumor("MRBrainTumor2"))
        ui.healthButton.connect("clicked()", self.onHealth)
        ui.installButton.connect("clicked()", self.onInstall)
        ui.reinstallButton.connect("clicked()", self.onReinstall)
        ui.deleteModelsButton.connect("clicked()", self.onDeleteModels)
        ui.healthText.visible = False
        menus.fill(ui.promptSelector, choices.promptSets())

    def show(self, parameters) -> None:
        """Set the widgets from the parameter node (None while there is none)."""
        self.parameters = parameters
        if parameters is None:
            return
        if self.promptKey() != parameters.prompts:
            menus.select(self.ui.promptSelector, parameters.prompts)
        self.hideResults()
        self._showSegments(parameters.brainMask)
        self.showNotes()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeAdded(self, caller, event, node) -> None:
        """Another node in the scene, a result perhaps."""
        if isOurs(node):
            self.hideResults()

    def hideResults(self) -> None:
        """Leave anomaly maps out of the volumes on offer: they are no inputs."""
        maps = [node.GetID() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if isOurs(node)]
        self.ui.inputSelector.sortFilterProxyModel().hiddenNodeIDs = maps

    def _showSegments(self, mask) -> None:
        """Offer the segments when the brain mask is a segmentation with more than one."""
        segments = choices.segments(mask)
        menus.fill(self.ui.brainSegmentSelector, segments)
        known = {entry.key for entry in segments}
        menus.select(
            self.ui.brainSegmentSelector, self.parameters.brainSegment if self.parameters.brainSegment in known else ""
        )
        self.ui.brainSegmentSelector.visible = self.ui.brainSegmentLabel.visible = len(segments) > 2

    def showNotes(self) -> None:
        """Say what is to be known about the volume, anew when its voxels or its place changed."""
        node = self.parameters.inputVolume if self.parameters else None
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

    def cleanup(self) -> None:
        """Stop the timer."""
        self._typing.stop()

    def promptKey(self) -> str:
        """The chosen prompt set: a name, a path typed by the user, or empty."""
        combo = self.ui.promptSelector
        text = combo.currentText.strip()
        index = combo.findText(text)
        data = combo.itemData(index) if index >= 0 else None  # an entry that was typed has no data
        return text if data is None else str(data)

    def _promptsChanged(self, *_args) -> None:
        if self.parameters is not None:
            self.parameters.prompts = self.promptKey()
            self._changed()

    def _segmentChanged(self, *_args) -> None:
        if self.parameters is not None:
            self.parameters.brainSegment = menus.key(self.ui.brainSegmentSelector)

    def _folderChanged(self, *_args) -> None:
        """Every letter that is typed comes here: it is kept, but folders are read when the typing rests."""
        for name, key in FOLDERS.items():
            setSetting(key, getattr(self.ui, name).currentPath)
        self._typing.start()

    def _typed(self) -> None:
        self._foldersChanged()
        self._changed()

    def reason(self) -> str:
        """Why these inputs cannot be used, or empty."""
        if self._installing:
            return _("Python packages are being installed.")
        try:
            geometry.checkInput(self.parameters.inputVolume)
        except ZSADCLIPError as error:
            return str(error)
        return ""

    def onSample(self) -> None:
        """Make the synthetic case and select it."""
        with slicer.util.tryWithErrorDisplay(_("The synthetic case could not be made."), waitCursor=True):
            self._select(sampledata.load())

    def onTumor(self, name: str) -> None:
        """Load a public case through Slicer's Sample Data and select it."""
        with slicer.util.tryWithErrorDisplay(_("The sample could not be loaded."), waitCursor=True):
            self._select(sampledata.loadPublic(name))

    def _select(self, node) -> None:
        with slicer.util.NodeModify(self.parameters.parameterNode):
            self.parameters.inputVolume = node
            self.parameters.brainMask = None
            self.parameters.result = None

    def onHealth(self) -> None:
        """Show the health report."""
        self.ui.healthText.plainText = health.report(setting("Python"), setting("WeightsFolder"))
        self.ui.healthText.visible = True

    def onInstall(self) -> bool:
        """Install what is missing after asking once; True when everything is there."""
        if self._installing:
            return False
        absent = install.missing()
        if absent and (reason := install.impossible()):
            self._say(reason, bad=True)
        elif absent and slicer.util.confirmOkCancelDisplay(install.explanation(absent), _("Install Python packages")):
            self._install()
        self.onHealth()
        return not install.missing()

    def onReinstall(self) -> None:
        """Install all packages of the engine once more, after asking."""
        question = _("The Python packages of this module will be downloaded and installed once more, torch among them (up to "
                     "several GB). What Slicer builds on is left alone. Go on?")  # fmt: skip
        if not self._installing and slicer.util.confirmOkCancelDisplay(question, _("Reinstall Python packages")):
            self._install(again=True)
            self.onHealth()

    def onDeleteModels(self) -> None:
        """Delete the downloaded models, after saying which files these are."""
        from ZSADCLIPLib.backbones.weights import downloaded, remove_downloaded

        folder = setting("WeightsFolder") or None
        files = downloaded(folder)
        if not files:
            self._say(_("No model was downloaded."))
            return
        names = "\n".join(f"{path} ({path.stat().st_size / 1e6:.0f} MB)" for path in files)
        question = _("Delete these files?\n\n{names}").format(names=names)
        if slicer.util.confirmOkCancelDisplay(question, _("Delete downloaded models")):
            with slicer.util.tryWithErrorDisplay(_("The models could not be deleted.")):
                self._say(_("{count} files were deleted.").format(count=len(remove_downloaded(folder))))
            self._foldersChanged()

    def _install(self, again: bool = False) -> None:
        """Run pip, which lets Slicer handle events: nothing else may start meanwhile."""
        self._installing, self.ui.installButton.enabled = True, False
        self._changed()
        self._say(_("Installing packages..."))
        try:
            install.install(setting("WheelsFolder"), again)
            self._say(_("The packages are installed."))
        except Exception as error:  # pip, the network, the PyTorch extension: all are for the user to read
            logging.exception("ZSADCLIP: the packages could not be installed")
            text = _("The packages could not be installed: {error}. See the health check under Advanced.")
            self._say(text.format(error=error), bad=True)
        finally:
            self._installing, self.ui.installButton.enabled = False, True
            self._changed()
