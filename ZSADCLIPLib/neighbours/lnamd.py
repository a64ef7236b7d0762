"""MuSc's aggregation of patches with their neighbours (LNAMD; Li et al., ICLR 2024, arXiv 2401.16753)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from ..adapters.maps import to_grid
from ..errors import UsageError

DEGREES = (1, 3, 5)
EPSILON = 1e-5


def aggregate(tokens: Tensor, degree: int) -> Tensor:
    """Patch tokens (N, L, C) of N images as unit vectors (N, L, C), each averaged over `degree` x `degree` patches.

    Before that each image is normalised over all its patches and channels together, to mean 0 and variance 1 without learned
    numbers. Beyond the border are zeros that count, so sums there shrink; degree 1 averages nothing. The authors unfold
    neighbourhoods and pool them adaptively, which is this mean and needs degree^2 times the memory. Raises UsageError for an
    even degree or patches that form no square.
    """
    if degree < 1 or degree % 2 == 0:
        raise UsageError(f"aggregation over {degree} x {degree} patches: expected an odd number from 1")
    grids = to_grid(tokens).movedim(-1, 1)
    grids = F.layer_norm(grids, grids.shape[1:], eps=EPSILON)
    means = F.avg_pool2d(grids, degree, stride=1, padding=degree // 2, count_include_pad=True)
    return F.normalize(means.flatten(2).transpose(1, 2), dim=-1)
