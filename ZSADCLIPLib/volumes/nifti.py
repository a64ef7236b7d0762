"""NIfTI, Analyze and FreeSurfer files through nibabel, with the header checked before anything is allocated.

nibabel is imported where it is used: a Slicer that lacks it still opens the module, which then offers to install it.
"""

from __future__ import annotations

from dataclasses import replace
from gzip import GzipFile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..errors import InputError
from ..files.names import split_suffix
from ..notes import Note
from ..volume import Volume, corner_distance
from .streams import GZIP_RATIO, unpacked

SURPLUS = 2**26  # bytes that may follow the voxels
LATTICE_TOLERANCE = 0.1  # voxels; more than rounding
SIZE_TOLERANCE = 0.01  # of a voxel's edge
# The fields that place the voxels. The free text of a header is left out: it may name a patient.
PLACEMENT = (
    *("pixdim", "xyzt_units", "sform_code", "qform_code", "srow_x", "srow_y", "srow_z"),
    *("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"),
)


def read(path: Path) -> Volume:
    """Read a NIfTI, Analyze or FreeSurfer file as stored, NIfTI placed by its sform where it has one.

    Units other than mm are converted. Raises InputError if it is damaged or not scalar.
    """
    import nibabel

    try:
        image = nibabel.load(path, mmap=False)
        header = image.header
        dtype, shape = header.get_data_dtype(), tuple(int(n) for n in header.get_data_shape())
        offset, data = int(image.dataobj.offset), Path(image.file_map["image"].filename)
    except Exception as error:  # nibabel raises many kinds on damaged headers
        raise InputError(f"cannot read {path}: {_reason(error)}; check that it is a complete file") from error
    if dtype.kind not in "iuf":
        what = "complex numbers" if dtype.kind == "c" else "several values a voxel (colour or vector)"
        raise InputError(f"{path} holds {what}; expected one real number a voxel, so pick one component first")
    spatial, notes = squeezed(path, shape)
    if not data.is_file():
        raise InputError(f"the data file {data.name} that belongs to {path} is not beside it; copy both files")
    _check_data(data, offset + int(np.prod(shape, dtype=object)) * dtype.itemsize)
    try:
        array = _values(image, dtype).reshape(spatial, order="F")
        affine = image.affine
    except Exception as error:
        raise InputError(f"cannot read {path}: {_reason(error)}; the file is truncated or damaged") from error
    if not isinstance(header, nibabel.Nifti1Header):
        if not (isinstance(header, nibabel.freesurfer.mghformat.MGHHeader) and header["goodRASFlag"]):
            notes += (Note("unplaced", "the file does not say how the patient lies in it: its orientation is assumed"),)
        return placed(path, array, affine, split_suffix(path)[0], notes)
    notes += _placement_notes(_as_written(image))
    volume = placed(path, array, affine, split_suffix(path)[0], notes, _placement(header))
    return _in_mm(volume, _unit(header))


def placed_by(volume: Volume, form: str) -> Volume:
    """A NIfTI volume whose sform and qform disagree, placed by one of them, "sform" or "qform"; any other as it is."""
    disagree = [note for note in volume.notes if note.code == "placement"]
    if not disagree:
        return volume
    header = volume.geometry.copy()
    header["qform_code" if form == "sform" else "sform_code"] = 0  # so that results have one meaning
    notes = [note for note in volume.notes if note.code != "placement"]
    notes.append(Note("placed", f"placed by the {form}, which the other placement of the file contradicts"))
    chosen = replace(volume, affine=header.get_best_affine(), geometry=header, notes=tuple(notes))
    return _in_mm(chosen, _unit(header))


def _as_written(image):
    """The header of a NIfTI image without nibabel's repairs, which put 1 mm in the place of 0."""
    from nibabel.openers import ImageOpener

    holder = image.file_map.get("header", image.file_map["image"])
    with ImageOpener(holder.filename) as file:
        return type(image.header).from_fileobj(file, check=False)


def _placement_notes(header) -> tuple[Note, ...]:
    """What is doubtful about where a NIfTI header places the voxels."""
    forms = {}
    for name in ("sform", "qform"):
        try:
            affine, code = getattr(header, f"get_{name}")(coded=True)
        except Exception:  # numbers that make no rotation; the other form places the voxels
            continue
        if code:
            forms[name] = affine
    shape = header.get_data_shape()[:3]
    steps = [float(x) for x in header["pixdim"][1 : 1 + len(shape)]]
    if not forms:
        if not all(np.isfinite(steps)) or min(steps) <= 0:
            size = " x ".join(f"{x:g}" for x in steps)
            return (
                Note("voxel-size", f"the file says that its voxels measure {size} mm, and has neither sform nor qform"),
            )
        return (Note("unplaced", "the file has neither sform nor qform: its orientation is assumed"),)
    step = min(np.linalg.norm(affine[:3, :3], axis=0).min() for affine in forms.values())
    if len(forms) == 2:
        apart = corner_distance(forms["sform"], forms["qform"], shape)
        if apart > LATTICE_TOLERANCE * step:
            where = ", ".join(f"{name} {_where(affine, shape)}" for name, affine in forms.items())
            return (Note("placement", f"sform and qform place the volume up to {apart:.4g} mm apart: {where}"),)
    elif "sform" in forms:
        sizes = np.linalg.norm(forms["sform"][:3, :3], axis=0)
        if not np.allclose(sizes[: len(shape)], steps, rtol=SIZE_TOLERANCE):
            says = " x ".join(f"{x:.4g}" for x in sizes), " x ".join(f"{x:.4g}" for x in steps)
            return (Note("pixdim", f"the voxels measure {says[0]} mm by the sform and {says[1]} mm by pixdim"),)
    return ()


def _where(affine: np.ndarray, shape: tuple[int, ...]) -> str:
    """A placement in words: the directions of its axes and its centre."""
    from nibabel.orientations import aff2axcodes

    centre = affine @ [*((n - 1) / 2 for n in (*shape, 1, 1)[:3]), 1]
    names = "".join(name or "?" for name in aff2axcodes(affine))
    return f"{names} with its centre at ({', '.join(f'{x:.4g}' for x in centre[:3])})"


def _unit(header) -> str:
    try:
        return header.get_xyzt_units()[0]
    except KeyError:  # a code that the format does not define
        return "unknown"


def _in_mm(volume: Volume, unit: str) -> Volume:
    """A volume whose header counts in metres or micrometres, in mm; its results are placed anew."""
    factor = {"meter": 1000.0, "micron": 0.001}.get(unit, 1.0)
    if factor == 1.0:
        return volume
    affine = np.diag([factor, factor, factor, 1.0]) @ volume.affine
    note = Note(
        "units", f"the file counts in {'metres' if unit == 'meter' else 'micrometres'}: sizes are converted to mm"
    )
    notes = dict.fromkeys((*volume.notes, note))
    keep = any(each.code == "placement" for each in notes)  # the choice between the two needs the header
    return replace(volume, affine=affine, geometry=volume.geometry if keep else None, notes=tuple(notes))


def write(path: Path, volume: Volume, slope: float = 1.0, inter: float = 0.0) -> None:
    """Write a NIfTI file with the volume's placement fields where they give its affine, else with a float32 sform.

    Values are slope * voxel + inter; both must be float32 numbers.
    """
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
    made = image(volume.array, None, header)
    if (slope, inter) != (1.0, 0.0):
        made.header.set_slope_inter(slope, inter)
    # nibabel's own file stays open, and keeps its room, when a full disk ends the writing.
    with open(path, "wb") as file, _stream(file, path) as stream:
        made.to_file_map({"image": nibabel.FileHolder(fileobj=stream)})


def _stream(file: BinaryIO, path: Path) -> BinaryIO | GzipFile:
    """What packs as `path` asks: as nibabel does, so without a name or a time and the quick way."""
    return GzipFile("", "wb", 1, file, mtime=0) if path.suffix.lower() == ".gz" else file


def header_and_data(path: Path) -> list[Path]:
    """A pair of .hdr and .img, the file that was named first; only that one if the other is not there."""
    stem, suffix = split_suffix(path)
    kind = ".img" if suffix.startswith(".hdr") else ".hdr"
    names = {(stem + kind + suffix[4:]).lower(), (stem + kind).lower()}
    try:
        beside = [each for each in path.parent.iterdir() if each.name.lower() in names]
    except OSError:
        beside = []
    return [path, *sorted(beside)[:1]]


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


def _check_data(path: Path, expected: int) -> None:
    """Raise InputError unless the file holds the `expected` bytes that its header claims, and no byte of it has changed.

    A compressed file is read to its trailer, whose checksum tells.
    """
    size, compressed = path.stat().st_size, path.name.lower().endswith((".gz", ".mgz"))
    length, wrong = size, ""
    if compressed and size * GZIP_RATIO >= expected:
        length, wrong = unpacked(path, expected + SURPLUS)
    if wrong:
        raise InputError(f"cannot read {path}: {wrong}; the file is truncated or damaged, copy it again")
    if length < expected:
        raise InputError(
            f"{path} is truncated or damaged: its header claims {expected} bytes of data and the file of {size} bytes "
            "cannot hold them; copy it again"
        )


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
