"""Which part of a head a scan shows: brain masks as tools make them, and defaced heads."""

from __future__ import annotations

import numpy as np
from scipy import ndimage as ndi

from .blobs import noise_like
from .head import Anatomy


def strip(rng: np.random.Generator, site: Anatomy, kind: str) -> np.ndarray:
    """What a brain mask of a kind in STRIPPINGS keeps (bool, one part)."""
    if kind == "as it is":
        return site.mask
    wave = noise_like(rng, site.mask.shape, 30)
    if kind == "loose":
        kept = site.depth + 1.5 * wave > -rng.uniform(1.5, 7)
        return _largest(kept & ((site.tissue > 0) | site.mask))
    if kind == "tight":
        return _largest(site.mask & (site.depth + 0.8 * wave > rng.uniform(1, 3.5)))
    firm = ndi.uniform_filter(((site.code > 0.5) & site.mask).astype(np.float32), int(rng.choice([3, 5])))
    kept = site.mask & ((firm > rng.uniform(0.25, 0.5)) | (site.depth > 8 + wave))
    return _largest(ndi.binary_opening(kept))


def face_plane(rng: np.random.Generator, site: Anatomy) -> tuple[float, float]:
    """Slope and height of a slanted plane that cuts off the face and spares the brain."""
    slope = float(rng.uniform(0.3, 1.2))
    brain = np.argwhere(site.mask.any(0))
    return slope, float((-brain[:, 0] - slope * brain[:, 1]).max() + rng.uniform(4, 12))


def behind_plane(plane: tuple[float, float], y: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Which places (mm on the canvas, back and up) keep what they show: bool (len(y), len(z))."""
    slope, height = plane
    return -y[:, None] - slope * z[None, :] < height


def _largest(mask: np.ndarray) -> np.ndarray:
    labels, n = ndi.label(mask)
    return mask if n < 2 else labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
