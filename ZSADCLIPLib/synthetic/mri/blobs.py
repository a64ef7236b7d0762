"""Soft shapes that lesions are made of, each in a small box of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..anatomy import smooth_noise
from .head import Anatomy

Box = tuple[slice, ...]


@dataclass
class Layer:
    """One kind of tissue of one lesion: `fraction` (float32, 0 to 1) of label `label` within `box`.

    `place` (0 to 1) says where in the label's range of levels it lies, in every contrast alike; `number` is the lesion.
    """

    label: int
    box: Box
    fraction: np.ndarray
    place: float
    number: int


def fall(x: np.ndarray, width: float) -> np.ndarray:
    """1 inside (x < 0) and 0 outside, over about `width` (the unit of x)."""
    return (1 / (1 + np.exp(np.clip(x / width, -30, 30)))).astype(np.float32)


def box_at(centre: np.ndarray, reach: float, shape: tuple[int, ...]) -> Box | None:
    """The voxels within `reach` of `centre` (voxels) along each axis; None where fewer than 3 are left on one."""
    box = tuple(slice(max(0, int(c - reach)), min(n, int(c + reach) + 2)) for c, n in zip(centre, shape, strict=True))
    return None if min(s.stop - s.start for s in box) < 3 else box


def offsets(box: Box, centre: np.ndarray) -> list[np.ndarray]:
    """Distances (mm) from `centre` along each axis, shaped to broadcast over the box."""
    axes = [np.arange(s.start, s.stop, dtype=np.float32) - np.float32(c) for s, c in zip(box, centre, strict=True)]
    return [a.reshape([-1 if k == axis else 1 for k in range(3)]) for axis, a in enumerate(axes)]


def noise_like(rng: np.random.Generator, shape: tuple[int, ...], scale_mm: float) -> np.ndarray:
    """Unit-variance noise whose bumps are about `scale_mm` wide."""
    return smooth_noise(rng, shape, tuple(max(3, int(np.ceil(n / scale_mm)) + 1) for n in shape))


def axes_along(rng: np.random.Generator, direction: np.ndarray | None = None) -> np.ndarray:
    """Three orthonormal rows, the first along `direction` (random without one)."""
    first = rng.standard_normal(3) if direction is None else np.asarray(direction, float)
    basis = np.stack([first, rng.standard_normal(3), rng.standard_normal(3)])
    return np.linalg.qr(basis.T)[0].T


def ellipsoid(
    rng: np.random.Generator,
    site: Anatomy,
    centre: np.ndarray,
    radii: np.ndarray,
    rough: float = 0.2,
    soft: float = 0.5,
    direction: np.ndarray | None = None,
) -> tuple[Box, np.ndarray] | None:
    """A lumpy ellipsoid: box and signed distance (mm, negative inside), or None at the rim of the window.

    `radii` (3,) mm, the first along `direction`; `rough` is the height of its lumps relative to the mean radius and
    `soft` mm of fine noise.
    """
    mean = float(np.mean(radii))
    box = box_at(centre, max(radii) * (1 + rough) + 3, site.mask.shape)
    if box is None:
        return None
    parts = offsets(box, centre)
    turned = sum(
        ((row[0] * parts[0] + row[1] * parts[1] + row[2] * parts[2]) / np.float32(r)) ** 2
        for row, r in zip(axes_along(rng, direction).astype(np.float32), radii, strict=True)
    )
    distance = (np.sqrt(turned) - 1) * np.float32(mean)
    distance += np.float32(rough * mean) * noise_like(rng, distance.shape, max(2.5, 0.8 * mean))
    if soft and mean > 3:
        distance += np.float32(soft) * noise_like(rng, distance.shape, 2.5)
    return box, distance


def tissue_share(code: np.ndarray) -> np.ndarray:
    """How much of a voxel is brain tissue rather than fluid (0 to 1)."""
    return np.clip((code - 0.48) / 0.16, 0, 1).astype(np.float32)


def draw_voxels(rng: np.random.Generator, where: np.ndarray, count: int) -> np.ndarray:
    """`count` random voxels (count, 3) of a bool map, with replacement; none where the map is empty."""
    found = np.flatnonzero(where)
    if not found.size or count < 1:
        return np.empty((0, 3))
    return np.stack(np.unravel_index(rng.choice(found, count), where.shape), 1) + rng.uniform(-0.5, 0.5, (count, 3))
