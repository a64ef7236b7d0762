"""The optional column against the paper's own table, and the tables of training and time."""

import pytest
from run_fixtures import row_of, write_run

from ZSADCLIPLib.errors import InputError
from ZSADCLIPLib.files.text import write_json
from ZSADCLIPLib.report.numbers import Numbers
from ZSADCLIPLib.report.results import read_run
from ZSADCLIPLib.report.tables.comparison import comparison_table, read_paper_table
from ZSADCLIPLib.report.tables.training import runtime_table, training_table
from ZSADCLIPLib.report.typeset import MeanSd, records
from ZSADCLIPLib.report.write import write_outputs

pytestmark = pytest.mark.usefixtures("one_figure")


@pytest.fixture
def out(tmp_path):
    return write_run(tmp_path / "run", [row_of("vand-brats"), row_of("anovl-industrial")], seeds=range(3))


@pytest.fixture
def paper(tmp_path):
    path = tmp_path / "table1.csv"  # numbers made up for this test
    path.write_text("row,metric,mean,sd\nvand-brats,dice,0.25,0.1\nvand-brats,AUROC,0.5,\nadaclip-pmc,dice,0.3,0.1\n")
    return path


def test_differences_by_hand(out, paper):
    numbers = Numbers(read_run(out))
    table = comparison_table(numbers, read_paper_table(paper))
    dice = numbers.summary(numbers.run.results[1], "dice", numbers.run.choices()[0])
    assert [row[:2] for row in table.rows] == [("VAND Brats", "Dice"), ("VAND Brats", "AUROC")]
    assert table.rows[0][2] == MeanSd(0.25, 0.1) and table.rows[0][5] == pytest.approx(dice.mean - 0.25)
    assert table.rows[0][6].low == pytest.approx(dice.ci_low - 0.25)
    assert records(table)[1]["Paper sd"] == ""


def test_without_the_papers_table_there_is_no_column(out, paper):
    write_outputs(out)
    assert not list((out / "tables").glob("comparison*")) and "The paper's values" not in (
        out / "report.html"
    ).read_text("utf-8")
    write_outputs(out, paper)
    assert (out / "tables" / "comparison.csv").is_file()
    assert "s values come from the file" in (out / "report.html").read_text("utf-8")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("row,mean\nvand-brats,0.1\n", "expected row, metric, mean"),
        ("row,metric,mean\nvand-mri,dice,0.1\n", "line 2.*unknown row 'vand-mri'"),
        ("row,metric,mean\nvand-brats,jaccard,0.1\n", "unknown metric 'jaccard'"),
        ("row,metric,mean\nvand-brats,dice,31\n", "'31' is no number from 0 to 1"),
        ("row,metric,mean\nvand-brats,dice,high\n", "'high' is no number"),
        ("row,metric,mean\nvand-brats,dice,0.1\nvand-brats,dice,0.2\n", "line 3.*second time"),
        ("row,metric,mean\n", "no line below its header"),
    ],
)
def test_bad_tables_are_refused_by_line(tmp_path, text, words):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=words):
        read_paper_table(path)


def test_a_bad_paper_table_costs_nothing(out, tmp_path):
    with pytest.raises(InputError, match="cannot read"):
        write_outputs(out, tmp_path / "none.csv")
    assert not (out / "tables").exists()


def test_table_2_holds_what_the_manifests_say(out):
    table = training_table(read_run(out))
    rows = {row[0]: dict(zip(table.heads, row, strict=True)) for row in table.rows}
    trained = rows["VAND Brats"]
    assert (trained["Backbone"], trained["Trainable parameters"], trained["Epochs"]) == ("mini", 4321, 3)
    assert (trained["Learning rate"], trained["Slices seen"]) == ("0.001", 360)
    assert rows["AnoVL Industrial"]["Epochs"] is None


def test_times_stand_apart_from_the_tables(out):
    write_outputs(out)
    before = {path.name: path.read_bytes() for path in (out / "tables").iterdir()}
    pictures = {path.name: path.read_bytes() for path in (out / "figures").iterdir()}
    for path in out.glob("rows/*/runtime.json"):
        write_json(path, {"train_seconds": 99.5, "device": "<gpu>", "epoch_seconds": [1, 2]})
    write_outputs(out)
    assert before == {path.name: path.read_bytes() for path in (out / "tables").iterdir()}
    assert pictures == {path.name: path.read_bytes() for path in (out / "figures").iterdir()}
    assert runtime_table(read_run(out)).heads == ("Row", "train (s)", "device")
    assert "99.5" in (out / "runtime.csv").read_text("utf-8") and "&lt;gpu&gt;" in (out / "report.html").read_text(
        "utf-8"
    )
