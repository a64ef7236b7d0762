"""`zsadclip dicom`: what a DICOM folder, file or medium holds; and objects sent to a server, or checked."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError
from .dicom_files import add_check, add_send, folders_of, run_check, run_send

COLUMNS = ("number", "modality", "slices", "size", "spacing_mm", "plane", "part", "usable")
HEADS = {"number": "n", "spacing_mm": "spacing mm", "part": "echo, time point", "uid": "series UID"}


def add_dicom(p: argparse.ArgumentParser) -> None:
    actions = p.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, (add, _, text) in ACTIONS.items():
        add(actions.add_parser(name, help=text))


def run_dicom(chosen: argparse.Namespace) -> int:
    """Do what is asked; 1 where something is not as it should be."""
    return ACTIONS[chosen.action][1](chosen)


def _add_list(p: argparse.ArgumentParser) -> None:
    p.add_argument(
        "source", metavar="FOLDER|FILE", help="folder of DICOM files or folders, a DICOM file, or a DICOMDIR"
    )
    p.add_argument("--json", action="store_true", help="print JSON instead of tables")
    p.add_argument("--keep-identifiers", action="store_true", help="show descriptions, UIDs and names of folders")


def _run_list(chosen: argparse.Namespace) -> int:
    """List the volumes of each folder; 1 when there is none that can be read."""
    source, keep = Path(chosen.source).expanduser(), chosen.keep_identifiers
    found = [
        {"folder": str(path) if keep else n + 1, "volumes": study.rows(keep), "left_out": study.left}
        for n, (path, study) in enumerate(_studies(source, keep))
    ]
    if not found:
        raise InputError(f"{source} holds no DICOM files; name a folder, a file or a DICOMDIR")
    if chosen.json:
        print(json.dumps(found, indent=1))
    else:
        print("\n\n".join(_table(each, len(found) > 1, keep) for each in found))
    return int(not any(row["usable"] == "yes" for each in found for row in each["volumes"]))


def _studies(source: Path, keep: bool) -> Iterator[tuple[Path, object]]:
    """Each folder at or below the source with DICOM files, and what it holds."""
    from ..files.privacy import renamed
    from ..volumes.dicom import scan

    if not source.exists():
        raise InputError(f"there is no file or folder {source}; check the name")
    for number, folder in enumerate(folders_of(source, keep), start=1):
        try:
            yield folder, scan(folder)
        except InputError as error:
            hidden = not keep and folder != source
            raise InputError(renamed(str(error), folder, f"folder {number}") if hidden else str(error)) from error


def _table(found: dict, named: bool, keep: bool) -> str:
    columns = (*COLUMNS, "description", "uid") if keep else COLUMNS
    rows = [[HEADS.get(key, key) for key in columns]]
    rows += [[str(row[key]) for key in columns] for row in found["volumes"]]
    widths = [max(len(row[n]) for row in rows) for n in range(len(columns))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines = lines if len(rows) > 1 else ["no volume"]
    lines += [f"left out: {what} ({count})" for what, count in sorted(found["left_out"].items())]
    return "\n".join([f"folder {found['folder']}", *lines] if named else lines)


ACTIONS = {
    "list": (_add_list, _run_list, "the volumes of a folder, file or medium"),
    "send": (add_send, run_send, "store objects at a server, such as a PACS"),
    "check": (add_check, run_check, "what is wrong with objects, if anything"),
}
"""Each action's arguments, what it does (returning an exit code), and help."""
