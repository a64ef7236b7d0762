"""CLIP Anomaly Detection (ZSADCLIP): find anomalies in medical volumes with CLIP. Research use only."""

import logging
import os
import sys

import slicer
import vtk
from slicer.i18n import tr as _
from slicer.i18n import translate
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleTest,
    ScriptedLoadableModuleWidget,
)
from slicer.util import VTKObservationMixin

# Installed, the engine lies beside this file; in the source tree one folder up. Decided by place, not by trying an import,
# so that a source tree never runs with the engine of an installed extension.
_here = os.path.dirname(os.path.abspath(__file__))
for _folder in (_here, os.path.dirname(_here)):
    if os.path.isfile(os.path.join(_folder, "ZSADCLIPLib", "__init__.py")):
        if _folder not in sys.path:
            sys.path.insert(0, _folder)
        break

from ZSADCLIPSlicer import selftest  # noqa: E402
from ZSADCLIPSlicer.engine.run import EngineRun  # noqa: E402
from ZSADCLIPSlicer.engine.settings import RunSettings, settingsOf  # noqa: E402
from ZSADCLIPSlicer.panels import keys, menus  # noqa: E402
from ZSADCLIPSlicer.panels.brain import BrainPanel  # noqa: E402
from ZSADCLIPSlicer.panels.cases import CasesPanel  # noqa: E402
from ZSADCLIPSlicer.panels.compare import ComparePanel  # noqa: E402
from ZSADCLIPSlicer.panels.engine import EnginePanel  # noqa: E402
from ZSADCLIPSlicer.panels.inputs import InputsPanel  # noqa: E402
from ZSADCLIPSlicer.panels.keys import Keys  # noqa: E402
from ZSADCLIPSlicer.panels.model import ModelPanel  # noqa: E402
from ZSADCLIPSlicer.panels.parameters import ZSADCLIPParameterNode  # noqa: E402
from ZSADCLIPSlicer.panels.preferences import setting  # noqa: E402
from ZSADCLIPSlicer.panels.result import ResultPanel  # noqa: E402
from ZSADCLIPSlicer.panels.run import RunPanel  # noqa: E402
from ZSADCLIPSlicer.scene import nodes, sampledata  # noqa: E402
from ZSADCLIPSlicer.scene.results import ResultNodes, inputVolumes, resultsOf  # noqa: E402


class ZSADCLIP(ScriptedLoadableModule):
    """The module as Slicer's menus know it."""

    def __init__(self, parent):
        ScriptedLoadableModule.__init__(self, parent)
        parent.title = _("CLIP Anomaly Detection (ZSADCLIP)")
        parent.categories = [translate("qSlicerAbstractCoreModule", "Segmentation")]
        parent.dependencies = ["Segmentations"]
        parent.contributors = ["The ZSADCLIP developers"]
        parent.helpText = _(
            "Finds anomalies in MR and other volumes by comparing image and text features of CLIP models (VAND, AnomalyCLIP, "
            "AdaCLIP, AnoVL, WinCLIP, MediCLIP, MVFA-AD, MadCLIP). Choose a volume, press Apply, inspect the findings. Research "
            "use only, not for diagnosis."
        )
        parent.acknowledgementText = _(
            "After: Marzullo and Ranzini, Exploring Zero-Shot Anomaly Detection with CLIP in Medical Imaging, 2024."
        )
        slicer.app.connect("startupCompleted()", self.started)

    def started(self):
        """Offer the synthetic case in the Sample Data module; results leave the scene whole, also with the panel closed."""
        sampledata.register(self.resourcePath("Icons"))
        nodes.watch()


class ZSADCLIPWidget(ScriptedLoadableModuleWidget, VTKObservationMixin):
    """The panel: four parts that share one parameter node."""

    def __init__(self, parent=None):
        ScriptedLoadableModuleWidget.__init__(self, parent)
        VTKObservationMixin.__init__(self)
        self.logic = None
        self._parameters = None
        self._guiTag = None
        self._observedInput = None

    def setup(self):
        """Build the panel; called once when the module is first opened."""
        ScriptedLoadableModuleWidget.setup(self)
        panel = slicer.util.loadUI(self.resourcePath("UI/ZSADCLIP.ui"))
        self.layout.addWidget(panel)
        self.ui = slicer.util.childWidgetVariables(panel)
        panel.setMRMLScene(slicer.mrmlScene)
        for selector in (self.ui.resultSelector, self.ui.compareSelector):
            selector.addAttribute("vtkMRMLScalarVolumeNode", "ZSADCLIP.Result", "1")
        self.logic = ZSADCLIPLogic()
        self.run = RunPanel(self.ui, self.beginRun, self.onFinished)
        self.models = ModelPanel(self.ui, self.updateApply, self.run.say)
        self.brain = BrainPanel(self.ui, self.unready, self.run.say)
        self.cases = CasesPanel(
            self.ui,
            lambda node: self.run.start(volume=node),
            lambda: self.models.reason() or ("" if self.engine.remote else self.unready()),
            self.choose,
            self.run.say,
        )
        self.inputs = InputsPanel(self.ui, self.updateApply, self.models.refresh, self.run.say)
        self.engine = EnginePanel(self.ui, self.updateApply)
        self.results = ResultPanel(self.ui)
        self.compare = ComparePanel(self.ui, self.results)
        self.keys = Keys(self._actions())
        self.ui.keysLabel.text = keys.helpText()
        nodes.watch()
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.StartCloseEvent, self.onSceneStartClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndCloseEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.EndImportEvent, self.onSceneEndClose)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeAddedEvent, self.inputs.onNodeAdded)
        self.addObserver(slicer.mrmlScene, slicer.mrmlScene.NodeRemovedEvent, self.onNodeRemoved)
        for event in (
            slicer.mrmlScene.NodeAddedEvent,
            slicer.mrmlScene.NodeRemovedEvent,
            slicer.mrmlScene.EndCloseEvent,
        ):
            self.addObserver(slicer.mrmlScene, event, self.cases.later)
        self.initializeParameterNode()

    def cleanup(self):
        """The module is reloaded or the application ends: nothing may go on."""
        self.cases.forget()
        self.run.abort()
        self.keys.exit()
        self.brain.abort()
        self.inputs.cleanup()
        self.models.cleanup()
        self.compare.cleanup()
        self.results.cleanup()
        self.setParameterNode(None)
        self.removeObservers()

    def enter(self):
        """The module is shown, perhaps after an edit in another one."""
        self.results.entered = True
        self.keys.enter(slicer.util.mainWindow() or self.parent)
        self.initializeParameterNode()
        self.results.update()

    def exit(self):
        """Another module is shown: the run goes on, the widgets are let go and the views left to that module."""
        self.results.entered = False
        self.keys.exit()
        self.disconnectGui()
        self.observeInput(None)

    def _actions(self):
        """What each key does."""
        results, ui = self.results, self.ui
        return {
            "next": lambda: results.findings.step(1),
            "previous": lambda: results.findings.step(-1),
            "accept": lambda: results.findings.judge(True),
            "reject": lambda: results.findings.judge(False),
            "hide": lambda: ui.overlayCheckBox.click(),
            "undo": lambda: results.step(-1),
            "redo": lambda: results.step(1),
            "swap": self.compare.swap,
            "nextCase": lambda: self.cases.step(1),
            "previousCase": lambda: self.cases.step(-1),
        }

    def onSceneStartClose(self, caller, event):
        self.cases.forget()
        self.run.abort()
        self.run.forget()
        self.brain.abort()
        self.results.setResult(None)
        self.setParameterNode(None)

    def onSceneEndClose(self, caller, event):
        if getattr(self.parent, "isEntered", True):
            self.initializeParameterNode()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def onNodeRemoved(self, caller, event, node):
        if self.run.uses(node):
            self.run.abort()
            self.updateApply()
        self.compare.onNodeRemoved(node)
        result = self.results.result
        if result is not None and (node is result.map or not result.complete):
            self.results.setResult(None)

    def initializeParameterNode(self):
        """Read the parameter node of the scene; choose the first volume when none is chosen."""
        self.setParameterNode(self.logic.getParameterNode())
        if self._parameters.inputVolume is None:
            self._parameters.inputVolume = next(iter(inputVolumes()), None)

    def setParameterNode(self, parameters):
        self.disconnectGui()
        self._parameters = parameters
        if parameters is not None:
            # Not connectGui, which before Slicer 5.10 returns no tag to disconnect by.
            self._guiTag = parameters.connectParametersToGui(self._widgetsOfParameters())
            menus.translate(self.ui)  # connecting filled the menus with the keys
            self.addObserver(parameters.parameterNode, vtk.vtkCommand.ModifiedEvent, self.onParametersChanged)
        self.onParametersChanged()

    def disconnectGui(self):
        if self._parameters is None:
            return
        node, tag, self._guiTag = self._parameters.parameterNode, self._guiTag, None
        if tag is not None:
            self._parameters.disconnectGui(tag)
        if self.hasObserver(node, vtk.vtkCommand.ModifiedEvent, self.onParametersChanged):
            self.removeObserver(node, vtk.vtkCommand.ModifiedEvent, self.onParametersChanged)

    def _widgetsOfParameters(self):
        """{parameter: widget}, from the widgets' property SlicerParameterName."""
        named = {widget.property("SlicerParameterName"): widget for widget in vars(self.ui).values()}
        return {name: widget for name, widget in named.items() if name}

    def onParametersChanged(self, caller=None, event=None):
        """Anything in the parameter node changed: all parts look again."""
        if caller is not None and slicer.mrmlScene.IsImporting():
            return  # nodes may lack their voxels yet; the end of the import looks again
        self.observeInput(self._parameters.inputVolume if self._parameters else None)
        self.inputs.show(self._parameters)
        self.brain.show(self._parameters)
        self.models.show(self._parameters)
        self.results.show(self._parameters)
        self.compare.show(self._parameters)
        self.updateApply()

    def observeInput(self, node):
        """Follow the chosen volume: its voxels may come after it was chosen, and change with a sequence."""
        if node is self._observedInput:
            return
        event = slicer.vtkMRMLVolumeNode.ImageDataModifiedEvent
        if self._observedInput is not None:
            self.removeObserver(self._observedInput, event, self.onImageChanged)
        if node is not None:
            self.addObserver(node, event, self.onImageChanged)
        self._observedInput = node

    def onImageChanged(self, caller=None, event=None):
        """Other voxels in the chosen volume: the notes on it and whether a run can start; the views are none of it."""
        self.inputs.showNotes()
        self.updateApply()

    def updateApply(self):
        """Apply is enabled when a run can start; its tooltip says why it cannot."""
        if self.run.running or self._parameters is None:
            return
        reason = self.inputs.reason() or (
            self.engine.reason(self._parameters) if self.engine.remote else self.models.reason()
        )
        self.ui.applyButton.enabled = not reason
        self.ui.applyButton.toolTip = reason or _("Run the detection in the background.")

    def unready(self):
        """Offer to install the engine's packages where they are missing; why nothing can run here without them, or empty."""
        if setting("Python") or self.logic.ready() or self.inputs.onInstall():
            return ""
        return _("The engine's Python packages are not installed.")

    def choose(self, volume, mapNode):
        """Look at a case: a volume and its map, or None."""
        with slicer.util.NodeModify(self._parameters.parameterNode):
            if volume is not self._parameters.inputVolume:
                self._parameters.brainMask = None  # that of another image
            self._parameters.inputVolume, self._parameters.result = volume, mapNode

    def beginRun(self, settings=None, volume=None):
        """Start a run with the settings of the panel, or given ones, and its volume, or another one; None when the packages
        are not there."""
        p, remote = self._parameters, self.engine.remote
        if not self.engine.agreed() if remote else self.unready():
            return None
        into = self.results.result if volume is None else next(iter(resultsOf(volume)), None)
        volume = volume or p.inputVolume
        if into is not None and into.input is not volume:
            into = None
        mine = volume is p.inputVolume  # a mask is that of one image
        return self.logic.start(
            volume,
            settings or self.logic.settings(p, setting("WeightsFolder")),
            brainMask=p.brainMask if mine else None,
            brainSegment=p.brainSegment if mine else "",
            into=into,
            colors=p.colors,
            python="" if remote else setting("Python"),
            remote=remote,
        )

    def onFinished(self, result):
        """A run ended; `result` is None unless it landed in the scene."""
        p = self._parameters
        if result is not None and p is not None and (result.input is p.inputVolume or not self.cases.running):
            p.result = result.map
            self.results.setResult(result)
        elif result is not None:
            result.segmentation.GetDisplayNode().SetVisibility(False)  # outlines of two volumes could not be told apart
        self.updateApply()
        self.cases.landed(self.run.detection)

    def onReload(self):
        """Reload also the helpers and the engine, which Slicer's reload would leave as they were."""
        for name in [n for n in sys.modules if n.split(".")[0] in ("ZSADCLIPLib", "ZSADCLIPSlicer")]:
            del sys.modules[name]
        ScriptedLoadableModuleWidget.onReload(self)


class ZSADCLIPLogic(ScriptedLoadableModuleLogic):
    """Detection without a panel, for the Python console and scripts."""

    def getParameterNode(self):
        return ZSADCLIPParameterNode(super().getParameterNode())

    def ready(self):
        """True when the engine's Python packages are installed."""
        from ZSADCLIPSlicer.engine import install

        return not install.missing()

    def settings(self, parameters, weightsFolder=""):
        """The settings of a run from a parameter node."""
        return settingsOf(parameters, weightsFolder)

    def start(self, inputVolume, settings, **options):
        """Start a run in the background; returns an `EngineRun` whose `poll()` must be called until `done`.

        `options` are those of `EngineRun`: brainMask, brainSegment, into, colors, python, command, remote.
        """
        detection = EngineRun(inputVolume, settings, **options)
        detection.start()
        logging.info("ZSADCLIP: %s with %s on '%s'", settings.method, settings.backbone, inputVolume.GetName())
        return detection

    def process(self, inputVolume, brainMask=None, brainSegment="", result=None, wait=True, progress=None, command=None,
                **settings):  # fmt: skip
        """Detect anomalies in a scalar volume node.

        `settings` are the fields of ZSADCLIPSlicer.engine.settings.RunSettings (method, threshold, ...). With `wait` the
        call returns `ResultNodes` (`.map`, `.segmentation`, `.findings`, `.volumeScore`, `.setThreshold(x)`), else a running
        `EngineRun`. Give an earlier `result` to update its nodes. Raises ZSADCLIPError with what to do, and Cancelled when
        `progress(fraction, text)` raised it.
        """
        detection = self.start(
            inputVolume,
            RunSettings(**settings),
            brainMask=brainMask,
            brainSegment=brainSegment,
            into=result,
            command=command,
        )
        if not wait:
            return detection
        result = detection.wait(progress or (lambda fraction, text: None))
        logging.info("ZSADCLIP: score %.3g in %s s", result.volumeScore, result.attribute("Seconds"))
        return result

    def results(self, inputVolume):
        """All results in the scene that were made from a volume."""
        return resultsOf(inputVolume)

    def result(self, mapNode):
        """The result behind an anomaly map node."""
        return ResultNodes(mapNode)


class ZSADCLIPTest(ScriptedLoadableModuleTest):
    """Runs offline in seconds, in Slicer and in the project's own tests."""

    def runTest(self):
        self.test_ready_scores()
        if ZSADCLIPLogic().ready():
            self.test_synthetic_case()

    def test_ready_scores(self):
        """Everything that happens to a result in the scene, with scores that need no model."""
        selftest.ready(self)

    def test_synthetic_case(self):
        """The embedded model finds the lesion of a synthetic case, and the threshold moves the segmentation."""
        if not ZSADCLIPLogic().ready():
            self.skipTest(_("The engine's Python packages are not installed."))
        selftest.run(self, ZSADCLIPLogic())
