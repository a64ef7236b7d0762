"""Reading and writing volumes, and the formats there are: a new one is a module with `read` and its line in FORMATS."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import InputError, UsageError
from ..files.atomic import atomic_path
from ..files.digests import content_hash
from ..files.names import is_dicom, is_dicomdir, split_suffix
from ..notes import Note, settled
from ..threads import Shared, warned
from ..volume import Volume
from . import dicom, headers, itk, nifti
from .grids import on_grid
from .maptypes import check_map_type, packed


@dataclass(frozen=True)
class Format:
    """A file format: `read(path)` gives the volume as stored, `write(path, volume)` makes the one file it consists of.

    Without `write` the format is read only. `files_of(path)` are the files a volume is stored in, its own first. Libraries
    are to be imported within these functions: whoever has no file of the format needs none.
    """

    read: Callable[[Path], Volume]
    write: Callable[[Path, Volume], None] | None = None
    files_of: Callable[[Path], list[Path]] = lambda path: [path]


NIBABEL = logging.getLogger("nibabel.global")
FORMATS = {
    ".nii": Format(nifti.read, nifti.write),
    ".nii.gz": Format(nifti.read, nifti.write),
    **dict.fromkeys((".hdr", ".img", ".hdr.gz", ".img.gz"), Format(nifti.read, files_of=nifti.header_and_data)),
    **dict.fromkeys((".mgz", ".mgh"), Format(nifti.read)),
    ".nrrd": Format(itk.read, itk.write, headers.header_and_data),
    ".nhdr": Format(itk.read, files_of=headers.header_and_data),
    ".mha": Format(itk.read, itk.write, headers.header_and_data),
    ".mhd": Format(itk.read, files_of=headers.header_and_data),
}
"""The formats by the ending of a name (`split_suffix`). A DICOM folder, file or DICOMDIR stands beside them."""


def read_volume(
    path: str | os.PathLike, placement: str | None = None, series: str | None = None, keep_identifiers: bool = False
) -> Volume:
    """Read a scalar volume of one of FORMATS, or of a DICOM folder, file or DICOMDIR.

    NRRD, MetaImage and DICOM need SimpleITK. `series` chooses one of several DICOM volumes (see `dicom.read`), which an error
    names only with `keep_identifiers`.

    The array (I, J, K) keeps integers where the file stores unscaled ones and is float32 otherwise. A two-dimensional
    image becomes one slice; trailing axes of length 1 are dropped. Voxels that are NaN become 0, or the lowest finite value
    where that is negative, so that they are dark; infinite ones become the highest or lowest finite value. `placement`,
    "sform" or "qform", is followed where a NIfTI file has both and they disagree. What was done and what is doubtful is said
    in `notes`; those of severity error are for the caller to refuse (`notes.settled`). Raises InputError for anything
    unreadable, truncated, with several values a voxel or without a usable affine, and DependencyError where SimpleITK is
    missing.
    """
    volume = _read(Path(path), placement, series, keep_identifiers)
    array, notes = _finite(volume.array)
    if array.min() == array.max():
        value = f"{array.flat[0]:g}" if np.isfinite(volume.array).any() else "NaN or infinite"
        notes += (Note("constant", f"every voxel of the image is {value}"),)
    return replace(volume, array=array, notes=(*volume.notes, *notes))


def read_mask(path: str | os.PathLike, like: Volume, placement: str | None = None, resample: bool = False) -> Volume:
    """Read a label mask onto the grid of `like`: integers from 0, in the smallest unsigned type that holds them.

    A mask on another part of the same lattice, or stored in another orientation, is placed voxel by voxel; on any other grid
    it is resampled with nearest neighbours if `resample` allows it. Values are rounded. Raises InputError if the mask does
    not fit, its placement is in doubt or a value is not close to an integer of 0 or more.
    """
    mask = _read(Path(path), placement)
    settled([note for note in mask.notes if note.code == "placement"])
    labels = mask.array
    whole = labels if labels.dtype.kind in "iu" else np.rint(labels)
    # NaN, and infinity less itself, fail every comparison.
    with np.errstate(invalid="ignore"):
        fits = whole.min() >= 0 and (whole is labels or np.abs(labels - whole).max() <= 1e-3)
    if not fits:
        raise InputError(
            f"the mask {path} has values that are not whole numbers from 0 "
            f"(lowest {np.nanmin(labels):g}, highest {np.nanmax(labels):g}); give a label map, not probabilities"
        )
    labels = whole.astype(np.min_scalar_type(int(whole.max())))
    return on_grid(mask.with_array(labels), like, resample)


def write_volume(path: str | os.PathLike, volume: Volume, dtype=None) -> None:
    """Write a volume, complete or not at all; `dtype` is the type on disk, the array's own when not given.

    NIfTI keeps the placement fields of the file that the volume was read from, so that the affine read back is
    bit-identical; an affine from elsewhere is stored as a float32 sform. Raises InputError for values that `dtype`
    cannot hold, UsageError for an unknown suffix or a folder that cannot be made.
    """
    path = Path(path)
    file_format = FORMATS.get(split_suffix(path)[1])
    if file_format is None or file_format.write is None:
        written = ", ".join(suffix for suffix, entry in FORMATS.items() if entry.write)
        raise UsageError(f"cannot write {path}: the name must end with one of {written}")
    array = volume.array if dtype is None else _cast(volume.array, np.dtype(dtype))
    with atomic_path(path) as temporary:
        file_format.write(temporary, volume.with_array(array))


def write_map(path: str | os.PathLike, volume: Volume, map_type: str) -> None:
    """Write a map of scores as NIfTI of a type of `maptypes.MAP_TYPES`, complete or not at all, placed as by `write_volume`.

    What is read back is `maptypes.as_stored` of it. Raises UsageError for an unknown type, InputError for scores that are not
    finite as int16.
    """
    check_map_type(map_type)
    if map_type == "float32":
        write_volume(path, volume, map_type)
        return
    voxels, slope, inter = packed(volume.array)
    with atomic_path(path) as temporary:
        nifti.write(temporary, volume.with_array(voxels), slope, inter)


def files_of(path: Path) -> list[Path]:
    """The files a volume is stored in, its own first; a folder or a file of no known format stands for itself."""
    file_format = FORMATS.get(split_suffix(path)[1])
    if path.is_dir() or file_format is None:
        return dicom.files_of(path) if path.is_file() and _is_dicom_file(path) else [path]
    return file_format.files_of(path)


def _is_dicom_file(path: Path) -> bool:
    return is_dicom(path) or is_dicomdir(path)


def volume_hash(path: Path) -> str:
    """SHA-256 of a volume's content, the data file beside a header behind that of the header; raises OSError."""
    return ":".join(map(content_hash, files_of(path)))


def _read(
    path: Path, placement: str | None = None, series: str | None = None, keep_identifiers: bool = False
) -> Volume:
    """Any supported file or folder, as stored: not cleaned."""
    with _heard() as said:
        volume = _as_stored(path.expanduser(), series, keep_identifiers)
        volume = nifti.placed_by(volume, placement) if placement else volume
    return replace(volume, notes=(*volume.notes, *said)) if said else volume


def _as_stored(path: Path, series: str | None, keep_identifiers: bool) -> Volume:
    if not path.exists():
        raise InputError(f"there is no file or folder {path}; check the name")
    file_format = FORMATS.get(split_suffix(path)[1])
    if path.is_dir() or (file_format is None and _is_dicom_file(path)):
        return dicom.read(path, series, keep_identifiers)
    if file_format is None:
        raise InputError(
            f"cannot tell what {path} is: expected a name that ends with one of {', '.join(FORMATS)}, "
            "a DICOM file, or the folder of a DICOM series"
        )
    return file_format.read(path)


def _finite(array: np.ndarray) -> tuple[np.ndarray, tuple[Note, ...]]:
    """Numbers that are finite: NaN becomes dark, what is too high for float32 the highest value, too low the lowest."""
    if not np.issubdtype(array.dtype, np.floating) or np.isfinite(array).all():
        return array, ()
    finite = array[np.isfinite(array)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    dark, array, notes = min(0.0, low), array.copy(), []
    for bad, value, what in (
        (np.isnan(array), dark, "NaN"),
        (array == np.inf, high, "infinite, or too high for float32"),
        (array == -np.inf, low, "infinite, or too low for float32"),
    ):
        if count := int(np.count_nonzero(bad)):
            array[bad] = value
            notes.append(Note("voxels", f"{count} of {array.size} voxels {what}: read as {value:g}"))
    return array, tuple(notes)


@contextmanager
def _heard() -> Iterator[list[Note]]:
    """What libraries warn of as notes, which are shown with the case, instead of lines on the terminal that name no file."""
    said: list[Note] = []
    handler = _Hearer(said)
    with warned() as categories, _own_handlers(), np.errstate(over="ignore", invalid="ignore"):
        NIBABEL.addHandler(handler)
        try:
            yield said
        finally:
            NIBABEL.removeHandler(handler)
    # Others than nibabel's may quote a header, which may name a patient.
    kinds = dict.fromkeys(c.__name__ for c in categories if issubclass(c, (UserWarning, RuntimeWarning)))
    said += [Note("library", f"a library warned while it read the file ({kind})") for kind in kinds]


@contextmanager
def _handlers_set_aside() -> Iterator[None]:
    before, NIBABEL.handlers, propagates, NIBABEL.propagate = NIBABEL.handlers, [], NIBABEL.propagate, False
    try:
        yield
    finally:
        NIBABEL.handlers, NIBABEL.propagate = before, propagates


_own_handlers = Shared(_handlers_set_aside)


class _Hearer(logging.Handler):
    """Keeps what nibabel logs, which are facts about fields of a header."""

    def __init__(self, said: list[Note]):
        super().__init__()
        self._said, self._thread = said, threading.get_ident()

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self._said.append(Note("library", f"nibabel: {record.getMessage()}"))


def _cast(array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if dtype.kind in "iu" and array.size:
        limits, low, high = np.iinfo(dtype), array.min(), array.max()
        if not limits.min <= low <= high <= limits.max:
            raise InputError(f"values from {low} to {high} do not fit {dtype}; write another type")
    return array.astype(dtype)
