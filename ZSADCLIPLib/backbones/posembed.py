"""Positional embeddings at other image sizes, always interpolated from the originals."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ..errors import UsageError

MODES = {
    "bicubic-antialias": {"mode": "bicubic", "antialias": True},
    "bicubic": {"mode": "bicubic", "antialias": False},
    "bilinear": {"mode": "bilinear", "antialias": False},
}
"""How the authors' codes resize: VAND and AnoVL (antialiased), AdaCLIP (plain bicubic), AnomalyCLIP (bilinear)."""


def resize_positions(positions: Tensor, grid: int, mode: str = "bicubic-antialias") -> Tensor:
    """Positional rows for a grid x grid image from `positions` (1 + side*side, W), class row first, kept as it is.

    Interpolated in float32 with half-pixel centres (align_corners False); unchanged when the grid already fits. Raises
    UsageError for an unknown mode.
    """
    if mode not in MODES:
        raise UsageError(f"pos_embed {mode!r} is unknown; choose one of {', '.join(MODES)}")
    side = math.isqrt(len(positions) - 1)
    if side == grid:
        return positions
    table = positions[1:].float().view(1, side, side, -1).permute(0, 3, 1, 2)
    table = F.interpolate(table, size=(grid, grid), align_corners=False, **MODES[mode])
    return torch.cat([positions[:1], table.permute(0, 2, 3, 1).flatten(1, 2)[0].to(positions.dtype)])
