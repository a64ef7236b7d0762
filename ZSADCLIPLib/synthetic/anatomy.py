"""The packed anatomies and the random shape, contrast and field that make one of them a new head."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from scipy import ndimage as ndi

from ..errors import UsageError
from ..files.packaged import DATA

ANATOMIES = ("colin27", "mni152")
BOX = (168, 200, 150)  # mm: the part of the 240 x 240 x 155 grid that a brain can fill
COARSE_MM = 4.0  # spacing of the displacement field
_CODES = (0.2, 0.36, 0.5, 0.62, 0.78, 0.84, 0.97, 1.1)  # fluid .. grey .. white matter


@lru_cache(maxsize=2)
def load_anatomy(name: str) -> tuple[np.ndarray, np.ndarray, float]:
    """The tissue code (float32, 0.2 to 1.1), the brain mask (float32, 0 or 1) and the voxel edge in mm.

    Axes run left, posterior, superior. Raises UsageError for an unknown name.
    """
    if name not in ANATOMIES:
        raise UsageError(f"anatomy {name!r} is not known; use one of {', '.join(ANATOMIES)}")
    with np.load(DATA / f"anatomy_{name}.npz") as packed:
        q, step, levels = packed["q"], float(packed["step"]), float(packed["levels"])
    code = np.where(q > 0, 0.2 + 0.9 * (q.astype(np.float32) - 1) / levels, 0.3).astype(np.float32)
    return code, (q > 0).astype(np.float32), step


def resize(array: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
    """Linear interpolation to `shape` with the corner samples kept, one axis at a time (float32)."""
    out = np.asarray(array, np.float32)
    for axis, n in enumerate(shape):
        at = np.linspace(0, out.shape[axis] - 1, n)
        low = np.minimum(at.astype(int), out.shape[axis] - 2)
        weight = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        first = np.take(out, low, axis)
        out = first + weight * (np.take(out, low + 1, axis) - first)
    return out


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int, int], knots: tuple[int, int, int]) -> np.ndarray:
    """Unit-variance noise on `knots` grid points, interpolated linearly to `shape`."""
    return resize(rng.standard_normal(knots, dtype=np.float32), shape)


class Shape:
    """A random affine, flip and elastic field from the box (mm) to anatomy voxels.

    `coarse` is (3, 43, 51, 39) mm from the centre of the box; lesions add their mass effect to `field` before `sample`.
    """

    def __init__(self, rng: np.random.Generator, anatomy: str):
        self.code, self.mask, self.step = load_anatomy(anatomy)
        counts = [int(n // COARSE_MM) + 1 for n in BOX]
        axes = [np.linspace(-(n - 1) / 2, (n - 1) / 2, c, dtype=np.float32) for n, c in zip(BOX, counts, strict=True)]
        self.coarse = np.stack(np.meshgrid(*axes, indexing="ij"))
        self.field = np.zeros_like(self.coarse)
        for knots, amplitude in ((4, 4.0), (7, 2.5), (13, 1.2)):
            for component in self.field:
                component += smooth_noise(rng, tuple(counts), (knots,) * 3) * amplitude * rng.uniform(0.6, 1.1)
        tilt, roll, yaw = rng.uniform(-1, 1, 3) * np.deg2rad([4, 4, 6])
        scale = 1 + rng.uniform(-0.06, 0.06, 3) + rng.uniform(-0.02, 0.04)
        turned = rotation(0, tilt) @ rotation(1, roll) @ rotation(2, yaw)
        self.matrix = (turned / scale).astype(np.float32)
        self.flip = bool(rng.random() < 0.5)

    def _source(self) -> np.ndarray:
        points = np.einsum("ij,jxyz->ixyz", self.matrix, self.coarse + self.field) / self.step
        if self.flip:
            points[0] = -points[0]
        return points + (np.array(self.code.shape, np.float32).reshape(3, 1, 1, 1) - 1) / 2

    def sample_coarse(self) -> tuple[np.ndarray, np.ndarray]:
        """Tissue code and mask on the coarse grid."""
        points = self._source()
        return tuple(ndi.map_coordinates(a, points, order=1, mode="constant") for a in (self.code, self.mask))

    def sample(self) -> tuple[np.ndarray, np.ndarray]:
        """Tissue code (float32) and brain mask (bool, one component) on the 1 mm box."""
        points = self._source()
        near = ndi.map_coordinates(self.mask, points, order=1, mode="constant")
        near = resize(ndi.maximum_filter(near, 3), BOX) > 0.02  # the only voxels worth a look-up
        fine = np.stack([resize(p, BOX)[near] for p in points])
        code, mask = np.full(BOX, 0.3, np.float32), np.zeros(BOX, bool)
        code[near] = ndi.map_coordinates(self.code, fine, order=1, mode="nearest")
        mask[near] = ndi.map_coordinates(self.mask, fine, order=1, mode="constant") > 0.5
        labels, n = ndi.label(mask)
        if n > 1:
            mask = labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
        return code, mask


def rotation(axis: int, angle: float) -> np.ndarray:
    """The 3 x 3 matrix that turns by `angle` (radian) about one axis."""
    c, s = np.cos(angle), np.sin(angle)
    i, j = [a for a in range(3) if a != axis]
    matrix = np.eye(3)
    matrix[i, i], matrix[i, j], matrix[j, i], matrix[j, j] = c, -s, s, c
    return matrix


def tissue_labels(code: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """1 fluid, 2 grey and 3 white matter inside the mask, 0 outside (uint8)."""
    return (np.digitize(code, (0.56, 0.87)).astype(np.uint8) + 1) * mask


def contrast(code: np.ndarray, fluid: float, grey: float, white: float) -> np.ndarray:
    """Map the tissue code to the intensities of a sequence through a smoothed 256-entry table (partial volume)."""
    levels = (
        fluid,
        fluid * 0.97,
        grey + 0.62 * (fluid - grey),
        grey + 0.18 * (fluid - grey),
        grey,
        grey + 0.25 * (white - grey),
        white,
        white * 0.97,
    )
    kernel = np.hanning(15)
    table = np.interp(np.linspace(_CODES[0], _CODES[-1], 256), _CODES, levels)
    table = np.convolve(np.pad(table, 7, mode="edge"), kernel / kernel.sum(), "valid").astype(np.float32)
    return table[np.clip((code - 0.2) * (255 / 0.9), 0, 255).astype(np.uint8)]
