"""What leaves the scene for a file or for the DICOM database."""

from __future__ import annotations

import qt
import slicer
from slicer.i18n import tr as _

from ..scene import dicomexport, findingstable


class ExportsPanel:
    """The buttons that write a result; `current()` gives the one on display."""

    def __init__(self, ui, current):
        self._current = current
        ui.exportButton.connect("clicked()", self.onExport)
        ui.dicomButton.connect("clicked()", self.onDicom)

    def onExport(self) -> None:
        """Ask for a file name and write the findings."""
        path = qt.QFileDialog.getSaveFileName(
            slicer.util.mainWindow(),
            _("Export findings"),
            self._current().input.GetName() + "-findings.csv",
            "CSV (*.csv)",
        )
        if path:
            with slicer.util.tryWithErrorDisplay(_("The findings could not be written.")):
                findingstable.export(self._current().findings, path)

    def onDicom(self) -> None:
        """Put the result into the DICOM database, or say why that cannot be."""
        database = getattr(slicer, "dicomDatabase", None)
        if why := dicomexport.hindrance(self._current(), database):
            slicer.util.infoDisplay(why)
            return
        with slicer.util.tryWithErrorDisplay(_("The DICOM objects could not be made."), waitCursor=True):
            said = dicomexport.export(self._current(), database, dicomexport.insert)
            slicer.util.infoDisplay(said + " " + _("They carry the identity of their source."))
