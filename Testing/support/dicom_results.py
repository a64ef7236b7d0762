"""A made-up detection on a series of tests, as the DICOM objects need it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from dicom_files import AXIAL, brain, write_series

from ZSADCLIPLib.dicom.export import export, folder_of
from ZSADCLIPLib.dicom.outcome import Outcome
from ZSADCLIPLib.dicom.sources import read_sources
from ZSADCLIPLib.volumes.components import components

FRAME = "1.2.826.0.1.3680043.9.7"
IDENTITY = {
    "PatientBirthDate": "19700101",
    "PatientSex": "F",
    "StudyDate": "20240102",
    "StudyTime": "101112",
    "StudyID": "7",
    "AccessionNumber": "ACC1",
    "ReferringPhysicianName": "",
    "FrameOfReferenceUID": FRAME,
    "Manufacturer": "SOMEBODY",
}
"""What a usual source says besides places."""


def whole_series(folder, slices=6, **tags) -> Path:
    """A series of 16 x 18 x `slices` with everything that a usual source says; a tag that is None is left out."""
    return write_series(folder, brain(slices), **{"ImageOrientationPatient": list(AXIAL), **IDENTITY, **tags})


def mask_of(shape, count=2) -> np.ndarray:
    """`count` parts apart from each other, bool."""
    mask, placed = np.zeros(shape, bool), 0
    for z in range(0, shape[2], 2):
        for y in range(0, shape[1], 2):
            for x in range(0, shape[0], 2):
                if placed < count:
                    mask[x, y, z] = True
                    placed += 1
    return mask


def findings_of(mask, scores) -> list[dict]:
    """The parts of a mask as the JSON of a case has them."""
    labels, found = components(mask), []
    for label in range(1, int(labels.max()) + 1):
        inside = scores[labels == label].astype(float)
        side = ("left", "right", "midline")[label % 3]
        size = dict(voxels=int(inside.size), volume_mm3=1.8 * inside.size)
        found.append(dict(rank=label, label=label, peak=inside.max(), mean=inside.mean(), side=side, **size))
    return found


def outcome_of(sources, count=2, region="brain", mask=None) -> Outcome:
    """An outcome with `count` findings on the grid of sources."""
    scores = np.random.default_rng(3).uniform(0, 4, sources.shape).astype(np.float32)
    mask = mask_of(sources.shape, count) if mask is None else mask
    found = findings_of(mask, scores)
    return Outcome(
        scores, components(mask), found, sources.affine, "ZSADCLIP Test", region, "0123456789abcdef", (0.0, 4.0)
    )


def exported(series, out, wanted="results", count=2, picture=None, region="brain", volume=None) -> tuple[Path, Outcome]:
    """The folder of the objects made of a series, and their outcome."""
    sources = read_sources(series, volume)
    outcome = outcome_of(sources, count, region)
    folder = folder_of(out, "case")
    export(folder, sources, outcome, wanted, picture)
    return folder, outcome


def spoil(ds, name, harm) -> None:
    """Harm an element of a dataset: "deleted", "emptied", "damaged", "too long" or "of bytes"."""
    from pydicom import Dataset
    from pydicom.datadict import dictionary_VR, tag_for_keyword
    from pydicom.dataelem import RawDataElement
    from pydicom.tag import Tag

    kind, tag = dictionary_VR(name), Tag(tag_for_keyword(name))
    if harm == "deleted":
        del ds[name]
    elif kind == "SQ":
        setattr(ds, name, [] if harm == "emptied" else [Dataset()])
    else:
        texts = {"emptied": b"", "damaged": b"?/\x07 ", "too long": b"9" * 70, "of bytes": b"\xff\xfe\\\x80\x00 "}
        value = b"\x07\x00" if kind == "US" and harm != "emptied" else texts[harm]
        ds[tag] = RawDataElement(tag, kind, len(value), value, 0, False, True)
