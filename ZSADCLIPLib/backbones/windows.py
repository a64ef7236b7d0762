"""Windows of patches: s x s of them at every place of the grid, in rows from the top left."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import UsageError
from .focus import Box


def window_cells(grid: int, scale: int, device: torch.device) -> Tensor:
    """The cells (n, scale * scale) of each of the n = (grid - scale + 1)^2 windows, numbered in rows from the top left.

    Raises UsageError when no window fits.
    """
    if not 1 <= scale <= grid:
        raise UsageError(
            f"windows of {scale} x {scale} patches do not fit into {grid} x {grid} patches; "
            f"expected 1 to {grid}: choose smaller scales, or larger images"
        )
    cells = torch.arange(grid * grid, device=device).view(grid, grid)
    return cells.unfold(0, scale, 1).unfold(1, scale, 1).flatten(2).flatten(0, 1)


def equal_cells(images: Tensor, other: Tensor, patch: int, grid: int) -> Tensor:
    """Which cells (B, grid, grid) of images (B, 3, S, S) have the very pixels of another image (1, 3, S, S)."""
    same = (images == other).all(dim=1)[:, : grid * patch, : grid * patch]
    return same.unflatten(2, (grid, patch)).unflatten(1, (grid, patch)).all(dim=4).all(dim=2)


def windows_of(cells: Tensor, scale: int) -> Tensor:
    """Which windows (B, n) consist of True `cells` (B, grid, grid) only."""
    return cells.unfold(1, scale, 1).unfold(2, scale, 1).flatten(3).all(dim=3).flatten(1)


def nearest_windows(box: Box, grid: int, scale: int, device: torch.device) -> Tensor:
    """For each window (n,) the one inside `box` that stands for it in fast mode: itself, or the nearest.

    A box that is smaller than a window has the one at its first cell.
    """
    places = grid - scale + 1
    top, bottom, left, right = box

    def along(first: int, end: int) -> Tensor:
        first = min(first, places - 1)
        return torch.arange(places, device=device).clamp(first, max(first, end - scale))

    return (along(top, bottom)[:, None] * places + along(left, right)[None]).flatten()
