"""DICOM folders, files and media: which volumes they hold, the choice of one, and its voxels through SimpleITK."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError, listed, number_of
from ..files.names import is_dicom, is_dicomdir
from ..notes import Note
from ..threads import unwarned
from ..volume import Volume
from . import itk
from .dicom_frame import Frame
from .dicom_groups import groups_of
from .dicom_headers import DAMAGED, frames_of, pydicom_of
from .dicom_stack import Group
from .nifti import placed

LPS_TO_RAS = itk.LPS_TO_RAS
PLANES = ("sagittal", "coronal", "axial")
MOST_LISTED = 20


@dataclass(frozen=True)
class Study:
    """The volumes of a folder, file or medium, and how many files are left out as what.

    `missing` are files that a medium names and that are not there; `named` is the slice that stands for its volume.
    """

    groups: tuple[Group, ...]
    left: dict[str, int]
    missing: int = 0
    named: Path | None = None

    @property
    def own(self) -> list[Group]:
        """The volumes that are meant: all, or that of the named slice."""
        return [g for g in self.groups if self.named is None or any(f.file == self.named for f in g.frames)]

    @property
    def choices(self) -> list[Group]:
        """The volumes that need no further name to be chosen."""
        return [group for group in self.own if not group.aside or self.named]

    def rows(self, keep_identifiers: bool = False) -> list[dict]:
        """A line a volume, JSON-able; description and UID only where identifiers are allowed."""
        return [_row(self.groups.index(group) + 1, group, keep_identifiers) for group in self.own]


def read(path: Path, series: str | None = None, keep_identifiers: bool = False) -> Volume:
    """Read one volume of a folder, a DICOMDIR or a file; a file that is a slice stands for its volume.

    `series` chooses among several: the number of a line of `zsadclip dicom list`, a SeriesInstanceUID or a description.
    Raises InputError that lists the volumes where there is not exactly one, or where it cannot be read, and DependencyError
    without pydicom or SimpleITK.
    """
    pixels = _Pixels(path)
    group, notes = choose(path, series, keep_identifiers, pixels)
    name = path.resolve().name if path.is_dir() else path.stem
    return placed(path, pixels.stack(group), affine_of(group), name, (*group.notes, *notes))


def choose(
    path: Path, series: str | None = None, keep_identifiers: bool = False, pixels: _Pixels | None = None
) -> tuple[Group, tuple[Note, ...]]:
    """The volume that `read` reads, by headers alone, and what is to be said of the choice; raises as `read` does."""
    group, notes = _chosen(path, scan(path, pixels), series, keep_identifiers)
    if group.trouble:
        raise InputError(f"cannot read {path}: {group.trouble}")
    return group, notes


def scan(path: Path, pixels: _Pixels | None = None) -> Study:
    """The volumes of a folder, of what a DICOMDIR names, or those a file belongs to, by headers alone.

    Pixels are looked at only where frames share their place. Raises InputError for a DICOMDIR that cannot be followed.
    """
    pydicom_of(path)
    pixels = pixels or _Pixels(path)
    if path.is_dir():
        files, missing = _dicom_files(path), 0
    elif is_dicomdir(path):
        files, missing = _followed(path)
    else:
        study = _scanned([path], pixels)
        single = len(study.groups) == 1 and study.groups[0].first.frames == 1
        if not single:
            return study
        # A slice alone is hardly meant: its volume is, and what else the folder holds is not.
        around = _scanned(_dicom_files(path.parent), pixels)
        around = Study(around.groups, {}, named=path)
        return around if around.own else study
    study = _scanned(files, pixels)
    return Study(study.groups, study.left, missing)


def files_of(path: Path) -> list[Path]:
    """The files that a volume named by a DICOM file or a DICOMDIR is stored in, the named one first."""
    if is_dicomdir(path):
        return [path, *_followed(path)[0]]
    files = {frame.file for group in scan(path).own for frame in group.frames}
    return [path, *sorted(files - {path})]


def series_uid(path: Path) -> str:
    """SeriesInstanceUID of the first image of a folder, a DICOMDIR or a file; raises InputError where there is none."""
    files = _dicom_files(path) if path.is_dir() else _followed(path)[0] if is_dicomdir(path) else [path]
    for file in files:
        frames, _ = frames_of(file)
        if frames and frames[0].series:
            return frames[0].series
    raise InputError(f"{path} holds no DICOM series")


def may_hold_volume(files: Iterable[Path]) -> bool:
    """True where a file is an image that may be part of a volume, or cannot be read to tell."""
    return any(frames or what == DAMAGED for frames, what in map(frames_of, files))


def affine_of(group: Group) -> np.ndarray:
    """Voxel (column, row, slice) to RAS mm, from the headers alone; what they do not say is 1 mm or a plain axis."""
    first = group.first
    row, column = np.reshape(first.orientation or (1.0, 0, 0, 0, 1.0, 0), (2, 3))
    between_rows, between_columns = first.spacing or (1.0, 1.0)
    step = group.step
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = row * between_columns, column * between_rows
    affine[:3, 2] = first.normal if step is None else step
    affine[:3, 3] = first.position or (0.0, 0.0, 0.0)
    affine[:3] = LPS_TO_RAS @ affine[:3]
    return affine


def _dicom_files(folder: Path) -> list[Path]:
    return [
        file for file in sorted(folder.iterdir()) if not file.name.startswith(".") and file.is_file() and is_dicom(file)
    ]


def _scanned(files: Sequence[Path], pixels: _Pixels) -> Study:
    frames: list[Frame] = []
    left: Counter[str] = Counter()
    for file in files:
        found, what = frames_of(file)
        frames += found
        left.update([what] if what else [])
    return Study(tuple(groups_of(frames, pixels.digest)), dict(left))


def _followed(path: Path) -> tuple[list[Path], int]:
    """The files that a DICOMDIR names beside or below it, and how many of them are missing; raises InputError."""
    pydicom = pydicom_of(path)
    try:
        with unwarned():
            records = pydicom.dcmread(path).get("DirectoryRecordSequence") or []
            names = [record.get("ReferencedFileID") for record in records]
    except Exception as error:  # a damaged header makes pydicom raise nearly anything
        raise InputError(f"cannot read the DICOMDIR {path}: it is damaged; name the folder instead") from error
    files, missing = [], 0
    for name in filter(None, names):
        parts = [name] if isinstance(name, str) else list(name)
        file = path.parent.joinpath(*parts)
        # A file ID is made of plain names (PS3.10, 8.2), which also keeps it from pointing elsewhere.
        if all(part not in ("", ".", "..") and Path(part).name == part for part in parts) and file.is_file():
            files.append(file)
        else:
            missing += 1
    if not files:
        raise InputError(f"the DICOMDIR {path} names no file that is there; name the folder of the images instead")
    return list(dict.fromkeys(files)), missing


def _chosen(path: Path, study: Study, series: str | None, keep: bool) -> tuple[Group, tuple[Note, ...]]:
    """The volume to read and what is to be said about the choice; raises InputError unless there is one."""
    if not study.groups:
        left = f": {_counted(study.left)}" if study.left else ""
        raise InputError(f"{path} holds no DICOM series of a volume{left}; name a folder with one")
    found = study.choices if series is None else _matching(study, series)
    if len(found) == 1:
        notes = _left_out(study, found[0])
        if series is not None and len(study.own) > 1:
            number = study.groups.index(found[0]) + 1
            notes += (Note("series", f"volume {number} of {len(study.groups)} was chosen by --series"),)
        elif study.named and len(found[0].frames) > 1:
            text = f"the file is one of {len(found[0].frames)} slices of a volume: the whole volume is read"
            notes += (Note("series", text),)
        return found[0], notes
    rows = {row["number"]: _line(row) for row in study.rows(keep)}
    lines = [rows[study.groups.index(group) + 1] for group in (found or study.own)]
    more = f"; and {len(lines) - MOST_LISTED} more, which zsadclip dicom list shows" if len(lines) > MOST_LISTED else ""
    listing = "; ".join(lines[:MOST_LISTED]) + more
    uids = len({group.first.series for group in found})
    if series is not None:
        what = f"has no volume {series!r}" if not found else f"has {len(found)} volumes that {series!r} fits"
    elif not found:
        what = "holds no DICOM series but what is usually not meant"
    else:
        what = f"holds {len(found)} volumes in {uids} DICOM series"
    raise InputError(f"{path} {what}; choose with --series N, UID or DESCRIPTION: {listing}")


def _matching(study: Study, series: str) -> list[Group]:
    """The volumes that a number, a UID, a description or, failing that, a part of one names."""
    if series.isdigit():
        return [group for group in study.own if str(study.groups.index(group) + 1) == series]
    named = [group for group in study.own if series == group.first.series]
    word = series.strip().casefold()
    named = named or [group for group in study.own if group.first.description.casefold() == word]
    named = named or [group for group in study.own if word and word in group.first.description.casefold()]
    return [group for group in named if not group.aside] or named


def _left_out(study: Study, chosen: Group) -> tuple[Note, ...]:
    left = {what: count for what, count in study.left.items() if what not in (DAMAGED, "DICOMDIR")}
    for group in study.groups:
        if group.aside and group is not chosen:
            left[group.aside] = left.get(group.aside, 0) + len({frame.file for frame in group.frames})
    notes = [Note("files", f"left out of the folder: {_counted(left)}")] if left else []
    lost = study.left.get(DAMAGED, 0) + study.missing
    if lost:
        said = "1 DICOM file of the folder does not" if lost == 1 else f"{lost} DICOM files of the folder do not"
        text = f"{said} belong to the series, or cannot be read: slices at an end may be missing"
        notes.append(Note("damaged", text))
    return tuple(notes)


def _counted(left: dict[str, int]) -> str:
    return listed([f"{what} ({number_of(count, 'file')})" for what, count in sorted(left.items())])


def _row(number: int, group: Group, keep: bool) -> dict:
    first, affine = group.first, affine_of(group)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    normal = np.abs(LPS_TO_RAS @ first.normal)
    plane = PLANES[int(normal.argmax())] + (", oblique" if normal.max() < np.cos(np.deg2rad(5)) else "")
    part = [f"echo {first.echo:g} ms"] if first.echo else []
    part += [f"b {first.b_value:g}"] if first.b_value else []
    part += [f"time {first.time:g}"] if first.time is not None and not group.part else []
    part += [" ".join(first.kind)] if first.kind else []
    errors = [note.text for note in group.notes if note.severity == "error"]
    row = {
        "number": number,
        "modality": first.modality,
        "slices": len(group.frames),
        "size": f"{first.size[1]}x{first.size[0]}",
        "spacing_mm": "x".join(f"{length:.4g}" for length in lengths),
        "plane": plane,
        "part": ", ".join([*part, *filter(None, [group.part])]),
        "usable": "; ".join(filter(None, [group.aside, group.trouble, *errors])) or "yes",
    }
    return row | ({"description": first.description, "uid": first.series} if keep else {})


def _line(row: dict) -> str:
    """A volume in a message."""
    description = f" {row['description']!r}," if row.get("description") else ""
    text = (
        f"{row['number']}:{description} {row['modality']} {row['slices']} slices {row['size']}, {row['spacing_mm']} mm"
    )
    text += "".join(f", {row[key]}" for key in ("plane", "part") if row[key])
    return text + (f" ({row['usable']})" if row["usable"] != "yes" else "")


class _Pixels:
    """The pixels of frames through SimpleITK, which knows every transfer syntax in use; the last file stays decoded."""

    def __init__(self, path: Path):
        self._path, self._itk = path, itk.simpleitk(path)
        self._file: Path | None = None
        self._array = np.empty(0)

    def __call__(self, frame: Frame) -> np.ndarray:
        """The plane (rows, columns) with its own slope and intercept."""
        if frame.file != self._file:
            self._array, self._file = self._decoded(frame.file), frame.file
        rows, columns = frame.size
        if frame.tiles:
            top, left = (frame.index // frame.tiles) * rows, (frame.index % frame.tiles) * columns
            return self._array[0, top : top + rows, left : left + columns]
        if self._array.shape != (frame.frames, rows, columns):
            raise InputError(f"cannot read {self._path}: pixels do not fit their header; the file is damaged")
        plane = self._array[frame.index]
        if frame.rescale == frame.applied:
            return plane
        # SimpleITK gives all frames of a file the slope and intercept of the first.
        stored = np.rint((plane.astype(np.float64) - frame.applied[1]) / frame.applied[0])
        return stored * frame.rescale[0] + frame.rescale[1]

    def digest(self, frame: Frame) -> bytes:
        """What equal pixels have in common."""
        plane = np.ascontiguousarray(self(frame), np.float64)
        return hashlib.sha256(plane.tobytes()).digest()

    def stack(self, group: Group) -> np.ndarray:
        """The voxels (columns, rows, slices): integers where all slices hold such, else float32."""
        # File by file, as frames of one need not lie one after the other.
        order = sorted(range(len(group.frames)), key=lambda n: (str(group.frames[n].file), group.frames[n].index))
        planes = {n: self(group.frames[n]) for n in order}
        return itk.plain(np.stack([planes[n].T for n in range(len(planes))], axis=2))

    def _decoded(self, file: Path) -> np.ndarray:
        """The pixels of a file (frames, rows, columns)."""
        reader = self._itk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(file))
        try:
            with itk.same_locale():
                return self._itk.GetArrayFromImage(reader.Execute())
        except RuntimeError as error:
            raise InputError(
                f"cannot read {self._path}: a DICOM file is truncated or damaged; copy it again"
            ) from error
