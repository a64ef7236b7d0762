"""Which volumes to work on: files, folders, globs and manifests as a list of named cases."""

from __future__ import annotations

import csv
import glob
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from .errors import InputError
from .suffixes import VOLUMES, split_suffix

MANIFEST = ".csv"
LONGEST_ID = 100
RESULTS = ("_anomaly", "_mask")
SHOWN = 5  # missing files named in one message


@dataclass(frozen=True)
class Case:
    """One volume to work on: `id` is unique and safe as a file name; `mask` is the ground truth, if there is one."""

    id: str
    image: Path
    mask: Path | None = None


def expand_inputs(
    inputs: Sequence[str | os.PathLike] | str | os.PathLike, keep_identifiers: bool = False
) -> list[Case]:
    """The cases that files, folders, globs and manifests name, in the order given and sorted within each.

    A folder gives the volumes in it and below it; a folder of DICOM files is one case; results written next to their
    JSON are left out. A manifest is a CSV with the columns id, image and, if wanted, mask; relative paths are relative to
    it. A volume named twice is one case. Ids keep A-Z a-z 0-9 . _ - and are told apart by the name of their folder, then
    by a number. Raises InputError naming what is missing or cannot be a case.
    """
    if isinstance(inputs, (str, os.PathLike)):
        inputs = [inputs]
    cases: dict[tuple, Case] = {}
    missing = []
    for given in inputs:
        path = Path(given).expanduser()
        found = list(_expand(path))
        if not found:
            missing.append(f"{given} ({'holds no volume' if path.exists() else 'not found'})")
        for case in found:
            cases.setdefault((case.image.resolve(), case.mask, case.id), case)
    if missing:
        raise InputError(
            f"nothing to work on in {_listed(missing)}; expected volumes ({', '.join(VOLUMES)}), folders of them or of one "
            "DICOM series, globs, or a manifest .csv"
        )
    if not cases:
        raise InputError("no input given; name a volume, a folder, a glob or a manifest .csv")
    return _unique(list(cases.values()))


def _expand(path: Path) -> Iterable[Case]:
    if path.is_dir():
        return _in_folder(path)
    if path.is_file():
        suffix = split_suffix(path)[1]
        if suffix == MANIFEST:
            return _in_manifest(path)
        if suffix not in VOLUMES:
            raise InputError(
                f"{path} is not a volume: expected a name that ends with one of {', '.join(VOLUMES)}; "
                "for DICOM give the folder of the series"
            )
        return [_case(path)]
    if glob.has_magic(str(path)):
        hits = (Path(hit) for hit in sorted(glob.glob(str(path), recursive=True)))
        # A glob such as data/* also meets notes and tables, which nobody meant.
        return [case for hit in hits if hit.is_dir() or split_suffix(hit)[1] in VOLUMES for case in _expand(hit)]
    return []


def _in_folder(folder: Path) -> Iterable[Case]:
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        files = [Path(place, name) for name in sorted(names) if not name.startswith(".")]
        volumes = [file for file in files if split_suffix(file)[1] in VOLUMES and not _is_result(file)]
        if volumes:
            yield from map(_case, volumes)
        elif any(map(_is_dicom, files)):
            yield Case(Path(place).resolve().name, Path(place))


def _in_manifest(path: Path) -> list[Case]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"cannot read the manifest {path}: {error}; save it as a CSV in UTF-8") from error
    lines = text.splitlines()
    delimiter = max(",;\t", key=(lines[0] if lines else "").count)
    rows = csv.DictReader(lines, delimiter=delimiter, skipinitialspace=True)
    columns = [name.strip().lower() for name in rows.fieldnames or []]
    if not {"id", "image"} <= set(columns):
        raise InputError(f"the manifest {path} has the columns {columns}; expected id, image and, if wanted, mask")
    rows.fieldnames = columns
    cases, missing = [], []
    for row in rows:
        cell = {name: (row.get(name) or "").strip() for name in ("id", "image", "mask")}
        if not any(cell.values()):
            continue
        if not cell["id"] or not cell["image"]:
            raise InputError(f"line {rows.line_num} of the manifest {path} lacks its id or image; fill both in")
        image = path.parent / Path(cell["image"]).expanduser()
        mask = path.parent / Path(cell["mask"]).expanduser() if cell["mask"] else None
        missing += [
            f"{file} (line {rows.line_num})" for file in (image, mask) if file is not None and not file.exists()
        ]
        cases.append(Case(cell["id"], image, mask))
    if missing:
        raise InputError(f"the manifest {path} names what does not exist: {_listed(missing)}; check the paths")
    twice = [id for id, count in Counter(case.id for case in cases).items() if count > 1]
    if twice:
        raise InputError(f"the manifest {path} uses an id more than once: {_listed(twice)}; give each line its own")
    return cases


def _case(path: Path) -> Case:
    return Case(split_suffix(path)[0], path)


def _unique(cases: list[Case]) -> list[Case]:
    """The cases with safe ids of which no two are equal, also where file names ignore case."""
    ids = [_safe(case.id) for case in cases]
    count = Counter(id.casefold() for id in ids)
    parents = [_safe(case.image.resolve().parent.name) for case in cases]
    ids = [
        f"{parent}_{id}"[-LONGEST_ID:].lstrip(".") if count[id.casefold()] > 1 else id
        for id, parent in zip(ids, parents, strict=True)
    ]
    taken: set[str] = set(map(str.casefold, ids))
    seen: set[str] = set()
    named = []
    for case, id in zip(cases, ids, strict=True):
        unique, number = id, 2
        while unique.casefold() in seen or (unique != id and unique.casefold() in taken):
            unique, number = f"{id}-{number}", number + 1
        seen.add(unique.casefold())
        named.append(replace(case, id=unique))
    return named


def _safe(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).lstrip(".")[:LONGEST_ID].rstrip(".") or "case"


def _is_result(path: Path) -> bool:
    """True for a map or mask that lies beside the JSON of its case, so that results are never taken for input."""
    stem = split_suffix(path)[0]
    return any(stem.endswith(end) and path.with_name(stem.removesuffix(end) + ".json").is_file() for end in RESULTS)


def _is_dicom(path: Path) -> bool:
    """True for a DICOM file by its suffix or by the mark after its preamble (PS3.10, 7.1)."""
    if path.suffix.lower() == ".dcm":
        return True
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
