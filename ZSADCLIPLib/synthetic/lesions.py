"""Metastases (necrosis, rim, oedema) and the unlabelled look-alikes of the synthetic brains."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage as ndi

from .anatomy import BOX, COARSE_MM, Shape, smooth_noise

NETC, SNFH, ET = 1, 2, 3  # BraTS-MET labels: necrotic core, oedema, enhancing tumour


@dataclass(frozen=True)
class Lesion:
    """One metastasis to be grown: centre in box millimetres, radius and widths in mm."""

    centre: np.ndarray
    radius_mm: float
    oedema_mm: float  # width of the oedema, 0 without
    rim_mm: float  # thickness of the enhancing rim around a necrosis, 0 for a solid lesion


def place(rng: np.random.Generator, shape: Shape, count: int | None = None) -> list[Lesion]:
    """Draw lesions at the grey-white border: number and radius log-normal (median 3 and 5 mm), none overlapping."""
    code, mask = shape.sample_coarse()
    inside = ndi.uniform_filter(mask, 3) > 0.95
    weight = ((code > 0.75) & inside) * (1.0 + 2.0 * ((code > 0.8) & (code < 0.97)))
    weight = weight.ravel() / weight.sum()
    wanted = int(np.clip(np.round(rng.lognormal(1.1, 0.7)), 1, 10)) if count is None else count
    lesions: list[Lesion] = []
    for index in rng.choice(weight.size, size=wanted, p=weight):
        centre = np.array(np.unravel_index(index, code.shape)) * COARSE_MM + rng.uniform(-1.5, 1.5, 3)
        radius = float(np.clip(rng.lognormal(np.log(5.0), 0.5), 2, 15))
        swollen = radius > 3 and rng.random() < 0.8
        oedema = float(radius * rng.uniform(0.5, 1.4) + rng.uniform(1, 6)) if swollen else 0.0
        rim = float(rng.uniform(1.5, 3.0)) if radius > 4 and rng.random() < 0.75 else 0.0
        if all(np.linalg.norm(centre - other.centre) > radius + other.radius_mm + 2 for other in lesions):
            lesions.append(Lesion(centre, radius, oedema, rim))
    return lesions


def push(shape: Shape, lesions: list[Lesion]) -> None:
    """Mass effect: tissue is displaced away from each centre by about a third of the radius."""
    grid = shape.coarse - shape.coarse[:, :1, :1, :1]
    for lesion in lesions:
        away = grid - lesion.centre.astype(np.float32).reshape(3, 1, 1, 1)
        distance = np.linalg.norm(away, axis=0)
        reach = 2.2 * lesion.radius_mm + 4
        amplitude = 0.35 * lesion.radius_mm + 0.1 * lesion.oedema_mm
        profile = amplitude * np.exp(-((distance / reach) ** 2)) * distance / (distance + 2)
        shape.field -= away / (distance + 1e-3) * profile


@dataclass
class Growth:
    """Soft fractions (float32, box) of necrosis, oedema and tumour; labels and lesion numbers (uint8, box)."""

    necrosis: np.ndarray
    oedema: np.ndarray
    tumour: np.ndarray
    labels: np.ndarray
    number: np.ndarray


def grow(rng: np.random.Generator, lesions: list[Lesion], code: np.ndarray, mask: np.ndarray) -> Growth:
    """Grow every lesion: a lobulated core, a rim of uneven thickness, oedema that runs in white matter.

    The distance that the oedema has to run counts 2.5 times in grey matter, so that it spares the cortex and ends in
    fingers; neither oedema nor core fills fluid. What is not connected to its core is dropped.
    """
    soft = [np.zeros(code.shape, np.float32) for _ in range(3)]
    out = Growth(*soft, np.zeros(code.shape, np.uint8), np.zeros(code.shape, np.uint8))
    for number, lesion in enumerate(lesions, 1):
        reach = int(lesion.radius_mm + 1.6 * lesion.oedema_mm + 6)
        centre = np.round(lesion.centre).astype(int)
        box = tuple(slice(max(0, c - reach), min(n, c + reach + 1)) for c, n in zip(centre, code.shape, strict=True))
        if min(s.stop - s.start for s in box) < 3:
            continue
        necrosis, oedema, tumour = _grow_one(rng, lesion, box, reach, code[box], mask[box])
        for whole, part in zip(soft, (necrosis, oedema, tumour), strict=True):
            np.maximum(whole[box], part, out=whole[box])
        labels, owner = out.labels[box], out.number[box]
        fresh = (oedema > 0.5) & (labels == 0)
        labels[fresh] = SNFH
        labels[tumour > 0.5] = ET
        labels[necrosis > 0.5] = NETC
        owner[fresh | (tumour > 0.5)] = number
    return out


def _grow_one(rng, lesion, box, reach, code, mask):
    axes = [np.arange(s.start, s.stop, dtype=np.float32) - c for s, c in zip(box, lesion.centre, strict=True)]
    stretch = np.exp(rng.uniform(-0.22, 0.22, 3))
    parts = np.meshgrid(*[(a * s).astype(np.float32) for a, s in zip(axes, stretch, strict=True)], indexing="ij")
    distance = np.sqrt(sum(p**2 for p in parts))
    fine = smooth_noise(rng, code.shape, (max(4, 2 * reach // 7),) * 3)
    broad = smooth_noise(rng, code.shape, (max(4, 2 * reach // 12),) * 3)
    fluid = np.clip((0.55 - code) / 0.2, 0, 1)
    core = distance + (0.13 * lesion.radius_mm + 0.5) * fine + 4 * fluid
    tumour = _fall(core - lesion.radius_mm, 0.6) * mask
    tumour *= _attached(tumour > 0.5, distance)
    necrosis = np.zeros_like(tumour)
    if lesion.rim_mm:
        rim = lesion.rim_mm * (1 + 0.35 * fine)
        necrosis = _fall(core + rim - lesion.radius_mm, 0.7) * mask * (tumour > 0.5)
    oedema = np.zeros_like(tumour)
    if lesion.oedema_mm:
        white = np.clip((code - 0.80) / 0.16, 0, 1)
        run = np.maximum(distance - lesion.radius_mm, 0) * (1 + 1.5 * (1 - white))
        run += lesion.oedema_mm * (0.20 * broad + 0.12 * fine)
        oedema = _fall(run - lesion.oedema_mm, 1.1) * mask * (code > 0.55)
        oedema *= _attached((oedema > 0.5) | (tumour > 0.5), distance)
    return necrosis, oedema, tumour


def _fall(x: np.ndarray, width: float) -> np.ndarray:
    """1 inside (x < 0) and 0 outside, over about `width` mm."""
    return 1 / (1 + np.exp(np.clip(x / width, -30, 30)))


def _attached(region: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """The component of `region` nearest to the centre, with a soft edge of one voxel."""
    labels, n = ndi.label(region)
    if n == 0:
        return region
    nearest = labels == labels[np.unravel_index(np.argmin(np.where(region, distance, np.inf)), region.shape)]
    return ndi.binary_dilation(nearest) & ~(region & ~nearest)


def white_matter_spots(rng: np.random.Generator, code: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Unlabelled small bright spots in deep white matter (0 to 1, float32, box); 0 to 14 a brain, radius 0.7-2 mm."""
    spots = np.zeros(BOX, np.float32)
    deep = ndi.uniform_filter((code > 0.87).astype(np.float32) * mask, 7) > 0.75
    candidates = np.flatnonzero(deep)
    wanted = min(int(rng.negative_binomial(1, 0.2)), 14)
    for index in rng.choice(candidates, size=wanted if candidates.size else 0):
        at = np.array(np.unravel_index(index, BOX))
        radius, stretch = rng.uniform(0.7, 2.0), np.exp(rng.uniform(-0.5, 0.5, 3))
        _stamp(spots, at, radius, stretch, rng.uniform(0.45, 1.0))
    return spots


def vessels(rng: np.random.Generator, code: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Unlabelled vessels in the fluid spaces (0 to 1, float32, box): random walks of 8-40 mm, radius 0.5-1.1 mm."""
    tubes = np.zeros(code.shape, np.float32)
    fluid = (code < 0.55) & mask
    half = code.shape[2] // 2
    low = np.flatnonzero(fluid[:, :, :half])
    if not low.size:
        return tubes
    for index in rng.choice(low, size=int(rng.integers(6, 16))):
        at = np.array(np.unravel_index(index, (*code.shape[:2], half)), float)
        heading = rng.standard_normal(3)
        radius = rng.uniform(0.5, 1.1)
        for _ in range(int(rng.integers(8, 40))):
            heading += 0.5 * rng.standard_normal(3)
            heading /= np.linalg.norm(heading)
            step = np.round(at + heading).astype(int)
            if not all(2 <= s < n - 2 for s, n in zip(step, code.shape, strict=True)) or not fluid[tuple(step)]:
                heading = -heading + rng.standard_normal(3)  # stay in the fluid: turn round
                continue
            at = at + heading
            _stamp(tubes, at, radius, np.ones(3), 1.0)
    return tubes * mask


def _stamp(target: np.ndarray, at: np.ndarray, radius: float, stretch: np.ndarray, value: float) -> None:
    """Raise `target` to `value` inside an ellipsoid with an edge of about a voxel."""
    reach = int(2 * radius) + 2
    centre = np.round(at).astype(int)
    box = tuple(slice(max(0, c - reach), min(n, c + reach + 1)) for c, n in zip(centre, target.shape, strict=True))
    axes = [((np.arange(s.start, s.stop) - a) * e) ** 2 for s, a, e in zip(box, at, stretch, strict=True)]
    distance = np.sqrt(axes[0][:, None, None] + axes[1][None, :, None] + axes[2][None, None, :])
    np.maximum(target[box], value * _fall(distance - radius, 0.35).astype(np.float32), out=target[box])
