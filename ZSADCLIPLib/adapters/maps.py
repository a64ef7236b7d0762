"""From patch grids to pixel maps: upsampling and blur as small matrices, applied along both image axes."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor

from ..errors import UsageError

UPSAMPLE = ("corners", "half-pixel", "centres")


def full_precision(device: torch.device):
    """Inside it autocast is off: the digits of a half-precision cosine, enlarged by a temperature, would decide a map."""
    return torch.autocast(device.type, enabled=False)


def _constant(matrix: np.ndarray, device: torch.device) -> Tensor:
    # Cached across calls: a tensor born in inference mode could never take part in training.
    with torch.inference_mode(False):
        return torch.from_numpy(matrix.astype(np.float32)).to(device)


@lru_cache(maxsize=64)
def _upsample_matrix(cells: int, size: int, mode: str, patch: float, device: torch.device) -> Tensor:
    pixels = np.arange(size, dtype=np.float64)
    if mode == "corners":
        position = pixels * (cells - 1) / (size - 1) if size > 1 else np.zeros(1)
    elif mode == "half-pixel":
        position = (pixels + 0.5) * cells / size - 0.5
    elif mode == "centres":
        position = (pixels + 0.5) / patch - 0.5
    else:
        raise UsageError(f"upsample {mode!r} is unknown; choose one of {', '.join(UPSAMPLE)} or faithful")
    position = position.clip(0, cells - 1)
    low = np.minimum(np.floor(position).astype(int), max(cells - 2, 0))
    weight = position - low
    matrix = np.zeros((size, cells))
    matrix[np.arange(size), low] += 1 - weight
    matrix[np.arange(size), np.minimum(low + 1, cells - 1)] += weight
    return _constant(matrix, device)


@lru_cache(maxsize=16)
def _blur_matrix(size: int, sigma: float, device: torch.device) -> Tensor:
    # A linear filter is the matrix of its answers to unit impulses: scipy's own kernel, radius and reflection.
    return _constant(gaussian_filter1d(np.eye(size), sigma, axis=0, mode="reflect"), device)


def _both_axes(matrix: Tensor, grids: Tensor) -> Tensor:
    return matrix @ grids @ matrix.T


def upsample(grids: Tensor, size: int, mode: str, patch: float = 0.0) -> Tensor:
    """Grids (..., g, g) -> maps (..., size, size), bilinear.

    `mode`: "corners" (align_corners=True; VAND, AdaCLIP, AnoVL), "half-pixel" (align_corners=False; AnomalyCLIP) or
    "centres", which draws cell i at the middle of its patch of `patch` pixels, also where the image is not a multiple of
    the patch size (docs/methods/README.md, "Enlarging maps").
    """
    return _both_axes(_upsample_matrix(grids.shape[-1], size, mode, patch, grids.device), grids)


def blur(maps: Tensor, sigma: float) -> Tensor:
    """Gaussian filter of maps (..., S, S) along both axes, equal to scipy.ndimage.gaussian_filter; sigma 0 is none."""
    return _both_axes(_blur_matrix(maps.shape[-1], sigma, maps.device), maps) if sigma > 0 else maps


def upsample_blur(grids: Tensor, size: int, mode: str, sigma: float, patch: float = 0.0) -> Tensor:
    """`blur(upsample(grids))` as one matrix a side."""
    matrix = _upsample_matrix(grids.shape[-1], size, mode, patch, grids.device)
    if sigma > 0:
        matrix = _blur_matrix(size, sigma, grids.device) @ matrix
    return _both_axes(matrix, grids)


def to_grid(tokens: Tensor) -> Tensor:
    """(B, L, ...) -> (B, g, g, ...) with g = sqrt(L); raises UsageError when L is not a square number."""
    side = math.isqrt(tokens.shape[1])
    if side * side != tokens.shape[1]:
        raise UsageError(f"{tokens.shape[1]} patches do not form a square grid")
    return tokens.unflatten(1, (side, side))
