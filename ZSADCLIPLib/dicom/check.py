"""What is wrong with DICOM objects, in plain sentences; dciodvfy is asked, too, where it is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np

from ..errors import InputError
from .outcome import MAKER, RESEARCH
from .sources import PATIENT, STUDY, Sources, as_written, discreet, is_legal, source_of

SEGMENTATION, MAP = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.30"
REPORTS = tuple(f"1.2.840.10008.5.1.4.1.1.88.{n}" for n in (22, 33, 34))
UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")
VALIDATOR = "dciodvfy"
KNOWN = ("Unrecognized defined term",)
"""What the validator does not know and the standard allows: private codes, QUANTITY in parametric maps."""


def check(file: Path, places: Mapping[tuple[str, int], str] | None = None) -> list[str]:
    """What is wrong with an object, nothing where all is well; `places` as `places_of` gives them, to be copied exactly.

    Raises InputError for a file that is no DICOM object.
    """
    import pydicom

    with discreet():
        try:
            ds = pydicom.dcmread(file)
            found = ["the file is cut off"] * is_cut(ds) + list(_general(ds))
            special: dict[str, Callable] = {SEGMENTATION: _segmentation, MAP: _map, **dict.fromkeys(REPORTS, _report)}
            if ds.SOPClassUID in special:
                found += special[ds.SOPClassUID](ds)
            if places and ds.SOPClassUID in (SEGMENTATION, MAP):
                found += _places(ds, places)
        except pydicom.errors.InvalidDicomError as error:
            raise InputError(f"{file} is no DICOM file; give the objects of 'zsadclip detect --dicom'") from error
        except Exception as error:  # a damaged header makes pydicom raise nearly anything
            return [f"the object cannot be read to its end ({type(error).__name__})"]
    return found + _validated(file)


def places_of(sources: Sources) -> dict[tuple[str, int], str]:
    """The positions (x, y, z) of a source's slices as they are written, by SOPInstanceUID and, of frames, number.

    Those with more letters than DICOM allows are left "", as they cannot be copied.
    """
    return {key: as_written(at) if is_legal(at) else "" for key, at in sources.positions.items()}


def is_cut(ds) -> bool:
    """True where the file of a dataset that was just read ends before its last element does."""
    last = ds.get_item(max(ds.keys())) if len(ds) else None
    length = getattr(last, "length", None)  # of an element that is not decoded yet
    return length not in (None, 0xFFFFFFFF) and len(last.value or b"") < length


def _general(ds) -> Iterator[str]:
    for name in ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        value = str(ds.get(name, ""))
        if not value:
            yield f"{name} is missing"
        elif len(value) > 64 or not UID.fullmatch(value):
            yield f"{name} is no UID: digits and dots, at most 64, no leading zeros"
    missing = [name for name in (*PATIENT, *STUDY, "Modality", "SeriesNumber", "Manufacturer") if name not in ds]
    if missing:
        yield f"without {', '.join(missing)}, which every object has, be it empty"
    if ds.get("Manufacturer") == MAKER and not str(ds.get("SeriesDescription", "")).endswith(RESEARCH):
        yield f"the description of the series does not end in {RESEARCH}"
    meta = ds.file_meta
    if meta.get("MediaStorageSOPInstanceUID") != ds.get("SOPInstanceUID"):
        yield "the file's own header names another object"


def _frames(ds) -> Iterator[str]:
    frames = ds.PerFrameFunctionalGroupsSequence
    if len(frames) != int(ds.NumberOfFrames):
        yield f"{ds.NumberOfFrames} frames, and groups for {len(frames)}"
    if not ds.get("FrameOfReferenceUID"):
        yield "FrameOfReferenceUID is missing: frames are placed nowhere"
    sourced = [f.get("DerivationImageSequence") for f in frames]
    if not all(each and each[0].get("SourceImageSequence") for each in sourced):
        yield "a frame does not say from which image it is"
    if not all(f.get("PlanePositionSequence") for f in frames):
        yield "a frame has no place"


def _segmentation(ds) -> Iterator[str]:
    yield from _frames(ds)
    numbers = [int(segment.SegmentNumber) for segment in ds.SegmentSequence]
    if numbers != list(range(1, len(numbers) + 1)):
        yield "segments are not numbered 1, 2, 3 and so on"
    used = {
        int(f.SegmentIdentificationSequence[0].ReferencedSegmentNumber) for f in ds.PerFrameFunctionalGroupsSequence
    }
    if used - set(numbers):
        yield "a frame is of a segment that is not there"
    if set(numbers) - used:
        yield "a segment has no frame"
    if not all(segment.get("SegmentationAlgorithmIdentificationSequence") for segment in ds.SegmentSequence):
        yield "a segment does not say which algorithm made it"


def _map(ds) -> Iterator[str]:
    yield from _frames(ds)
    if "FloatPixelData" not in ds:
        yield "no float values: readers of Slicer fail on maps of whole numbers"
    elif not np.isfinite(np.frombuffer(ds.FloatPixelData, "<f4")).all():
        yield "the map holds NaN or infinite values"
    if not ds.SharedFunctionalGroupsSequence[0].get("FrameAnatomySequence"):
        yield "without FrameAnatomySequence Slicer's importer crashes"
    places = [f.PlanePositionSequence[0].ImagePositionPatient for f in ds.PerFrameFunctionalGroupsSequence]
    turned = ds.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient
    normal = np.cross(*np.reshape(np.array(turned, float), (2, 3)))
    if (np.diff(np.array(places, float) @ normal) < 0).any():
        yield "the frames run against their normal: Slicer's importer would mirror the map"
    if "ContentCreatorName" not in ds:
        yield "without ContentCreatorName, which every map has, be it empty"


def _report(ds) -> Iterator[str]:
    template = ds.get("ContentTemplateSequence")
    if not template or template[0].get("TemplateIdentifier") != "1500":
        yield "no measurement report (TID 1500)"
    if ds.get("VerificationFlag") != "UNVERIFIED" and ds.get("Manufacturer") == MAKER:
        yield "says that a person verified it"
    if any(item.get("ValueType") in ("SCOORD", "SCOORD3D") for item in _items(ds)):
        yield "names a region of an image: Slicer then leaves the segmentation aside"


def _items(ds) -> Iterator:
    for item in ds.get("ContentSequence", []):
        yield item
        yield from _items(item)


def _places(ds, places: Mapping[tuple[str, int], str]) -> Iterator[str]:
    wrong = other = 0
    for f in ds.PerFrameFunctionalGroupsSequence:
        key, here = source_of(f), as_written(f.PlanePositionSequence[0].ImagePositionPatient)
        other += key not in places
        wrong += here != (places.get(key) or here)
    if other:
        yield f"{other} frames are of images that are not in the source"
    if wrong:
        yield f"{wrong} frames do not have the place of their image"


def _validated(file: Path) -> list[str]:
    """The errors that dciodvfy finds, none where it is not installed."""
    program = shutil.which(VALIDATOR)
    if program is None:
        return []
    said = subprocess.run([program, str(file)], capture_output=True, text=True, errors="replace", check=False)
    lines = dict.fromkeys((said.stderr + said.stdout).splitlines())
    return [f"{VALIDATOR}: {line}" for line in lines if "Error" in line and not any(word in line for word in KNOWN)]
