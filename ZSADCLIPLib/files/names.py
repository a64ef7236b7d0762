"""Names of files: their endings, the mark of DICOM, and ids that any system takes for a name."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from ..errors import InputError, listed
from .privacy import DIGITS, pseudonym


def split_suffix(path: Path) -> tuple[str, str]:
    """The file name without its ending, and the ending in lower case; ".gz" belongs to the one before it, as in ".nii.gz"."""
    last = path.suffix
    suffix = Path(path.stem).suffix + last if last.lower() == ".gz" else last
    return path.name.removesuffix(suffix), suffix.lower()


def is_dicom(path: Path) -> bool:
    """True for a DICOM file by its suffix, by the mark after its preamble (PS3.10, 7.1), or by its first element.

    The last is for files without preamble; a DICOMDIR is none, as it holds no image.
    """
    if is_dicomdir(path):
        return False
    return path.suffix.lower() == ".dcm" or has_preamble(path) or _starts_as_dicom(_start(path))


def is_dicomdir(path: Path) -> bool:
    """True for the table of contents of a DICOM medium, which has this name by PS3.10, 8."""
    return path.name.upper() == "DICOMDIR"


def has_preamble(path: Path) -> bool:
    """True for a file with the mark of DICOM after its preamble."""
    return _start(path)[128:] == b"DICM"


def _start(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(132)
    except OSError:
        return b""


def _starts_as_dicom(start: bytes) -> bool:
    """True where the first bytes are an element of group 2 or 8, little endian: a type of two letters, or a short length."""
    group, element = int.from_bytes(start[:2], "little"), int.from_bytes(start[2:4], "little")
    if len(start) < 12 or group not in (2, 8) or element > 0x60:
        return False
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    return explicit or 0 < int.from_bytes(start[4:8], "little") <= 64


LONGEST_ID = 100

DEVICES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{n}" for port in ("COM", "LPT") for n in range(1, 10))}


def safe_ids(names: Sequence[str]) -> list[str]:
    """A file name for each of distinct names, in their order; safe ones stay, and no two are equal where case is ignored.

    Those that would become equal get a digest of the name they had. Raises InputError when that does not tell them apart.
    """
    ids = [safe_name(name) for name in names]
    count = Counter(map(str.casefold, ids))
    ids = [
        f"{id[: LONGEST_ID - DIGITS - 1]}{pseudonym(name, '')}" if count[id.casefold()] > 1 else id
        for id, name in zip(ids, names, strict=True)
    ]
    count = Counter(map(str.casefold, ids))
    twice = [name for id, name in zip(ids, names, strict=True) if count[id.casefold()] > 1]
    if twice:
        raise InputError(f"the ids {listed(twice)} cannot be told apart as file names; give each case another one")
    return ids


def safe_name(text: str) -> str:
    """A file name on every system: no separators, no leading dot or dash, no device of Windows, not too long."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", text).lstrip(".-")[:LONGEST_ID].rstrip(".") or "case"
    return f"_{name}" if name.split(".")[0].upper() in DEVICES else name
