"""Maps averaged over shifted grids of patches, so that what is smaller than a patch is drawn where it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import UsageError

SHIFTS = (1, 2, 4)


def check_shifts(shifts: int) -> None:
    """Raise UsageError for another number than 1, 2 or 4."""
    if shifts not in SHIFTS:
        raise UsageError(
            f"shifts {shifts}: expected 1 (none), 2 (one diagonal step of half a patch) or 4 (all half steps)"
        )


def offsets(shifts: int, patch: int) -> tuple[tuple[int, int], ...]:
    """How many rows and columns of pixels the slices move: none, and half a patch along the diagonal or each way."""
    half = patch // 2
    return {1: ((0, 0),), 2: ((0, 0), (half, half)), 4: ((0, 0), (0, half), (half, 0), (half, half))}[shifts]


def over_shifts(
    slices: np.ndarray, moves: tuple[tuple[int, int], ...], score: Callable[[np.ndarray, int], tuple[np.ndarray, ...]]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean maps (N, S, S) and slice scores (N,) of `score(slices, n)` over slices uint8 (N, S, S), moved by each of `moves`.

    What a move pushes over the edge is lost, and background 0 comes in on the other side; there a map keeps its last value.
    """
    if len(moves) == 1:
        return score(slices, 0)
    maps = scores = 0.0
    for n, (down, right) in enumerate(moves):
        height, width = slices.shape[1] - down, slices.shape[2] - right
        moved = np.zeros_like(slices)
        moved[:, down:, right:] = slices[:, :height, :width]
        found, image = score(moved if n else slices, n)
        maps = maps + np.pad(found[:, down:, right:], ((0, 0), (0, down), (0, right)), mode="edge")
        scores = scores + image
    return maps / np.float32(len(moves)), scores / np.float32(len(moves))
