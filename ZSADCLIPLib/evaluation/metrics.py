"""The metrics: what each is called, needs and computes, and which tables it stands in.

Those of a binary prediction have declared answers for the cases where a formula divides by zero.

An undefined value is NaN, never 0. The policies differ only in degenerate cases:
`nan` follows the definitions; `strict` counts an empty prediction of a non-empty truth as PPV 0, so that predicting
nothing does not look precise; `brats` (BraTS 2023 evaluation) gives Dice, IoU, sensitivity and PPV 1 when truth and
prediction are both empty, and sensitivity 1 when the truth is empty; `zero` gives 0 for these four when the truth is empty,
whatever is predicted, and PPV 0 for an empty prediction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass
from math import nan, sqrt
from operator import itemgetter
from typing import Any

import numpy as np

from ..errors import InputError, UsageError

REGIONS = ("all", "brain")
"""Where voxels count in every evaluation: everywhere, inside the brain."""

MORE_REGIONS = ("bbox", "lesion-slices")
"""On request: the brain's bounding box; slices with lesion, which hides false positives on all others."""

POLICIES = ("nan", "strict", "brats", "zero")
COUNTS, SCORES, LESIONS, SLICES = "counts", "scores", "lesions", "slices"
"""What a metric is computed from, see `Metric`."""


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


@dataclass(frozen=True)
class Metric:
    """A number of one test volume.

    needs     what `function` takes: "counts", a `Confusion`; "scores", a region's values of `case.evaluate_case`, which no
              threshold touches; "lesions", a rule's; "slices", the 2D Dice of the slices that count, float (slices,).
    function  gives the value; NaN or None where it is undefined.
    tables    "paper": Table 1 and what is held against it; "details", "rules", "pooled", "lesions": the table of that name.
              "rules" means results.csv, too; what needs no counts is there anyway. Counts are all in cases.csv.
    decided   what a policy answers instead of `function`, None where it leaves the value alone; of counts only.
    oracle    the value itself looks at the truth to choose a threshold.
    voxels    the value is a number of voxels, which tables give in ml.
    """

    name: str
    label: str
    needs: str
    function: Callable[[Any], float | None]
    tables: tuple[str, ...] = ()
    decided: Callable[[Confusion, str], float | None] = lambda counts, policy: None
    oracle: bool = False
    voxels: bool = False

    def of_counts(self, counts: Confusion, policy: str = "nan") -> float:
        """The value of a metric that needs counts, degenerate cases by `policy`."""
        answer = self.decided(counts, policy)
        return self.function(counts) if answer is None else answer


def _ratio(numerator: float, denominator: float) -> float:
    return numerator / denominator if denominator else nan


def _sensitivity(c: Confusion) -> float:
    return _ratio(c.tp, c.tp + c.fn)


def _specificity(c: Confusion) -> float:
    return _ratio(c.tn, c.tn + c.fp)


def _mcc(c: Confusion) -> float:
    # Square roots first: the product of four voxel counts overflows no int in Python, but loses digits as a float.
    denominator = sqrt((c.tp + c.fp) * (c.tp + c.fn)) * sqrt((c.tn + c.fp) * (c.tn + c.fn))
    return _ratio(c.tp * c.tn - c.fp * c.fn, denominator)


def _found(lesions: dict) -> tuple[int, int, int]:
    """Lesions found, false parts of the prediction and lesions missed."""
    found = int(sum(lesions["detected"]))
    return found, lesions["false_positives"], len(lesions["detected"]) - found


def _lesion_precision(lesions: dict) -> float:
    found, false, _ = _found(lesions)
    return _ratio(found, found + false)


def _lesion_f1(lesions: dict) -> float:
    found, false, missed = _found(lesions)
    return _ratio(2 * found, 2 * found + false + missed)


def _overlap_decided(c: Confusion, policy: str) -> float | None:
    if c.tp + c.fn:
        return None
    return {"zero": 0.0, "brats": None if c.fp else 1.0}.get(policy)


def _sensitivity_decided(c: Confusion, policy: str) -> float | None:
    return None if c.tp + c.fn else {"zero": 0.0, "brats": 1.0}.get(policy)


def _ppv_decided(c: Confusion, policy: str) -> float | None:
    if c.tp + c.fn:
        return 0.0 if policy in ("strict", "zero") and not c.tp + c.fp else None
    return _overlap_decided(c, policy)


_CUT = ("paper", "details", "rules", "pooled")
_ALL = (
    Metric("dice", "Dice", COUNTS, lambda c: _ratio(2 * c.tp, 2 * c.tp + c.fp + c.fn), _CUT, _overlap_decided),
    Metric("iou", "IoU", COUNTS, lambda c: _ratio(c.tp, c.tp + c.fp + c.fn), (), _overlap_decided),
    Metric("sensitivity", "Sensitivity", COUNTS, _sensitivity, _CUT, _sensitivity_decided),
    Metric("specificity", "Specificity", COUNTS, _specificity, _CUT),
    Metric("ppv", "PPV", COUNTS, lambda c: _ratio(c.tp, c.tp + c.fp), _CUT, _ppv_decided),
    Metric("npv", "NPV", COUNTS, lambda c: _ratio(c.tn, c.tn + c.fn)),
    Metric("balanced_accuracy", "Balanced accuracy", COUNTS, lambda c: (_sensitivity(c) + _specificity(c)) / 2),
    Metric("mcc", "MCC", COUNTS, _mcc),  # Matthews 1975
    Metric("volume_similarity", "Volume similarity", COUNTS,
           lambda c: 1 - _ratio(abs(c.fn - c.fp), 2 * c.tp + c.fp + c.fn)),
    Metric("absolute_volume_error", "Absolute volume error", COUNTS, lambda c: float(abs(c.fp - c.fn)), voxels=True),
    Metric("auroc", "AUROC", SCORES, itemgetter("auroc"), ("paper", "details", "pooled")),
    Metric("f1_max", "F1-max", SCORES, itemgetter("f1_max"), ("paper", "details", "pooled"), oracle=True),
    Metric("lesion_sensitivity", "Lesion sensitivity", LESIONS, itemgetter("sensitivity"), ("lesions",)),
    Metric("lesion_false_positives", "False lesions / volume", LESIONS, itemgetter("false_positives"), ("lesions",)),
    Metric("lesion_precision", "Lesion precision", LESIONS, _lesion_precision),
    Metric("lesion_f1", "Lesion F1", LESIONS, _lesion_f1),
    Metric("lesion_dice", "Lesion-wise Dice", LESIONS, itemgetter("dice"), ("lesions",)),
    Metric("slice_dice", "2D Dice", SLICES, np.mean, ("lesions",)),
    Metric("average_precision", "AP", SCORES, itemgetter("average_precision"), ("pooled", "lesions")),
)  # fmt: skip
METRICS = {metric.name: metric for metric in _ALL}
"""Every metric by name; tables take theirs from here, in this order."""


def metric_of(name: str) -> Metric:
    """The metric of a name; UsageError lists the names when it is unknown."""
    if name not in METRICS:
        raise UsageError(f"unknown metric {name!r}; choose one of {', '.join(METRICS)}")
    return METRICS[name]


def metrics_in(table: str) -> list[Metric]:
    """The metrics of a table, in the order of METRICS."""
    return [metric for metric in METRICS.values() if table in metric.tables]


def metrics_from(needs: str) -> list[Metric]:
    """The metrics computed from COUNTS, SCORES, LESIONS or SLICES."""
    return [metric for metric in METRICS.values() if metric.needs == needs]


def scores(counts: Confusion, policy: str = "nan") -> dict[str, float]:
    """All metrics that need counts, by name; degenerate cases follow `policy` (one of POLICIES, else UsageError)."""
    if policy not in POLICIES:
        raise UsageError(f"unknown policy {policy!r} for undefined metrics; choose one of {', '.join(POLICIES)}")
    return {metric.name: metric.of_counts(counts, policy) for metric in metrics_from(COUNTS)}


def undefined_reason(metric: str, counts: Confusion) -> str:
    """Why a value of `scores` is NaN, in words for a report."""
    if not counts.tp + counts.fn:
        return "no positive voxel in the truth"
    if not counts.tp + counts.fp:
        return "no positive voxel in the prediction"
    if not counts.tn + counts.fp:
        return "no negative voxel in the truth"
    return f"{metric} divides by zero"
