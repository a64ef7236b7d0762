"""DICOM headers as frames: what each plane of a file is, where it lies and what tells it from others; no pixel is read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..errors import DependencyError
from ..files.names import has_preamble
from ..threads import unwarned
from .dicom_frame import Frame, tiles_of
from .nifti import GZIP_RATIO

IMAGES = ("2", "2.1", "2.2", "4", "4.1", "4.4", "128", "128.1", "130", "13.1.1", "13.1.2", "13.1.3")
"""Storage classes of volumes below STORAGE: CT, MR, PET and three-dimensional X-ray, single frames and enhanced."""
STORAGE = "1.2.840.10008.5.1.4.1.1."
DIRECTORY = "1.2.840.10008.1.3.10"
CAPTURE = "secondary capture"
DAMAGED = "damaged file"
MOSAIC = "Siemens mosaic whose header does not place its slices: convert it to NIfTI first"
OTHERS = {
    "7": CAPTURE,
    "66.4": "segmentation",
    "66.7": "segmentation",
    "66": "raw data or registration",
    "30": "parametric map",
    "88": "structured report",
    "11": "presentation state",
    "104": "encapsulated document",
    "481.2": "radiotherapy dose",
    "481": "radiotherapy structure set or plan",
    "4.2": "MR spectroscopy",
    "4.3": "colour image",
    "3": "ultrasound frames",
    "6": "ultrasound frames",
    "12": "X-ray cine frames",
    "20": "nuclear medicine frames",
    "1": "X-ray projection",
    "77": "photograph or endoscopy",
    "9": "waveform",
    "67": "value mapping",
}
"""What other storage classes hold; the longest beginning that fits says it."""
NATIVE = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2")
TAGS = (
    *("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SeriesDescription", "SeriesNumber", "Modality"),
    *("ImageType", "Manufacturer", "SpecificCharacterSet", "Rows", "Columns", "NumberOfFrames", "SamplesPerPixel"),
    *("PhotometricInterpretation", "BitsAllocated", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing"),
    *("SliceThickness", "SpacingBetweenSlices", "SliceLocation", "EchoTime", "EchoNumbers", "DiffusionBValue"),
    *("TemporalPositionIdentifier", "AcquisitionNumber", "InstanceNumber", "AcquisitionDate", "AcquisitionTime"),
    *("ContentTime", "TriggerTime", "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"),
)
B_VALUES = {"SIEMENS": (0x0019, 0x100C), "GE": (0x0043, 0x1039), "PHILIPS": (0x2001, 0x1003)}
GE_PART = (0x0043, 0x102F)  # magnitude, phase, real or imaginary, which GE's ImageType does not tell
MOSAIC_COUNT, MOSAIC_CSA = (0x0019, 0x100A), (0x0029, 0x1010)
GE_OFFSET = 10**9  # GE adds it to b-values of some sequences


def pydicom_of(path: Path):
    """The library; raises DependencyError where it is missing."""
    try:
        import pydicom
    except ImportError as error:
        raise DependencyError(
            f"{path} needs pydicom, which is not installed: pip install 'zsadclip[dicom]', or convert to .nii.gz"
        ) from error
    return pydicom


def frames_of(file: Path) -> tuple[list[Frame], str]:
    """The frames of a file, or none and what it is instead; raises DependencyError without pydicom."""
    pydicom = pydicom_of(file)
    tags = [*TAGS, *B_VALUES.values(), GE_PART, MOSAIC_COUNT, MOSAIC_CSA]
    with unwarned():  # they may quote a header, and the file's own fate is told otherwise
        try:
            with open(file, "rb") as stream:
                header = pydicom.dcmread(
                    stream, stop_before_pixels=True, force=not has_preamble(file), specific_tags=tags
                )
                rest = file.stat().st_size - stream.tell()
            what = _other(header)
            if what or not _is_complete(header, file.stat().st_size, rest):
                return [], what or DAMAGED
            return _frames(file, header)
        except Exception:  # a damaged header makes pydicom raise nearly anything
            return [], DAMAGED


def _other(header) -> str:
    """What a file is that is no volume, from its class; "" for an image."""
    meta = getattr(header, "file_meta", None)
    uid = str(header.get("SOPClassUID") or (meta.get("MediaStorageSOPClassUID") if meta else None) or "")
    if uid == DIRECTORY or (meta and meta.get("MediaStorageSOPClassUID") == DIRECTORY):
        return "DICOMDIR"
    code = uid.removeprefix(STORAGE)
    if uid.startswith(STORAGE) and code not in IMAGES:
        fits = [name for name in OTHERS if f"{code}.".startswith(f"{name}.")]
        what = OTHERS[max(fits, key=len)] if fits else "another object"
        placed = header.get("ImagePositionPatient") and header.get("ImageOrientationPatient")
        if what != CAPTURE or not placed or int(header.get("NumberOfFrames") or 1) > 1:
            return what
    if not header.get("Rows") or not header.get("Columns"):
        return DAMAGED if not uid or code in IMAGES else "another object"
    if int(header.get("SamplesPerPixel") or 1) > 1 or header.get("PhotometricInterpretation") == "PALETTE COLOR":
        return "colour image"
    return ""


def _is_complete(header, size: int, rest: int) -> bool:
    """False for a file that cannot hold the pixels its header claims."""
    frames, bits = int(header.get("NumberOfFrames") or 1), int(header.get("BitsAllocated") or 16)
    expected = int(header.Rows) * int(header.Columns) * frames * bits // 8
    syntax = str(getattr(header, "file_meta", {}).get("TransferSyntaxUID") or NATIVE[0])
    return rest >= expected if syntax in NATIVE else size * GZIP_RATIO >= expected


def _frames(file: Path, header) -> tuple[list[Frame], str]:
    if per_frame := header.get("PerFrameFunctionalGroupsSequence"):
        shared = next(iter(header.get("SharedFunctionalGroupsSequence") or []), None)
        if len(per_frame) != int(header.get("NumberOfFrames") or 1):
            return [], DAMAGED
        return list(_enhanced(file, header, shared, per_frame)), ""
    if int(header.get("NumberOfFrames") or 1) > 1:
        return [], "file of several frames without a place for each"
    frame = _frame(file, header, 0, 1, lambda _, keyword: header.get(keyword))
    if "MOSAIC" in frame.kind:
        tiles = tiles_of(frame, _number(header.get(MOSAIC_COUNT)), header.get(MOSAIC_CSA))
        return tiles, "" if tiles else MOSAIC
    return [frame], ""


def _enhanced(file: Path, header, shared, per_frame) -> Iterator[Frame]:
    """The frames of an enhanced file: what a frame's own groups do not say the shared ones do, then the header."""
    applied = None
    for index, own in enumerate(per_frame):

        def value(group: str | None, keyword: str, own=own):
            for groups in (own, shared):
                items = groups.get(group) if groups is not None and group else None
                if items and (found := items[0].get(keyword)) is not None:
                    return found
            return header.get(keyword)

        frame = _frame(file, header, index, len(per_frame), value)
        applied = applied or frame.rescale
        yield replace(frame, applied=applied)


def _frame(file: Path, header, index: int, frames: int, value) -> Frame:
    """A frame from `value(functional group or None, keyword)`."""
    maker = str(header.get("Manufacturer") or "").upper()
    types = ("MRImageFrameTypeSequence", "CTImageFrameTypeSequence", "PETFrameTypeSequence")
    kind = next((found for name in types if (found := value(name, "FrameType"))), header.get("ImageType"))
    kind = tuple(str(word) for word in ([kind] if isinstance(kind, str) else kind or ())[2:])
    if maker.startswith("GE") and (part := _number(header.get(GE_PART))):
        kind += (("phase", "real", "imaginary")[int(part) - 1] if part in (1, 2, 3) else f"{part:g}",)
    b_value = _number(value("MRDiffusionSequence", "DiffusionBValue"))
    private = next((tag for name, tag in B_VALUES.items() if maker.startswith(name)), None)
    if b_value is None and private and frames == 1:
        b_value = _number(header.get(private))
        b_value = b_value % GE_OFFSET if b_value is not None and maker.startswith("GE") else b_value
    first, content = _number(header.get("InstanceNumber")), "FrameContentSequence"
    times = tuple(str(header.get(name) or "") for name in ("AcquisitionDate", "AcquisitionTime", "ContentTime"))
    trigger = _number(value("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"))
    trigger = trigger if trigger is not None else _number(header.get("TriggerTime"))
    rescale = [_number(value("PixelValueTransformationSequence", f"Rescale{of}")) for of in ("Slope", "Intercept")]
    rescale = (rescale[0] or 1.0, rescale[1] or 0.0)
    time = _number(value(content, "TemporalPositionIndex"))
    acquisition = _number(value(content, "FrameAcquisitionNumber"))
    spacing = _numbers(value("PixelMeasuresSequence", "PixelSpacing"), 2)
    between = _number(value("PixelMeasuresSequence", "SpacingBetweenSlices"))
    echo = _number(value("MREchoSequence", "EffectiveEchoTime"))
    return Frame(
        file,
        index,
        frames,
        str(header.get("SeriesInstanceUID") or ""),
        str(header.get("SOPInstanceUID") or ""),
        _number(header.get("SeriesNumber")) or 0.0,
        str(header.get("Modality") or ""),
        str(header.get("SeriesDescription") or "").strip(),
        (int(header.Rows), int(header.Columns)),
        _numbers(value("PlanePositionSequence", "ImagePositionPatient"), 3),
        _unit(_numbers(value("PlaneOrientationSequence", "ImageOrientationPatient"), 6)),
        spacing if spacing and min(spacing) > 0 else None,
        _positive(_number(value("PixelMeasuresSequence", "SliceThickness"))),
        _positive(abs(between) if between is not None else None),  # some makers give it a sign
        _number(header.get("SliceLocation")),
        kind,
        echo if echo is not None else _number(header.get("EchoTime")),
        _number(header.get("EchoNumbers")),
        time if time is not None else _number(header.get("TemporalPositionIdentifier")),
        b_value,
        acquisition if acquisition is not None else _number(header.get("AcquisitionNumber")),
        trigger,
        (first if first is not None else -1.0, *times, index),
        rescale,
        rescale,
        inverted=header.get("PhotometricInterpretation") == "MONOCHROME1",
        capture=str(header.get("SOPClassUID") or "").startswith(f"{STORAGE}7"),
    )


def _number(value) -> float | None:
    found = _numbers(value, None)
    return found[0] if found else None


def _numbers(value, count: int | None) -> tuple[float, ...] | None:
    """Finite numbers of a header's value or element, exactly `count` where that is given."""
    value = getattr(value, "value", value)
    if value is None or value == "":
        return None
    try:
        items = [value] if isinstance(value, (str, int, float)) else list(value)
        found = tuple(float(item) for item in items)
    except (TypeError, ValueError):
        return None
    return found if all(map(math.isfinite, found)) and count in (None, len(found)) else None


def _positive(value: float | None) -> float | None:
    return value if value is not None and value > 0 else None


def _unit(axes: tuple[float, ...] | None) -> tuple[float, ...] | None:
    """Row and column direction of unit length; None where they are no two right angles apart."""
    if axes is None:
        return None
    pair = np.reshape(axes, (2, 3))
    lengths = np.linalg.norm(pair, axis=1)
    if lengths.min() < 0.5:
        return None
    pair = pair / lengths[:, None]
    return tuple(float(x) for x in pair.ravel()) if abs(pair[0] @ pair[1]) < 1e-2 else None
