"""From a noise-free head to a scan: slices, resolution, field, artefacts, noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..anatomy import smooth_noise
from .head import CANVAS
from .settings import MriWorld

REFERENCE_GRIDS = (((240, 240, 155), 1.0), ((182, 218, 182), 1.0), ((193, 229, 193), 1.0))  # BraTS, MNI152, ICBM


@dataclass(frozen=True)
class Grid:
    """Where a scan has its voxels: for each axis the positions (mm on the canvas), the spacing and how sharp it is.

    `profile` is the width at half height (mm) of what one voxel sees; `kind` is "reference", "volume" or "slices".
    """

    positions: tuple[np.ndarray, np.ndarray, np.ndarray]
    spacing: tuple[float, float, float]
    profile: tuple[float, float, float]
    kind: str
    partial: str = ""

    @property
    def shape(self) -> tuple[int, int, int]:
        return tuple(len(p) for p in self.positions)


def draw_grid(rng: np.random.Generator, world: MriWorld, low: np.ndarray, high: np.ndarray, head: bool) -> Grid:
    """A grid around what lies between `low` and `high` (mm on the canvas)."""
    centre, need = (low + high) / 2, high - low + 4
    if not head and rng.random() < 0.35:
        shape, step = REFERENCE_GRIDS[int(rng.integers(len(REFERENCE_GRIDS)))]
        shift = rng.uniform(-3, 3, 3)
        places = [c + d + step * (np.arange(n) - (n - 1) / 2) for c, d, n in zip(centre, shift, shape, strict=True)]
        # Scans in such grids were often thick slices before.
        deep = float(rng.uniform(1, 4)) if rng.random() < 0.5 else 1.0
        return Grid(tuple(places), (step,) * 3, (rng.uniform(0.9, 1.5), rng.uniform(0.9, 1.5), deep), "reference")
    thick = rng.random() < world.thick
    if thick:
        spacing = float(rng.uniform(*world.in_plane))
        deep = float(rng.uniform(*world.thickness))
        apart = deep * (1 + (rng.uniform(0, 0.3) if rng.random() < 0.6 else 0.0))
    else:
        spacing = float(rng.uniform(0.85, world.in_plane[1]))
        deep = apart = float(spacing if rng.random() < 0.5 else rng.uniform(1.0, 2.0))
    # A matrix of 160 to 512 that holds the head; fields of view are square or fitted.
    square = rng.random() < 0.7
    wanted = [max(need[:2]), max(need[:2])] if square else list(need[:2])
    spacing = max(spacing, max(wanted) / 512)
    room = rng.uniform(1.0, 1.25)
    counts = [int(np.clip(8 * np.ceil(w * room / spacing / 8), 160, 512)) for w in wanted]
    places = [
        c + rng.uniform(-3, 3) + spacing * (np.arange(n) - (n - 1) / 2) for c, n in zip(centre[:2], counts, strict=True)
    ]
    bottom, top, partial = low[2] - rng.uniform(-2, 8), high[2] + rng.uniform(-1, 8), ""
    if rng.random() < world.partial:
        partial = "top" if rng.random() < 0.5 else "bottom"
        cut = rng.uniform(0.1, 0.4) * (top - bottom)
        bottom, top = (bottom, top - cut) if partial == "top" else (bottom + cut, top)
    slices = max(8, int(np.ceil((top - bottom) / apart)))
    places.append(bottom + apart * np.arange(slices))
    sharp = max(spacing, float(rng.uniform(0.8, 1.4)))
    return Grid(
        tuple(places), (spacing, spacing, apart), (sharp, sharp, deep), "slices" if thick else "volume", partial
    )


def _kernel(positions: np.ndarray, n: int, width: float, ringing: bool) -> np.ndarray:
    """Weights (len(positions), n): what each position sees of voxels 0 to n - 1 of 1 mm."""
    away = positions[:, None] - np.arange(n)[None]
    if ringing:  # a truncated k-space, with a window that leaves some of its side lobes
        r = max(width, 1.0) * 1.05
        weights = np.sinc(away / r) * np.where(np.abs(away) < 7 * r, np.cos(np.pi * away / (14 * r)) ** 2, 0) / r
    elif width < 1.2:
        weights = np.maximum(0, 1 - np.abs(away))
    else:
        sigma = width / 2.355
        weights = np.exp(-0.5 * (away / sigma) ** 2) / (sigma * np.sqrt(2 * np.pi))
    return weights.astype(np.float32)


def acquire(image: np.ndarray, corner: np.ndarray, grid: Grid, ringing: bool) -> np.ndarray:
    """See a 1 mm window of the canvas through the profiles of a grid: (I, J, K) float32."""
    kernels = [
        _kernel(p - c, n, w, ringing and axis < 2)
        for axis, (p, c, n, w) in enumerate(zip(grid.positions, corner, image.shape, grid.profile, strict=True))
    ]
    out = image @ kernels[2].T
    out = np.matmul(kernels[1], out)
    return np.tensordot(kernels[0], out, (1, 0))


def nearest(array: np.ndarray, corner: np.ndarray, grid: Grid) -> np.ndarray:
    """The voxel of a 1 mm window at every position of a grid, 0 outside the window."""
    out = array
    for axis in (2, 1, 0):
        at = np.round(grid.positions[axis] - corner[axis]).astype(int)
        within = (at >= 0) & (at < array.shape[axis])
        out = np.take(out, np.clip(at, 0, array.shape[axis] - 1), axis)
        if not within.all():
            out[tuple(~within if a == axis else slice(None) for a in range(3))] = 0
    return out


def label_slabs(label: np.ndarray, corner: np.ndarray, grid: Grid) -> np.ndarray:
    """Lesion labels of a grid: a voxel is lesion where at least 45 % of its slab is, with the slab's largest label."""
    thickness = grid.spacing[2]
    if thickness < 1.8:
        return nearest(label, corner, grid)
    slabs = np.zeros((*label.shape[:2], len(grid.positions[2])), label.dtype)
    for k, z in enumerate(grid.positions[2] - corner[2]):
        low, high = int(round(z - thickness / 2 + 0.5)), int(round(z + thickness / 2 + 0.5))
        slab = label[:, :, max(0, low) : max(0, high)]
        if slab.size and slab.any():
            enough = (slab > 0).sum(2) >= 0.45 * max(1, high - low)
            slabs[:, :, k] = slab.max(2) * enough
    flat = Grid((*grid.positions[:2], np.arange(slabs.shape[2], dtype=float)), grid.spacing, grid.profile, grid.kind)
    return nearest(slabs, np.array([corner[0], corner[1], 0]), flat)


def bias_field(rng: np.random.Generator, grid: Grid, strength: float) -> np.ndarray:
    """exp of smooth noise with standard deviation `strength`, in a third of the scans with a bright or dark middle."""
    axes = [np.clip(p / (n - 1), -0.2, 1.2) for p, n in zip(grid.positions, CANVAS, strict=True)]
    small = smooth_noise(rng, (12, 12, 12), (4, 4, 4)) * strength
    if rng.random() < 0.35:
        u = np.linspace(-1, 1, 12)
        small = small + rng.normal(0, strength) * (
            1 - u[:, None, None] ** 2 - u[None, :, None] ** 2 - u[None, None] ** 2
        )
    ends = [np.clip(np.interp(a, [0, 1], [0, 11]), 0, 11) for a in axes]
    out = small.astype(np.float32)
    for axis, at in enumerate(ends):
        low = np.minimum(at.astype(int), out.shape[axis] - 2)
        weight = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        first = np.take(out, low, axis)
        out = first + weight * (np.take(out, low + 1, axis) - first)
    return np.exp(out)


def ghosts(rng: np.random.Generator, image: np.ndarray, strength: float) -> None:
    """Add a faint copy shifted along one in-plane axis, in place."""
    axis = int(rng.integers(2))
    shift = image.shape[axis] // int(rng.integers(2, 5)) + int(rng.integers(-6, 7))
    image += np.float32(strength) * np.roll(image, shift, axis)


def noisy(rng: np.random.Generator, image: np.ndarray, sigma: float, where: np.ndarray, smooth: bool) -> np.ndarray:
    """Rician noise at the voxels of `where`; `smooth` as after interpolation in the plane. Elsewhere 0."""
    out = np.zeros_like(image)
    if smooth:
        share = np.float32(rng.uniform(0.2, 0.6))  # of each neighbour in the plane
        parts = [_blurred(rng.standard_normal(image.shape, dtype=np.float32), share)[where] for _ in range(2)]
    else:
        parts = [rng.standard_normal(int(where.sum()), dtype=np.float32) for _ in range(2)]
    out[where] = np.hypot(image[where] + np.float32(sigma) * parts[0], np.float32(sigma) * parts[1])
    return out


def _blurred(noise: np.ndarray, share: np.float32) -> np.ndarray:
    """Noise of unit variance with neighbours in the plane that resemble each other."""
    for axis in (0, 1):
        noise = noise + share * (np.roll(noise, 1, axis) + np.roll(noise, -1, axis))
    return noise / (1 + 2 * share**2)
