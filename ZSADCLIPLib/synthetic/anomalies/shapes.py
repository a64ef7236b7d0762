"""Shapes of synthetic anomalies as masks in a frame of their own: clouds of Perlin noise, sheared rectangles and ellipses.

Every function is a deterministic one of numbers that `draws` draws (docs/methods/mediclip.md, "Shapes").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import affine_transform

CLOUD = 0.3
"""Noise above it belongs to a cloud."""


def perlin(shape: tuple[int, int], uniform: np.ndarray) -> np.ndarray:
    """Perlin noise float64 (h, w) of a single cell; `uniform` (2, 2) in 0..1 are its corners' directions in turns."""
    angles = 2 * np.pi * np.asarray(uniform)
    r, s = np.meshgrid(np.arange(shape[0]) / shape[0], np.arange(shape[1]) / shape[1], indexing="ij")
    dot = [[np.cos(angles[i, j]) * (r - i) + np.sin(angles[i, j]) * (s - j) for j in (0, 1)] for i in (0, 1)]
    down, across = (t**3 * (t * (6 * t - 15) + 10) for t in (r, s))
    left, right = (dot[0][j] + down * (dot[1][j] - dot[0][j]) for j in (0, 1))
    return np.sqrt(2) * (left + across * (right - left))


def rotated(noise: np.ndarray, degrees: float) -> np.ndarray:
    """Noise (h, w) turned clockwise about the middle of its frame, bilinear, 0 outside."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    turn, centre = np.array([[c, -s], [s, c]]), (np.array(noise.shape) - 1) / 2
    return affine_transform(noise, turn, centre - turn @ centre, order=1, mode="grid-constant")


def cloud(shape: tuple[int, int], uniform: np.ndarray, degrees: float) -> np.ndarray:
    """The bool mask (h, w) of turned Perlin noise above `CLOUD`."""
    return rotated(perlin(shape, uniform), degrees) > CLOUD


@dataclass(frozen=True)
class Form:
    """A sheared and turned rectangle or ellipse: `sides` (2,) in pixels before `matrix` (2, 2) acts on (row, column).

    `frame` is the number of rows and columns that hold it, `corner` the place of its first pixel from the middle of the form.
    """

    kind: str
    sides: tuple[int, int]
    matrix: np.ndarray
    corner: np.ndarray
    frame: tuple[int, int]

    @classmethod
    def of(cls, kind: str, sides: tuple[int, int], shear: tuple[float, float], angle: float, largest: float) -> Form:
        """A form whose frame is brought to at most about `largest` pixels a side; `angle` in radians."""
        c, s = np.cos(angle), np.sin(angle)
        matrix = np.array([[c, -s], [s, c]]) @ np.array([[1.0, shear[0]], [shear[1], 1.0]])
        corner, frame = _extent(sides, matrix)
        if max(frame) > largest:
            matrix = matrix / (max(frame) / largest)
            corner, frame = _extent(sides, matrix)
        return cls(kind, sides, matrix, corner, frame)

    @property
    def points(self) -> np.ndarray:
        """The frame's pixels (h, w, 2) from the middle of the form."""
        return np.stack(np.indices(self.frame), axis=-1) + self.corner

    @property
    def mask(self) -> np.ndarray:
        """The pixels of the form, bool (h, w)."""
        q = self.points @ np.linalg.inv(self.matrix).T
        if self.kind == "rectangle":
            return (np.abs(q) <= np.array(self.sides) / 2).all(axis=-1)
        return np.square(q / (np.array(self.sides) / 2)).sum(axis=-1) <= 1

    def to_edge(self, start: np.ndarray, directions: np.ndarray) -> np.ndarray:
        """Distances (n,) from the point `start` (2,) from the middle to the form's edge, along unit `directions` (n, 2)."""
        inverse, half = np.linalg.inv(self.matrix).T, np.array(self.sides) / 2
        p, v = start @ inverse / half, directions @ inverse / half
        if self.kind == "rectangle":
            with np.errstate(divide="ignore"):
                each = (np.where(v < 0, -1.0, 1.0) - p) / v
            return np.where(v == 0, np.inf, each).min(axis=-1)
        a, b, c = np.square(v).sum(-1), (p * v).sum(-1), np.square(p).sum() - 1
        return (-b + np.sqrt(np.maximum(b * b - a * c, 0))) / a


def _extent(sides: tuple[int, int], matrix: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """First pixel from the middle, and number of pixels, of the frame around the four corners under `matrix`."""
    half = (np.array(sides) - 1) / 2
    corners = np.array([(y, x) for y in (-half[0], half[0]) for x in (-half[1], half[1])]) @ matrix.T
    low, high = np.floor(corners.min(axis=0)).astype(int), np.ceil(corners.max(axis=0)).astype(int)
    return low, tuple(int(n) for n in high - low + 1)
