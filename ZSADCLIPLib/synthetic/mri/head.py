"""Shape of a case: a random head around a template brain, with ventricles and sulci of many ages."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import ndimage as ndi

from ...files.packaged import shipped
from ..anatomy import COARSE_MM, load_anatomy, rotation, smooth_noise, tissue_labels
from .settings import AIR, BONE, EYE, FAT, FLUID, GREY, MUSCLE, MriWorld

CANVAS = (197, 233, 193)  # mm: room for a whole head, axes left, posterior, superior
LIFT = 6.0  # mm from the centre of the canvas down to the centre of the brain
MARGIN = 10  # voxels around the half-resolution maps of a template
_KINDS = np.array([0, FLUID, BONE, FAT, MUSCLE, EYE, AIR], np.uint8)  # classes of the packed head as tissue values


@dataclass(frozen=True)
class _Template:
    """A packed brain with what follows from it; `depth`, `ventricle` and `outwards` have half its resolution and a margin.

    `sulci` (0 to 1) is where atrophy opens the cortex; `depth` is mm below the surface of the brain mask (negative
    outside); `ventricle` is mm from the ventricles (negative inside); `outwards` (3, ...) points away from them and
    fades over 12 mm.
    """

    code: np.ndarray
    mask: np.ndarray
    step: float
    sulci: np.ndarray
    depth: np.ndarray
    ventricle: np.ndarray
    outwards: np.ndarray


@lru_cache(maxsize=2)
def _template(anatomy: str) -> _Template:
    code, mask, step = load_anatomy(anatomy)
    padded = np.pad(mask[::2, ::2, ::2] > 0, MARGIN)
    edge = 2 * step
    depth = (ndi.distance_transform_edt(padded) - ndi.distance_transform_edt(~padded)) * edge
    small = np.pad(code[::2, ::2, ::2], MARGIN, constant_values=0.3)
    fluid = (small < 0.55) & (depth > 3)
    labels, n = ndi.label(fluid & (depth > 25))
    sizes = np.bincount(labels.ravel(), minlength=n + 1) * edge**3
    deep = (sizes > 400)[labels] & (labels > 0)
    deep = ndi.binary_dilation(deep, iterations=4, mask=fluid)  # horns that reach up to the surface
    ventricle = (ndi.distance_transform_edt(~deep) - ndi.distance_transform_edt(deep)) * edge
    smooth = ndi.gaussian_filter(ventricle, 1.5)
    outwards = np.stack(np.gradient(smooth, edge))
    outwards *= np.exp(-np.maximum(smooth, 0) / 12) / (np.linalg.norm(outwards, axis=0) + 1e-3)
    wet = np.clip((0.62 - code) / 0.2, 0, 1) * mask
    sulci = ndi.gaussian_filter(wet, 1.2 / step)
    small_maps = (a.astype(np.float32) for a in (depth, ventricle, outwards))
    return _Template(code, mask, step, sulci.astype(np.float32), *small_maps)


@lru_cache(maxsize=1)
def _surroundings() -> tuple[np.ndarray, np.ndarray]:
    """Classes and details of Colin's head (uint8, 1 mm) and the voxel at which his brain begins."""
    with np.load(shipped("head_colin27.npz")) as packed:
        return packed["q"], packed["corner"].astype(np.float32)


@dataclass
class Anatomy:
    """A sampled head on a 1 mm window of the canvas.

    `code` (float32) is the tissue code of the brain, `mask` (bool) the inside of the skull, `tissue` (uint8) as in
    TISSUES, `detail` (uint8, 0 to 7, or None for a brain alone) the T1 level within a class; `depth` and `ventricle`
    (float32) are mm below the surface and from the ventricles; `corner` is the first voxel of the window.
    """

    code: np.ndarray
    mask: np.ndarray
    tissue: np.ndarray
    detail: np.ndarray | None
    depth: np.ndarray
    ventricle: np.ndarray
    corner: np.ndarray


class Head:
    """A random affine, mirror, elastic field, atrophy and ventricle size; lesions add to `field` before `sample`.

    `coarse` is (3, 50, 59, 49) mm from the centre of the canvas. `age` (0 to 1) says how wide sulci and ventricles are.
    """

    def __init__(self, rng: np.random.Generator, anatomy: str, world: MriWorld):
        self.anatomy, self.template = anatomy, _template(anatomy)
        axes = [np.arange(-(n - 1) / 2, (n - 1) / 2 + 1, COARSE_MM, dtype=np.float32) for n in CANVAS]
        self.coarse = np.stack(np.meshgrid(*axes, indexing="ij"))
        self.field = np.zeros_like(self.coarse)
        strength = rng.uniform(*world.elastic)
        for knots, amplitude in ((4, 4.5), (7, 2.6), (13, 1.3)):
            for component in self.field:
                component += (
                    smooth_noise(rng, component.shape, (knots,) * 3) * amplitude * rng.uniform(0.5, 1) * strength
                )
        turn = np.clip(rng.standard_normal(3), -2, 2) * np.deg2rad([4, 3, 3.5])
        scale = rng.uniform(*world.size) * (1 + rng.uniform(-0.06, 0.06, 3))
        self.matrix = ((rotation(0, turn[0]) @ rotation(1, turn[1]) @ rotation(2, turn[2])) / scale).astype(np.float32)
        self.mirrored = bool(rng.random() < 0.5)
        self.age = float(rng.beta(1.2, 1.6))
        self.sulci = float(np.clip(0.6 * self.age - 0.16 + rng.normal(0, 0.08), -0.25, 0.6))
        self.ventricles = float(np.clip(7 * self.age**1.5 - 0.8 + rng.normal(0, 1.2), -1.5, 9))
        self.skew = float(np.clip(rng.normal(0, 0.2), -0.5, 0.5))

    def _source(self) -> np.ndarray:
        """Template voxels (3, ...) of the coarse points."""
        points = self.coarse + self.field
        points[2] += LIFT
        points = np.einsum("ij,jxyz->ixyz", self.matrix, points) / self.template.step
        if self.mirrored:
            points[0] = -points[0]
        side = 1 + self.skew * np.tanh(points[0] * self.template.step / 10)
        points += (np.array(self.template.code.shape, np.float32).reshape(3, 1, 1, 1) - 1) / 2
        out = np.stack([_half(a, points) for a in self.template.outwards])
        return points - out * (side * self.ventricles / self.template.step)

    def sample_coarse(self) -> tuple[np.ndarray, np.ndarray]:
        """Tissue code and brain mask on the coarse grid."""
        points, t = self._source(), self.template
        return tuple(ndi.map_coordinates(a, points, order=1, mode="constant") for a in (t.code, t.mask))

    def coarse_depth(self) -> np.ndarray:
        """Millimetres below the surface of the brain on the coarse grid."""
        return _half(self.template.depth, self._source())

    def sample(self, whole: bool) -> Anatomy:
        """The head (`whole`) or the brain alone with a margin of a few mm."""
        points, t = self._source(), self.template
        near = ndi.map_coordinates(t.mask, points, order=1, mode="constant")
        near = ndi.maximum_filter(near, 3) > 0.02
        if whole:
            window = tuple(slice(0, n) for n in CANVAS)
        else:
            ends = [(int(i.min() * COARSE_MM), int(i.max() * COARSE_MM) + 1) for i in np.where(near)]
            window = tuple(slice(max(0, a), min(n, b)) for (a, b), n in zip(ends, CANVAS, strict=True))
        depth, ventricle = (refine(_half(a, points), window) for a in (t.depth, t.ventricle))
        fine = [refine(p, window) for p in points]
        at = refine(near.astype(np.float32), window) > 0.02
        inside = np.stack([f[at] for f in fine])
        code, mask = np.full(at.shape, 0.3, np.float32), np.zeros(at.shape, bool)
        shifted = np.clip(t.code - self.sulci * t.sulci, 0.2, 1.1)
        code[at] = ndi.map_coordinates(shifted, inside, order=1, mode="nearest")
        mask[at] = ndi.map_coordinates(t.mask, inside, order=1, mode="constant") > 0.5
        mask = _one_part(mask)
        code[~mask] = 0.3
        tissue, detail = tissue_labels(code, mask), None
        if whole:
            detail = self._surround(fine, mask, tissue)
        return Anatomy(code, mask, tissue, detail, depth, ventricle, np.array([s.start for s in window]))

    def _surround(self, fine: list[np.ndarray], mask: np.ndarray, tissue: np.ndarray) -> np.ndarray:
        """Fill `tissue` outside the brain from Colin's head, wherever his brain is not; returns the details."""
        q, corner = _surroundings()
        colin, own = load_anatomy("colin27")[0].shape, self.template.code.shape
        at = []
        for f, n, m, c in zip(fine, own, colin, corner, strict=True):
            at.append(np.round((f[~mask] - (n - 1) / 2) * ((m - 1) / (n - 1)) + (m - 1) / 2 + c).astype(np.int32))
        within = np.ones(at[0].shape, bool)
        for a, n in zip(at, q.shape, strict=True):
            within &= (a >= 0) & (a < n)
            np.clip(a, 0, n - 1, out=a)
        found = np.where(within, q[tuple(at)], 0)
        detail = np.zeros(mask.shape, np.uint8)
        tissue[~mask], detail[~mask] = _KINDS[found >> 3], found & 7
        return detail


def _half(array: np.ndarray, points: np.ndarray) -> np.ndarray:
    """A half-resolution map of a template at template voxels (3, ...)."""
    return ndi.map_coordinates(array, points / 2 + MARGIN, order=1, mode="nearest")


def _one_part(mask: np.ndarray) -> np.ndarray:
    labels, n = ndi.label(mask)
    return mask if n < 2 else labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])


def refine(coarse: np.ndarray, window: tuple[slice, ...]) -> np.ndarray:
    """Linear interpolation of a coarse canvas map to the 1 mm voxels of `window` (float32)."""
    out = np.asarray(coarse, np.float32)
    for axis, part in enumerate(window):
        at = np.arange(part.start, part.stop) / COARSE_MM
        low = np.minimum(at.astype(int), out.shape[axis] - 2)
        weight = (at - low).astype(np.float32).reshape([-1 if a == axis else 1 for a in range(3)])
        first = np.take(out, low, axis)
        out = first + weight * (np.take(out, low + 1, axis) - first)
    return out


def is_brain(tissue: np.ndarray) -> np.ndarray:
    """What of a tissue map lies inside the skull (bool)."""
    return (tissue >= FLUID) & (tissue <= GREY + 1)
