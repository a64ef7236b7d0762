"""The lower part of the panel: overlay, threshold, findings."""

from __future__ import annotations

import qt
import slicer
from slicer.i18n import tr as _

from . import display, findingstable, profile, segmentation
from .geometry import worldOf
from .results import Result, isResult

SETTLE_MILLISECONDS = 250  # after the last move of the slider, findings and profile are computed again
RANK_ROLE = 256  # Qt.UserRole, which has other spellings in Qt 5 and 6


class ResultPanel:
    """Shows one result and lets the user work with it; `result` is None when there is none."""

    def __init__(self, ui):
        self.ui = ui
        self.parameters = None
        self.result: Result | None = None
        self._updating = False
        self._items: list = []  # Qt takes over table items, but Python must not drop them first
        self._layoutBefore = None
        self._overlayOn = False
        self._settle = qt.QTimer()
        self._settle.setInterval(SETTLE_MILLISECONDS)
        self._settle.setSingleShot(True)
        self._settle.connect("timeout()", self.settle)
        ui.thresholdSlider.connect("valueChanged(double)", self.onThreshold)
        ui.replaceEditsButton.connect("clicked()", self.onReplaceEdits)
        ui.findingsTable.connect("cellClicked(int,int)", self.onFindingClicked)
        ui.findingsTable.connect("itemChanged(QTableWidgetItem*)", self.onItemChanged)
        ui.exportButton.connect("clicked()", self.onExport)
        ui.profileButton.connect("toggled(bool)", self.onProfile)
        self._fillHeader()
        self.update()

    def _fillHeader(self) -> None:
        titles = (_("Keep"), _("#"), _("mm3"), _("Peak"), _("Mean"), _("Slices"), _("Side"), _("Centre RAS"))
        tips = (_("Untick to reject"), _("Rank"), _("Volume"), _("Highest score"), _("Mean score"),
                _("First and last slice, counted from 0"), _("Side of the patient"), _("Centroid in mm"))  # fmt: skip
        table = self.ui.findingsTable
        table.setColumnCount(len(titles))
        for column, (title, tip) in enumerate(zip(titles, tips, strict=True)):
            item = qt.QTableWidgetItem(title)
            item.setToolTip(tip)
            table.setHorizontalHeaderItem(column, item)
            self._items.append(item)
        self._headers = list(self._items)
        table.verticalHeader().setVisible(False)

    def show(self, parameters) -> None:
        """Follow the parameter node: another result, another display option."""
        self.parameters = parameters
        node = parameters.result if parameters else None
        node = node if isResult(node) and Result(node).complete else None
        if (self.result.map if self.result else None) is not node:
            self.setResult(Result(node) if node else None)
        elif self.result is not None:
            self._applyOptions()

    def setResult(self, result: Result | None) -> None:
        """Look at a result."""
        self._settle.stop()
        self.result = result
        if result is not None:
            low, high = result.range
            slider, self._updating = self.ui.thresholdSlider, True
            slider.decimals = 4
            slider.minimum, slider.maximum = low, high
            slider.singleStep = (high - low) / 500
            slider.value = result.threshold
            self.parameters.minimumSize = result.minimumSize
            self._updating = False
            self._applyOptions()
        self.update()

    def _applyOptions(self) -> None:
        """Colours, overlay, legend, surface and smallest size as the parameter node says."""
        result, p = self.result, self.parameters
        if self._updating:
            return
        display.setColors(result.map, p.colors)
        if p.overlay:
            display.showOverlay(result.map, result.input, p.opacity)
        elif self._overlayOn:
            display.hideOverlay()
            display.clearHighlight()
        self._overlayOn = p.overlay
        display.setLegend(result.map, p.legend and p.overlay)  # after the overlay: only shown volumes have a legend
        if p.surface != segmentation.shown3D(result.segmentation):
            segmentation.show3D(result.segmentation, p.surface)
        if abs(p.minimumSize - result.minimumSize) > 1e-6:
            result.setThreshold(result.threshold, p.minimumSize)
            self.update()

    def onThreshold(self, value: float) -> None:
        """The slider moves: overlay and segmentation follow at once, findings when it rests."""
        if self.result is not None and not self._updating:
            self.result.dragThreshold(value)
            self._settle.start()

    def settle(self) -> None:
        """The slider rests: small and rejected parts go, findings and profile are computed."""
        if self.result is not None and self.result.complete:
            self.result.refresh()
            self.update()

    def update(self) -> None:
        """Fill the widgets from the result."""
        result = self.result
        for name in ("displaySection", "findingsSection"):
            getattr(self.ui, name).enabled = result is not None
        edited = result is not None and segmentation.edited(result.segmentation, result.input)
        self.ui.editedLabel.visible = self.ui.replaceEditsButton.visible = edited
        rows = findingstable.rowsOf(result.findings) if result else []
        self._fillTable(rows)
        accepted = [row for row in rows if row["Accepted"]]
        self.ui.summaryLabel.text = "" if result is None else _(
            "{count} findings, {volume:.1f} ml. Score of the volume: {score:.3g}.").format(
            count=len(accepted), volume=sum(row["Volume"] for row in accepted) / 1000,
            score=result.volumeScore)  # fmt: skip

    def _fillTable(self, rows: list[dict]) -> None:
        table, self._updating = self.ui.findingsTable, True
        table.setSortingEnabled(False)
        table.setRowCount(len(rows))
        self._items = list(self._headers)
        for index, row in enumerate(rows):
            centre = " ".join(f"{row[axis]:.0f}" for axis in "RAS")
            cells = (None, row["Rank"], round(row["Volume"], 1), round(row["Peak"], 3), round(row["Mean"], 3),
                     f"{row['First slice']}-{row['Last slice']}", _side(row["Side"]), centre)  # fmt: skip
            for column, value in enumerate(cells):
                item = qt.QTableWidgetItem()
                if value is None:
                    item.setFlags(item.flags() | qt.Qt.ItemIsUserCheckable)
                    item.setCheckState(qt.Qt.Checked if row["Accepted"] else qt.Qt.Unchecked)
                else:
                    item.setData(qt.Qt.DisplayRole, value)
                item.setData(RANK_ROLE, row["Rank"])
                table.setItem(index, column, item)
                self._items.append(item)
        table.setSortingEnabled(True)
        table.resizeColumnsToContents()
        self._updating = False

    def onFindingClicked(self, row: int, column: int) -> None:
        """Jump to a finding and mark it."""
        rank = int(self.ui.findingsTable.item(row, 1).data(RANK_ROLE))
        self.goTo(rank)

    def goTo(self, rank: int) -> None:
        """Bring all slice views to the peak of a finding and mark it."""
        row = next(r for r in findingstable.rowsOf(self.result.findings) if r["Rank"] == rank)
        world = worldOf(self.result.map, (row["Peak I"], row["Peak J"], row["Peak K"]))
        display.jump(world)
        display.highlight(world, f"#{rank}")

    def onItemChanged(self, item) -> None:
        """A finding was ticked or unticked."""
        if self._updating or self.result is None or item.column() != 0:
            return
        self.result.accept(int(item.data(RANK_ROLE)), item.checkState() == qt.Qt.Checked)
        self.update()

    def onReplaceEdits(self) -> None:
        """The user gives up the edits of the segment."""
        self.result.refresh(overwriteEdits=True)
        self.update()

    def onExport(self) -> None:
        """Ask for a file name and write the findings."""
        path = qt.QFileDialog.getSaveFileName(
            slicer.util.mainWindow(), _("Export findings"), self.result.input.GetName() + "-findings.csv", "CSV (*.csv)"
        )
        if path:
            with slicer.util.tryWithErrorDisplay(_("The findings could not be written.")):
                findingstable.export(self.result.findings, path)

    def onProfile(self, shown: bool) -> None:
        """Show the profile in the layout, or give the former layout back."""
        manager = slicer.app.layoutManager()
        if manager is None:
            return
        if not shown:
            if self._layoutBefore is not None:
                manager.setLayout(self._layoutBefore)
            return
        self._layoutBefore = manager.layout
        slicer.modules.plots.logic().ShowChartInLayout(self.result.chart)
        for index in range(manager.plotViewCount):
            view = manager.plotWidget(index).plotView()
            view.disconnect("dataSelected(vtkStringArray*, vtkCollection*)", self.onProfileSelected)
            view.connect("dataSelected(vtkStringArray*, vtkCollection*)", self.onProfileSelected)

    def onProfileSelected(self, seriesIDs, selection) -> None:
        """Jump to the slice of a point that was clicked in the plot."""
        for index in range(selection.GetNumberOfItems()):
            points = selection.GetItemAsObject(index)
            if self.result is not None and points.GetNumberOfValues():
                display.jump(profile.worldOfSlice(self.result, int(points.GetValue(0))))
                return

    def cleanup(self) -> None:
        """Stop the timer and give the user's view back."""
        self._settle.stop()
        if self.result is not None:
            display.hideOverlay()


def _side(side: str) -> str:
    return {"left": _("left"), "right": _("right"), "midline": _("midline")}.get(side, side)
