"""Why 3D Dice lies below 2D Dice: what clean slices cost and what lesion slices cost, adding up exactly.

Per volume and one threshold, with TP, P = TP + FP and G = lesion voxels of each slice, and S = sum of P + G over all
slices:

    Dice3D = sum 2TP / S                               a mean of slice Dice weighted by P + G, clean slices giving 0
    weighted = sum 2TP / S_lesion                      the same over slices with lesion only
    mean2D - Dice3D = (mean2D - weighted) + (weighted - Dice3D)

The first term is what unequal slices cost (large slices weigh more in 3D; it may be negative), the second what false
positives on clean slices cost (never negative). Likewise 1 - Dice3D = FP_clean / S + FP_lesion / S + FN / S.
The project's own analysis; the paper observes the gap without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import nan

import numpy as np

from .results import Choice, Result

GAP_TERMS = ("lesion_slices", "clean_slices")
LOSS_TERMS = ("missed", "false_lesion_slices", "false_clean_slices")
TERM_LABELS = {
    "lesion_slices": "lesion slices of unequal size",
    "clean_slices": "false positives on clean slices",
    "missed": "missed lesion voxels",
    "false_lesion_slices": "false positives on lesion slices",
    "false_clean_slices": "false positives on clean slices",
}


@dataclass(frozen=True)
class Gap:
    """One volume's decomposition; everything NaN without a lesion or without a threshold.

    gap = mean_2d - dice_3d = lesion_slices + clean_slices;
    1 - dice_3d = missed + false_lesion_slices + false_clean_slices.
    """

    mean_2d: float
    dice_3d: float
    lesion_slices: float
    clean_slices: float
    missed: float
    false_lesion_slices: float
    false_clean_slices: float

    @property
    def gap(self) -> float:
        """mean_2d - dice_3d."""
        return self.mean_2d - self.dice_3d


def decompose(tp: np.ndarray, fp: np.ndarray, lesion: np.ndarray) -> Gap:
    """The gap of one volume from counts per slice, each int (N,); -1 marks slices without a threshold."""
    with_lesion = lesion > 0
    if not with_lesion.any():
        return Gap(*(nan,) * 7)
    size = tp + fp + lesion
    total, total_with_lesion = int(size.sum()), int(size[with_lesion].sum())
    mean_2d = float((2 * tp[with_lesion] / size[with_lesion]).mean())
    dice_3d, weighted = 2 * int(tp.sum()) / total, 2 * int(tp.sum()) / total_with_lesion
    return Gap(
        mean_2d,
        dice_3d,
        mean_2d - weighted,
        weighted - dice_3d,
        int((lesion - tp).sum()) / total,
        int(fp[with_lesion].sum()) / total,
        int(fp[~with_lesion].sum()) / total,
    )


def gaps(result: Result, choice: Choice) -> list[Gap]:
    """One `Gap` per case of a row; raises UsageError for a rule the row lacks slices of."""
    return [decompose(*counts) for counts in result.slice_counts(choice)]


def column(case_gaps: list[Gap], name: str) -> np.ndarray:
    """One number of every gap, float (cases,)."""
    return np.array([getattr(gap, name) for gap in case_gaps])
