"""Nearest tokens at nearly the same place, for volumes that lie on one grid."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..errors import InputError, UsageError
from .mutual import nearest


def reach_of(window_mm: float, cell_mm: float) -> int:
    """How many cells a box of `window_mm` reaches from its middle along each axis; raises UsageError for no size."""
    if not 0 < window_mm < float("inf"):
        raise UsageError(f"window_mm {window_mm}: expected more than 0")
    return int(window_mm / 2 // cell_mm)


def nearest_within(
    first: Tensor,
    second: Tensor,
    places: tuple[np.ndarray, np.ndarray],
    reach: int,
    references: tuple[int, int] | None = None,
) -> tuple[Tensor, Tensor]:
    """As `mutual.nearest`, among tokens whose cells are at most `reach` apart along each of the three axes.

    `places` are the cells (n, 3) of `first` and (m, 3) of `second`. A token that has no reference so near is compared with all.
    A layer of cells is compared at a time, with the layers within its reach: that is the work that a box saves.
    """
    of_first, of_second = references or (len(first), len(second))
    rows = first.new_full((len(first),), torch.inf)
    columns = first.new_full((len(second),), torch.inf)
    here, there = (torch.from_numpy(np.ascontiguousarray(each, np.int64)).to(first.device) for each in places)
    for layer in torch.unique(here[:, 0]):
        mine = torch.nonzero(here[:, 0] == layer)[:, 0]
        near = torch.nonzero((there[:, 0] - layer).abs() <= reach)[:, 0]
        if not len(near):
            continue
        cosines = first[mine] @ second[near].T
        for axis in (1, 2):
            apart = (here[mine, axis][:, None] - there[near, axis][None]).abs()
            cosines.masked_fill_(apart > reach, -torch.inf)
        distances = (2 - 2 * cosines).clamp(min=0).sqrt()
        if (near < of_second).any():
            rows[mine] = distances[:, near < of_second].amin(dim=1)
        if (mine < of_first).any():
            columns[near] = torch.minimum(columns[near], distances[mine < of_first].amin(dim=0))
    for found, tokens, others in ((rows, first, second[:of_second]), (columns, second, first[:of_first])):
        alone = torch.isinf(found)
        if alone.any():
            found[alone] = nearest(tokens[alone], others)[0]
    return rows, columns


def check_one_grid(grids: dict[str, dict]) -> None:
    """Raise InputError when volumes, by id, differ in "shape" or "affine": a box compares places that must be the same."""
    (reference, first), *others = grids.items()
    for name, grid in others:
        for what in ("shape", "affine"):
            if not np.allclose(first[what], grid[what], rtol=0, atol=1e-3):
                raise InputError(
                    f"window-mm compares cells at the same place, but {name} has another {what} than {reference}; bring the "
                    "volumes onto one grid, or leave window-mm out"
                )
