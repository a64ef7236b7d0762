"""Which volumes to work on: files, folders, globs and manifests as a list of named cases."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from ..datasets.manifest import SUFFIXES, is_manifest, read_manifest
from ..errors import DependencyError, InputError, listed, number_of
from ..files.folders import walk
from ..files.names import LONGEST_ID, is_dicom, is_dicomdir, safe_name, split_suffix
from ..files.privacy import DIGITS, pseudonym
from ..progress import Report, quiet
from ..volumes.reading import FORMATS, files_of
from .choice import Case, chosen
from .outputs import Results

HEADERS = (".nhdr", ".mhd", ".hdr", ".hdr.gz")  # of formats with a data file of its own
DICOM = (".dcm", ".ima", ".img", ".dicom")


@dataclass
class _Search:
    """What goes through the search: may folders be named, where results go, is one file named alone, what was left out."""

    keep_identifiers: bool
    output: str | None
    alone: bool
    results: Results = field(default_factory=Results)
    beside: list[Path] = field(default_factory=list)
    others: set[Path] = field(default_factory=set)
    left: int = 0
    empty: int = 0
    objects: int = 0
    slices: dict[Path, Path] = field(default_factory=dict)

    def volumes(self, files: Iterable[Path]) -> list[Path]:
        """The volumes among files; results are none, and the rest is remembered as left out."""
        files = [file for file in files if not self.results.is_result(file)]
        volumes = [file for file in files if split_suffix(file)[1] in FORMATS]
        self.others.update(file for file in files if file not in volumes and not self.results.is_of_run(file))
        return volumes

    def is_own(self, path: Path) -> bool:
        """True for a result in the output folder, which is no input even where a shell's glob names it."""
        own = self.output == os.path.realpath(path.parent) and self.results.is_result(path)
        self.left += own
        return own

    def notes(self) -> Iterator[str]:
        """What was left out that somebody may miss."""
        if self.others:
            kinds = Counter(split_suffix(file)[1] or "without an ending" for file in self.others)
            counted = listed([f"{count} {kind}" for kind, count in kinds.most_common()])
            yield f"{number_of(len(self.others), 'file')} left out, no volumes: {counted}"
        if self.empty:
            yield f"{number_of(self.empty, 'folder')} without a volume left out"
        if self.beside:
            where = number_of(len(self.beside), "folder")
            where += f" ({listed(list(map(str, self.beside)))})" if self.keep_identifiers else ""
            yield f"DICOM files in {where} lie beside volumes and are left out; a manifest can name such a folder as an image"
        if self.left:
            yield f"{number_of(self.left, 'file')} named as input, results of an earlier run in the output folder, left out"
        if self.objects:
            what = "DICOM object that is" if self.objects == 1 else "DICOM objects that are"
            yield f"{self.objects} {what} no image (segmentations, reports and the like), left out"


def expand_inputs(
    inputs: Sequence[str | os.PathLike] | str | os.PathLike,
    keep_identifiers: bool = False,
    output: str | os.PathLike | None = None,
    report: Report = quiet,
    channel: str | None = None,
) -> list[Case]:
    """The cases that files, folders, globs and manifests name, in the order given and sorted within each.

    A folder gives the volumes in it and below it, links to folders included; a folder of DICOM files is one case. A file that
    is no volume is left out unless it is named alone; so are DICOM files beside volumes, label maps beside images and other
    sequences of a BraTS case than `channel` (`choice.chosen`), and `report` is told. Results, finished or not, are left out
    but for those that are named themselves and are not in the folder `output`. Manifests are read by
    `manifest.read_manifest`. A volume named twice is one case. Ids keep A-Z a-z 0-9 . _ -; equal ones are told apart by a
    digest of their folder's name, then by a number, and the id of a DICOM series is a digest of its SeriesInstanceUID. With
    `keep_identifiers` the names of the folders themselves are used. Raises InputError naming what is missing or cannot be a
    case.
    """
    if isinstance(inputs, (str, os.PathLike)):
        inputs = [inputs]
    cases: dict[tuple, Case] = {}
    missing: list[str] = []
    here = os.path.realpath(output) if output is not None else None
    search = _Search(keep_identifiers, here, len(inputs) == 1)
    for name in inputs:
        path = Path(name).expanduser()
        if "\0" in str(path):
            raise InputError(f"{str(path)!r} cannot be the name of a file")
        left, others = search.left + search.objects, len(search.others)
        named = list(_expand(path, search))
        if not named and not search.alone and path.is_dir():
            search.empty += 1
        elif not named and search.left + search.objects == left and (search.alone or len(search.others) == others):
            missing.append(f"{name} ({'holds no volume' if path.exists() else 'not found'})")
        for case in named:
            cases.setdefault((case.image.resolve(), case.mask, case.id), case)
    if missing:
        raise InputError(
            f"nothing to work on in {listed(missing)}; expected volumes ({', '.join(FORMATS)}), folders of them or of one "
            "DICOM series, globs, or a manifest .csv or .tsv"
        )
    if not cases:
        what = "only results of an earlier run are" if search.left else "no volume is" if inputs else "no input is"
        what = "only DICOM objects that are no image are" if search.objects else what
        raise InputError(f"{what} given; name a volume, a folder, a glob or a manifest .csv or .tsv")
    meant, about = chosen(_without_data(list(cases.values()), search), channel)
    for text in (*search.notes(), *about):
        report({"event": "note", "text": text})
    return _unique(list(_by_folder(meant, search)), keep_identifiers)


def _without_data(cases: list[Case], search: _Search) -> list[Case]:
    """The cases without files that hold the data of another one, such as the .img of a .hdr."""
    headers = [case.image for case in cases if split_suffix(case.image)[1] in HEADERS]
    data = {file for header in headers for file in files_of(header)[1:]}
    search.others -= data
    return [case for case in cases if case.image not in data]


def _expand(path: Path, search: _Search) -> Iterable[Case]:
    if path.is_dir():
        return _in_folder(path, search)
    if path.is_file():
        suffix = split_suffix(path)[1]
        if suffix in SUFFIXES and (search.alone or is_manifest(path)):
            return [Case(entry.id, entry.image, entry.mask, named=True) for entry in read_manifest(path)]
        if _is_dicom_file(path):
            return _of_dicom_file(path, search)
        if suffix not in FORMATS:
            if not search.alone:  # a shell's data/* names everything
                search.volumes([path])
                return []
            raise InputError(
                f"{path} is not a volume: expected a name that ends with one of {', '.join(FORMATS)}; "
                "for DICOM give a file or the folder of the series"
            )
        return [] if search.is_own(path) else [replace(_case(path), named=search.alone)]
    if glob.has_magic(str(path)):
        hits = [Path(hit) for hit in sorted(glob.glob(str(path), recursive=True))]
        # A glob such as data/* also meets notes and tables, which nobody meant.
        files = [hit for hit in hits if not hit.is_dir()]
        dicom = {file for file in files if _is_dicom_file(file)}
        volumes = set(search.volumes([file for file in files if file not in dicom]))

        def cases_of(hit: Path) -> Iterable[Case]:
            if hit.is_dir():
                return _in_folder(hit, search)
            return _of_dicom_file(hit, search) if hit in dicom else [_case(hit)] if hit in volumes else []

        return [case for hit in hits for case in cases_of(hit)]
    return []


def _in_folder(folder: Path, search: _Search) -> Iterable[Case]:
    for parent, names in walk(folder, search.keep_identifiers):
        files = [parent / name for name in names if not name.startswith(".")]
        beside = any(split_suffix(file)[1] in FORMATS for file in files)
        # Tables and pictures beside volumes need not be opened to know that they are not DICOM.
        may_be = [file for file in files if not beside or not file.suffix[1:].isalpha() or file.suffix.lower() in DICOM]
        known = {file for file in may_be if file.is_file() and _is_dicom_file(file)}
        dicom = [file for file in may_be if file in known and not is_dicomdir(file)]
        volumes = search.volumes([file for file in files if file not in known])
        yield from map(_case, volumes)
        if dicom:
            if volumes:
                search.beside.append(parent)
            elif not _may_hold_volume(dicom):
                search.objects += len(dicom)
            else:
                yield Case(parent.resolve().name, parent, series=True)  # the name is replaced by `_unique`


def _is_dicom_file(path: Path) -> bool:
    """True for a DICOM file or DICOMDIR by its content, unless its ending is that of another format."""
    return split_suffix(path)[1] not in FORMATS.keys() - {".img"} and (is_dicomdir(path) or is_dicom(path))


def _of_dicom_file(path: Path, search: _Search) -> list[Case]:
    """The volume that a named DICOM file belongs to, under the first of its files, so that all of them are one case."""
    from ..volumes.dicom import may_hold_volume, scan

    if is_dicomdir(path):
        return [Case(path.resolve().parent.name, path, series=True)]
    if path not in search.slices:
        if not may_hold_volume([path]):
            search.objects += 1
            return []
        study = scan(path)
        files = {frame.file for group in study.own for frame in group.frames} if study.named else {}
        search.slices |= dict.fromkeys(files, min(files, default=path))
    first = search.slices.get(path, path)
    return [Case(first.stem, first, series=True)]


def _by_folder(cases: Iterable[Case], search: _Search) -> Iterator[Case]:
    """The cases, with one for a folder whose named slices are of several volumes, as if the folder had been named."""
    first = set(search.slices.values())
    folders = Counter(case.image.parent for case in cases if case.image in first)
    said = set()
    for case in cases:
        folder = case.image.parent
        if case.image not in first or folders[folder] == 1:
            yield case
        elif folder not in said:
            said.add(folder)
            yield Case(folder.resolve().name, folder, series=True)


def _may_hold_volume(files: Iterable[Path]) -> bool:
    """False for DICOM files that are no images; True where that cannot be told, so that reading says why."""
    from ..volumes.dicom import may_hold_volume

    try:
        return may_hold_volume(files)
    except DependencyError:
        return True


def _case(path: Path) -> Case:
    return Case(split_suffix(path)[0], path)


def _unique(cases: list[Case], keep_identifiers: bool) -> list[Case]:
    """The cases with safe ids of which no two are equal, also where file names ignore case."""
    ids = [safe_name(case.id if keep_identifiers or not case.series else _series_id(case.image)) for case in cases]
    count = Counter(id.casefold() for id in ids)
    ids = [
        _told_apart(id, case.image.resolve().parent.name, keep_identifiers) if count[id.casefold()] > 1 else id
        for id, case in zip(ids, cases, strict=True)
    ]
    taken: set[str] = set(map(str.casefold, ids))
    seen: set[str] = set()
    numbers: dict[str, int] = {}  # the next one to try, so that a million equal names are no square of them
    named = []
    for case, id in zip(cases, ids, strict=True):
        unique, number = id, numbers.get(id.casefold(), 2)
        while unique.casefold() in seen or (unique != id and unique.casefold() in taken):
            unique, number = f"{id}-{number}", number + 1
        numbers[id.casefold()] = number
        seen.add(unique.casefold())
        named.append(replace(case, id=unique))
    return named


def _told_apart(id: str, folder: str, keep_identifiers: bool) -> str:
    if keep_identifiers:
        return f"{safe_name(folder)}_{id}"[-LONGEST_ID:].lstrip(".-")
    return f"{id[: LONGEST_ID - DIGITS - 1]}{pseudonym(folder, '')}"


def _series_id(image: Path) -> str:
    """A digest of the SeriesInstanceUID, or of the first file where there is none to read."""
    from ..volumes.dicom import series_uid

    try:
        return pseudonym(series_uid(image), "dicom")
    except (DependencyError, InputError):
        files = [image] if image.is_file() else sorted(image.iterdir())
        file = next((file for file in files if file.is_file() and (file == image or is_dicom(file))), None)
    if file is None:
        raise InputError("the files of a DICOM folder went away while folders were searched; run again")
    with open(file, "rb") as stream:
        return pseudonym(stream.read(1 << 20), "dicom")
