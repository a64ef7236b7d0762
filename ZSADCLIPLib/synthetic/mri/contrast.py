"""What each sequence makes of tissue and disease: levels relative to white matter, drawn for every case."""

from __future__ import annotations

import numpy as np

from ..anatomy import contrast
from . import settings as s
from .blobs import Layer, noise_like
from .head import Anatomy

Range = tuple[float, float]

# fluid and grey matter, then fat, muscle, bone; white matter is 1
_TISSUE: dict[str, tuple[Range, Range, Range, Range, Range]] = {
    "t2w": ((1.7, 3.6), (1.1, 1.6), (0.5, 2.4), (0.3, 0.8), (0.06, 0.35)),
    "t2f": ((0.1, 0.5), (1.02, 1.4), (0.3, 1.7), (0.3, 0.75), (0.05, 0.35)),
    "t1n": ((0.12, 0.42), (0.58, 0.93), (1.1, 2.1), (0.45, 0.9), (0.08, 0.4)),
    "t1c": ((0.12, 0.42), (0.62, 0.96), (1.1, 2.1), (0.5, 1.0), (0.08, 0.4)),
    "pd": ((0.85, 1.4), (1.05, 1.3), (0.7, 1.5), (0.6, 1.0), (0.08, 0.35)),
}
# Lesions: the share of the way from white matter to fluid (t2w, t1n, t1c), else the relative change to white matter.
_LESION: dict[int, dict[str, Range]] = {
    s.NECROSIS: {"t2w": (0.45, 1.0), "t2f": (-0.45, 0.5), "t1n": (0.5, 0.95), "t1c": (0.5, 0.95), "pd": (0.1, 0.45)},
    s.OEDEMA: {"t2w": (0.3, 0.8), "t2f": (0.35, 1.1), "t1n": (0.2, 0.6), "t1c": (0.2, 0.55), "pd": (0.2, 0.45)},
    s.ENHANCING: {"t2w": (0.15, 0.6), "t2f": (0.2, 0.8), "t1n": (0.15, 0.6), "t1c": (0.2, 1.1), "pd": (0.1, 0.4)},
    s.TUMOUR: {"t2w": (0.3, 0.85), "t2f": (0.3, 1.1), "t1n": (0.3, 0.75), "t1c": (0.3, 0.7), "pd": (0.2, 0.5)},
    s.PLAQUE: {"t2w": (0.22, 0.75), "t2f": (0.18, 1.0), "t1n": (0.2, 0.75), "t1c": (0.2, 0.7), "pd": (0.2, 0.5)},
    s.SMALL_VESSEL: {
        "t2w": (0.2, 0.65),
        "t2f": (0.18, 0.9),
        "t1n": (0.12, 0.5),
        "t1c": (0.1, 0.45),
        "pd": (0.15, 0.45),
    },
    s.INFARCT: {"t2w": (0.25, 0.65), "t2f": (0.25, 0.8), "t1n": (0.12, 0.45), "t1c": (0.1, 0.4), "pd": (0.2, 0.4)},
    s.OLD_INFARCT: {"t2w": (0.75, 1.05), "t2f": (-0.8, -0.35), "t1n": (0.7, 1.0), "t1c": (0.7, 1.0), "pd": (0.1, 0.5)},
    s.GLIOSIS: {"t2w": (0.25, 0.7), "t2f": (0.35, 1.0), "t1n": (0.15, 0.55), "t1c": (0.15, 0.5), "pd": (0.2, 0.45)},
    s.BLEED: {"t2w": (-0.45, 0.7), "t2f": (-0.7, 0.9), "t1n": (-0.9, 0.5), "t1c": (-0.9, 0.5), "pd": (-0.5, 0.4)},
    s.CAVITY: {"t2w": (0.8, 1.1), "t2f": (-0.85, -0.2), "t1n": (0.75, 1.05), "t1c": (0.75, 1.05), "pd": (0.1, 0.6)},
}
_TOWARDS_FLUID = ("t2w", "t1n", "t1c")
_DISTINCT = 0.15  # least difference of a lesion from white matter, and half of it from grey, in the free contrast


class Levels:
    """The levels of one rendering; `tissue` maps tissue values to a level, white matter is 1 but in the free contrast."""

    def __init__(self, rng: np.random.Generator, channel: str):
        self.channel = channel
        if channel == "free":
            drawn = rng.uniform(0.12, 1, 5)
            white = rng.uniform(0.12, 1)
            scale = 1.0
            drawn[4] = rng.uniform(0.03, 0.4) if rng.random() < 0.7 else drawn[4]
        else:
            drawn = [rng.uniform(*bounds) for bounds in _TISSUE[channel]]
            white = scale = 1.0
            if rng.random() < 0.25:
                drawn[2] = rng.uniform(0.12, 0.45)  # fat saturated
        fluid, grey, fat, muscle, bone = (float(d) * scale for d in drawn)
        self.tissue = {s.FLUID: fluid, s.GREY: grey, s.WHITE: float(white), s.BONE: bone, s.FAT: fat, s.MUSCLE: muscle}
        self.tissue |= {s.EYE: fluid * float(rng.uniform(0.85, 1.05)), s.AIR: float(rng.uniform(0, 0.04))}
        self.lesion = {label: self._range(rng, label) for label in s.LABELS}

    def _range(self, rng: np.random.Generator, label: int) -> Range:
        fluid, grey, white = (self.tissue[k] for k in (s.FLUID, s.GREY, s.WHITE))
        if self.channel == "free":
            if label in (s.OLD_INFARCT, s.CAVITY):
                return fluid * 0.93, fluid * 1.05
            for _ in range(50):
                level = rng.uniform(0.1, 1.1)
                if abs(level - white) > _DISTINCT and abs(level - grey) > _DISTINCT / 2:
                    break
            return level - 0.04, level + 0.04
        low, high = _LESION[label][self.channel]
        if self.channel == "t1c" and label == s.ENHANCING:
            return white * (1 + low), white * (1 + high)
        if self.channel in _TOWARDS_FLUID:
            return white + low * (fluid - white), white + high * (fluid - white)
        if self.channel == "t2f" and high < 0:
            return max(fluid * 0.9, 1 + low), max(fluid * 1.1, 1 + high)
        return white * (1 + low), white * (1 + high)

    def of(self, layer: Layer) -> float:
        low, high = self.lesion[layer.label]
        return low + layer.place * (high - low)


def render(
    rng: np.random.Generator, site: Anatomy, layers: list[Layer], tubes: np.ndarray, levels: Levels
) -> np.ndarray:
    """The noise-free image (float32) of a sampled head on its 1 mm window.

    `tubes` (float32, 0 to 1) are vessels. The same head in another channel differs in levels and texture alone.
    """
    t, shape = levels.tissue, site.mask.shape
    # How bright a thin sulcus gets depends on the resolution of the scan, which the template has but once.
    image = contrast(site.code + np.float32(rng.uniform(-0.02, 0.08)), t[s.FLUID], t[s.GREY], t[s.WHITE])
    coarse = noise_like(rng, shape, 16)
    texture = np.float32(rng.uniform(0.01, 0.05)) * coarse
    texture += np.float32(rng.uniform(0.005, 0.05)) * noise_like(rng, shape, 4.5)
    image *= 1 + texture
    if levels.channel in ("t2w", "t2f") and rng.random() < 0.4:
        _flow(rng, site, image, coarse, levels)
    if site.detail is not None:
        _surround(rng, site, image, levels)
    for layer in layers:
        part = image[layer.box]
        rough = 1 + np.float32(rng.uniform(0.5, 2.5)) * texture[layer.box]
        part += layer.fraction * (levels.of(layer) * rough - part)
    bright = levels.channel == "t1c" or (levels.channel in ("t1n", "free") and rng.random() < 0.3)
    hottest = 3.5 if rng.random() < 0.3 else 2.0  # inflow gives the histogram a long tail
    level = rng.uniform(1.1, hottest) * t[s.WHITE] if bright else rng.uniform(0.05, 0.5) * t[s.WHITE]
    image += 0.85 * tubes * (np.float32(level) - image)
    if levels.channel == "t1c":  # dura and pia
        shell = np.exp(-((site.depth - 0.5) ** 2) / 1.5) * np.clip(0.4 + 0.8 * coarse, 0, 1) * rng.uniform(0, 0.8)
        image += shell.astype(np.float32) * (np.float32(1.3) - image) * (image < 1.0)
    return np.maximum(image, 0)


def _flow(rng, site, image, coarse, levels) -> None:
    """Fluid that moves: darker on T2, brighter on FLAIR, in patches."""
    wet = (site.tissue == s.FLUID) & (site.depth > 1)
    share = np.clip(coarse[wet] + rng.uniform(-0.8, 0.3), 0, 1) * np.float32(rng.uniform(0.2, 0.9))
    target = np.float32(rng.uniform(0.2, 0.6) * levels.tissue[s.FLUID] if levels.channel == "t2w" else 1.0)
    image[wet] += share * (target - image[wet])


def _surround(rng, site, image, levels) -> None:
    """What lies outside the brain: the level of its class, rising or falling with the T1 level within the class."""
    table = np.zeros((9, 8), np.float32)
    for kind in (s.BONE, s.FAT, s.MUSCLE, s.EYE, s.AIR):
        slope = rng.uniform(0.05, 0.5) * (1 if levels.channel.startswith("t1") else rng.choice([-1, 1]))
        if kind == s.BONE:  # marrow is brighter than the plates in every sequence
            slope = rng.uniform(0.5, 2.5)
        table[kind] = levels.tissue[kind] * np.clip(1 + slope * np.linspace(-1, 1, 8), 0, 4)
        if kind == s.BONE:
            table[kind] = levels.tissue[kind] * (1 + slope * np.linspace(0, 1, 8) ** 2)
    outside = ~site.mask
    image[outside] = table[site.tissue[outside], site.detail[outside]]
