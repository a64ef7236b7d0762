"""The group Several volumes: many volumes one after another in the background, and a table to step through them."""

from __future__ import annotations

from pathlib import Path

import qt
import slicer
from slicer.i18n import tr as _

from ZSADCLIPLib.errors import ZSADCLIPError

from ..scene import findingstable, geometry
from ..scene.results import inputVolumes, resultsOf

ID_ROLE = 256  # Qt.UserRole
NAME, STATE, SCORE, FOUND = range(4)  # columns
ENDINGS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")


class CasesPanel:
    """`run(node)` starts a run over a volume and tells whether it began; `reason()` says why none can; `choose(node, map)`
    looks at a case; `say(text, bad)` shows a status."""

    def __init__(self, ui, run, reason, choose, say):
        self.ui, self._run, self._reason, self._choose, self._say = ui, run, reason, choose, say
        self._waiting: list[str] = []  # ids of volumes
        self._now = ""
        self._done: set[str] = set()
        self._failed: dict[str, str] = {}
        self._updating, self._items, self._headers = False, [], []
        titles = (_("Volume"), _("State"), _("Score"), _("Findings"))
        ui.casesTable.setColumnCount(len(titles))
        for column, title in enumerate(titles):
            item = qt.QTableWidgetItem(title)
            ui.casesTable.setHorizontalHeaderItem(column, item)
            self._headers.append(item)
        ui.casesTable.verticalHeader().setVisible(False)
        self._stale = qt.QTimer()
        self._stale.setInterval(0)
        self._stale.setSingleShot(True)
        self._stale.connect("timeout()", self.update)
        ui.casesTable.connect("cellClicked(int,int)", lambda row, column: self._look(row))
        ui.addFolderButton.connect("clicked()", self.onFolder)
        ui.addFramesButton.connect("clicked()", self.onFrames)
        ui.runAllButton.connect("clicked()", self.onRun)

    @property
    def running(self) -> bool:
        return bool(self._now)

    def later(self, *_args) -> None:
        """Look again when the events are over."""
        self._stale.start()

    def update(self) -> None:
        """List the volumes of the scene, with what is known of each."""
        if self.running and slicer.mrmlScene.GetNodeByID(self._now) is None:
            self._next()  # the volume was deleted, and its run with it
            return
        table, ticked, chosen = self.ui.casesTable, self._ticked(), self._idAt(self.ui.casesTable.currentRow())
        known = {self._idAt(row) for row in range(table.rowCount)}
        volumes = inputVolumes()
        self._updating, self._items = True, []
        table.setRowCount(len(volumes))
        for row, node in enumerate(volumes):
            key = node.GetID()
            for column, text in enumerate((node.GetName(), *self._facts(node))):
                item = qt.QTableWidgetItem(text)
                item.setData(ID_ROLE, key)
                item.setToolTip(self._failed.get(key, text))
                if column == NAME:
                    item.setFlags(item.flags() | qt.Qt.ItemIsUserCheckable)
                    item.setCheckState(qt.Qt.Checked if key in ticked or key not in known else qt.Qt.Unchecked)
                table.setItem(row, column, item)
                self._items.append(item)
            if key == chosen:
                table.setCurrentCell(row, NAME)
        table.resizeColumnsToContents()
        table.setColumnWidth(NAME, min(table.columnWidth(NAME), 130))
        self._updating = False
        self.ui.runAllButton.enabled = bool(volumes) and not self.running
        self.ui.addFramesButton.visible = any(geometry.sequenceOf(node) is not None for node in volumes)

    def _facts(self, node) -> tuple[str, str, str]:
        """State, score and number of findings of a volume; those of its newest result."""
        key, result = node.GetID(), next((r for r in reversed(resultsOf(node)) if r.complete), None)
        score = found = ""
        if result is not None:
            rows = findingstable.rowsOf(result.findings)
            score = f"{result.volumeScore:.3g}"
            found = str(sum(row["Accepted"] for row in rows))
        if key == self._now:
            return _("running"), score, found
        if key in self._waiting:
            return _("waiting"), score, found
        if key in self._failed:
            return _("failed"), score, found
        return (_("done") if result is not None else ""), score, found

    def _idAt(self, row: int) -> str:
        item = self.ui.casesTable.item(row, NAME)
        return str(item.data(ID_ROLE)) if item is not None else ""

    def _ticked(self) -> set[str]:
        items = [self.ui.casesTable.item(row, NAME) for row in range(self.ui.casesTable.rowCount)]
        return {str(item.data(ID_ROLE)) for item in items if item and item.checkState() == qt.Qt.Checked}

    def onFolder(self) -> None:
        """Ask for a folder and load its volumes."""
        folder = qt.QFileDialog.getExistingDirectory(slicer.util.mainWindow(), _("Choose a folder of volumes"))
        if folder:
            self.load(Path(str(folder)))

    def load(self, folder: Path) -> None:
        """Load the volumes of a folder; those that cannot be are named."""
        files = sorted(path for path in folder.iterdir() if path.name.lower().endswith(ENDINGS))
        if not files:
            self._say(_("No volume in {folder}: {endings} are looked for. DICOM series are loaded by the DICOM module.").format(
                folder=folder.name, endings=" ".join(ENDINGS)), bad=True)  # fmt: skip
            return
        lost = []
        for path in files:
            try:
                slicer.util.loadVolume(str(path), {"show": False})
            except Exception:  # whatever a reader raises, the other files are loaded
                lost.append(path.name)
        text = _("{count} of {all} volumes were loaded.").format(count=len(files) - len(lost), all=len(files))
        self._say(text + (" " + _("Not: {names}.").format(names=", ".join(lost)) if lost else ""), bad=bool(lost))
        self.update()

    def onFrames(self) -> None:
        """Make a volume of each frame of the sequences in the scene, ticked in place of the one that shows a frame."""
        fed = [node for node in inputVolumes() if geometry.sequenceOf(node) is not None]
        made = sum(len(geometry.framesOf(node)) for node in fed)
        self.update()
        for node in fed:
            self._untick(node.GetID())
        self._say(_("{count} frames are volumes now.").format(count=made))

    def _untick(self, key: str) -> None:
        for row in range(self.ui.casesTable.rowCount):
            if self._idAt(row) == key:
                self.ui.casesTable.item(row, NAME).setCheckState(qt.Qt.Unchecked)

    def onRun(self) -> None:
        """Run all ticked volumes, one after another."""
        ticked = self._ticked()
        if reason := self._reason():
            self._say(reason, bad=True)
            return
        self._waiting = [node.GetID() for node in inputVolumes() if node.GetID() in ticked]
        self._done, self._failed = set(), {}
        self._next()

    def _next(self) -> None:
        self._now = ""
        while self._waiting and not self._now:
            node = slicer.mrmlScene.GetNodeByID(self._waiting.pop(0))
            if node is None:
                continue
            self._now = node.GetID()
            try:
                geometry.checkInput(node)
            except ZSADCLIPError as error:
                self._fail(str(error))
                continue
            if not self._run(node):
                self._fail(self.ui.statusLabel.text)
        self.update()
        if not self._now:
            self._sum()

    def _fail(self, reason: str) -> None:
        self._failed[self._now], self._now = reason, ""

    def landed(self, detection) -> None:
        """The run of a volume ended: the next one starts, unless the user cancelled; what is done stays."""
        if not self.running:
            self.later()
            return
        if detection.result is not None:
            self._done.add(self._now)
        elif detection.error is not None:
            self._fail(str(detection.error))
        elif detection.cancelled:
            self._waiting = []
        self._next()

    def _sum(self) -> None:
        """Say how many are done, and which failed and why."""
        names = {key: slicer.mrmlScene.GetNodeByID(key) for key in self._failed}
        parts = [_("{count} volumes are done.").format(count=len(self._done))]
        parts += [
            _("{name} failed: {reason}").format(name=node.GetName() if node else key, reason=self._failed[key])
            for key, node in names.items()
        ]
        self._say(" ".join(parts))

    def forget(self) -> None:
        """The scene closes."""
        self._waiting, self._now, self._failed, self._done = [], "", {}, set()

    def step(self, by: int) -> None:
        """Look at the next case of the table (`by` 1) or the one before (-1)."""
        count, row = self.ui.casesTable.rowCount, self.ui.casesTable.currentRow()
        if count:
            row = min(max(row + by, 0), count - 1)
            self.ui.casesTable.setCurrentCell(row, NAME)
            self._look(row)

    def _look(self, row: int) -> None:
        node = slicer.mrmlScene.GetNodeByID(self._idAt(row))
        if node is not None and not self._updating:
            found = [result for result in resultsOf(node) if result.complete]
            self._choose(node, found[-1].map if found else None)
