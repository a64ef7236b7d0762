"""The files of an output folder by their names: which are results, and which somebody else's that no result may replace."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Iterable
from pathlib import Path

from ..errors import OutputError, UsageError
from ..files.names import split_suffix
from ..files.text import parse_json
from ..volumes.reading import FORMATS

VOLUME_RESULTS = ("_anomaly", "_mask")
ENDINGS = (*(end + suffix for end in VOLUME_RESULTS for suffix in (".nii.gz", ".nii")), ".json", ".png")
SUMMARY = "summary.csv"
SUMMARY_START = "id,status,"
KEYS = {"id", "settings", "inputs", "files", "summary", "seal"}  # of a case's JSON, besides the detection itself
LARGEST_JSON = 1 << 26  # bytes
SPARE_BYTES = 1 << 20
BYTES_A_VOXEL = 5  # of map and mask, uncompressed


def unfinished_marker(folder: str | os.PathLike, case_id: str) -> Path:
    """The empty file that is there from before the first result of a case until its JSON, which comes last."""
    return Path(folder, f".{case_id}.unfinished")


def result_paths(
    folder: str | os.PathLike, case_id: str, compress: bool = True, pictures: bool = True
) -> dict[str, Path]:
    """Where the results of a case go: map, mask, json and, with pictures, png."""
    suffix = ".nii.gz" if compress else ".nii"
    names = {"map": f"_anomaly{suffix}", "mask": f"_mask{suffix}", "json": ".json"}
    names |= {"png": ".png"} if pictures else {}
    return {key: Path(folder, f"{case_id}{name}") for key, name in names.items()}


def is_of(name: str, ids: Collection[str]) -> bool:
    """True for the name of a result of one of the cases, compressed or not."""
    return any(name.endswith(end) and name.removesuffix(end) in ids for end in ENDINGS)


class Results:
    """Tells results from other files, looking once at the JSON of a case."""

    def __init__(self):
        self._known: dict[Path, bool] = {}

    def is_result(self, path: Path) -> bool:
        """True for a map or mask of a case that is finished, as its JSON says, or was begun and not finished."""
        stem, suffix = split_suffix(path)
        ends = [end for end in VOLUME_RESULTS if stem.endswith(end)] if suffix in FORMATS else []
        return any(self.has(path.parent, stem.removesuffix(end)) for end in ends)

    def is_of_run(self, path: Path) -> bool:
        """True for any file that a run made, the tables and pictures, too."""
        if path.name == SUMMARY:
            return _starts_as_summary(path)
        return any(path.name.endswith(end) and self.has(path.parent, path.name.removesuffix(end)) for end in ENDINGS)

    def has(self, folder: Path, case_id: str) -> bool:
        """True where a run finished or began the case."""
        json = folder / f"{case_id}.json"
        if json not in self._known:
            # Once more, as another run may have finished the case between the first two looks.
            begun = unfinished_marker(folder, case_id)
            self._known[json] = _is_written_here(json) or begun.is_file() or _is_written_here(json)
        return self._known[json]


def check_free(folder: str | os.PathLike, ids: Iterable[str], read: Iterable[Path], mine: Collection[str]) -> None:
    """Raise UsageError when a result would take the place of a file that the run reads or that no run wrote.

    The latter is looked at for the cases `mine` of a shard, so that shards do not read each other's.
    """
    folder = Path(folder)
    by_name, results, here = {id.casefold(): id for id in ids}, Results(), os.path.realpath(folder)
    places: dict[str, bool] = {}

    def taken(name: str) -> str | None:
        """The case whose result has this name, "" for the summary, None for another file; also where case is ignored."""
        if name.casefold() == SUMMARY:
            return "" if (folder / SUMMARY).is_file() else None
        cases = (
            (by_name.get(name.casefold().removesuffix(end)), end) for end in ENDINGS if name.casefold().endswith(end)
        )
        return next((id for id, end in cases if id and (folder / f"{id}{end}").is_file()), None)

    def is_here(path: str) -> bool:
        parent = os.path.dirname(path)
        if parent not in places:
            places[parent] = os.path.realpath(parent) == here
        return places[parent]

    for path in read:
        for form in {os.path.abspath(path), os.path.realpath(path)}:  # a link to a file of the folder counts, too
            name = os.path.basename(form)
            if is_here(form) and taken(name) is not None:
                raise UsageError(
                    f"a result would take the place of {name}, which is read; choose another output folder"
                )
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except OSError:
        return
    for name in names:
        case = taken(name)
        if case is None or (case and case not in mine):
            continue
        if not (results.has(folder, case) if case else _starts_as_summary(folder / SUMMARY)):
            raise UsageError(
                f"a result would take the place of {name}, which is no result of an earlier run; move it away, or choose another "
                "output folder"
            )


def check_space(folder: str | os.PathLike, voxels: int) -> None:
    """Raise OutputError before any work when the results of a volume cannot fit."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return
    needed = SPARE_BYTES + BYTES_A_VOXEL * voxels
    if free < needed:
        raise OutputError(
            f"the disk of {folder} has {free / 1e6:.0f} MB left and a case may need {needed / 1e6:.0f} MB; free some space"
        )


def _is_written_here(json: Path) -> bool:
    """True for the JSON of a case, also a damaged one: most of its keys, or no JSON any more and a map beside it."""
    try:
        if json.stat().st_size > LARGEST_JSON:
            return False
        data = parse_json(json.read_bytes())
    except OSError:
        return False
    except ValueError:
        maps = [end for end in ENDINGS if end.startswith("_anomaly")]
        return any(json.with_name(json.stem + end).is_file() for end in maps)
    return isinstance(data, dict) and len(KEYS & data.keys()) > len(KEYS) // 2


def _starts_as_summary(path: Path) -> bool:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read(len(SUMMARY_START)) in (SUMMARY_START, "")
    except (OSError, ValueError):
        return False
