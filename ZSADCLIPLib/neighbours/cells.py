"""Cells of some millimetres that a volume is cut into, whatever its spacing, and a map drawn from their scores."""

from __future__ import annotations

from functools import cached_property
from math import ceil

import numpy as np
from scipy import ndimage

from ..errors import InputError, UsageError
from ..volumes.slicing import SliceStack

LEAST_SHARE = 0.5  # of a cell that is brain
MOST_CELLS = 1 << 20  # of a volume; each will have a token


class CellGrid:
    """Cubes of `cell_mm` over slices (N, R, C) of a volume, from the edge of the first voxel on; the last ones stick out.

    `shape` counts them along N, R, C, the axes of the stack: the same patient stored otherwise has the same cells. Raises
    UsageError for cells of no size, InputError for so small ones that a volume has more than MOST_CELLS.
    """

    def __init__(self, stack: SliceStack, cell_mm: float):
        if not 0 < cell_mm < float("inf"):
            raise UsageError(f"cells of {cell_mm} mm: expected more than 0")
        self.stack, self.cell_mm = stack, float(cell_mm)
        self.spacing = (stack.spacing[2], *stack.spacing[:2])
        lengths = [n * mm for n, mm in zip(stack.shape, self.spacing, strict=True)]
        self.shape = tuple(max(1, ceil(round(length / cell_mm, 3))) for length in lengths)
        if np.prod(self.shape, dtype=float) > MOST_CELLS:
            raise InputError(
                f"cells of {cell_mm:g} mm are too small for a volume of {' x '.join(f'{mm:.3g}' for mm in lengths)} mm; choose "
                "larger ones"
            )

    def overlaps(self, axis: int, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """How many mm the cells along N, R or C share with m intervals in mm from the first voxel's edge: float32 (cells, m)."""
        edges = np.arange(self.shape[axis])[:, None] * self.cell_mm
        shared = np.minimum(edges + self.cell_mm, ends) - np.maximum(edges, starts)
        return np.clip(shared, 0, None).astype(np.float32)

    def share(self, mask: np.ndarray) -> np.ndarray:
        """The share of each cell, as far as it lies in the volume, that is in `mask` (I, J, K) bool: float32 of `shape`."""
        share = self.stack.arrange(mask).astype(np.float32)
        for axis, (n, mm) in enumerate(zip(self.stack.shape, self.spacing, strict=True)):
            weights = self.overlaps(axis, np.arange(n) * mm, np.arange(1, n + 1) * mm)
            weights /= np.maximum(weights.sum(axis=1, keepdims=True), 1e-6)
            share = np.moveaxis(np.tensordot(weights, share, (1, axis)), 0, axis)
        return share

    def brain(self, mask: np.ndarray) -> np.ndarray:
        """The cells that are to a half at least in `mask` (I, J, K) bool, as bool of `shape`; raises InputError without any."""
        cells = self.share(mask) >= LEAST_SHARE - 1e-6
        if not cells.any():
            raise InputError(f"no cell of {self.cell_mm:g} mm is brain to a half; choose smaller cells")
        return cells

    def draw(self, cells: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """A map float32 (I, J, K): the scores (n,) of cells (n, 3) at their centres, linear between them.

        A cell without a score has that of the nearest one with a score.
        """
        grid, empty = np.zeros(self.shape, np.float32), np.ones(self.shape, bool)
        grid[tuple(cells.T)], empty[tuple(cells.T)] = scores, False
        nearest = ndimage.distance_transform_edt(empty, return_distances=False, return_indices=True)
        drawn = grid[tuple(nearest)]
        for axis in range(3):
            drawn = np.moveaxis(np.tensordot(self._between[axis], drawn, (1, axis)), 0, axis)
        return np.ascontiguousarray(self.stack.restore(drawn))

    @cached_property
    def _between(self) -> list[np.ndarray]:
        """For each axis the weights (voxels, cells) of linear interpolation between the centres of cells, level beyond them."""
        found = []
        for voxels, count, mm in zip(self.stack.shape, self.shape, self.spacing, strict=True):
            at = np.clip((np.arange(voxels) + 0.5) * mm / self.cell_mm - 0.5, 0, count - 1)[:, None]
            found.append(np.clip(1 - np.abs(at - np.arange(count)), 0, None).astype(np.float32))
        return found
