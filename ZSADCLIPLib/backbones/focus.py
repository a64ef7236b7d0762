"""Fast mode: only the patches inside a box go through the image tower; the rest repeat the box's border."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

Box = tuple[int, int, int, int]
"""(first row, end row, first column, end column) in patches."""


def patch_box(seen: np.ndarray, patch: int, grid: int) -> Box:
    """The smallest box of patches with every True pixel of `seen` (S, S); the whole grid if there is none."""
    box = []
    for axis in (1, 0):
        at = np.flatnonzero(seen.any(axis=axis)) // patch
        at = at[at < grid]
        box += [int(at[0]), int(at[-1]) + 1] if at.size else [0, grid]
    return tuple(box)


def crop(images: Tensor, box: Box, patch: int) -> Tensor:
    """The pixels of images (B, 3, S, S) that belong to the box."""
    top, bottom, left, right = (n * patch for n in box)
    return images[..., top:bottom, left:right]


def rows_of(box: Box, grid: int, device: torch.device) -> Tensor:
    """Positions, class token first, of the box's tokens among 1 + grid * grid."""
    top, bottom, left, right = box
    cells = 1 + torch.arange(grid * grid, device=device).view(grid, grid)[top:bottom, left:right].flatten()
    return torch.cat([cells.new_zeros(1), cells])


def spread(box: Box, grid: int, device: torch.device) -> Tensor:
    """For each of 1 + grid * grid tokens the box's token that stands for it: itself, or the nearest on the border."""
    top, bottom, left, right = box
    rows = torch.arange(grid, device=device).clamp(top, bottom - 1) - top
    columns = torch.arange(grid, device=device).clamp(left, right - 1) - left
    cells = 1 + (rows[:, None] * (right - left) + columns[None]).flatten()
    return torch.cat([cells.new_zeros(1), cells])
