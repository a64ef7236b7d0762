"""The figure of 2D and 3D evidence: which rows it compares, and that its numbers are those of the rows."""

import numpy as np
import pytest
from matplotlib.text import Text
from run_fixtures import row_of, write_run

from ZSADCLIPLib.evaluation.statistics import bootstrap_mean
from ZSADCLIPLib.report.figures import FIGURES, save, style
from ZSADCLIPLib.report.numbers import Numbers
from ZSADCLIPLib.report.results import read_run

PAIRED = ("vand-context-brats", "vand-smooth-brats")
ROWS = ("adaclip-brats", "vand-brats", "intensity-baseline", *PAIRED, "anomalyclip-planes-brats")


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    return Numbers(read_run(write_run(tmp_path_factory.mktemp("run"), map(row_of, ROWS), seeds=range(5))))


@pytest.fixture(scope="module")
def drawing(numbers):
    with style():
        return FIGURES["evidence"](numbers)


def test_rows_are_compared_with_themselves_without_the_evidence(drawing):
    assert [(line["row"], line["without"]) for line in drawing.data] == [(row, "vand-brats") for row in PAIRED]
    assert [label.get_text() for label in drawing.figure.axes[0].get_yticklabels()] == [
        "VAND Brats, context",
        "VAND Brats, smoothed",
    ]


def test_differences_intervals_and_false_findings_are_those_of_the_rows(numbers, drawing):
    choice = numbers.run.choices()[0]
    rows = {result.row.id: result for result in numbers.run.results}
    for line in drawing.data:
        deep, flat = rows[line["row"]], rows[line["without"]]
        change = deep.values("dice", choice) - flat.values("dice", choice)
        assert line["n"] == 5 and line["dice_difference"] == pytest.approx(change.mean())
        assert (line["ci_low"], line["ci_high"]) == pytest.approx(bootstrap_mean(change, np.arange(5)))
        assert line["false_findings"] == pytest.approx(deep.values("lesion_false_positives", choice).mean())
        assert line["false_findings_without"] == pytest.approx(flat.values("lesion_false_positives", choice).mean())
    best = max(drawing.data, key=lambda line: line["dice_difference"])
    assert f"{best['dice_difference']:+.3f}" in drawing.alt


def test_it_is_labelled_and_saved(drawing, tmp_path):
    texts = [text.get_text() for axis in drawing.figure.axes for text in axis.findobj(Text)]
    assert (
        sum("n = 5" in text for text in texts) == 2
        and "Best pooled F1 on training data".lower() in drawing.caption.lower()
    )
    with style():
        assert all(path.stat().st_size > 100 for path in save(drawing, tmp_path).values())


def test_a_run_without_a_pair_has_no_such_figure(tmp_path):
    rows = map(row_of, ("adaclip-brats", "vand-smooth-brats"))
    numbers = Numbers(read_run(write_run(tmp_path, rows, seeds=range(2))))
    with style():
        assert FIGURES["evidence"](numbers) is None


def test_figure_2_has_a_panel_for_setups_that_the_paper_lacks(numbers):
    with style():
        titles = [axis.get_title() for axis in FIGURES["fig2-slices"](numbers).figure.axes]
    trained = [r.row.label for r in numbers.run.results if r.row.setup != "baseline"]
    assert sorted(titles) == sorted(trained) and "VAND Brats, smoothed" in titles
