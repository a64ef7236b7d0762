"""Which cases and slices an evaluation draws, and how it writes a mean with its interval."""

import numpy as np
import pytest

from ZSADCLIPLib.evaluation.case import evaluate_case
from ZSADCLIPLib.evaluation.metrics import METRICS
from ZSADCLIPLib.report.evaluated.cases import BEST, HEALTHY, LESIONS, STORED, Measured
from ZSADCLIPLib.report.evaluated.numbers import Evaluation
from ZSADCLIPLib.report.evaluated.pictures import chosen, telling_slices
from ZSADCLIPLib.report.evaluated.tables import evaluation_tables
from ZSADCLIPLib.report.typeset import MeanInterval, Table, records


def sick(name: str, hits: int) -> Measured:
    """A lesion of 6 voxels of which `hits` are found."""
    scores, truth = np.zeros((2, 5, 5), np.float32), np.zeros((2, 5, 5), bool)
    truth[0].flat[:6] = True
    scores[0].flat[:hits] = 1
    values = evaluate_case(scores, truth, np.ones_like(truth), {"fixed:0.5": 0.5, BEST: None}, region="brain")
    values["rules"] = {STORED: values["rules"]["fixed:0.5"], BEST: values["rules"][BEST]}
    values |= {"case": name, "subject": name}
    return Measured("vand", name, name, LESIONS, 0.5, "fixed:0.5", hits / 1000, 0.0, 0.0, (), values, MADE)


MADE = {"backbone": "x", "pictures": "x", "trained_on": "x", "threshold": "x", "use": "x"}


def healthy(name: str, ml: float) -> Measured:
    return Measured("vand", name, name, HEALTHY, 0.5, "fixed:0.5", ml, 9.0, ml, (), None, MADE)


@pytest.mark.parametrize(
    ("hits", "expected"),
    [
        ((3, 5, 1, 4, 2), {"best": "c1", "median": "c0", "worst": "c2"}),
        ((3, 5), {"best": "c1", "worst": "c0"}),
        ((3,), {"best": "c0"}),
    ],
)
def test_best_median_and_worst_each_once(hits, expected):
    evaluation = Evaluation([sick(f"c{n}", count) for n, count in enumerate(hits)])
    assert {kind: each.case for kind, each in chosen(evaluation, "vand").items()} == expected


def test_of_the_healthy_the_one_with_most_marked():
    evaluation = Evaluation([healthy("a", 1.0), healthy("b", 3.0), healthy("c", 2.0), sick("d", 4)])
    assert {kind: each.case for kind, each in chosen(evaluation, "vand").items()} == {"best": "d", "most-marked": "b"}
    marked = evaluation_tables(evaluation, 0.0)["Millilitres"][0].rows[-1]
    assert marked[2].startswith("healthy") and [marked[n].mean for n in (5, 7, 8)] == pytest.approx([2.0, 9.0, 2.0])


def test_slices_show_lesion_false_marks_and_misses():
    truth, mask = np.zeros((2, 40, 8, 8), bool)
    truth[10, :4], mask[10, :4] = True, True
    mask[20, :2] = truth[30, :3] = True
    assert telling_slices(mask, truth) == [10, 20, 30]
    assert telling_slices(mask, None) == [10]
    assert telling_slices(np.zeros_like(mask), None) == []
    truth[11] = True  # beside the first there is no second
    assert telling_slices(mask, truth)[0] == 11 and 10 not in telling_slices(mask, truth)


def test_a_mean_with_its_interval():
    assert MeanInterval(0.5, 0.25, 0.75).text(2) == "0.50 [0.25, 0.75]"
    assert MeanInterval(0.5, np.nan, np.nan).text(2) == "0.50"
    table = Table("t", "", ("Dice",), ((MeanInterval(0.5, 0.25, 0.75),), (None,)))
    assert records(table)[0] == {"Dice mean": "0.5", "Dice low": "0.25", "Dice high": "0.75"}
    assert records(table)[1] == {"Dice mean": "", "Dice low": "", "Dice high": ""}


@pytest.mark.parametrize(
    ("detected", "false", "precision", "f1"),
    [([1, 0, 1], 2, 2 / 4, 4 / 7), ([0], 0, np.nan, 0.0), ([], 3, 0.0, 0.0), ([], 0, np.nan, np.nan)],
)
def test_lesion_precision_and_f1_by_hand(detected, false, precision, f1):
    lesions = {"detected": detected, "false_positives": false}
    found = [METRICS[name].function(lesions) for name in ("lesion_precision", "lesion_f1")]
    assert found == pytest.approx([precision, f1], nan_ok=True)
