"""Augmentation of training slices: flips, rotations and scale, VAND's mosaic (both seeded), or fixed versions; masks alike."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from ..adapters.support import in_other_light, sixteen_versions_of, versions_of
from ..errors import UsageError
from .schedule import AUGMENTATIONS, VERSIONS

DEGREES, ZOOM, LIGHT = 15.0, 0.1, 0.2
MOSAIC_RATE = 0.2  # the authors' aug_rate (docs/methods/vand.md, "Training")


def augmented(
    images: np.ndarray, masks: np.ndarray, rows: np.ndarray, kind: str, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Slices `rows` of images uint8 and masks bool (N, S, S), augmented: (B, S, S) each.

    none, versions, versions-16  as they are; the latter are multiplied before (`in_versions`).
    flips   left-right with probability 0.5, turned by up to 15 degrees and scaled by 0.9 to 1.1 about the centre, black
            outside; images bilinear, masks nearest.
    mosaic  with probability 0.2 a slice makes way for four drawn from all slices, halved in size, two by two.
    Raises UsageError for another kind.
    """
    if kind not in AUGMENTATIONS:
        raise UsageError(f"augmentation {kind!r} is unknown; choose one of {', '.join(AUGMENTATIONS)}")
    picked, truth = np.array(images[rows]), np.array(masks[rows])
    if kind == "none" or kind in VERSIONS:
        return picked, truth
    for i in range(len(rows)):
        if kind == "flips":
            picked[i], truth[i] = _turned(picked[i], truth[i], rng)
        elif rng.random() < MOSAIC_RATE:
            four = rng.integers(len(images), size=4)
            picked[i], truth[i] = mosaic(images[four], masks[four])
    return picked, truth


def in_versions(
    images: np.ndarray, masks: np.ndarray, kind: str = "versions", seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 and masks bool (N, S, S) in the V fixed versions of a kind (V N, S, S), rounded.

    versions     eleven (`adapters.support.versions_of`).
    versions-16  sixteen (`adapters.support.sixteen_versions_of`); `seed` draws brightness and contrast of each slice, 0.8 to 1.2.
    The slice is the inner order. A mask holds what is above half.
    """
    count, rng = VERSIONS[kind], np.random.default_rng([seed, 2])
    out = [np.empty((count, *array.shape), array.dtype) for array in (images, masks)]
    for i, pair in enumerate(zip(images, masks, strict=True)):
        both = torch.from_numpy(np.stack(pair).astype(np.float32))[:, None]
        if kind == "versions":
            made = versions_of(both)
        else:
            lit = 255 * in_other_light(both[:1] / 255, *rng.uniform(1 - LIGHT, 1 + LIGHT, 2))
            made = sixteen_versions_of(both, torch.cat([lit, both[1:]]))
        image, mask = made.unflatten(0, (count, 2)).squeeze(2).unbind(1)
        out[0][:, i], out[1][:, i] = image.round().clamp(0, 255).numpy().astype(np.uint8), (mask > 0.5).numpy()
    return out[0].reshape(-1, *images.shape[1:]), out[1].reshape(-1, *masks.shape[1:])


def _turned(image: np.ndarray, mask: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    flip, angle, zoom = rng.random() < 0.5, rng.uniform(-DEGREES, DEGREES), rng.uniform(1 - ZOOM, 1 + ZOOM)
    return transform(image, mask, flip, angle, zoom)


def transform(
    image: np.ndarray, mask: np.ndarray, flip: bool = False, degrees: float = 0.0, zoom: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """One slice (S, S) mirrored left-right, then turned counter-clockwise and enlarged about its centre."""
    angle, centre = np.radians(degrees), (image.shape[0] - 1) / 2
    c, s = np.cos(angle) / zoom, np.sin(angle) / zoom
    # Pillow asks for the map from output to input (x, y), at pixel centres.
    middle = centre + 0.5
    to_input = (c, -s, middle - c * middle + s * middle, s, c, middle - s * middle - c * middle)
    out = []
    for array, how in ((image, Image.Resampling.BILINEAR), (mask.astype(np.uint8) * 255, Image.Resampling.NEAREST)):
        one = Image.fromarray(array[:, ::-1] if flip else array)
        out.append(np.asarray(one.transform(one.size, Image.Transform.AFFINE, to_input, how)))
    return out[0], out[1] > 127


def mosaic(images: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Four slices (4, S, S) as one (S, S): two by two in reading order, brought back to size S."""
    out = []
    for four, how in ((images, Image.Resampling.BICUBIC), (masks.astype(np.uint8) * 255, Image.Resampling.BILINEAR)):
        whole = np.block([[four[0], four[1]], [four[2], four[3]]])
        out.append(np.asarray(Image.fromarray(whole).resize(four.shape[1:], how)))
    return out[0], out[1] > 127
