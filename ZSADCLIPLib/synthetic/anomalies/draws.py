"""Synthetic anomalies drawn at random and put into slices: the tasks, where they may lie, and what counts as changed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from ...errors import UsageError
from .changes import cut_paste, gauss_intensity, pasted_label, radial, source_box, window
from .shapes import Form, cloud

TASKS = ("cut-paste", "gauss", "source", "identity")
"""What a drawn slice gets, each as often: a pasted piece, another brightness, a bulge, or nothing."""
WITHIN = ("head", "image")
"""Where anomalies lie: at least half inside the head and only there, or anywhere, as in the authors' code."""
SIDES = {"cut-paste": (0.1, 0.6), "gauss": (0.3, 0.8), "source": (0.2, 0.6), "sink": (0.2, 0.6)}
"""The least and the largest side of a shape, as shares of the slice's shorter side."""
FILLED = 0.2  # the least share of its frame that a cloud fills
PLACES, SHAPES = 20, 5  # how often a place in the head is looked for, for so many shapes


def versions(
    slices: np.ndarray, heads: np.ndarray | None, count: int, seed: int, within: str = "head"
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """`count` versions of each slice (N, H, W) uint8, version by version: images uint8 and masks bool of the anomalies (N, H, W).

    `heads` (N, H, W) bool says where the head is, None for `within` "image". Version v of slice i depends on the slices and on
    (seed, v, i) alone. Raises UsageError for another place.
    """
    if within not in WITHIN or (within == "head") != (heads is not None):
        raise UsageError(f"anomalies within {within!r}: expected image, or head and where the heads are")
    for version in range(count):
        made = [
            with_anomaly(image, slices, np.random.default_rng([seed, version, i]), None if heads is None else heads[i])
            for i, image in enumerate(slices)
        ]
        yield np.stack([image for image, _ in made]), np.stack([mask for _, mask in made])


def with_anomaly(
    image: np.ndarray, sources: np.ndarray, rng: np.random.Generator, head: np.ndarray | None = None, task: str = ""
) -> tuple[np.ndarray, np.ndarray]:
    """A slice (H, W) uint8 after a task (drawn unless given) and its mask bool; `sources` (N, H, W) give pieces to paste.

    With a `head` (H, W) only the head changes, and the mask holds what changed there.
    """
    task, union, changed = task or TASKS[rng.integers(len(TASKS))], np.zeros(image.shape, bool), image
    while task != "identity":
        placed = _placed(task, image.shape, rng, head)
        if placed is None:
            break
        shape, patch, corner = placed
        changed = _changed(task, changed, sources, shape, patch, corner, rng)
        again = not union.any() and rng.random() <= 0.5
        union[window(corner, patch.shape)] |= patch
        if not again:
            break
    changed = changed.astype(np.uint8)
    if head is None:
        return changed, pasted_label(image, changed, union) > 0.5 if task == "cut-paste" else union
    changed = np.where(head, changed, image)
    mask = ndimage.binary_closing(union & (changed != image), np.ones((3, 3)))
    return changed, ndimage.binary_fill_holes(mask) & head & union


def _placed(task: str, size: tuple[int, int], rng: np.random.Generator, head: np.ndarray | None):
    """A shape, its mask and the corner of its frame, None where the head is too small for any of them."""
    for _ in range(SHAPES):
        shape, patch = _shape(task, min(size), rng)
        for _ in range(1 if head is None else PLACES):
            corner = tuple(int(rng.integers(0, n - side + 1)) for n, side in zip(size, patch.shape, strict=True))
            if head is None or 2 * head[window(corner, patch.shape)][patch].sum() >= patch.sum():
                return shape, patch, corner
    return None


def _shape(task: str, size: int, rng: np.random.Generator) -> tuple[Form | None, np.ndarray]:
    low, high = (share * size for share in SIDES[task])
    if task in ("cut-paste", "gauss"):
        frame = tuple(rng.integers(round(low), round(high), 2))
        while True:
            patch = cloud(frame, rng.random((2, 2)), rng.uniform(-90, 90))
            if patch.mean() >= FILLED:
                return None, patch
    kind, sides = ("rectangle", "ellipse")[rng.integers(2)], form_sides(rng.gamma(2, 0.1, 2), size, low, high)
    form = Form.of(kind, sides, tuple(rng.normal(0, 0.2, 2)), rng.uniform(-np.pi / 2, np.pi / 2), high)
    return form, form.mask


def form_sides(gamma: np.ndarray, size: int, low: float, high: float) -> tuple[int, int]:
    """Sides in pixels of a form from two draws of a gamma distribution of shape 2 and scale 0.1."""
    return tuple(int(side) for side in ((0.03 + gamma) * size).clip(low, high))


def _changed(
    task: str,
    image: np.ndarray,
    sources: np.ndarray,
    form: Form | None,
    patch: np.ndarray,
    corner: tuple[int, int],
    rng: np.random.Generator,
) -> np.ndarray:
    if task == "cut-paste":
        source, angle, factor = (
            sources[rng.integers(len(sources))],
            rng.uniform(-1, 1) * np.pi / 4,
            1 + rng.exponential(0.1),
        )
        turned = source_box(patch.shape, angle, 1.0)[2]
        most = min(0.8 * n / side for n, side in zip(source.shape, turned, strict=True))
        scale = min(factor if rng.random() < 0.5 else 1 / factor, most)
        box = source_box(patch.shape, angle, scale)[2]
        start = tuple(int(rng.integers(0, n - side + 1)) for n, side in zip(source.shape, box, strict=True))
        return cut_paste(image, source, patch, corner, angle, scale, start)
    if task == "gauss":
        amplitude = rng.uniform(0.4, 0.6) * rng.choice((-1, 1))
        noise, texture = rng.standard_normal(image.shape), rng.choice((4, 7))
        return gauss_intensity(image, patch, corner, noise, texture, amplitude, rng.uniform(1, 4))
    pixels = np.argwhere(patch)
    return radial(
        image, form, patch, corner, pixels[rng.integers(len(pixels))], 2 ** rng.uniform(0.5, 2), task == "sink"
    )
