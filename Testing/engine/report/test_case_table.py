"""Numbers of single volumes and paired differences: the same as those behind the means."""

import csv

import numpy as np
import pytest
from run_fixtures import row_of, write_run

from ZSADCLIPLib.evaluation.metrics import COUNTS, metrics_from
from ZSADCLIPLib.evaluation.statistics import holm
from ZSADCLIPLib.report.numbers import Numbers
from ZSADCLIPLib.report.results import read_run
from ZSADCLIPLib.report.tables.cases import case_records, differences_table, volumes_table
from ZSADCLIPLib.report.write import write_outputs

pytestmark = pytest.mark.usefixtures("one_figure")
IDS = ("adaclip-brats", "vand-industrial", "vand-brats", "intensity-baseline")


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    out = write_run(tmp_path_factory.mktemp("run"), [row_of(name) for name in IDS], range(6))
    return Numbers(read_run(out))


def test_every_volume_region_and_rule_has_a_line_whose_mean_is_the_tables(numbers):
    lines = list(case_records(numbers))
    rules = {line["rule"] for line in lines}
    assert len(lines) == len(IDS) * 6 * 2 * len(rules) and len(rules) == 5
    choice = numbers.run.choices()[0]
    for result in numbers.run.results:
        own = [line for line in lines if (line["row"], line["region"]) == (result.row.id, choice.region)]
        own = [line for line in own if line["rule"] == choice.rule]
        for metric in ("dice", "sensitivity", "auroc", "slice_dice"):
            mean = np.mean([float(line[metric]) for line in own])
            assert mean == pytest.approx(numbers.summary(result, metric, choice).mean, rel=1e-5)
        for line in own:
            tp, fp, fn = (int(line[key]) for key in ("tp", "fp", "fn"))
            assert float(line["iou"]) == pytest.approx(tp / (tp + fp + fn), rel=1e-5)
            assert float(line["absolute_volume_error_ml"]) == pytest.approx(abs(fp - fn) / 1000, rel=1e-5)
            assert 0 < float(line["prevalence"]) < 1 and line["undefined"] == ""


def test_undefined_values_say_why(numbers):
    case = numbers.run.results[0].files.cases[0]
    stored = case["rules"]["fixed:0.5"]["all"]
    before = dict(stored)
    try:
        stored |= {"tp": 0, "fp": 0, "fn": before["tp"] + before["fn"]}
        (line,) = [
            line for line in case_records(numbers)
            if (line["case"], line["row"], line["rule"], line["region"]) == (case["case"], IDS[0], "fixed:0.5", "all")
        ]  # fmt: skip
    finally:
        stored |= before
    assert line["ppv"] == line["mcc"] == "" and "ppv: no positive voxel in the prediction" in line["undefined"]
    assert {metric.name.replace("_error", "_error_ml") for metric in metrics_from(COUNTS)} <= set(line)


def test_volumes_stand_side_by_side(numbers):
    table = volumes_table(numbers)
    assert len(table.rows) == 6 and table.heads[2:] == tuple(r.row.label for r in numbers.run.results)
    first = numbers.run.results[0]
    assert [row[2] for row in table.rows] == first.values("dice", numbers.run.choices()[0]).tolist()


def test_differences_pair_rows_of_a_method_or_setup_and_are_adjusted_together(numbers):
    table = differences_table(numbers)
    assert [row[:2] for row in table.rows] == [("AdaCLIP Brats", "VAND Brats"), ("VAND Industrial", "VAND Brats")]
    first, second = (r.values("dice", numbers.run.choices()[0]) for r in numbers.run.results[1:3])
    assert table.rows[1][3] == pytest.approx(float((first - second).mean()))
    assert [float(row[6]) for row in table.rows] == pytest.approx(holm([float(row[5]) for row in table.rows]), rel=0.1)
    assert "over all 2 comparisons" in table.notes[0]


def test_both_are_written_and_folded_away_in_the_report(numbers):
    out = numbers.run.results[0].files.folder.parents[1]
    write_outputs(out)
    with open(out / "tables" / "cases.csv", newline="") as file:
        assert list(csv.DictReader(file)) == list(case_records(numbers))
    page = (out / "report.html").read_text(encoding="utf-8")
    for name, title in (("differences", "Paired differences of 3D Dice"), ("volumes", "3D Dice of every test volume")):
        assert f'<details id="table-{name}"><summary>{title}' in page
    assert (out / "tables" / "differences.csv").is_file()
