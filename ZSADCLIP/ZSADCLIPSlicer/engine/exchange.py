"""Volumes on their way to the engine and back, as plain NIfTI-1 files, with nothing but numpy.

Slicer's own Python may lack the engine's packages, nibabel among them, while the engine runs in another interpreter.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from slicer.i18n import tr as _

from ZSADCLIPLib.errors import InputError

CODES = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 512: "u2"}  # of NIfTI-1
HEADER = np.dtype([
    ("sizeof_hdr", "<i4"), ("unused", "V36"), ("dim", "<i2", 8), ("intent", "V14"), ("datatype", "<i2"), ("bitpix", "<i2"),
    ("slice_start", "<i2"), ("pixdim", "<f4", 8), ("vox_offset", "<f4"), ("scl_slope", "<f4"), ("scl_inter", "<f4"),
    ("slices", "V3"), ("xyzt_units", "u1"), ("text", "V128"), ("qform_code", "<i2"), ("sform_code", "<i2"),
    ("quaternion", "<f4", 6), ("srow", "<f4", (3, 4)), ("intent_name", "V16"), ("magic", "S4"),
])  # fmt: skip
OFFSET = 352  # the header of 348 bytes and an empty list of extensions


def write(path: Path, array: np.ndarray, affine: np.ndarray) -> None:
    """Write (I, J, K) voxels and their affine (voxel -> RAS mm, stored as float32); types that NIfTI-1 readers may not
    know become float32."""
    kind = array.dtype.newbyteorder("<").str[1:]
    if kind not in CODES.values():
        array, kind = array.astype(np.float32), "f4"
    header = np.zeros((), HEADER)
    header["sizeof_hdr"], header["magic"], header["vox_offset"] = HEADER.itemsize, b"n+1", OFFSET
    header["dim"] = (3, *array.shape, 1, 1, 1, 1)
    header["datatype"] = next(code for code, name in CODES.items() if name == kind)
    header["bitpix"] = 8 * array.dtype.itemsize
    header["pixdim"] = (1, *np.linalg.norm(affine[:3, :3], axis=0), 1, 1, 1, 1)
    header["scl_slope"], header["xyzt_units"], header["sform_code"] = 1, 2, 1  # mm, scanner
    header["srow"] = affine[:3]
    with open(path, "wb") as file:
        file.write(header.tobytes().ljust(OFFSET, b"\0"))
        file.write(np.asarray(array, "<" + kind).tobytes("F"))


def read(path: Path) -> np.ndarray:
    """The values (I, J, K) float32 of an uncompressed NIfTI-1 file as the engine writes maps, of either type; raises
    InputError for another file or a truncated one."""
    data = Path(path).read_bytes()
    if len(data) < OFFSET:
        raise InputError(_("{name} has {count} bytes; expected a NIfTI-1 file, so run again").format(
            name=Path(path).name, count=len(data)))  # fmt: skip
    header = np.frombuffer(data, HEADER, 1)[0]
    kind, shape = CODES.get(int(header["datatype"])), tuple(int(n) for n in header["dim"][1:4])
    if header["sizeof_hdr"] != HEADER.itemsize or header["magic"] != b"n+1" or kind is None:
        raise InputError(_("{name} is no uncompressed NIfTI-1 file of numbers; run again").format(name=Path(path).name))
    count, offset = int(np.prod(shape)), int(header["vox_offset"])
    if min(shape) < 1 or len(data) < offset + count * np.dtype(kind).itemsize:
        raise InputError(_("{name} is truncated: its header claims {shape} voxels; run again").format(
            name=Path(path).name, shape=shape))  # fmt: skip
    voxels = np.frombuffer(data, "<" + kind, count, offset).reshape(shape, order="F").astype(np.float32)
    slope, inter = header["scl_slope"], header["scl_inter"]
    return voxels * slope + inter if slope != 0 and np.isfinite([slope, inter]).all() else voxels
