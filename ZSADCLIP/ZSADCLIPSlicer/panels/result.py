"""The lower part of the panel: overlay, threshold, and what belongs to the result on display."""

from __future__ import annotations

import json

import numpy as np
import qt
import slicer
from slicer.i18n import tr as _

from ZSADCLIPLib.neighbours import BANK

from ..engine.choices import seenAs
from ..scene import compare, display, findingstable, nodes, rendering, segmentation, segments
from ..scene.geometry import worldOf
from ..scene.history import History
from ..scene.results import ResultNodes, isResult
from .exports import ExportsPanel
from .findings import FindingsPanel
from .histogram import Histogram
from .plot import ProfilePanel

SETTLE_MILLISECONDS = 250  # after the last move of the slider, findings and profile are computed again


class ResultPanel:
    """Shows one result and lets the user work with it; `result` is None when there is none."""

    def __init__(self, ui):
        self.ui = ui
        self.parameters = None
        self.result: ResultNodes | None = None
        self.entered = True  # False while another module is shown, to which the views belong
        self.findings = FindingsPanel(ui, self.goTo, self.onAccept)
        self.plot = ProfilePanel(ui, lambda: self.result)
        self.exports = ExportsPanel(ui, lambda: self.result, self.judged)
        self.layer = None  # a volume that is shown in place of the map
        self.followers: list = []  # called after every change of the result
        self.history = History()
        self.histogram = Histogram(self._dragged)
        ui.histogramFrame.layout().addWidget(self.histogram)
        self._updating = False
        self._overlay = None  # what was last asked of the views: (map id, opacity), None without overlay
        self._settle = qt.QTimer()
        self._settle.setInterval(SETTLE_MILLISECONDS)
        self._settle.setSingleShot(True)
        self._settle.connect("timeout()", self.settle)
        self._observed: list = []  # (node, tag)
        self._stale = qt.QTimer()
        self._stale.setInterval(0)
        self._stale.setSingleShot(True)
        self._stale.connect("timeout()", self.onMapChanged)
        ui.thresholdSlider.connect("valueChanged(double)", self.onThreshold)
        ui.replaceEditsButton.connect("clicked()", self.onReplaceEdits)
        ui.deleteResultButton.connect("clicked()", self.onDelete)
        ui.undoButton.connect("clicked()", lambda: self.step(-1))
        ui.redoButton.connect("clicked()", lambda: self.step(1))
        self.update()

    def show(self, parameters) -> None:
        """Follow the parameter node: another result, another display option."""
        self.parameters = parameters
        node = parameters.result if parameters else None
        node = node if isResult(node) and ResultNodes(node).complete else None
        if (self.result.map if self.result else None) is not node:
            self.setResult(ResultNodes(node) if node else None)
        elif self.result is not None:
            self._applyOptions()

    def setResult(self, result: ResultNodes | None) -> None:
        """Look at a result; the views are given back when there is none."""
        self._settle.stop()
        self._stale.stop()
        self._observe(result)
        if self.result is not None and (result is None or result.map is not self.result.map):
            self._leave(self.result)
        self.result, self._overlay = result, None if result is not self.result else self._overlay
        if result is not None:
            if result.follow():  # its input was moved while another result was on display
                result.refresh()
            self.histogram.setScores(result.brainScores, *result.range)
            self._showThreshold()
            self._updating = True
            self.parameters.minimumSize = result.minimumSize
            self.parameters.minimumDepth = result.minimumDepth
            self._updating = False
            result.segmentation.GetDisplayNode().SetVisibility(True)
            self._applyOptions()
            self.history.note(result)
            self.plot.follow()
        else:
            self.ui.profileButton.checked = False
            display.hideOverlay()
        self.update()

    def _showThreshold(self) -> None:
        """Set the slider to the range and the threshold of the result."""
        (low, high), slider = self.result.range, self.ui.thresholdSlider
        self._updating = True
        slider.decimals = int(np.clip(3 - np.floor(np.log10(high - low)), 2, 8))  # scales of methods differ widely
        slider.minimum, slider.maximum = low, high
        slider.singleStep = (high - low) / 500
        slider.value = self.result.threshold
        self.histogram.setThreshold(self.result.threshold)
        self._updating = False

    def _observe(self, result: ResultNodes | None) -> None:
        """Follow the map, which a script may fill anew, and the input, which may be moved."""
        for node, tag in self._observed:
            node.RemoveObserver(tag)
        self._observed = []
        if result is not None:
            # Only when the events are over: a run sets voxels first and the rest after them.
            image, place = result.map.ImageDataModifiedEvent, result.input.TransformModifiedEvent
            self._observed.append((result.map, result.map.AddObserver(image, lambda *_: self._stale.start())))
            self._observed.append((result.input, result.input.AddObserver(place, self.onInputMoved)))

    def onMapChanged(self) -> None:
        """Other voxels in the map on display: range, threshold and findings are read again."""
        if self.result is not None and self.result.complete:
            self.setResult(ResultNodes(self.result.map))

    def onInputMoved(self, *_) -> None:
        """The input was moved: the result goes with it, findings are placed again when it rests."""
        if self.result is not None and self.result.complete:
            self.result.follow()
            self._settle.start()

    def _leave(self, result: ResultNodes) -> None:
        """Another result comes: two outlines or legends at once could not be told apart."""
        for node in (result.map, self.layer):
            if node is not None:
                display.setLegend(node, False)
        self.layer = None
        display.clearHighlight()
        for node in (result.segmentation, result.segments):
            if node is not None:
                node.GetDisplayNode().SetVisibility(False)

    def _applyOptions(self) -> None:
        """Colours, overlay, outline, legend, surface and smallest size as the parameter node says."""
        result, p = self.result, self.parameters
        if self._updating:
            return
        display.setColors(result.map, p.colors)
        layer = self.layer or result.map
        wanted = (layer.GetID(), p.opacity) if p.overlay else None
        if self.entered and wanted != self._overlay:  # else the views may belong to the user by now
            if wanted:
                display.showOverlay(layer, result.input, p.opacity)
            else:
                display.hideOverlay()
                display.clearHighlight()
            self._overlay = wanted
        if self.entered:  # after the overlay: only shown volumes have a legend
            display.setLegend(result.map, p.legend and p.overlay and layer is result.map)
            if layer is not result.map:
                display.setLegend(layer, p.legend and p.overlay, compare.titleOf(layer))
        self._applySegments()
        asked, kept = (p.minimumSize, p.minimumDepth), (result.minimumSize, result.minimumDepth)
        if max(abs(a - b) for a, b in zip(asked, kept, strict=True)) > 1e-6:
            result.setThreshold(result.threshold, *asked)
            self.update()

    def _applySegments(self) -> None:
        """Outlines and surface of the findings together, or one by one."""
        result, p = self.result, self.parameters
        if p.separate and result.segments is None:
            nodes.placeBeside(segments.create(result), result.input)
            result.refresh()
        elif not p.separate and result.segments is not None:
            segments.remove(result)
        if p.separate:
            segments.recolor(result)
            segments.showOnly(result, self.findings.chosen() if p.chosenOnly else None)
            result.segments.GetDisplayNode().SetVisibility(True)
            segmentation.showOutline(result.segments, p.outline)
        segmentation.showOutline(result.segmentation, p.outline and not p.separate)
        if p.rendering or rendering.shown(result):
            rendering.show(result, p.rendering)
        for node, shown in ((result.segmentation, p.surface and not p.separate), (result.segments, p.surface)):
            if node is not None and shown != segmentation.shown3D(node):
                segmentation.show3D(node, shown)

    def onThreshold(self, value: float) -> None:
        """The slider moves: overlay and segmentation follow at once, findings when it rests."""
        if self.result is not None and not self._updating:
            self.result.dragThreshold(value)
            self.histogram.setThreshold(value)
            self._settle.start()

    def _dragged(self, value: float) -> None:
        """The line of the histogram is dragged."""
        if self.result is not None:
            self.ui.thresholdSlider.value = value

    def setLayer(self, node) -> None:
        """Show another volume in place of the map, such as a difference; None for the map."""
        if node is not self.layer:
            if self.layer is not None:
                display.setLegend(self.layer, False)
            self.layer = node
        if self.result is not None:
            self._applyOptions()

    def settle(self) -> None:
        """The slider rests: small and rejected parts go, findings and profile are computed."""
        if self.result is not None and self.result.complete:
            self.result.refresh()
            self.history.note(self.result)
            self.update()

    def judged(self) -> None:
        """Threshold and verdicts were set by something else than this panel's widgets."""
        self.history.note(self.result)
        self._showThreshold()
        self.update()

    def step(self, by: int) -> None:
        """Take back the last threshold or verdict (`by` -1), or do it again (1)."""
        if self.result is None or not self.result.complete:
            return
        if self._settle.active:
            self._settle.stop()
            self.settle()
        if self.history.step(self.result, by):
            self.judged()

    def update(self) -> None:
        """Fill the widgets from the result."""
        for name in ("displaySection", "findingsSection"):
            getattr(self.ui, name).enabled = self.result is not None
        self.ui.deleteResultButton.enabled = self.result is not None
        rows = findingstable.rowsOf(self.result.findings) if self.result else []
        self.findings.fill(rows)
        if self.result is not None and rendering.shown(self.result):
            rendering.show(self.result, True)
        self._showTexts(rows)
        for follow in self.followers:
            follow()

    def _showTexts(self, rows: list[dict]) -> None:
        result = self.result
        for button, by in ((self.ui.undoButton, -1), (self.ui.redoButton, 1)):
            button.enabled = result is not None and self.history.can(result, by)
        edited = result is not None and (
            segmentation.edited(result.segmentation, result.input) or segments.edited(result)
        )
        self.ui.editedLabel.visible = self.ui.replaceEditsButton.visible = edited
        accepted = [row for row in rows if row["Accepted"]]
        self.ui.summaryLabel.text = "" if result is None else " ".join([
            _("Findings: {count} of {all}, {volume:.1f} ml.").format(
                count=len(accepted), all=len(rows), volume=sum(row["Volume"] for row in accepted) / 1000),
            result.note]).strip()  # fmt: skip
        self.ui.scoreLabel.text = "" if result is None else _(
            "Score of the volume: {score:.3g}, that of its most abnormal {part}. It ranks volumes; the threshold cuts voxels, of "
            "which {ml:.1f} ml reach it.").format(
            score=result.volumeScore, part=_("cells") if result.attribute("Method") == BANK else _("slice"),
            ml=result.reaching / 1000) + " " + seenAs(json.loads(result.attribute("Provenance", "{}")))  # fmt: skip

    def goTo(self, rank: int) -> None:
        """Bring all slice views to the peak of a finding and mark it."""
        row = next(r for r in findingstable.rowsOf(self.result.findings) if r["Rank"] == rank)
        world = worldOf(self.result.map, (row["Peak I"], row["Peak J"], row["Peak K"]))
        display.jump(world)
        display.highlight(world, f"#{rank}")
        if self.parameters.chosenOnly and self.result.segments is not None:
            segments.showOnly(self.result, rank)

    def onAccept(self, rank: int, accepted: bool) -> None:
        """A finding was ticked or unticked."""
        self.result.accept(rank, accepted)
        self.history.note(self.result)
        self._showTexts(findingstable.rowsOf(self.result.findings))

    def onReplaceEdits(self) -> None:
        """The user gives up the edits of the segment."""
        self.result.refresh(overwriteEdits=True)
        self.update()

    def onDelete(self) -> None:
        """Remove all nodes of the result on display; asks first when its segmentation was edited by hand."""
        result = self.result
        edited = segmentation.edited(result.segmentation, result.input)
        question = _("The segmentation of this result was edited by hand. Delete it all the same?")
        if not edited or slicer.util.confirmOkCancelDisplay(question, _("Delete result")):
            nodes.remove(result)

    def cleanup(self) -> None:
        """Stop what waits or observes and give the user's view back."""
        self._settle.stop()
        self._stale.stop()
        self._observe(None)
        self.plot.cleanup()
        if self.result is not None:
            display.hideOverlay()
