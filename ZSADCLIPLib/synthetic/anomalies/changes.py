"""What an anomaly does to a slice: paste a piece of another one, change its brightness, or pull tissue apart or together.

Every function is a deterministic one of numbers that `draws` draws (docs/methods/mediclip.md, "The tasks"). Images are (H, W) in
grey levels 0..255, a patch is the mask of a shape in its frame, `corner` the frame's first row and column.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from .shapes import Form

SOFT = 0.2  # standard deviation in grey levels of the soft label, meant for images of 0..1 by the authors


def window(corner: tuple[int, int], shape: tuple[int, int]) -> tuple[slice, slice]:
    """The part of an image that a frame covers."""
    return tuple(slice(int(c), int(c) + n) for c, n in zip(corner, shape, strict=True))


def source_box(shape: tuple[int, int], angle: float, scale: float) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """(matrix, first corner, shape) of the box that a frame of `shape`, turned by `angle` radians and scaled, is cut from."""
    c, s = np.cos(angle), np.sin(angle)
    matrix = np.array([[c, -s], [s, c]]) * scale
    corners = np.array([(y, x) for y in (0, shape[0]) for x in (0, shape[1])]) @ matrix.T
    low, high = np.floor(corners.min(axis=0)).astype(int), np.ceil(corners.max(axis=0)).astype(int)
    return matrix, low, tuple(int(n) for n in high - low)


def cut_paste(
    image: np.ndarray,
    source: np.ndarray,
    patch: np.ndarray,
    corner: tuple[int, int],
    angle: float,
    scale: float,
    source_corner: tuple[int, int],
) -> np.ndarray:
    """uint8: inside the patch a turned and scaled piece of `source` uint8, whose box begins at `source_corner`."""
    matrix, low, shape = source_box(patch.shape, angle, scale)
    piece = ndimage.affine_transform(source[window(source_corner, shape)], matrix, -low, patch.shape, order=3)
    out = image.copy()
    view = out[window(corner, patch.shape)]
    view[patch] = piece.clip(source.min(), source.max())[patch]
    return out


def pasted_label(before: np.ndarray, after: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """float64: 0 in the mask where the grey level stayed, else nearly 1, small gaps closed and holes filled piece by piece."""
    d = (after - before).astype(np.float64)  # uint8 wraps, and any difference stays one
    label = np.where(mask, 1 - np.exp(-(d**2) / (2 * SOFT**2)), 0.0)
    pieces, _ = ndimage.label(mask)
    for box in ndimage.find_objects(pieces):
        label[box] = _filled(ndimage.grey_closing(label[box], (3, 3)))
    return label


def _filled(values: np.ndarray) -> np.ndarray:
    """Grey levels with holes filled: the lowest level at which a path to the border leaves each pixel."""
    seed = np.full_like(values, values.max())
    seed[0], seed[-1], seed[:, 0], seed[:, -1] = values[0], values[-1], values[:, 0], values[:, -1]
    while True:
        lower = np.maximum(ndimage.grey_erosion(seed, (3, 3)), values)
        if np.array_equal(lower, seed):
            return seed
        seed = lower


def gauss_intensity(
    image: np.ndarray,
    patch: np.ndarray,
    corner: tuple[int, int],
    noise: np.ndarray,
    sigma_texture: float,
    amplitude: float,
    sigma_edge: float,
) -> np.ndarray:
    """float64: inside the patch brighter or darker by up to `amplitude` of 255, in blotches of the sign of `noise` (H, W)."""
    field = ndimage.gaussian_filter((noise >= 0).astype(np.float64), sigma_texture)
    field = (field - field.min()) / (field.max() - field.min()) * amplitude
    weight = ndimage.gaussian_filter(patch.astype(np.float64), sigma_edge)
    where = window(corner, patch.shape)
    out = image.astype(np.float64)
    view = out[where]
    view[patch] = (((view / 255) + field[where] * weight).clip(0, 1) * 255)[patch]
    return out


def radial(
    image: np.ndarray,
    form: Form,
    patch: np.ndarray,
    corner: tuple[int, int],
    centre: tuple[int, int],
    factor: float,
    sink: bool = False,
) -> np.ndarray:
    """uint8: tissue of the patch pushed outwards from the pixel `centre` of its frame, or drawn inwards (`sink`).

    With d the distance to the centre and D that of the edge, a pixel comes from d^f / D^(f - 1), or D - (D - d)^f / D^(f - 1).
    """
    where = window(corner, patch.shape)
    frame, inner = image[where], np.zeros(patch.shape, bool)
    inner[1:-1, 1:-1] = patch[1:-1, 1:-1]
    inner[tuple(centre)] = False
    pixels, centre = np.argwhere(inner), np.asarray(centre, float)
    offsets = pixels - centre
    distance = np.linalg.norm(offsets, axis=1)
    directions = offsets / distance[:, None]
    edge = form.to_edge(centre + form.corner, directions)
    if sink:
        moved = edge - (edge - distance).clip(0) ** factor / edge ** (factor - 1)
    else:
        moved = distance**factor / edge ** (factor - 1)
    places = centre + moved[:, None] * directions
    out = image.copy()
    out[where][inner] = ndimage.map_coordinates(frame, places.T, order=3, mode="nearest")
    return out
