"""What leaves the panel: for a file, for the DICOM database, for Segment Editor."""

from __future__ import annotations

import qt
import slicer
from slicer.i18n import tr as _

from ..scene import dicomexport, findingstable, montage, reviewfile, segmentation
from .preferences import setSetting, setting

REVIEWS = "JSON (*.json)"


class ExportsPanel:
    """The buttons that write a result; `current()` gives the one on display, `judged()` is called after other verdicts."""

    def __init__(self, ui, current, judged):
        self.ui, self._current, self._judged = ui, current, judged
        ui.exportButton.connect("clicked()", self.onExport)
        ui.dicomButton.connect("clicked()", self.onDicom)
        ui.pictureButton.connect("clicked()", self.onPicture)
        ui.saveReviewButton.connect("clicked()", self.onSaveReview)
        ui.openReviewButton.connect("clicked()", self.onOpenReview)
        ui.editorButton.connect("clicked()", self.onEditor)
        ui.readerEdit.text = setting("Reader")
        ui.readerEdit.connect("textChanged(QString)", lambda text: setSetting("Reader", str(text)))

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

    def onPicture(self) -> None:
        """Ask for a file name and write a picture of all accepted findings."""
        name = self._current().input.GetName() + "-findings.png"
        path = qt.QFileDialog.getSaveFileName(
            slicer.util.mainWindow(), _("Picture of the findings"), name, "PNG (*.png)"
        )
        if path:
            with slicer.util.tryWithErrorDisplay(_("The picture could not be made."), waitCursor=True):
                montage.write(self._current(), path)

    def onSaveReview(self) -> None:
        """Ask for a file name and write the verdicts as a review file."""
        name = reviewfile.idOf(self._current()) + "_review.json"
        path = qt.QFileDialog.getSaveFileName(slicer.util.mainWindow(), _("Save review file"), name, REVIEWS)
        if path:
            with slicer.util.tryWithErrorDisplay(_("The review file could not be written.")):
                reviewfile.write(self._current(), path, self.ui.readerEdit.text)

    def onOpenReview(self) -> None:
        """Ask for a review file and take its verdicts."""
        path = qt.QFileDialog.getOpenFileName(slicer.util.mainWindow(), _("Open review file"), "", REVIEWS)
        if path:
            with slicer.util.tryWithErrorDisplay(_("The review file could not be taken.")):
                reader = reviewfile.read(self._current(), path)
                self._judged()
                slicer.util.infoDisplay(_("The verdicts of {reader} are in the table; undo takes them back.").format(
                    reader=reader))  # fmt: skip

    def onDicom(self) -> None:
        """Put the result into the DICOM database, or say why that cannot be."""
        database = getattr(slicer, "dicomDatabase", None)
        if why := dicomexport.hindrance(self._current(), database):
            slicer.util.infoDisplay(why)
            return
        with slicer.util.tryWithErrorDisplay(_("The DICOM objects could not be made."), waitCursor=True):
            said = dicomexport.export(self._current(), database, dicomexport.insert)
            slicer.util.infoDisplay(said + " " + _("They carry the identity of their source."))

    def onEditor(self) -> None:
        """Open the segmentation in Segment Editor, over the image it was made from."""
        slicer.util.selectModule("SegmentEditor")
        editor = slicer.modules.segmenteditor.widgetRepresentation().self().editor
        editor.setSegmentationNode(self._current().segmentation)
        editor.setSourceVolumeNode(self._current().input)
        editor.setCurrentSegmentID(segmentation.SEGMENT)
