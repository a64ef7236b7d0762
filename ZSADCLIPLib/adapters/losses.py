"""The segmentation losses that VAND, AnomalyCLIP and AdaCLIP share."""

from __future__ import annotations

import torch
from torch import Tensor

DICE_OVER = ("image", "rows", "batch")
"""What one Dice sample is: an image; an image row (the authors' codes at batch 1: AdaCLIP always, VAND and AnomalyCLIP in a
last batch of one); or the whole batch, which does not collapse on lesion-free slices."""

SMOOTH = 1e-5


def focal(abnormal: Tensor, target: Tensor) -> Tensor:
    """Focal loss, gamma 2, alpha 1, of probabilities (any shape) against a 0/1 target; mean over all pixels.

    p_t = sum_c onehot_c p_c + 1e-5 with the one-hot clamped to [1e-5, 1 - 1e-5], as in the authors' codes
    (docs/methods/README.md, "Losses").
    """
    # With a 0/1 target, sum_c onehot_c p_c is an affine function of the probability of the true class.
    true = torch.lerp(1 - abnormal, abnormal, target)
    p_t = (1 - 2 * SMOOTH) * true + 2 * SMOOTH
    return -((1 - p_t).square() * p_t.log()).mean()


def dice(p: Tensor, target: Tensor, over: str = "image") -> Tensor:
    """1 - mean Dice with smoothing 1: (2 sum(p g) + 1) / (sum p + sum g + 1); inputs (B, S, S)."""
    if over == "batch":
        p, target = p.reshape(1, -1), target.reshape(1, -1)
    else:
        keep = 2 if over == "rows" else 1
        p, target = p.flatten(0, keep - 1).flatten(1), target.flatten(0, keep - 1).flatten(1)
    overlap = (p * target).sum(1)
    return 1 - ((2 * overlap + 1) / (p.sum(1) + target.sum(1) + 1)).mean()
