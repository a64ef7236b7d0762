"""DICOM files made up for tests: slices, series, enhanced files, mosaics and media, with a volume whose place is known."""

from __future__ import annotations

import struct
import warnings
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

MR, ENHANCED_MR, CT = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("4", "4.1", "2"))
SEG, SR, CAPTURE, PDF = (f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("66.4", "88.33", "7", "104.1"))
UID = "1.2.826.0.1.3680043.9.1.1"
AXIAL, CORONAL, SAGITTAL = (1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1)
ORIGIN, STEP = np.array([-10.0, -20.0, 30.0]), np.array([0.0, 0.0, 2.5])
ROWS_APART, COLUMNS_APART = 0.9, 0.8
AFFINE = np.array([[-0.8, 0, 0, 10], [0, -0.9, 0, 20], [0, 0, 2.5, 30], [0, 0, 0, 1.0]])
"""Voxel to RAS mm of a series at ORIGIN."""


def brain(slices=10, seed=0):
    """Whole numbers from 0 to 999, (16, 18, slices): columns, rows, slices."""
    return np.random.default_rng(seed).integers(0, 1000, (16, 18, slices)).astype(np.uint16)


def header(path, sop_class=MR, uid=UID):
    """A file without pixels and place, as far as any DICOM object needs."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID = sop_class, ExplicitVRLittleEndian
    meta.MediaStorageSOPInstanceUID = generate_uid()
    ds = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    ds.SOPClassUID, ds.SOPInstanceUID, ds.Modality = sop_class, meta.MediaStorageSOPInstanceUID, "MR"
    ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SeriesNumber = f"{UID}.9", uid, 1
    ds.PatientName, ds.PatientID, ds.SeriesDescription = "Doe^Jane", "4711-PAT", "T2 DOE"
    return ds


def with_pixels(ds, pixels):
    """The object with 16-bit pixels (..., rows, columns)."""
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 16
    ds.HighBit, ds.PixelRepresentation = 15, 0
    ds.Rows, ds.Columns = pixels.shape[-2:]
    ds.PixelData = np.ascontiguousarray(pixels, np.uint16).tobytes()
    return ds


def write_slice(
    path, pixels, position=ORIGIN, axes=AXIAL, number=1, sop_class=MR, uid=UID, photometric="MONOCHROME2", **tags
):
    """One slice (rows, columns); a tag that is None is left out. Returns the path."""
    ds = header(path, sop_class, uid)
    tags = {
        "ImagePositionPatient": [float(x) for x in position],
        "ImageOrientationPatient": [float(x) for x in axes],
        "PixelSpacing": [ROWS_APART, COLUMNS_APART],
        "SliceThickness": 2.5,
        "InstanceNumber": number,
        **tags,
    }
    for name, value in tags.items():
        if value is not None:
            setattr(ds, name, value)
    with_pixels(ds, pixels).PhotometricInterpretation = photometric
    ds.save_as(path, enforce_file_format=True)
    return Path(path)


def write_series(folder, volume, step=STEP, first=1, skip=(), prefix="s", origin=ORIGIN, **tags):
    """A volume (columns, rows, slices) as one file a slice; a tag that is a function gets the number of the slice."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for k in sorted(set(range(volume.shape[2])) - set(skip)):
        given = {name: value(k) if callable(value) else value for name, value in tags.items()}
        write_slice(
            folder / f"{prefix}{first + k:03}",
            volume[:, :, k].T,
            origin + k * np.asarray(step),
            number=first + k,
            **given,
        )
    return folder


def write_object(path, sop_class):
    """A DICOM object that is no image, or an image without a place."""
    ds = header(path, sop_class, f"{UID}.{sop_class.replace('.', '')[-6:]}")
    if sop_class in (SEG, CAPTURE):
        with_pixels(ds, np.zeros((18, 16)))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return Path(path)


def write_enhanced(path, planes, places, frames=None, shared=None, uid=UID, **tags):
    """An enhanced MR file: pixels (frames, rows, columns), their places in slices, and functional groups a frame.

    `frames` is a list of {group: {keyword: value}}; `shared` one such.
    """
    ds = with_pixels(header(path, ENHANCED_MR, uid), planes)
    ds.NumberOfFrames, ds.InstanceNumber = len(planes), 1
    measures = {"PixelSpacing": [ROWS_APART, COLUMNS_APART], "SliceThickness": 2.5}
    common = {"PlaneOrientationSequence": {"ImageOrientationPatient": list(AXIAL)}, "PixelMeasuresSequence": measures}
    ds.SharedFunctionalGroupsSequence = [_groups({**common, **(shared or {})})]
    each = frames or [{}] * len(planes)
    ds.PerFrameFunctionalGroupsSequence = [
        _groups({"PlanePositionSequence": {"ImagePositionPatient": [float(x) for x in ORIGIN + k * STEP]}, **more})
        for k, more in zip(places, each, strict=True)
    ]
    for name, value in tags.items():
        setattr(ds, name, value)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    ds.save_as(path, enforce_file_format=True)
    return Path(path)


def _groups(groups):
    out = Dataset()
    for name, values in groups.items():
        item = Dataset()
        for keyword, value in values.items():
            setattr(item, keyword, value)
        setattr(out, name, [item])
    return out


def write_mosaic(path, volume, normal=(0.0, 0.0, 1.0), csa=True, number=1, **tags):
    """A Siemens mosaic of a volume, whose slices follow each other along `normal`, placed as Siemens does."""
    columns, rows, slices = volume.shape
    side = int(np.ceil(np.sqrt(slices)))
    sheet = np.zeros((rows * side, columns * side), np.uint16)
    for k in range(slices):
        top, left = k // side * rows, k % side * columns
        sheet[top : top + rows, left : left + columns] = volume[:, :, k].T
    corner = ORIGIN - np.array([columns * (side - 1) * COLUMNS_APART / 2, rows * (side - 1) * ROWS_APART / 2, 0])
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    kind = ["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"]
    write_slice(
        path, sheet, corner, number=number, ImageType=kind, SpacingBetweenSlices=2.5, Manufacturer="SIEMENS", **tags
    )
    from pydicom import dcmread

    ds = dcmread(path)
    block = ds.private_block(0x0019, "SIEMENS MR HEADER", create=True)
    block.add_new(0x0A, "US", slices)
    if csa:
        block = ds.private_block(0x0029, "SIEMENS CSA HEADER", create=True)
        block.add_new(0x10, "OB", _csa({"SliceNormalVector": [f"{x:.8f}" for x in normal]}))
    ds.save_as(path)
    return Path(path)


def _csa(fields):
    """Siemens' own header, second version: tags of texts."""
    out = b"SV10" + bytes([4, 3, 2, 1]) + struct.pack("<2I", len(fields), 77)
    for name, values in fields.items():
        out += struct.pack("<64si4s3i", name.encode(), len(values), b"FD\0\0", 4, max(6, len(values)), 77)
        for n in range(max(6, len(values))):
            text = values[n].encode() + b"\0" if n < len(values) else b""
            out += struct.pack("<4i", len(text), len(text), 77, len(text)) + text + bytes(-len(text) % 4)
    return out


def write_dicomdir(path, files):
    """A table of contents that names files by the words of their paths."""
    ds = header(path, "1.2.840.10008.1.3.10")
    ds.DirectoryRecordSequence = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names of files in small letters, as on many media
        for words in files:
            record = Dataset()
            record.DirectoryRecordType, record.ReferencedFileID = "IMAGE", list(words)
            ds.DirectoryRecordSequence.append(record)
        ds.save_as(path, enforce_file_format=True)
    return Path(path)
