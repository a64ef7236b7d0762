"""The other world: procedural textures and objects with defects, as 8-bit grey images with masks."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from ..errors import UsageError

SIZE = 240
TEXTURES = ("carpet", "leather", "tile", "wood", "fabric", "metal plate")
OBJECTS = ("bolt", "bottle", "pill", "gear")
KINDS = TEXTURES + OBJECTS
DEFECTS = ("scratch", "crack", "stain", "hole", "missing part")

_Y, _X = np.mgrid[:SIZE, :SIZE].astype(np.float32)


def make_image(seed: int, kind: str | None = None, defect: bool = True) -> tuple[np.ndarray, np.ndarray, str, str]:
    """One image: (uint8 (240, 240), defect mask bool (240, 240), kind, defect name or "").

    The same arguments give the same bytes. Raises UsageError for an unknown kind or a negative seed.
    """
    if seed < 0 or kind not in (None, *KINDS):
        raise UsageError(f"seed {seed}, kind {kind!r}: expected a seed from 0 and one of {', '.join(KINDS)}")
    rng = np.random.default_rng([seed, 7])
    kind = kind or KINDS[int(rng.integers(len(KINDS)))]
    if kind in TEXTURES:
        image, inside = _texture(rng, kind), np.ones((SIZE, SIZE), bool)
    else:
        image, inside = _object(rng, kind)
    mask, name = np.zeros((SIZE, SIZE), bool), ""
    if defect:
        while mask.sum() < 30:
            image_with, mask, name = _damage(rng, image, inside)
        image = image_with
    image = image + rng.normal(0, rng.uniform(0.005, 0.02), image.shape)
    return (np.clip(image, 0, 1) * 255).astype(np.uint8), mask, kind, name


def _noise(rng, *scales: float) -> np.ndarray:
    """Smooth noise of unit deviation, blurred along rows and columns by `scales` pixels."""
    field = ndimage.gaussian_filter(rng.standard_normal((SIZE, SIZE)).astype(np.float32), scales, mode="wrap")
    return field / field.std()


def _texture(rng, kind: str) -> np.ndarray:
    angle, base = rng.uniform(0, np.pi), rng.uniform(0.35, 0.65)
    u = _X * np.cos(angle) + _Y * np.sin(angle)
    v = _Y * np.cos(angle) - _X * np.sin(angle)
    if kind == "carpet":
        return base + 0.08 * _noise(rng, 1.0, 1.0) + 0.06 * _noise(rng, 6, 6)
    if kind == "leather":
        cells = np.abs(_noise(rng, 3, 3))
        return base + 0.12 * np.minimum(cells, 0.8) + 0.04 * _noise(rng, 20, 20)
    if kind == "tile":
        pitch = rng.uniform(36, 64)
        joint = np.minimum(np.abs((u % pitch) - pitch / 2), np.abs((v % pitch) - pitch / 2)) < 2
        return base + 0.05 * _noise(rng, 8, 8) - 0.25 * joint
    if kind == "wood":
        bend = 6 * ndimage.gaussian_filter(_noise(rng, 12, 30), 2)
        return base + 0.13 * np.sin((u + bend) * rng.uniform(0.25, 0.5)) + 0.04 * _noise(rng, 1, 8)
    if kind == "fabric":
        pitch = rng.uniform(6, 11)
        return base + 0.12 * np.sin(2 * np.pi * u / pitch) * np.sin(2 * np.pi * v / pitch) + 0.03 * _noise(rng, 2, 2)
    return base + 0.06 * _noise(rng, 0.6, 25) + 0.05 * _noise(rng, 30, 30)


def _object(rng, kind: str) -> tuple[np.ndarray, np.ndarray]:
    background, level = rng.uniform(0.05, 0.25), rng.uniform(0.5, 0.8)
    cy, cx = 120 + rng.uniform(-12, 12, 2)
    y, x, turn = _Y - cy, _X - cx, rng.uniform(0, 2 * np.pi)
    radius, phi = np.hypot(x, y), np.arctan2(y, x) + turn
    size = rng.uniform(70, 95)
    if kind == "bolt":
        inside = radius * np.cos((phi % (np.pi / 3)) - np.pi / 6) < size * 0.85
        relief = 0.15 * np.sin(radius * 0.5) * (radius < size * 0.5)
    elif kind == "bottle":
        inside = radius < size
        relief = 0.18 * np.cos(radius * 0.16) - 0.2 * (radius < size * 0.45)
    elif kind == "pill":
        a = x * np.cos(turn) + y * np.sin(turn)
        b = y * np.cos(turn) - x * np.sin(turn)
        inside = np.hypot(np.maximum(np.abs(a) - size * 0.5, 0), b) < size * 0.5
        relief = -0.12 * (np.abs(a) < 2.5)
    else:
        inside = radius < size * (0.86 + 0.12 * (np.sin(phi * int(rng.integers(10, 16))) > 0))
        inside &= radius > size * 0.25
        relief = 0.1 * np.cos(radius * 0.25)
    shade = 0.1 * (x * np.cos(turn) + y * np.sin(turn)) / size
    image = np.where(inside, level + relief + shade + 0.02 * _noise(rng, 2, 2), background)
    return ndimage.gaussian_filter(image, 0.7).astype(np.float32), inside


def _damage(rng, image: np.ndarray, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    name = DEFECTS[int(rng.integers(len(DEFECTS)))]
    rows, columns = np.nonzero(ndimage.binary_erosion(inside, iterations=12))
    at = int(rng.integers(len(rows)))
    y, x = float(rows[at]), float(columns[at])
    strength = rng.uniform(0.2, 0.4) * rng.choice([-1, 1])
    if name in ("scratch", "crack"):
        mask = _line(rng, y, x, wobble=0.06 if name == "scratch" else 0.5) & inside
        if name == "crack":
            strength = -abs(strength)
        return image + strength * ndimage.gaussian_filter(mask.astype(np.float32), 0.6), mask, name
    radius = rng.uniform(6, 26)
    distance = np.hypot((_Y - y) * rng.uniform(0.7, 1.4), _X - x) + 0.25 * radius * _noise(rng, 7, 7)
    mask = (distance < radius) & inside
    soft = ndimage.gaussian_filter(mask.astype(np.float32), 1.0)
    if name == "stain":
        return image + strength * soft, mask, name
    if name == "hole":
        return image * (1 - soft) + rng.uniform(0, 0.12) * soft, mask, name
    # A missing part lets a flat ground show through.
    ground = float(image[~inside].mean()) if (~inside).any() else rng.uniform(0.2, 0.8)
    return image * (1 - soft) + ground * soft, mask, name


def _line(rng, y: float, x: float, wobble: float) -> np.ndarray:
    mask = np.zeros((SIZE, SIZE), bool)
    heading = rng.uniform(0, 2 * np.pi)
    for _ in range(int(rng.uniform(40, 130))):
        heading += rng.normal(0, wobble)
        y, x = y + np.sin(heading), x + np.cos(heading)
        if 1 <= y < SIZE - 1 and 1 <= x < SIZE - 1:
            mask[int(y), int(x)] = True
    return ndimage.binary_dilation(mask, iterations=int(rng.integers(1, 4)))
