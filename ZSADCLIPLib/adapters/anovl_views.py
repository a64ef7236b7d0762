"""The 22 views of an image that AnoVL's image score averages over (docs/methods/anovl.md, "Slice score")."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

ANGLES = (-45.0, -33.75, -22.5, -11.25, 11.25, 22.5, 33.75, 45.0)
SHIFTS = ((0.2, 0.2), (-0.2, 0.2), (-0.2, -0.2), (0.2, -0.2), (0.1, 0.1), (-0.1, 0.1), (-0.1, -0.1), (0.1, -0.1))
GREY = (0.299, 0.587, 0.114)
COUNT = 1 + len(ANGLES) + len(SHIFTS) + 5


def _affine(images: Tensor, theta: list[list[float]]) -> Tensor:
    matrix = torch.tensor(theta, dtype=images.dtype, device=images.device).expand(len(images), -1, -1)
    grid = F.affine_grid(matrix, list(images.shape), align_corners=True)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=True)


def views(images: Tensor) -> list[Tensor]:
    """Normalised images (B, 3, S, S) -> 22 batches of the same shape.

    Order: identity, 8 small rotations, 8 translations in units of the normalised grid, horizontal flip, grey, rotations by
    90, 180 and 270 degrees. Borders are reflected.
    """
    out = [images]
    for angle in ANGLES:
        a = math.radians(angle)
        out.append(_affine(images, [[math.cos(a), -math.sin(a), 0.0], [math.sin(a), math.cos(a), 0.0]]))
    out += [_affine(images, [[1.0, 0.0, x], [0.0, 1.0, y]]) for x, y in SHIFTS]
    out.append(images.flip(-1))
    weights = torch.tensor(GREY, dtype=images.dtype, device=images.device).view(1, 3, 1, 1)
    out.append((images * weights).sum(dim=1, keepdim=True).expand_as(images))
    return out + [torch.rot90(images, turns, dims=(-2, -1)) for turns in (1, 2, 3)]
