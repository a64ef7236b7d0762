"""Volumes as they are sent: NIfTI-1 files that hold voxels and geometry, and no text of any kind.

Fields of the header by nifti1.h (NIfTI-1 Data Format, nifti.nimh.nih.gov).
"""

from __future__ import annotations

import math
import struct

from ..errors import InputError

LENGTH = 352  # the header, and an empty list of extensions
KEPT = ((0, 4), (40, 56), (70, 74), (76, 120), (123, 124), (252, 328), (344, 348))
"""Bytes of sizeof_hdr, dim, datatype, bitpix, pixdim with vox_offset and scl, xyzt_units, both placements, magic."""
BITS = {2: 8, 4: 16, 8: 32, 16: 32, 512: 16}
"""Bits of a voxel by datatype: uint8, int16, int32, float32, uint16."""


def bare_header(start: bytes, size: int) -> bytes:
    """The header of a file of `size` bytes that starts with `start`, with nothing in it but geometry and type.

    Raises InputError unless it is one volume, uncompressed, little endian, and no longer than its voxels need.
    """
    if len(start) < LENGTH or start[:4] != b"\x5c\x01\0\0" or start[344:348] != b"n+1\0":
        raise InputError("the volume is no uncompressed little-endian NIfTI-1 file (.nii); write it anew as one")
    dims, (kind, bits) = struct.unpack("<8h", start[40:56]), struct.unpack("<2h", start[70:74])
    if dims[0] < 3 or min(dims[1:4]) < 1 or any(n > 1 for n in dims[4 : dims[0] + 1]):
        raise InputError(f"the volume has the dimensions {list(dims[1:])}; expected three axes, a single volume")
    if BITS.get(kind) != bits or struct.unpack("<f", start[108:112]) != (LENGTH,):
        raise InputError(
            f"the volume has the type {kind} of {bits} bits; expected plain numbers right after the header"
        )
    needed = LENGTH + math.prod(dims[1:4]) * bits // 8
    if needed != size:
        raise InputError(f"the volume has {size} bytes and its header claims {needed}; write it anew")
    header = bytearray(LENGTH)
    for begin, end in KEPT:
        header[begin:end] = start[begin:end]
    return bytes(header)
