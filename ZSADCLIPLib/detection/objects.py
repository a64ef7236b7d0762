"""DICOM objects beside the other results of a case: from which headers, and which files there are to be."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from ..dicom.export import FOLDER, SAID, export, folder_of, names_of, remove
from ..dicom.outcome import Outcome
from ..dicom.sources import Sources, check_library, read_sources
from ..errors import UsageError
from ..files.digests import seal
from ..files.names import split_suffix
from ..notes import Note
from ..progress import Report
from ..volume import Volume
from ..volumes.components import components
from ..volumes.reading import FORMATS
from .choice import Case
from .outputs import Results

PREFIX = "dicom/"


def is_dicom_case(case: Case) -> bool:
    """True where the image of a case is a DICOM folder, file or medium."""
    return case.image.is_dir() or split_suffix(case.image)[1] not in FORMATS


def sources_of(run, case: Case) -> tuple[Sources | None, tuple[Note, ...]]:
    """The headers for the objects of a case of a `case.CaseRun`, where some are wanted and can be, and what is to be said.

    Raises InputError before anything is scored where the headers do not do.
    """
    if not run.dicom:
        return None, ()
    if not is_dicom_case(case):
        return None, (Note("dicom", "no DICOM results: the image is no DICOM series"),)
    found = read_sources(case.image, run.series, run.keep_identifiers)
    return found, tuple(Note("dicom", f"DICOM results: {text}") for text in found.said)


def has_files(run, case: Case, files: Collection[str], wanted: Collection[str], findings: int) -> bool:
    """True where the files of a finished case are those `wanted`, and the objects that this run asks for; it may have others."""
    others = {name for name in files if not name.startswith(PREFIX)}
    asked = names_of(run.dicom, findings) if run.dicom and is_dicom_case(case) else ()
    return others == set(wanted) and {f"{PREFIX}{case.id}/{name}" for name in asked} <= set(files)


def clear(run, case: Case) -> None:
    """Remove the objects of an older result; raises OSError."""
    remove(folder_of(run.output, case.id))


def write_objects(run, case: Case, sources: Sources, detection, record: Mapping, settings: str) -> dict[str, dict]:
    """Write the objects of a detection whose JSON is `record`; what identifies each, by its name below the output folder."""
    labels = components(detection.mask.array > 0)
    outcome = outcome_of(detection.map, labels, record, record["findings"], run.label, settings)
    folder = folder_of(run.output, case.id)
    files = export(folder, sources, outcome, run.dicom, run.paths(case.id).get("png"))
    return {f"{PREFIX}{case.id}/{name}": sealed for name, sealed in seal(files).items()}


def outcome_of(
    map: Volume, labels: np.ndarray, record: Mapping, findings: Sequence[Mapping], label: str, settings: str
) -> Outcome:
    """What a case's JSON `record` has to say of `findings`, some of its own; `labels` are the parts of its mask."""
    config = record["provenance"].get("adapter", {}).get("config", {})
    return Outcome(
        map=map.array,
        labels=labels,
        findings=findings,
        affine=map.affine,
        algorithm=f"ZSADCLIP {label}",
        region=config.get("object_name") or "",
        key=settings,
        display=(record["display"]["lo"], record["display"]["hi"]),
    )


def check_objects(
    which: str, pictures: bool, output: str | os.PathLike, cases: Collection[Case], report: Report
) -> None:
    """Say once what the objects of a run hold; `which` is one of `export.SETS`.

    Raises UsageError before any work where they cannot be: no library, no pictures for "all", or a folder that no run made
    where those of a case would go.
    """
    check_library()
    if which == "all" and not pictures:
        raise UsageError("--dicom all needs the picture of each case; leave out --no-pictures, or say --dicom")
    results = Results()
    for case in cases:
        folder = folder_of(output, case.id)
        if folder.exists() and any(Path(folder).iterdir()) and not results.has(Path(output), case.id):
            raise UsageError(
                f"DICOM results would take the place of {folder}, which is no result of an earlier run; choose another output "
                "folder"
            )
    if any(is_dicom_case(case) for case in cases):
        report({"event": "note", "text": SAID.format(folder=Path(output, FOLDER))})
