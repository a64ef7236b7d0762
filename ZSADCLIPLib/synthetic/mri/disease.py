"""The diseases of the mri world as soft layers over a sampled head."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..anatomy import COARSE_MM
from ..lesions import Lesion, grow, place, push
from . import settings as s
from .blobs import Layer, box_at, draw_voxels, ellipsoid, fall, noise_like, offsets, tissue_share
from .head import Anatomy, Head


def plan(rng: np.random.Generator, head: Head, disease: str) -> list[Lesion]:
    """The lesions with mass effect, placed on the coarse grid and pushed into the head's field."""
    if disease == "metastases":
        planned = place(rng, head)
    elif disease in ("glioma", "bleed", "cavity"):
        code, mask = head.sample_coarse()
        white, depth = (code > 0.8) & (mask > 0.9), head.coarse_depth()
        low, high = {"glioma": (8, 26), "bleed": (5, 22), "cavity": (9, 26)}[disease]
        planned = []
        for _ in range(1 if disease != "bleed" else int(rng.integers(1, 3))):
            radius = float(np.exp(rng.uniform(np.log(low), np.log(high))))
            # Far enough below the surface that its mass does not make the skull bulge.
            at = rng.choice(np.flatnonzero(white & (depth > 4 + 0.5 * radius * (disease != "cavity"))))
            centre = np.array(np.unravel_index(at, code.shape)) * COARSE_MM + rng.uniform(-2, 2, 3)
            oedema = float(rng.uniform(2, 16) if disease == "glioma" else rng.uniform(0, 6))
            planned.append(Lesion(centre, radius, oedema, float(rng.uniform(1.5, 5))))
    else:
        return []
    swelling = [replace(p, radius_mm=0.7 * p.radius_mm) for p in planned] if disease == "glioma" else planned
    if disease != "cavity":
        push(head, swelling)
    return planned


def make_layers(rng: np.random.Generator, site: Anatomy, disease: str, planned: list[Lesion]) -> list[Layer]:
    """All layers of a case, in the order in which they are laid over the image."""
    planned = [replace(p, centre=p.centre - site.corner) for p in planned]
    if disease == "metastases":
        return _metastases(rng, site, planned)
    if disease in ("ms", "small-vessel"):
        return _plaques(rng, site) if disease == "ms" else _small_vessel(rng, site)
    if disease in ("infarct", "old-infarct"):
        return _infarcts(rng, site, old=disease == "old-infarct")
    maker = {"glioma": _glioma, "bleed": _bleed, "cavity": _cavity}[disease]
    layers = []
    for number, lesion in enumerate(planned, 1):
        layers += maker(rng, site, lesion, number)
    return layers


def _metastases(rng, site, planned) -> list[Layer]:
    growth = grow(rng, planned, site.code, site.mask)
    layers = []
    for number, lesion in enumerate(planned, 1):
        box = box_at(lesion.centre, lesion.radius_mm + 1.6 * lesion.oedema_mm + 6, site.mask.shape)
        if box is None or not (growth.number[box] == number).any():
            continue
        own = np.isin(growth.number[box], (0, number))
        at = rng.random(3)
        for label, whole, p in (
            (s.OEDEMA, growth.oedema, at[0]),
            (s.ENHANCING, growth.tumour, at[1]),
            (s.NECROSIS, growth.necrosis, at[2]),
        ):
            if (whole[box] > 0.5).any():
                layers.append(Layer(label, box, whole[box] * own, float(p), number))
    return layers


def _glioma(rng, site, lesion, number) -> list[Layer]:
    """An infiltrating tumour: ill-defined and along white matter; the core enhances (60 %), mostly around necrosis."""
    reach = 1.5 * lesion.radius_mm + 1.5 * lesion.oedema_mm + 4
    box = box_at(lesion.centre, reach, site.mask.shape)
    if box is None:
        return []
    code, mask = site.code[box], site.mask[box]
    parts = [p * np.float32(np.exp(rng.uniform(-0.3, 0.3))) for p in offsets(box, lesion.centre)]
    distance = np.sqrt(parts[0] ** 2 + parts[1] ** 2 + parts[2] ** 2)
    broad = noise_like(rng, code.shape, 0.9 * lesion.radius_mm + 4)
    fine = noise_like(rng, code.shape, 5)
    brain = tissue_share(code) * mask
    white = np.clip((code - 0.78) / 0.16, 0, 1)
    core = distance + 0.25 * lesion.radius_mm * broad + 0.08 * lesion.radius_mm * fine
    enhancing = bool(rng.random() < 0.6)
    run = np.maximum(core - 0.8 * lesion.radius_mm, 0) * (1.9 - 0.9 * white) + 1.2 * fine + 1.5 * broad
    # Without enhancement the core and its surroundings are one: a low-grade tumour has no oedema of its own.
    outer = fall(run - lesion.oedema_mm - (0 if enhancing else 0.2 * lesion.radius_mm), rng.uniform(0.8, 2.5)) * brain
    layers = [Layer(s.OEDEMA if enhancing else s.TUMOUR, box, outer, float(rng.random()), number)]
    keep = np.maximum(brain, 0.9 * mask * (core < 0.5 * lesion.radius_mm))  # the middle replaces fluid too
    if enhancing:
        share = rng.uniform(0.45, 0.85) * lesion.radius_mm
        tumour = fall(core - share, 0.8) * keep
        layers.append(Layer(s.ENHANCING, box, tumour, float(rng.random()), number))
        if rng.random() < 0.75:
            rim = lesion.rim_mm * (1 + 0.4 * fine)
            layers.append(Layer(s.NECROSIS, box, fall(core + rim - share, 0.8) * keep, float(rng.random()), number))
    elif rng.random() < 0.5:
        inner = fall(core - rng.uniform(0.3, 0.7) * lesion.radius_mm, 1.5) * keep
        layers.append(Layer(s.TUMOUR, box, inner, float(rng.random()), number))
    return layers


def _bleed(rng, site, lesion, number) -> list[Layer]:
    """A haematoma of patchy levels with a rim of oedema."""
    radii = lesion.radius_mm * np.exp(rng.uniform(-0.25, 0.25, 3))
    found = ellipsoid(rng, site, lesion.centre, radii + lesion.oedema_mm + 2, 0.12)
    if found is None:
        return []
    box, distance = found
    distance = distance + lesion.oedema_mm + 2
    mask = site.mask[box]
    layers = []
    if lesion.oedema_mm > 1:
        swollen = fall(distance - lesion.oedema_mm, 0.9) * mask * tissue_share(site.code[box])
        layers.append(Layer(s.OEDEMA, box, swollen, float(rng.random()), number))
    blood = fall(distance, 0.6) * mask
    layers.append(Layer(s.BLEED, box, blood, float(rng.random()), number))
    if rng.random() < 0.7:
        patches = blood * fall(noise_like(rng, blood.shape, 6) + rng.uniform(-0.5, 1), 0.3)
        layers.append(Layer(s.BLEED, box, patches, float(rng.random()), number))
    return layers


def _cavity(rng, site, lesion, number) -> list[Layer]:
    """What a resection leaves: fluid that reaches the surface, a gliotic rim, sometimes a rest that enhances."""
    found = ellipsoid(rng, site, lesion.centre, lesion.radius_mm * np.exp(rng.uniform(-0.25, 0.25, 3)) + 6, 0.15)
    if found is None:
        return []
    box, distance = found
    distance, mask, depth = distance + 6, site.mask[box], site.depth[box]
    # An open way to the surface: the cavity is wider where the depth is small.
    distance = distance - 0.35 * np.clip(lesion.radius_mm - depth, 0, 12)
    brain = tissue_share(site.code[box]) * mask
    rim = rng.uniform(1.5, 6) * (1 + 0.5 * noise_like(rng, distance.shape, 9))
    layers = [Layer(s.GLIOSIS, box, fall(distance - rim, 1.0) * brain, float(rng.random()), number)]
    if rng.random() < 0.4:
        shell = fall(np.abs(distance) - rng.uniform(0.8, 2.5) * (0.6 + noise_like(rng, distance.shape, 12)), 0.4)
        layers.append(Layer(s.ENHANCING, box, shell * brain, float(rng.random()), number))
    layers.append(Layer(s.CAVITY, box, fall(distance, 0.6) * mask, float(rng.random()), number))
    return layers


def _spot(rng, site, at, radii, label, number, direction=None, place=None, soft=0.45) -> list[Layer]:
    found = ellipsoid(rng, site, at, radii, 0.22, 0.4, direction)
    if found is None:
        return []
    box, distance = found
    fraction = fall(distance, soft) * site.mask[box] * tissue_share(site.code[box])
    return [Layer(label, box, fraction, float(rng.random() if place is None else place), number)]


def _plaques(rng, site) -> list[Layer]:
    """MS: 3 to 60 lesions of 2 to 15 mm beside the ventricles (fingers that point away), under the cortex or deep."""
    white = (site.code > 0.84) & site.mask & (site.depth > 3)
    near = white & (site.ventricle > 0.5) & (site.ventricle < 7)
    under = white & (site.depth < 16) & (site.code < 0.93)
    total = int(np.clip(rng.lognormal(np.log(12), 0.8), 3, 60))
    beside, cortical = rng.binomial(total, 0.45), rng.binomial(total, 0.25)
    layers: list[Layer] = []
    base = rng.random()
    for where, count, kind in (
        (near, beside, "beside"),
        (under, cortical, "under"),
        (white, max(0, total - beside - cortical), "deep"),
    ):
        for at in draw_voxels(rng, where, count):
            diameter = float(np.clip(rng.lognormal(np.log(5), 0.5), 2, 15))
            radii, direction = diameter / 2 * np.exp(rng.uniform(-0.2, 0.2, 3)), None
            if kind == "beside":
                direction = _slope(site.ventricle, at)
                radii *= (rng.uniform(1, 1.8), 1, 0.85)
            number = len(layers) + 1
            level = float(np.clip(0.6 * base + 0.4 * rng.random() + rng.normal(0, 0.1), 0, 1))
            layers += _spot(rng, site, at, radii, s.PLAQUE, number, direction, level, rng.uniform(0.3, 0.9))
    return layers


def _slope(distance: np.ndarray, at: np.ndarray) -> np.ndarray:
    i, j, k = (int(np.clip(round(a), 2, n - 3)) for a, n in zip(at, distance.shape, strict=True))
    return np.array(
        [
            distance[i + 2, j, k] - distance[i - 2, j, k],
            distance[i, j + 2, k] - distance[i, j - 2, k],
            distance[i, j, k + 2] - distance[i, j, k - 2],
        ]
    ) + np.array([1e-3, 0, 0])


def _small_vessel(rng, site) -> list[Layer]:
    """Fazekas 1 to 3: a rim or confluent caps around the ventricles, spots of 1 to 5 mm radius, now and then a lacune."""
    grade = int(rng.integers(1, 4))
    white = np.clip((site.code - 0.78) / 0.12, 0, 1) * site.mask
    shape = site.mask.shape
    broad, fine = noise_like(rng, shape, 28), noise_like(rng, shape, 7)
    width = rng.uniform((0.5, 2, 4)[grade - 1], (2.5, 5, 9)[grade - 1])
    run = site.ventricle - width * (1 + 0.7 * broad) - 0.25 * width * fine
    caps = fall(run, rng.uniform(0.5, 1.2)) * white * (site.depth > 6)
    whole = tuple(slice(0, n) for n in shape)
    layers = [Layer(s.SMALL_VESSEL, whole, caps.astype(np.float32), float(rng.random()), 1)]
    candidates = (white > 0.9) & (site.depth > 8) & (site.ventricle > 2)
    count = int(rng.integers((0, 8, 20)[grade - 1], (15, 35, 70)[grade - 1]))
    for at in draw_voxels(rng, candidates, count):
        radii = np.clip(rng.lognormal(np.log(1.8), 0.4), 1, 5) * np.exp(rng.uniform(-0.4, 0.4, 3))
        layers += _spot(rng, site, at, radii, s.SMALL_VESSEL, len(layers) + 1)
    for at in draw_voxels(rng, candidates & (site.ventricle < 25), rng.binomial(3, 0.2)):
        layers += _lacune(rng, site, at, len(layers) + 1, old=True)
    return layers


def _lacune(rng, site, at, number, old: bool) -> list[Layer]:
    radii = rng.uniform(1.5, 6) * np.exp(rng.uniform(-0.3, 0.3, 3))
    if not old:
        return _spot(rng, site, at, radii, s.INFARCT, number)
    rim = _spot(rng, site, at, radii + rng.uniform(1, 2.5), s.GLIOSIS, number)
    return rim + _spot(rng, site, at, radii, s.OLD_INFARCT, number)


def _infarcts(rng, site, old: bool) -> list[Layer]:
    """A wedge of the cortex and what lies below it (65 %), or one to four lacunes."""
    deep = (site.code > 0.72) & site.mask & (site.depth > 14) & (site.ventricle > 1) & (site.ventricle < 30)
    if rng.random() < 0.35:
        layers: list[Layer] = []
        for at in draw_voxels(rng, deep, int(rng.integers(1, 5))):
            layers += _lacune(rng, site, at, len(layers) + 1, old)
        return layers
    surface = (site.code > 0.62) & (site.code < 0.85) & site.mask & (site.depth > 2) & (site.depth < 6)
    points, hubs = draw_voxels(rng, surface, 1), draw_voxels(rng, deep, 40)
    if not len(points) or not len(hubs):
        return []
    point = points[0]
    hub = hubs[np.argmin(np.linalg.norm(hubs - point, axis=1) + 10 * rng.random(len(hubs)))]
    length = float(np.linalg.norm(point - hub)) + 1e-3
    box = box_at(point, 1.3 * length + 10, site.mask.shape)
    if box is None:
        return []
    parts, axis = offsets(box, hub), ((point - hub) / length).astype(np.float32)
    radius = np.sqrt(parts[0] ** 2 + parts[1] ** 2 + parts[2] ** 2) + 1e-3
    along = (parts[0] * axis[0] + parts[1] * axis[1] + parts[2] * axis[2]) / radius
    angle = np.arccos(np.clip(along, -1, 1))
    half = np.deg2rad(rng.uniform(14, 42))
    noise = noise_like(rng, radius.shape, 14) * 2.5 + noise_like(rng, radius.shape, 5) * 0.8
    distance = np.maximum((angle - half) * radius, (rng.uniform(0.1, 0.6) * length - radius)) + noise
    brain = tissue_share(site.code[box]) * site.mask[box]
    level = float(rng.random())
    if not old:
        return [Layer(s.INFARCT, box, fall(distance, rng.uniform(0.7, 1.5)) * brain, level, 1)]
    rim = rng.uniform(1.5, 5) * (1 + 0.4 * noise_like(rng, radius.shape, 9))
    return [
        Layer(s.GLIOSIS, box, fall(distance, 0.9) * brain, float(rng.random()), 1),
        Layer(s.OLD_INFARCT, box, fall(distance + rim, 0.8) * brain, level, 1),
    ]
