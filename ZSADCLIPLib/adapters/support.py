"""Few-shot support: the eleven or sixteen versions of an image, and a memory of normal slices that can score one volume alone."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UsageError

TURNS = (-math.pi / 8, -math.pi / 16, math.pi / 16, math.pi / 8)
SHIFTS = ((0.1, 0.1), (-0.1, 0.1), (-0.1, -0.1), (0.1, -0.1))
ZOOMS = (1.1, 1.15, 1.2, 1.3)


def versions_of(images: Tensor) -> Tensor:
    """Images or masks (k, C, S, S) in eleven versions (11 k, C, S, S), the image in the inner order.

    As they are, turned by pi/8 and pi/16 either way, shifted by a twentieth of the side along both diagonals, mirrored
    left-right and upside down; bilinear, reflected at the border (docs/methods/mvfa.md, "Few-shot").
    """
    turns = [((math.cos(a), -math.sin(a), 0.0), (math.sin(a), math.cos(a), 0.0)) for a in TURNS]
    shifts = [((1.0, 0.0, x), (0.0, 1.0, y)) for x, y in SHIFTS]
    moved = [_moved(images, matrix) for matrix in (*turns, *shifts)]
    return torch.cat([images, *moved, images.flip(-1), images.flip(-2)])


def sixteen_versions_of(images: Tensor, relit: Tensor) -> Tensor:
    """Images or masks (k, C, S, S) in sixteen versions (16 k, C, S, S), the image in the inner order.

    The eleven of `versions_of`, and before the mirrored ones four enlarged about the centre by 1.1 to 1.3, bilinear, and `relit`
    (k, C, S, S), the images in other light (docs/methods/madclip.md, "Support").
    """
    eleven, mirrored = versions_of(images), 2 * len(images)
    enlarged = [_enlarged(images, zoom) for zoom in ZOOMS]
    return torch.cat([eleven[:-mirrored], *enlarged, relit, eleven[-mirrored:]])


def in_other_light(images: Tensor, brightness: float, contrast: float) -> Tensor:
    """Images (k, C, S, S) in 0..1 times `brightness`, then each column spread by `contrast` about its mean, in 0..1 again.

    A column's mean is over its rows and channels, as in the code of MadCLIP's authors.
    """
    images = images * brightness
    mean = images.mean(dim=(1, 2), keepdim=True)
    return ((images - mean) * contrast + mean).clamp(0, 1)


def _enlarged(images: Tensor, zoom: float) -> Tensor:
    size = images.shape[-1]
    inner = int(size / zoom)
    kept = slice((size - inner) // 2, (size + inner) // 2)
    return F.interpolate(images[..., kept, kept], size=(size, size), mode="bilinear", align_corners=False)


def _moved(images: Tensor, matrix: tuple) -> Tensor:
    affine = images.new_tensor(matrix).expand(len(images), 2, 3)
    grid = F.affine_grid(affine, images.shape, align_corners=False)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


class Shots:
    """Reference images (3, S, S), at most `limit` of them and evenly spaced, however many come and in whatever batches."""

    def __init__(self, limit: int):
        self.limit, self._kept, self._seen, self._step = limit, [], 0, 1

    def add(self, images: Tensor) -> None:
        for image in images:
            if self._seen % self._step == 0:
                self._kept.append(image.detach().cpu().clone())
            self._seen += 1
            if len(self._kept) > 2 * self.limit:
                self._kept, self._step = self._kept[::2], 2 * self._step

    def __len__(self) -> int:
        return min(self.limit, len(self._kept))

    def images(self) -> Tensor:
        """(k, 3, S, S), in the order in which they came."""
        rows = torch.linspace(0, len(self._kept) - 1, len(self)).round().long()
        return torch.stack([self._kept[row] for row in rows.tolist()])


@dataclass(frozen=True)
class Memory:
    """Unit rows (m, C) of every layer, and the lowest and highest distance of a support slice from the others, summed."""

    rows: Mapping[int, Tensor]
    low: float
    high: float


def nearest_distance(tokens: Tensor, rows: Tensor) -> Tensor:
    """1 - the best cosine (B, n) of unit tokens (B, n, C) with unit rows (m, C), range 0..2."""
    return 1 - torch.stack([(one @ rows.T).amax(dim=-1) for one in tokens])


def leave_one_out(versions: int, shots: int) -> list[Tensor]:
    """For each of the `shots` images the indices, among versions x shots, of what it is compared with: the other images.

    A single image is compared with its own other versions. Raises UsageError where it has none.
    """
    order = torch.arange(versions * shots)
    if shots > 1:
        return [order[order % shots != shot] for shot in range(shots)]
    if versions == 1:
        raise UsageError("one reference slice without versions has nothing to be compared with; give more slices")
    return [order[1:]]


def minmax(values: Tensor) -> Tensor:
    """Values from 0 to 1 over all of them; zeros where all are equal."""
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else torch.zeros_like(values)
