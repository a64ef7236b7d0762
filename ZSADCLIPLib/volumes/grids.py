"""A mask on the grid of its image: moved where both share a lattice, resampled where they do not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy import ndimage

from ..errors import InputError
from ..notes import Note
from ..volume import Volume, corner_distance

TOLERANCE = 0.1  # voxels; what other tools round away


def on_grid(mask: Volume, like: Volume, resample: bool = False) -> Volume:
    """A mask of whole numbers on the grid of `like`, and in its notes what had to be done.

    Voxels of the same lattice up to a tenth of a voxel are moved to their places, whichever part of it the mask covers and in
    whichever order its axes are stored. Others are resampled with nearest neighbours when `resample` is set. Raises InputError
    with what differs for a mask that fits neither way, and for one that marks nothing within the image.
    """
    step = min(like.spacing)
    if mask.same_grid(like, TOLERANCE * step):
        return replace(mask, affine=like.affine, geometry=like.geometry)
    array = _moved(mask, like)
    if array is not None:
        inside, marked = int(np.count_nonzero(array)), int(np.count_nonzero(mask.array))
        notes = ()
        if inside < marked:
            notes = (Note("mask", f"{marked - inside} of {marked} voxels of the mask lie outside the image: left out"),)
    elif resample:
        array = _nearest(mask, like)
        inside, marked = int(np.count_nonzero(array)), int(np.count_nonzero(mask.array))
        notes = (
            Note(
                "resampled", f"the mask was resampled to the image with nearest neighbours ({_difference(mask, like)})"
            ),
        )
    else:
        raise InputError(
            f"the mask {mask.name} lies on another grid than the image {like.name}: {_difference(mask, like)}; "
            "--resample-mask takes it with nearest neighbours"
        )
    if marked and not inside:
        raise InputError(f"the mask {mask.name} marks nothing within the image {like.name}: {_difference(mask, like)}")
    return replace(like, array=array, name=mask.name, notes=(*mask.notes, *notes))


def _moved(mask: Volume, like: Volume) -> np.ndarray | None:
    """The mask at the places of its voxels, None where these are not voxels of the image's lattice."""
    turn, exact = _to_voxels(mask, like), np.eye(4)
    exact[:3] = np.rint(turn[:3])
    if np.abs(exact[:3, :3]).sum(axis=0).tolist() != [1, 1, 1] or np.abs(exact[:3, :3]).sum(axis=1).tolist() != [
        1,
        1,
        1,
    ]:
        return None
    if corner_distance(turn, exact, mask.shape) > TOLERANCE:
        return None
    axes = np.abs(exact[:3, :3]).argmax(axis=1)  # the mask's axis along each axis of the image
    signs = exact[range(3), axes]
    array = mask.array.transpose(axes)[tuple(slice(None, None, int(sign)) for sign in signs)]
    starts = np.where(signs > 0, exact[:3, 3], exact[:3, 3] - (np.array(array.shape) - 1)).astype(int)
    moved = np.zeros(like.shape, array.dtype)
    target, source = [], []
    for start, length, size in zip(starts, array.shape, like.shape, strict=True):
        first, last = max(start, 0), min(start + length, size)
        if first >= last:
            return moved
        target.append(slice(first, last))
        source.append(slice(first - start, last - start))
    moved[tuple(target)] = array[tuple(source)]
    return moved


def _nearest(mask: Volume, like: Volume) -> np.ndarray:
    """The label of the mask's voxel nearest to each voxel of the image; 0 outside the mask."""
    turn = np.linalg.inv(_to_voxels(mask, like))
    return ndimage.affine_transform(
        mask.array, turn[:3, :3], turn[:3, 3], like.shape, order=0, mode="grid-constant", cval=0
    )


def _to_voxels(mask: Volume, like: Volume) -> np.ndarray:
    """The matrix (4, 4) from the mask's voxel indices to those of the image."""
    return np.linalg.inv(like.affine) @ mask.affine


def _difference(mask: Volume, like: Volume) -> str:
    """What differs between two grids, with the digits that show it."""
    parts = []
    if mask.shape != like.shape:
        parts.append(f"shape {_by(mask.shape)} instead of {_by(like.shape)}")
    if mask.axcodes != like.axcodes:
        parts.append(f"axes {''.join(mask.axcodes)} instead of {''.join(like.axcodes)}")
    if not np.allclose(mask.spacing, like.spacing, rtol=1e-4):
        parts.append(f"voxels of {_by(mask.spacing)} mm instead of {_by(like.spacing)} mm")
    first = np.linalg.norm(mask.affine[:3, 3] - like.affine[:3, 3])
    parts.append(f"its first voxel lies {first:.4g} mm away")
    if mask.shape == like.shape:
        parts.append(f"its corners up to {corner_distance(mask.affine, like.affine, like.shape):.4g} mm")
    return ", ".join(parts)


def _by(numbers) -> str:
    return " x ".join(f"{x:.6g}" for x in numbers)
