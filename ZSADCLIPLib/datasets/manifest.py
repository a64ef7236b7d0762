"""CSV manifests: one reader for detection, benchmark, training and audit."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TextIO

from ..errors import InputError, listed

SUFFIXES = (".csv", ".tsv")
SEPARATORS = ",;\t"
REQUIRED = ("id", "image")
OPTIONAL = ("mask", "subject", "split", "site", "rule")


@dataclass(frozen=True)
class Entry:
    """One case of a manifest, from line `line` of the file.

    `image` and `mask` are files or folders that exist, `mask` None where none is named. The other cells are as written, ""
    where they are empty or their column is missing.
    """

    line: int
    id: str
    image: Path
    mask: Path | None
    subject: str = ""
    split: str = ""
    site: str = ""
    rule: str = ""


def read_manifest(path: str | os.PathLike) -> list[Entry]:
    """The cases of a CSV with the columns id, image and, if wanted, mask, subject, split, site and rule, in their order.

    The text is UTF-8, with a byte order mark or without; the first line that is not blank names the columns, in any order and
    case; cells stand between commas, semicolons or tabs, whichever the header has. Other columns and blank lines are passed
    over. Relative paths are relative to the file, "~" is the user's home. Raises InputError naming the file, the lines and the
    values for anything else: cells without a text, files that do not exist, ids used twice, no case at all.
    """
    path = Path(path)
    entries = [_entry(path, line, cells) for line, cells in _lines(path)]
    if not entries:
        raise InputError(f"the manifest {path} has no line below its header; expected one case a line")
    missing = [
        f"{file.name} (line {entry.line})"
        for entry in entries
        for file in (entry.image, entry.mask)
        if file is not None and not _exists(file)
    ]
    if missing:
        raise InputError(
            f"the manifest {path} names what does not exist: {listed(missing)}; expected files or folders, relative to the "
            "manifest; check the paths"
        )
    lines: dict[str, list[str]] = {}
    for entry in entries:
        lines.setdefault(entry.id, []).append(str(entry.line))
    twice = [f"{id} (lines {listed(numbers)})" for id, numbers in lines.items() if len(numbers) > 1]
    if twice:
        raise InputError(f"the manifest {path} uses an id more than once: {listed(twice)}; give each line its own")
    return entries


def is_manifest(path: str | os.PathLike) -> bool:
    """True for a table with the columns that a manifest needs."""
    try:
        next(_lines(Path(path)), None)
    except InputError:
        return False
    return True


def where(path: str | os.PathLike, line: int) -> str:
    """A line of a manifest, for a message."""
    return f"line {line} of the manifest {path}"


def _lines(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and cells, by column, of each line below the header that is not blank."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            yield from _rows(path, file)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the manifest {path}: {error}; save it as a CSV in UTF-8") from error


def _rows(path: Path, file: TextIO) -> Iterator[tuple[int, dict[str, str]]]:
    skipped, header = next(((n, text) for n, text in enumerate(file) if text.strip()), (0, ""))
    rows = csv.reader(chain([header], file), delimiter=_separator(header), skipinitialspace=True)
    try:
        columns = _columns(path, next(rows, []))
        for row in rows:
            cells = [cell.strip() for cell in row]
            if any(cells[len(columns) :]):
                raise InputError(
                    f"{where(path, skipped + rows.line_num)} has {len(cells)} cells for {len(columns)} columns; put a text that "
                    "holds the separator in quotes"
                )
            if any(cells):
                yield skipped + rows.line_num, dict(zip(columns, cells, strict=False))
    except csv.Error as error:
        raise InputError(
            f"{where(path, skipped + rows.line_num)} is no CSV: {error}; save it as a CSV again"
        ) from error


def _separator(header: str) -> str:
    """The one that sets the needed columns apart, or else the most frequent one."""

    def separates(separator: str) -> bool:
        return set(REQUIRED) <= {name.strip(' "\r\n').lower() for name in header.split(separator)}

    return next(filter(separates, SEPARATORS), max(SEPARATORS, key=header.count))


def _columns(path: Path, header: Sequence[str]) -> list[str]:
    columns = [name.strip().lower() for name in header]
    twice = [name for name in (*REQUIRED, *OPTIONAL) if columns.count(name) > 1]
    if not set(REQUIRED) <= set(columns) or twice:
        what = f"the column {twice[0]} more than once" if twice else f"the columns {columns}"
        raise InputError(
            f"the manifest {path} has {what}; expected id, image and, if wanted, {', '.join(OPTIONAL)}, separated by commas, "
            "semicolons or tabs"
        )
    return columns


def _entry(path: Path, line: int, cells: dict[str, str]) -> Entry:
    for name in REQUIRED:
        if not cells.get(name):
            raise InputError(f"{where(path, line)} lacks its {name}; fill in both id and image")
    mask = path.parent / _expanded(cells["mask"]) if cells.get("mask") else None
    others = {name: cells.get(name, "") for name in OPTIONAL if name != "mask"}
    return Entry(line, cells["id"], path.parent / _expanded(cells["image"]), mask, **others)


def _expanded(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:  # "~nobody"
        return Path(name)


def _exists(path: Path) -> bool:
    try:
        return path.is_file() or path.is_dir()  # a device or a pipe would be read for ever
    except (OSError, ValueError):  # too long, or not a name at all
        return False
