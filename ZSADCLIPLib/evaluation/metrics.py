"""Voxel metrics of a binary prediction, with declared answers for the cases where a formula divides by zero.

An undefined value is NaN, never 0. The policies differ only in degenerate cases:
`nan` follows the definitions; `strict` counts an empty prediction of a non-empty truth as PPV 0, so that predicting
nothing does not look precise; `brats` (BraTS 2023 evaluation) gives Dice, IoU, sensitivity and PPV 1 when truth and
prediction are both empty, and sensitivity 1 when the truth is empty; `zero` gives 0 for these four when the truth is empty,
whatever is predicted, and PPV 0 for an empty prediction.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from math import nan, sqrt

import numpy as np

from ..errors import InputError, UsageError

REGIONS = ("all", "brain")
"""Where voxels count in every evaluation: everywhere, inside the brain."""

MORE_REGIONS = ("bbox", "lesion-slices")
"""On request: the brain's bounding box; slices with lesion, which hides false positives on all others."""

POLICIES = ("nan", "strict", "brats", "zero")
METRICS = (
    "dice",
    "iou",
    "sensitivity",
    "specificity",
    "ppv",
    "npv",
    "balanced_accuracy",
    "mcc",
    "volume_similarity",
    "absolute_volume_error",
)


@dataclass(frozen=True)
class Confusion:
    """Voxel counts of one binary prediction against one binary truth."""

    tp: int
    fp: int
    fn: int
    tn: int

    def __add__(self, other: Confusion) -> Confusion:
        return Confusion(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def confusion(prediction: np.ndarray, truth: np.ndarray, region: np.ndarray | None = None) -> Confusion:
    """Counts over the voxels of `region` (all without one); three boolean arrays of one shape, else InputError."""
    for name, other in (("truth", truth), ("region", region)):
        if other is not None and other.shape != prediction.shape:
            raise InputError(
                f"the {name} has shape {other.shape}, the prediction {prediction.shape}; expected one grid"
            )
    if region is not None:
        prediction, truth = prediction & region, truth & region
    total = prediction.size if region is None else int(np.count_nonzero(region))
    predicted, actual = int(np.count_nonzero(prediction)), int(np.count_nonzero(truth))
    tp = int(np.count_nonzero(prediction & truth))
    return Confusion(tp, predicted - tp, actual - tp, total - predicted - actual + tp)


def scores(counts: Confusion, policy: str = "nan") -> dict[str, float]:
    """All of METRICS from one confusion; the degenerate cases follow `policy` (one of POLICIES, else UsageError).

    Dice = 2TP/(2TP+FP+FN), IoU = TP/(TP+FP+FN), sensitivity = TP/(TP+FN), specificity = TN/(TN+FP), PPV = TP/(TP+FP),
    NPV = TN/(TN+FN), MCC as Matthews 1975, volume similarity = 1 - |FN-FP|/(2TP+FP+FN), absolute volume error = |FP-FN|
    in voxels.
    """
    if policy not in POLICIES:
        raise UsageError(f"unknown policy {policy!r} for undefined metrics; choose one of {', '.join(POLICIES)}")
    tp, fp, fn, tn = astuple(counts)
    sensitivity, specificity = _ratio(tp, tp + fn), _ratio(tn, tn + fp)
    result = {
        "dice": _ratio(2 * tp, 2 * tp + fp + fn),
        "iou": _ratio(tp, tp + fp + fn),
        "sensitivity": sensitivity,
        "specificity": specificity,
        "ppv": _ratio(tp, tp + fp),
        "npv": _ratio(tn, tn + fn),
        "balanced_accuracy": (sensitivity + specificity) / 2,
        "mcc": _mcc(tp, fp, fn, tn),
        "volume_similarity": 1 - _ratio(abs(fn - fp), 2 * tp + fp + fn),
        "absolute_volume_error": float(abs(fp - fn)),
    }
    if policy in ("strict", "zero") and tp + fn and not tp + fp:
        result["ppv"] = 0.0
    if policy == "zero" and not tp + fn:
        result.update(dice=0.0, iou=0.0, sensitivity=0.0, ppv=0.0)
    if policy == "brats" and not tp + fn:
        result["sensitivity"] = 1.0
        if not fp:
            result.update(dice=1.0, iou=1.0, ppv=1.0)
    return result


def undefined_reason(metric: str, counts: Confusion) -> str:
    """Why a value of `scores` is NaN, in words for a report."""
    if not counts.tp + counts.fn:
        return "no positive voxel in the truth"
    if not counts.tp + counts.fp:
        return "no positive voxel in the prediction"
    if not counts.tn + counts.fp:
        return "no negative voxel in the truth"
    return f"{metric} divides by zero"


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else nan


def _mcc(tp: int, fp: int, fn: int, tn: int) -> float:
    # Square roots first: the product of four voxel counts overflows no int in Python, but loses digits as a float.
    denominator = sqrt((tp + fp) * (tp + fn)) * sqrt((tn + fp) * (tn + fn))
    return _ratio(tp * tn - fp * fn, denominator)
