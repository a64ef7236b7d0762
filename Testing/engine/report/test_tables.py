"""Tables against hand computation; CSV, Markdown and LaTeX say the same; the same bytes each time."""

import csv
import re

import numpy as np
import pytest
from run_fixtures import row_of, write_run

from ZSADCLIPLib.benchmark.rowfolder import finish_row, row_folder, write_case
from ZSADCLIPLib.evaluation.case import evaluate_case
from ZSADCLIPLib.files.text import write_json
from ZSADCLIPLib.report.numbers import Numbers
from ZSADCLIPLib.report.results import Choice, read_run
from ZSADCLIPLib.report.tables.results import long_records, paper_table, pooled_table, results_tables
from ZSADCLIPLib.report.typeset import Interval, MeanSd, MedianIqr, Table, latex, markdown, records, write_table


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    rows = [row_of(name) for name in ("vand-brats", "adaclip-industrial", "anovl-industrial", "intensity-baseline")]
    return write_run(tmp_path_factory.mktemp("run"), rows, seeds=range(3), unfinished=("anovl-industrial",))


@pytest.fixture(scope="module")
def numbers(run_folder):
    return Numbers(read_run(run_folder))


def tiny_case(hits: int, false: int, lesion: int = 4):
    """A map of 2 x 5 x 5 voxels at 0 or 1: `hits` of `lesion` voxels found in slice 0, `false` elsewhere in slice 1."""
    scores, truth = np.zeros((2, 5, 5), np.float32), np.zeros((2, 5, 5), bool)
    truth[0].flat[:lesion] = True
    scores[0].flat[:hits] = scores[1].flat[:false] = 1
    return evaluate_case(scores, truth, np.ones_like(truth), {"f1max-pooled-train": 0.5})


@pytest.fixture
def tiny(tmp_path):
    """VAND Brats with Dice 1, 1/2 and an undefined one (no lesion, no prediction)."""
    folder = row_folder(tmp_path, "vand-brats", {})
    write_json(folder / "manifest.json", {"row": "vand-brats"})
    write_json(folder / "threshold.json", {})
    for name, case in {"a": tiny_case(4, 0), "b": tiny_case(2, 2), "c": tiny_case(0, 0, lesion=0)}.items():
        write_case(folder, name, name, case)
    finish_row(folder, ["a", "b", "c"])
    return Numbers(read_run(tmp_path))


def test_table_1_by_hand(tiny):
    table = paper_table(tiny, Choice())
    row = dict(zip(table.heads, table.rows[0], strict=True))
    assert table.rows[0][:3] == ("VAND", "Brats", 3)
    assert row["Dice"].mean == pytest.approx(0.75) and np.isnan(row["Dice"].sd)  # of two volumes none is given
    assert row["Specificity"].sd == pytest.approx(np.std([1, 44 / 46, 1], ddof=1))
    assert row["Sensitivity"].mean == pytest.approx(0.75)
    assert row["Specificity"].mean == pytest.approx((1 + 44 / 46 + 1) / 3)
    assert row["PPV"].mean == pytest.approx(0.75)
    # Case b: 92 pairs of a found voxel and a negative, all won but 2 * 2 ties; the other 92 lost to 2 and tied with 44.
    assert row["AUROC"].mean == pytest.approx((1 + (2 * 44 + 2 * 2 / 2 + 2 * 44 / 2) / (4 * 46)) / 2)
    assert row["F1-max"].mean == pytest.approx((1 + 0.5) / 2)


def test_undefined_cases_are_counted(tiny):
    found = {(r["metric"], r["region"]): r for r in long_records(tiny)}
    dice = found["dice", "all"]
    assert (dice["n"], dice["undefined"], dice["mean"], dice["median"]) == ("2", "1", "0.75", "0.75")
    assert (dice["q1"], dice["q3"], dice["ci_low"], dice["ci_high"]) == ("0.625", "0.875", "0.5", "1")
    assert (dice["rule"], dice["oracle"]) == ("f1max-pooled-train", "0")
    assert (found["specificity", "all"]["n"], found["specificity", "all"]["undefined"]) == ("3", "0")
    assert found["f1_max", "all"]["oracle"] == "1"


def test_pooled_counts_by_hand(tiny):
    row = pooled_table(tiny, Choice()).rows[0]
    tp, fp, fn, tn = 6, 2, 2, 46 + 44 + 50
    assert row[3:7] == pytest.approx((2 * tp / (2 * tp + fp + fn), tp / (tp + fn), tn / (tn + fp), tp / (tp + fp)))
    assert row[7:] == (None, None, None)  # no sketches, no pooled ranking


def test_rows_come_in_the_papers_order_and_unfinished_ones_are_named(numbers):
    table = paper_table(numbers, numbers.run.choices()[0])
    assert [row[:2] for row in table.rows] == [
        ("AdaCLIP", "Industrial"),
        ("AnoVL", "Industrial (unfinished)"),
        ("VAND", "Brats"),
        ("Intensity", "Baseline"),
    ]
    assert table.rows[1][2:] == (0, None, None, None, None, None, None)
    notes = " ".join(table.notes)
    assert "Unfinished, so without numbers: anovl-industrial" in notes
    assert "AdaCLIP Brats" not in notes and "Not part of this run" not in notes


def test_oracle_rules_say_so_in_their_column_heads(numbers):
    heads = next(t for t in results_tables(numbers) if t.name == "rules-all").heads
    assert heads[4] == "best pooled F1 on training data"
    assert {h for h in heads if "oracle" in h} == {
        "best pooled F1 on test data (oracle)",
        "best F1 of each volume (oracle)",
    }


def test_csv_markdown_and_latex_agree(numbers, tmp_path):
    compared = 0
    for table in results_tables(numbers):
        paths = write_table(tmp_path, table)
        with open(paths["csv"], encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        lines = {kind: paths[kind].read_text(encoding="utf-8").splitlines() for kind in ("md", "tex")}
        pipes = [re.split(r" \| ", line[2:-2]) for line in lines["md"] if line[:2] == "| "][2:]
        tex = [line[:-3].split(" & ") for line in lines["tex"] if line.endswith(r" \\")][1:]
        assert len(rows) == len(pipes) == len(tex) == len(table.rows)
        for row, pipe, cells in zip(rows, pipes, tex, strict=True):
            unescaped = [re.sub(r"\\(.)", r"\1", text) for text in pipe]
            assert unescaped == [t.replace(r"$\pm$", "±").replace("--", "–").replace("\\", "") for t in cells]
            for head, text in zip(table.heads, unescaped, strict=True):
                if row.get(f"{head} mean"):
                    values = [row[f"{head} mean"], row[f"{head} sd"]]
                    printed = text.split(" ± ")
                elif row.get(f"{head} low"):
                    values, printed = [row[f"{head} low"], row[f"{head} high"]], (text.split(" to ") * 2)[:2]
                else:
                    continue
                for value, shown in zip(values, printed, strict=True):
                    assert float(value) == pytest.approx(float(shown), abs=5.1e-4)
                    compared += 1
    assert compared > 100


def test_the_same_files_give_the_same_bytes(run_folder, tmp_path):
    for side in ("a", "b"):
        for table in results_tables(Numbers(read_run(run_folder))):
            write_table(tmp_path / side, table)
    names = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert len(names) == 27
    assert all((tmp_path / "a" / n).read_bytes() == (tmp_path / "b" / n).read_bytes() for n in names)


def test_cells_in_print():
    assert MeanSd(0.31249, 0.1).text(3) == "0.312 ± 0.100" and MeanSd(0.5, float("nan")).text(2) == "0.50"
    assert MedianIqr(0.5, 0.25, 0.75).text(2) == "0.50 [0.25, 0.75]"
    assert Interval(0.1, 0.1000001).text(3) == "0.100" and Interval(0.1, 0.2).text(1) == "0.1 to 0.2"
    assert Interval(float("nan"), float("nan")).text(3) == "–" and MeanSd(-1e-9, 0.0).text(3) == "0.000 ± 0.000"


def test_text_from_files_is_escaped():
    table = Table("t", "100% of $x_1$", ("a|b", "c & d"), (("<script>", r"\input{x}~^#"),), ("note_1",))
    text = latex(table)
    assert r"\textbackslash{}input\{x\}\textasciitilde{}\textasciicircum{}\#" in text
    assert r"100\% of \$x\_1\$" in text and r"c \& d" in text
    assert r"a\|b" in markdown(table) and r"\<script\>" in markdown(table)
    assert records(table) == [{"a|b": "<script>", "c & d": r"\input{x}~^#"}]
