"""The endings of volume files, and the mark of DICOM."""

from __future__ import annotations

from pathlib import Path

NIFTI = (".nii", ".nii.gz")
ITK = (".nrrd", ".nhdr", ".mha", ".mhd")
VOLUMES = NIFTI + ITK
WRITTEN = (*NIFTI, ".nrrd", ".mha")  # those of one file, which can be complete or absent


def split_suffix(path: Path) -> tuple[str, str]:
    """The file name without its ending, and the ending in lower case; ".nii.gz" is one ending."""
    name = path.name
    suffix = ".nii.gz" if name.lower().endswith(".nii.gz") else path.suffix.lower()
    return name[: len(name) - len(suffix)], suffix


def is_dicom(path: Path) -> bool:
    """True for a DICOM file by its suffix or by the mark after its preamble (PS3.10, 7.1)."""
    if path.suffix.lower() == ".dcm":
        return True
    try:
        with open(path, "rb") as file:
            return file.read(132)[128:] == b"DICM"
    except OSError:
        return False
