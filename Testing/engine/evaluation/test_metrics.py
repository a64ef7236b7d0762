"""Confusion metrics against scikit-learn, and their declared answers where formulas divide by zero."""

import numpy as np
import pytest
from sklearn import metrics as sk

from ZSADCLIPLib.errors import InputError, UsageError
from ZSADCLIPLib.evaluation.metrics import COUNTS, Confusion, confusion, metrics_from, scores, undefined_reason

NAN = float("nan")


def test_values_equal_scikit_learn():
    rng = np.random.default_rng(0)
    for _ in range(50):
        truth, prediction = rng.random((4, 5, 6)) < 0.4, rng.random((4, 5, 6)) < 0.4
        a, b = truth.ravel(), prediction.ravel()
        found = scores(confusion(prediction, truth))
        expected = {
            "dice": sk.f1_score(a, b),
            "iou": sk.jaccard_score(a, b),
            "sensitivity": sk.recall_score(a, b),
            "specificity": sk.recall_score(~a, ~b),
            "ppv": sk.precision_score(a, b),
            "npv": sk.precision_score(~a, ~b),
            "balanced_accuracy": sk.balanced_accuracy_score(a, b),
            "mcc": sk.matthews_corrcoef(a, b),
        }
        assert {k: found[k] for k in expected} == pytest.approx(expected, abs=1e-12)
        assert found["absolute_volume_error"] == abs(int(a.sum()) - int(b.sum()))


def test_a_region_limits_all_four_counts():
    rng = np.random.default_rng(1)
    truth, prediction, region = (rng.random((5, 5, 5)) < p for p in (0.3, 0.4, 0.5))
    assert confusion(prediction, truth, region) == confusion(prediction[region], truth[region])
    assert confusion(prediction, truth, region) + confusion(prediction, truth, ~region) == confusion(prediction, truth)
    with pytest.raises(InputError, match="region has shape"):
        confusion(prediction, truth, region[1:])


@pytest.mark.parametrize(
    ("counts", "policy", "expected"),
    [
        (Confusion(0, 0, 0, 9), "nan", {"dice": NAN, "iou": NAN, "sensitivity": NAN, "specificity": 1, "ppv": NAN}),
        (Confusion(0, 3, 0, 6), "nan", {"dice": 0, "iou": 0, "sensitivity": NAN, "specificity": 6 / 9, "ppv": 0}),
        (Confusion(0, 0, 3, 6), "nan", {"dice": 0, "iou": 0, "sensitivity": 0, "specificity": 1, "ppv": NAN}),
        (Confusion(0, 0, 3, 6), "strict", {"dice": 0, "ppv": 0}),
        (Confusion(0, 0, 0, 9), "strict", {"dice": NAN, "ppv": NAN}),
        (Confusion(0, 0, 0, 9), "brats", {"dice": 1, "iou": 1, "sensitivity": 1, "specificity": 1, "ppv": 1}),
        (Confusion(0, 3, 0, 6), "brats", {"dice": 0, "sensitivity": 1, "ppv": 0}),
        (Confusion(0, 0, 3, 6), "brats", {"dice": 0, "sensitivity": 0, "ppv": NAN}),
        (Confusion(0, 0, 0, 9), "zero", {"dice": 0, "iou": 0, "sensitivity": 0, "specificity": 1, "ppv": 0}),
        (Confusion(0, 3, 0, 6), "zero", {"dice": 0, "sensitivity": 0, "ppv": 0}),
        (Confusion(0, 0, 3, 6), "zero", {"dice": 0, "sensitivity": 0, "ppv": 0}),
        (Confusion(3, 0, 0, 6), "zero", {"dice": 1, "sensitivity": 1, "ppv": 1}),
        (Confusion(5, 0, 0, 0), "nan", {"dice": 1, "specificity": NAN, "npv": NAN, "mcc": NAN}),
    ],
)
def test_degenerate_cases_follow_the_declared_policy(counts, policy, expected):
    found = scores(counts, policy)
    assert {k: found[k] for k in expected} == pytest.approx(expected, nan_ok=True)


def test_reasons_and_unknown_policies():
    assert "truth" in undefined_reason("dice", Confusion(0, 0, 0, 9))
    assert "prediction" in undefined_reason("ppv", Confusion(0, 0, 3, 6))
    assert "negative" in undefined_reason("specificity", Confusion(5, 0, 0, 0))
    with pytest.raises(UsageError, match="nan, strict, brats, zero"):
        scores(Confusion(1, 1, 1, 1), "one")
    assert list(scores(Confusion(1, 2, 3, 4))) == [metric.name for metric in metrics_from(COUNTS)]


def test_mcc_of_a_whole_cohort_does_not_overflow():
    counts = Confusion(4_000_000, 1_000_000, 2_000_000, 440_000_000)
    assert scores(counts)["mcc"] == pytest.approx(0.727, abs=0.001)
