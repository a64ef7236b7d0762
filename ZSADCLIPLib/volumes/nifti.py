"""NIfTI-1 and NIfTI-2 through nibabel, with the header checked before anything is allocated.

nibabel is imported where it is used: a Slicer that lacks it still opens the module, which then offers to install it.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files.names import split_suffix
from ..notes import Note
from ..volume import Volume

GZIP_RATIO = 1032  # deflate cannot compress further (zlib, "Maximum Compression Factor")
UNCHECKED_BYTES = 2**30  # a larger claim of a compressed file is checked by decompressing it into nothing
CHUNK = 2**22
# The fields that place the voxels. The free text of a header is left out: it may name a patient.
PLACEMENT = (
    *("pixdim", "xyzt_units", "sform_code", "qform_code", "srow_x", "srow_y", "srow_z"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
)


def read(path: Path) -> Volume:
    """Read a NIfTI file as stored; raises InputError if it is damaged, not scalar or not placed in space."""
    import nibabel

    try:
        image = nibabel.load(path, mmap=False)
        header = image.header
        dtype, shape = header.get_data_dtype(), tuple(int(n) for n in header.get_data_shape())
        offset, unit = int(image.dataobj.offset), header.get_xyzt_units()[0]
    except Exception as error:  # nibabel raises many kinds on damaged headers
        raise InputError(f"cannot read {path}: {_reason(error)}; check that it is a complete NIfTI file") from error
    if not isinstance(header, nibabel.Nifti1Header):
        raise InputError(f"{path} is not NIfTI but {type(image).__name__}; convert it to .nii.gz")
    if dtype.kind not in "iuf":
        what = "complex numbers" if dtype.kind == "c" else "several values a voxel (colour or vector)"
        raise InputError(f"{path} holds {what}; expected one real number a voxel, so pick one component first")
    spatial, notes = squeezed(path, shape)
    _check_length(path, offset + int(np.prod(shape, dtype=object)) * dtype.itemsize)
    try:
        array = _values(image, dtype).reshape(spatial, order="F")
        affine = image.affine
    except Exception as error:
        raise InputError(f"cannot read {path}: {_reason(error)}; the file is truncated or damaged") from error
    if header["sform_code"] == 0 and header["qform_code"] == 0:
        notes += (Note("unplaced", "the file has neither sform nor qform: its orientation is assumed"),)
    if unit in ("meter", "micron"):
        notes += (f"the file's unit is the {unit}; it is read as millimetres",)
    return placed(path, array, affine, split_suffix(path)[0], notes, _placement(header))


def write(path: Path, volume: Volume) -> None:
    """Write a NIfTI file with the volume's placement fields where they give its affine, else with a float32 sform."""
    import nibabel

    placement = volume.geometry
    if placement is None or not np.array_equal(placement.get_best_affine(), volume.affine):
        placement = nibabel.Nifti1Header()
        placement.set_data_shape(volume.shape)
        placement.set_sform(volume.affine, code="scanner")
        placement.set_qform(volume.affine, code="scanner", strip_shears=True)
        placement.set_xyzt_units("mm")
    image = nibabel.Nifti2Image if isinstance(placement, nibabel.Nifti2Header) else nibabel.Nifti1Image
    header = placement.copy()
    header.set_data_dtype(volume.array.dtype)
    image(volume.array, None, header).to_filename(path)


def squeezed(path: Path, shape: tuple[int, ...]) -> tuple[tuple[int, int, int], tuple[Note, ...]]:
    """Three axes for a shape, and a note where it had others; raises InputError if it has several frames."""
    if 0 in shape or not shape:
        raise InputError(f"{path} has no voxels: its shape is {shape}")
    if any(n != 1 for n in shape[3:]):
        raise InputError(f"{path} has shape {shape}; expected a volume with 3 axes, so pick one frame or channel first")
    three = (*shape, 1, 1)[:3]
    text = f"read as a volume of shape {three}; the file says {shape}"
    return three, () if len(shape) == 3 else (Note("shape", text),)


def placed(path: Path, array, affine, name: str, notes: tuple[Note, ...], geometry=None) -> Volume:
    """A volume, with the path in the error where its affine is of no use."""
    try:
        return Volume(array, affine, name, notes, geometry)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _values(image, dtype: np.dtype) -> np.ndarray:
    """Integers as they are where unscaled, in at most 32 bits; everything else float32."""
    slope, inter = image.dataobj.slope, image.dataobj.inter
    if dtype.kind == "f" or (slope, inter) != (1, 0):
        return image.get_fdata(dtype=np.float32, caching="unchanged")
    raw = np.asanyarray(image.dataobj)
    if raw.dtype.itemsize <= 4:
        return raw.astype(raw.dtype.newbyteorder("="), copy=False)
    fits = np.iinfo(np.int32).min <= raw.min() and raw.max() <= np.iinfo(np.int32).max
    return raw.astype(np.int32 if fits else np.float32)


def _placement(header):
    placement = type(header)()
    placement.set_data_shape(header.get_data_shape()[:3])
    for name in PLACEMENT:
        placement[name] = header[name]
    return placement


def _check_length(path: Path, expected: int) -> None:
    """Raise InputError if the file cannot hold the `expected` bytes that its header claims."""
    size = path.stat().st_size
    capacity = size
    if path.name.lower().endswith(".gz"):
        capacity = size * GZIP_RATIO
        if UNCHECKED_BYTES < expected <= capacity:
            capacity = _decompressed_length(path, expected)
    if capacity < expected:
        raise InputError(
            f"{path} is truncated or damaged: its header claims {expected} bytes of data and the file of {size} bytes "
            "cannot hold them; copy it again"
        )


def _decompressed_length(path: Path, enough: int) -> int:
    length = 0
    try:
        with gzip.open(path) as file:
            while length < enough and (chunk := file.read(CHUNK)):
                length += len(chunk)
    except (OSError, EOFError, zlib.error):
        pass  # what was read until the damage counts
    return length


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
