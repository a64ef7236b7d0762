"""What the report says first: the best row, its lead over the next and over the baseline, and what is not shown."""

from dataclasses import replace

import numpy as np
import pytest
from designed_run import Design, write_designed

from ZSADCLIPLib.benchmark.rows import BASELINE
from ZSADCLIPLib.report.answer import answer, rank_rows
from ZSADCLIPLib.report.figures import FIGURES, style
from ZSADCLIPLib.report.numbers import Numbers
from ZSADCLIPLib.report.results import read_run

SHAPE = dict(peak=0.75, slope=0.05, missed=0.05)
HIGH = (0.4, 0.45, 0.5, 0.5, 0.55, 0.55)
SAME = (0.45, 0.4, 0.5, 0.55, 0.5, 0.54)
LOW = (0.1, 0.12, 0.2, 0.22, 0.25, 0.3)


def numbers_of(folder, designs: dict[str, tuple], subjects: int = 6, baseline: str = "") -> Numbers:
    """A run of these 3D Dice; the row `baseline` is renamed to the intensity baseline."""
    run = read_run(write_designed(folder, {row: Design(values, **SHAPE) for row, values in designs.items()}, subjects))
    results = tuple(replace(r, row=BASELINE) if r.row.id == baseline else r for r in run.results)
    return Numbers(replace(run, results=results))


def test_a_clear_lead_is_said_with_its_interval(tmp_path):
    numbers = numbers_of(
        tmp_path, {"vand-brats": LOW, "vand-pmc": HIGH, "adaclip-brats": LOW}, baseline="adaclip-brats"
    )
    best, second, third = rank_rows(numbers)
    assert (best.result.row.id, best.behind) == ("vand-pmc", None) and {second.result.row.id, third.result.row.id} == {
        "vand-brats",
        BASELINE.id,
    }
    said = answer(numbers)[0]
    difference = np.mean(HIGH) - np.mean(LOW)
    assert said.startswith("VAND PMC has the highest mean 3D Dice, 0.49") and "on 6 test volumes" in said
    assert second.behind.difference == pytest.approx(difference, abs=5e-3) and second.behind.ci_low > 0
    words = f"{second.behind.difference:.3f} above the next row, {second.result.row.label} (95 % CI "
    assert words + f"{second.behind.ci_low:+.3f} to {second.behind.ci_high:+.3f})" in said
    assert "no difference" not in said


def test_an_interval_with_zero_shows_no_difference(tmp_path):
    said = answer(numbers_of(tmp_path, {"vand-brats": SAME, "vand-pmc": HIGH}))
    assert "no difference to the next row, VAND Brats, is shown (+0.0" in said[0] and "baseline" not in said[0]
    assert "best of 2 rows was found on these very volumes" in said[1]
    assert "All voxels. Threshold: best pooled F1 on training data." in said[2]


def test_a_baseline_that_is_best_is_called_so(tmp_path):
    said = answer(numbers_of(tmp_path, {"vand-brats": LOW, "vand-pmc": HIGH}, baseline="vand-pmc"))[0]
    assert said.startswith("Intensity Baseline has the highest") and "No model of this run beats" in said


@pytest.mark.parametrize("subjects, count", [(1, "is 1"), (2, "are 2"), (4, "are 4")])
def test_few_subjects_show_nothing(tmp_path, subjects, count):
    said = answer(numbers_of(tmp_path, {"vand-brats": LOW, "vand-pmc": HIGH}, subjects))
    assert "CI" not in said[0] and "above the next row" in said[0]
    assert said[1] == f"No difference is shown: that needs 5 test subjects at least, and there {count}."
    assert ("(0.400 and 0.45" in said[0]) == (subjects == 2)


def test_a_row_alone_is_compared_with_nothing(tmp_path):
    numbers = numbers_of(tmp_path, {"vand-pmc": HIGH})
    assert answer(numbers)[0].startswith("VAND PMC, the only row, has a mean 3D Dice of 0.49")
    with style():
        (line,) = FIGURES["answer"](numbers).data
    assert line["row"] == "vand-pmc" and line["best_minus_this_difference"] is None


def test_the_figure_holds_what_the_sentence_says(tmp_path):
    numbers = numbers_of(tmp_path, {"vand-brats": LOW, "vand-pmc": HIGH, "adaclip-brats": SAME})
    with style():
        drawing = FIGURES["answer"](numbers)
    assert [line["row"] for line in drawing.data] == ["vand-pmc", "adaclip-brats", "vand-brats"]
    means = [line["mean"] for line in drawing.data]
    assert means == sorted(means, reverse=True)
    assert drawing.data[2]["best_minus_this_difference"] == pytest.approx(means[0] - means[2])
    labels = [text.get_text() for text in drawing.figure.axes[0].get_yticklabels()]
    assert labels == ["VAND Brats", "AdaCLIP Brats", "VAND PMC"]  # from below
