"""The headers of a DICOM series as its results need them: identity, study and places, repaired in memory where needed."""

from __future__ import annotations

import hashlib
import importlib.util
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np

from ..errors import DependencyError, InputError
from ..files.names import has_preamble
from ..threads import unlogged, unwarned
from ..volume import Volume
from ..volumes.dicom import affine_of, choose
from ..volumes.dicom_headers import pydicom_of
from ..volumes.dicom_stack import Group

UTF8 = "ISO_IR 192"
MUST = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")
STUDY = ("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName")
"""Type 2: empty where the source does not say them (PS3.3, C.7.1.1 and C.7.2.1)."""
MORE = ("IssuerOfPatientID", "PatientAge", "StudyDescription", "PatientIdentityRemoved", "DeidentificationMethod")
DATES = ("ContentDate", "AcquisitionDate", "SeriesDate", "StudyDate")
OWN = (
    *("Modality", "Laterality", "BodyPartExamined", "FrameOfReferenceUID"),
    *("InstanceNumber", "Rows", "Columns", "SliceThickness", "SpacingBetweenSlices", "PixelSpacing", "ImageType"),
    *("ImagePositionPatient", "ImageOrientationPatient", "NumberOfFrames", "SpecificCharacterSet"),
    *("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
TAGS = (*MUST, *PATIENT, *STUDY, *MORE, *DATES, *(name.replace("Date", "Time") for name in DATES), *OWN)
GROUPS = ("PixelMeasuresSequence", "PlaneOrientationSequence", "PlanePositionSequence")
EMPTY = {"IS", "DS", "US", "UI", "CS"}
SHEARED = 0.02  # of the distance of slices, by which a step may lie off the normal


@dataclass(frozen=True, eq=False)
class Sources:
    """A volume's headers: one dataset a slice from the first to the last, or that of the one multi-frame file.

    `frames` are the indices of its slices in a multi-frame file, None for single slices; `affine` takes voxels (column, row,
    slice) to RAS mm, as the volume that is read has it; `said` are sentences about what was repaired.
    """

    datasets: tuple
    frames: tuple[int, ...] | None
    affine: np.ndarray
    shape: tuple[int, int, int]
    said: tuple[str, ...] = ()

    @property
    def first(self):
        """The header that stands for all."""
        return self.datasets[0]

    def image_number(self, k: int) -> int:
        """The number by which viewers show slice `k`: its InstanceNumber or frame, else its place from 1."""
        if self.frames is not None:
            return self.frames[k] + 1
        number = self.datasets[k].get("InstanceNumber")
        return int(number) if number is not None else k + 1

    @property
    def positions(self) -> dict[tuple[str, int], Sequence]:
        """Where each slice lies (x, y, z), as its header has it, by SOPInstanceUID and number of the frame, 0 without frames."""
        if self.frames is None:
            return {(str(ds.SOPInstanceUID), 0): ds.ImagePositionPatient for ds in self.datasets}
        groups = self.first.PerFrameFunctionalGroupsSequence
        places = {n: groups[n].PlanePositionSequence[0].ImagePositionPatient for n in self.frames}
        return {(str(self.first.SOPInstanceUID), n + 1): place for n, place in places.items()}

    @property
    def date_and_time(self) -> tuple[str, str]:
        """The latest step of the source that has a date; results know no clock, so that equal ones are equal bytes."""
        for name in DATES:
            if date := self.first.get(name):
                return date, self.first.get(name.replace("Date", "Time")) or "000000"
        return "19000101", "000000"


def read_sources(path: Path, series: str | None = None, keep_identifiers: bool = False) -> Sources:
    """The headers of the volume that `volumes.dicom.read` reads; raises InputError where results cannot refer to it.

    Also raises DependencyError without pydicom or highdicom.
    """
    check_library()
    group, _ = choose(path, series, keep_identifiers)
    return sources_of(path, group)


_unlogged = unlogged("pydicom", "highdicom")


@contextmanager
def discreet() -> Iterator[None]:
    """No warning and no line of a log of the DICOM libraries, which quote headers."""
    with unwarned(), _unlogged():
        yield


def check_library() -> None:
    """Raise DependencyError where highdicom is missing."""
    if importlib.util.find_spec("highdicom") is None:
        raise DependencyError("DICOM results need highdicom, which is not installed: pip install 'zsadclip[dicom]'")


def sources_of(path: Path, group: Group) -> Sources:
    """The headers of a volume's slices, what type 2 asks for filled in and what no standard allows emptied.

    Raises InputError for a volume that objects cannot refer to: without UIDs, place or size of pixels, or of several
    multi-frame files.
    """
    _check_places(path, group)
    said: dict[str, None] = {}
    if group.first.tiles:
        raise InputError(f"DICOM results cannot refer to the slices of a Siemens mosaic: {path}; leave out --dicom")
    files = list(dict.fromkeys(frame.file for frame in group.frames))
    many = group.first.frames > 1
    if many and len(files) > 1:
        raise InputError(f"DICOM results cannot refer to a volume of {len(files)} multi-frame files; leave out --dicom")
    datasets = [_header(path, file, said) for file in files]
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        if len({str(ds.get(name)) for ds in datasets}) > 1:
            raise InputError(f"the slices of {path} differ in {name}: DICOM results need one; leave out --dicom")
    indices = tuple(frame.index for frame in group.frames) if many else None
    if many:
        _share_groups(path, datasets[0], indices)
    step = group.step if group.step is not None else group.first.normal
    for ds in datasets:
        _complete(ds, float(np.linalg.norm(step)), said)
    off = np.linalg.norm(np.cross(step, group.first.normal))
    if off > SHEARED * np.linalg.norm(step):
        said["Slices are sheared (tilted gantry): readers that ignore it show the segments shifted"] = None
    shape = (group.first.size[1], group.first.size[0], len(group.frames))
    return Sources(tuple(datasets), indices, affine_of(group), shape, tuple(said))


def check_grid(sources: Sources, affine: np.ndarray, shape: Sequence[int]) -> None:
    """Raise InputError unless voxels of a result lie where the headers say, within 1e-3 mm."""
    volume = Volume(np.zeros((1, 1, 1), bool), sources.affine)
    same = tuple(shape) == sources.shape
    if not same or not Volume(np.broadcast_to(volume.array, shape), affine).same_grid(
        Volume(np.broadcast_to(volume.array, shape), sources.affine)
    ):
        raise InputError(
            f"the result's grid {tuple(shape)} is not that of the DICOM headers {sources.shape}, or lies elsewhere: "
            "name the series that was scored"
        )


def source_of(frame) -> tuple[str, int]:
    """The image that a frame of an object is from, as `Sources.positions` names it."""
    source = frame.DerivationImageSequence[0].SourceImageSequence[0]
    return str(source.ReferencedSOPInstanceUID), int(source.get("ReferencedFrameNumber") or 0)


def as_written(values: Iterable) -> str:
    """Decimal strings in the letters of their file."""
    return "\\".join(str(getattr(value, "original_string", value)) for value in values)


def is_legal(values: Iterable) -> bool:
    """True for decimal strings that are no longer than DICOM allows (PS3.5, 6.2)."""
    return all(len(text) <= 16 for text in as_written(values).split("\\"))


def uid(*parts: str | bytes) -> str:
    """A UID of the digest of some parts: 2.25 and a number of 128 bits (PS3.5, B.2)."""
    digest = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big") + data)
    return f"2.25.{int(digest.hexdigest()[:32], 16)}"


def _check_places(path: Path, group: Group) -> None:
    first = group.first
    lacks = {"ImageOrientationPatient": first.orientation, "PixelSpacing": first.spacing}
    lacks["ImagePositionPatient"] = all(frame.position is not None for frame in group.frames) or None
    missing = [name for name, value in lacks.items() if value is None]
    if missing:
        raise InputError(f"the headers of {path} lack {', '.join(missing)}: DICOM results cannot be placed")


def _header(path: Path, file: Path, said: dict):
    """The elements TAGS of a file in Unicode; raises InputError."""
    pydicom = pydicom_of(file)
    with discreet():
        try:
            read = pydicom.dcmread(
                file, stop_before_pixels=True, force=not has_preamble(file), specific_tags=list(TAGS)
            )
            with suppress(LookupError, UnicodeError):  # an unknown character set: what can be read stays
                read.decode()
        except Exception as error:  # a damaged header makes pydicom raise nearly anything
            raise InputError(f"cannot read a DICOM header of {path} for its results") from error
        ds = pydicom.Dataset()
        for name in TAGS:
            _copy(read, ds, name, said)
        ds.SpecificCharacterSet = UTF8
    missing = [name for name in MUST if not ds.get(name)]
    if missing:
        raise InputError(f"a header of {path} lacks {', '.join(missing)}: DICOM results cannot refer to it")
    return ds


def _copy(read, ds, name: str, said: dict) -> None:
    """Copy an element that is there and is what DICOM asks; dates, times, words and numbers must be such."""
    try:
        value = _valid(read.get(name), name, said)
        if value is not None:
            setattr(ds, name, value)
    except Exception:  # no number where one is due, say
        said[f"{name} of the source is damaged and left out"] = None


def _valid(value, name: str, said: dict):
    """The value of an element, None where it is absent or not to be used."""
    from pydicom.datadict import dictionary_VR

    kind = dictionary_VR(name)
    if value is None or ((kind in EMPTY or name in MORE) and not isinstance(value, int) and not value):
        return None
    text = str(value)
    good = {"DA": _is_date, "TM": _is_time}.get(kind, lambda _: True)(text)
    good = good and (name != "FrameOfReferenceUID" or re.fullmatch(r"[0-9.]{1,64}", text))
    good = good and (name != "PatientSex" or text in ("", "M", "F", "O"))
    good = good and (name != "PatientAge" or not text or re.fullmatch(r"\d{3}[DWMY]", text))
    good = good and (name != "StudyDescription" or (len(text) <= 64 and text.isprintable() and "\\" not in text))
    good = good and (kind != "CS" or name == "ImageType" or re.fullmatch(r"[A-Z0-9_ ]{0,16}", text))
    if not good:
        said[f"{name} of the source is not as DICOM asks and left empty"] = None
        return "" if name in (*PATIENT, *STUDY) else None
    return value


def _is_date(text: str) -> bool:
    if not text:
        return True
    try:
        datetime.strptime(text, "%Y%m%d")
    except ValueError:
        return False
    return len(text) == 8


def _is_time(text: str) -> bool:
    return re.fullmatch(r"(([01]\d|2[0-3])([0-5]\d([0-5]\d(\.\d{1,6})?)?)?)?", text) is not None


def _complete(ds, step_mm: float, said: dict) -> None:
    """Fill in what every object must have and this source does not say."""
    for name in (*PATIENT, *STUDY):
        if name not in ds:
            setattr(ds, name, "")
    if not ds.get("Modality"):
        ds.Modality = "OT"
    # Absent or empty (which MR allows), or no length at all.
    if "NumberOfFrames" not in ds and not (ds.get("SliceThickness") or 0) > 0:
        ds.SliceThickness = f"{step_mm:.9g}"
    if not ds.get("FrameOfReferenceUID"):
        ds.FrameOfReferenceUID = uid("frame of reference", str(ds.SeriesInstanceUID))
        said["The source has no frame of reference; one was derived from its series"] = None


def _share_groups(path: Path, ds, indices: Sequence[int]) -> None:
    """Keep of the functional groups those of places, shared where the frames of the volume agree.

    Makers may give spacing and orientation frame by frame; highdicom takes them from the shared groups.
    """
    from pydicom import Dataset

    shared = next(iter(ds.get("SharedFunctionalGroupsSequence") or []), Dataset())
    frames = ds.PerFrameFunctionalGroupsSequence
    common = Dataset()
    for name in GROUPS[:2]:
        found = [next((each[name].value for each in (frames[n], shared) if name in each), None) for n in indices]
        if not found[0] or any(each is None or each[0] != found[0][0] for each in found):
            raise InputError(f"the frames of {path} differ in {name}: DICOM results need one; leave out --dicom")
        setattr(common, name, [_only(found[0][0])])
    plain = []
    for n in range(len(frames)):
        own = Dataset()
        place = next((each[GROUPS[2]].value for each in (frames[n], shared) if GROUPS[2] in each), None)
        if place:
            own.PlanePositionSequence = [_only(place[0])]
        plain.append(own)
    measures = common.PixelMeasuresSequence[0]
    if not (measures.get("SliceThickness") or 0) > 0 and "SpacingBetweenSlices" in measures:
        measures.SliceThickness = measures.SpacingBetweenSlices
    ds.SharedFunctionalGroupsSequence, ds.PerFrameFunctionalGroupsSequence = [common], plain


def _only(item):
    """The public elements of a functional group."""
    from pydicom import Dataset

    kept = Dataset()
    for element in item:
        if not element.tag.is_private:
            kept.add(element)
    return kept
