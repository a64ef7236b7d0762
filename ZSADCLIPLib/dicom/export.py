"""The objects of a case as files in a folder of their own, complete or absent."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from ..errors import InputError, OutputError, UsageError, ZSADCLIPError
from ..files.atomic import put_in_place, unfinished
from .maps import parametric_map
from .outcome import NUMBERS, Making, Outcome
from .picture import capture
from .report import measurement_report
from .segments import segmentation
from .sources import Sources, check_grid, discreet

FOLDER = "dicom"
SETS = {"results": ("seg", "report", "map"), "all": tuple(NUMBERS)}
"""What `detect --dicom` writes by the word behind it."""
SAID = "DICOM results carry the identifiers of their source; they go into {folder}, which only you can read"


def folder_of(output: str | os.PathLike, case_id: str) -> Path:
    """Where the objects of a case go."""
    return Path(output, FOLDER, case_id)


def names_of(wanted: str, findings: int) -> tuple[str, ...]:
    """The files that a set of SETS comes to; a case without findings has no segmentation."""
    return tuple(f"{kind}.dcm" for kind in SETS[wanted] if findings or kind != "seg")


def export(folder: Path, sources: Sources, outcome: Outcome, wanted: str, picture: Path | None = None) -> list[Path]:
    """Write the objects of a set of SETS into a new folder that only its owner can read; an older one is replaced.

    `picture` is needed for "all". Raises InputError where the headers do not fit or no object can be made of them, UsageError
    without a picture, OutputError where nothing can be written.
    """
    if "picture" in SETS[wanted] and picture is None:
        raise UsageError("--dicom all needs the picture of the case; leave out --no-pictures, or say --dicom")
    made = objects(sources, outcome, SETS[wanted], picture)
    temporary = unfinished(folder)
    try:
        if not folder.parent.exists():
            folder.parent.mkdir(mode=0o700, parents=True)
        for left in folder.parent.glob(f".{folder.name}.*"):  # of a run that was killed
            if re.fullmatch(r"[0-9a-f]{8}", left.name.removeprefix(f".{folder.name}.")):
                shutil.rmtree(left, ignore_errors=True)
        temporary.mkdir(mode=0o700)
        for kind, ds in made.items():
            _write(temporary / f"{kind}.dcm", ds)
        remove(folder)
        temporary.rename(folder)
    except OSError as error:
        raise OutputError(f"cannot write DICOM results: {error.strerror or error}; check the folder") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return [folder / f"{kind}.dcm" for kind in made]


def objects(sources: Sources, outcome: Outcome, kinds: Collection[str], picture: Path | None = None) -> dict:
    """The objects of a case by kind, in memory; without findings there is no segmentation. Raises InputError."""
    check_grid(sources, outcome.affine, outcome.map.shape)
    making, made = Making(sources, outcome), {}
    try:
        with discreet():
            segments = segmentation(making) if outcome.findings and {"seg", "report"} & set(kinds) else None
            if segments is not None and "seg" in kinds:
                made["seg"] = segments
            if "report" in kinds:
                made["report"] = measurement_report(making, segments)
            if "map" in kinds:
                made["map"] = parametric_map(making)
            if "picture" in kinds:
                made["picture"] = capture(making, picture)
    except ZSADCLIPError:
        raise
    except Exception as error:  # what highdicom says of a header may quote it
        raise InputError(
            f"no DICOM results can be made from these headers ({type(error).__name__}); leave out --dicom, or mend the headers"
        ) from error
    return made


def remove(folder: Path) -> None:
    """Remove the objects of an older run, and their folder where nothing else is in it."""
    for kind in NUMBERS:
        (folder / f"{kind}.dcm").unlink(missing_ok=True)
    with suppress(OSError):  # it is not there, or somebody keeps something in it
        folder.rmdir()


def _write(path: Path, ds) -> None:
    temporary = path.with_suffix(".part")
    with discreet():
        ds.save_as(temporary, enforce_file_format=True)
    put_in_place(temporary, path)
    path.chmod(0o600)
