"""Volumes as a browser takes them: 16-bit NIfTI with slope and intercept, compressed, without a word of the header's text."""

from __future__ import annotations

import gzip
from dataclasses import dataclass, replace
from math import ceil

import numpy as np
from scipy import ndimage

from ..errors import InputError
from ..evaluation.thresholds import reaches
from ..volume import Volume
from ..volumes.components import bounds

MAP_STEPS = 32_000
GREYS = 4095
"""Steps of an image that is not of whole numbers: more than any display has."""
LARGEST_EDGE = 1024  # voxels; WebGL promises 256, and what computers have is 2048 or more
MOST_VOXELS = 48_000_000
MARGIN_MM = 6.0  # kept around a brain


@dataclass(frozen=True, eq=False)
class Packed:
    """A volume ready for a page: `nifti` the compressed file, `slope` and `inter` what its int16 codes mean."""

    nifti: bytes
    slope: float
    inter: float


def pack_map(map: Volume, threshold: float) -> Packed:
    """A map (I, J, K) in steps of a 32,000th of its range.

    Code 0 stands for `threshold`, and codes are rounded down, so that exactly the voxels at or above it have a code of 0 or more.
    """
    values = map.array.astype(np.float64)
    slope = float(np.ptp(values)) / MAP_STEPS or 1.0
    low = max(-32_768.0, np.floor((values.min() - threshold) / slope))
    codes = np.clip(np.floor((values - threshold) / slope), low, 32_767)
    codes = np.where(reaches(map.array, threshold), np.maximum(codes, 0), np.minimum(codes, -1))
    return Packed(_nifti(map, codes.astype(np.int16), slope, threshold), slope, threshold)


def pack_image(image: Volume) -> Packed:
    """An image (I, J, K): whole numbers as they are, others in 4095 steps up to twice their 99.9th percentile."""
    values = image.array
    low, high = float(values.min()), float(values.max())
    whole = np.issubdtype(values.dtype, np.integer) or bool((values == np.rint(values)).all())
    if whole and high - low <= 65_535:
        slope = 1.0
    else:
        # A few bright voxels, such as of a vessel, must not cost the grey levels of all others.
        high = min(high, low + 2 * (float(np.percentile(values, 99.9)) - low)) if high > low else high
        slope = (high - low) / GREYS or 1.0
    start = 0 if (high - low) / slope <= 32_767 else -32_768
    codes = np.clip(np.rint((values.astype(np.float64) - low) / slope) + start, -32_768, 32_767)
    inter = low - start * slope
    return Packed(_nifti(image, codes.astype(np.int16), slope, inter), slope, inter)


def pack_mask(mask: Volume) -> Packed:
    """A mask (I, J, K) of 0 and 1."""
    return Packed(_nifti(mask, (mask.array > 0).astype(np.int16), 1.0, 0.0), 1.0, 0.0)


def _nifti(volume: Volume, codes: np.ndarray, slope: float, inter: float) -> bytes:
    import nibabel

    header = nibabel.Nifti1Header(endianness="<")
    header.set_data_shape(volume.shape)
    header.set_data_dtype(np.int16)
    header.set_sform(volume.affine, code="scanner")
    header.set_qform(volume.affine, code="scanner", strip_shears=True)
    header.set_xyzt_units("mm")
    header["scl_slope"], header["scl_inter"], header["vox_offset"] = slope, inter, 352
    data = header.binaryblock + bytes(4) + codes.astype("<i2").tobytes(order="F")
    return gzip.compress(data, 6, mtime=0)


def strides(shape: tuple[int, int, int]) -> tuple[int, int, int]:
    """Every which voxel along I, J, K is kept, so that a graphics card takes the volume: all of them but for huge ones."""
    steps = [ceil(n / LARGEST_EDGE) for n in shape]
    while np.prod([ceil(n / step) for n, step in zip(shape, steps, strict=True)], dtype=float) > MOST_VOXELS:
        longest = max(range(3), key=lambda axis: shape[axis] / steps[axis])
        steps[longest] += 1
    return tuple(steps)


def thinned(volume: Volume, steps: tuple[int, int, int], peaks: bool = False) -> Volume:
    """Every `steps`-th voxel of a volume; with `peaks` the highest of each block, so that no small finding is lost."""
    if max(steps) == 1:
        return volume
    array = volume.array
    if peaks:
        array = ndimage.maximum_filter(array, size=steps, origin=[-(n // 2) for n in steps])
    affine = volume.affine @ np.diag([*steps, 1.0])
    return replace(volume, array=array[:: steps[0], :: steps[1], :: steps[2]], affine=affine, geometry=None)


def brain_alone(image: Volume, map: Volume) -> tuple[Volume, slice, slice, slice]:
    """The image (I, J, K), dark but for the brain and a margin of 6 mm, and the box along I, J, K that holds these.

    The brain is where the map was computed: its lowest value stands for all that lies outside. Raises InputError where the map
    does not tell.
    """
    inside = map.array > map.array.min()
    if inside.mean() > 0.9:
        raise InputError(
            "crop brain: the map does not say where the brain is; detect again with --background zero, or with --brain auto"
        )
    inside = ndimage.binary_fill_holes(inside)
    far = ndimage.distance_transform_edt(~inside, sampling=image.spacing) > MARGIN_MM
    dark = image.array.min()
    return image.with_array(np.where(far, dark, image.array)), *bounds(~far)


def cut(volume: Volume, box: tuple[slice, slice, slice]) -> Volume:
    """The part of a volume in a box, placed where it was."""
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [span.start for span in box]
    return replace(volume, array=volume.array[box], affine=affine, geometry=None)
