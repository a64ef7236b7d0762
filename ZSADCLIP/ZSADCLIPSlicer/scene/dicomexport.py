"""A result as DICOM objects in Slicer's database, beside the series that its input was loaded from."""

from __future__ import annotations

import hashlib
import importlib.util
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
import slicer
from slicer.i18n import tr as _

from . import findingstable, segmentation

UIDS = "DICOM.instanceUIDs"


def hindrance(result, database) -> str:
    """Why our objects cannot be made of a result, with the way that is left; empty where they can."""
    other = _("In the Data module, right-click the segmentation and choose Export to DICOM.")
    if importlib.util.find_spec("highdicom") is None:
        return _("This needs highdicom, which Slicer has from 5.12 on. Slicer's own export goes without: {other}").format(
            other=other)  # fmt: skip
    uids = (result.input.GetAttribute(UIDS) or "").split()
    if not uids or database is None:
        return _("The volume was not loaded from DICOM: there is no series that results could refer to.")
    if not all(database.fileForInstance(uid) for uid in uids):
        return _("The series of the volume is not in the DICOM database any more. Import it again, or: {other}").format(
            other=other)  # fmt: skip
    return ""


def export(result, database, insert) -> str:
    """Make the objects of the accepted findings and give their folder to `insert`; what was done, as a sentence.

    Raises ZSADCLIPError where the headers will not do, or the volume does not lie where they say.
    """
    from ZSADCLIPLib.dicom.export import export as write
    from ZSADCLIPLib.errors import InputError

    files = [Path(database.fileForInstance(uid)) for uid in result.input.GetAttribute(UIDS).split()]
    sources = _sources(list(dict.fromkeys(files)))
    try:
        outcome = _outcome(result, sources)
        with tempfile.TemporaryDirectory() as folder:
            made = write(Path(folder, "dicom", "result"), sources, outcome, "results")
            insert(str(made[0].parent))
    except OSError as error:
        raise InputError(_("the objects could not be written: {error}").format(error=error.strerror)) from error
    said = _("{count} findings are in the DICOM database, in the study of the volume.").format(
        count=len(outcome.findings)
    )
    if segmentation.edited(result.segmentation, result.input):
        said += " " + _("Edits of the segment are not among them.")
    return said


def _sources(files: list[Path]):
    """The headers of the one volume in files; raises InputError."""
    from ZSADCLIPLib.dicom.sources import sources_of
    from ZSADCLIPLib.errors import InputError
    from ZSADCLIPLib.volumes.dicom_groups import groups_of
    from ZSADCLIPLib.volumes.dicom_headers import frames_of

    frames = [frame for file in files for frame in frames_of(file)[0]]
    groups = groups_of(frames, lambda frame: frame.instance.encode())
    if len(groups) != 1:
        raise InputError(_("the series in the database holds {count} volumes; expected the one that was loaded").format(
            count=len(groups)))  # fmt: skip
    return sources_of(Path(_("the series in the database")), groups[0])


def _outcome(result, sources):
    """What the result has to say, its slices in the order of the sources."""
    from ZSADCLIPLib.dicom.outcome import Outcome

    labels, findings = result.parts()
    accepted = {row["Label"] for row in findingstable.rowsOf(result.findings) if row["Accepted"]}
    volume, display = result.volume, result.display
    array, affine = volume.array.astype(np.float32), volume.affine
    if affine[:3, 2] @ sources.affine[:3, 2] < 0:  # Slicer may stack slices the other way round
        array, labels = array[:, :, ::-1], labels[:, :, ::-1]
        affine = affine @ np.array([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, labels.shape[2] - 1], [0, 0, 0, 1.0]])
    settings = f"{result.attribute('Settings')}{result.threshold!r}{result.minimumSize!r}{result.minimumDepth!r}"
    return Outcome(
        map=np.ascontiguousarray(array),
        labels=np.ascontiguousarray(labels),
        findings=[asdict(finding) for finding in findings if finding.label in accepted],
        affine=affine,
        algorithm=f"ZSADCLIP {result.attribute('Method')}",
        region=result.region,
        key=hashlib.sha256(settings.encode()).hexdigest()[:16],
        display=display,
    )


def insert(folder: str) -> None:
    """Copy the objects of a folder into Slicer's DICOM database."""
    from DICOMLib import DICOMUtils

    DICOMUtils.importDicom(folder, slicer.dicomDatabase, copyFiles=True)
