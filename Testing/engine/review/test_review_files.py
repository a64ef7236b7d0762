"""Review files: read with care, brought together, applied."""

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
from review_run import opinion, review, review_run

from ZSADCLIPLib.cli import main
from ZSADCLIPLib.errors import InputError
from ZSADCLIPLib.review.accepted import apply_reviews, cell
from ZSADCLIPLib.review.agreement import agreements, free_response, kappa, merge_reviews
from ZSADCLIPLib.review.finished import finished_cases
from ZSADCLIPLib.review.verdicts import Missed, read_review, read_reviews, review_from, to_dict, write_review
from ZSADCLIPLib.volumes.components import components
from ZSADCLIPLib.volumes.reading import read_volume


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return review_run(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def cases(run):
    return finished_cases(run[0])


def rows(path) -> list[dict]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_a_review_survives_writing(cases, tmp_path):
    mine = review("AB", opinion(cases[0], {1: "accept", 3: "reject"}, [Missed((1.0, 2.0, 3.0), "=1+1")]))
    write_review(tmp_path / "a.json", mine)
    assert read_review(tmp_path / "a.json") == mine
    assert list(to_dict(mine))[:3] == ["format", "version", "reviewer"]


@pytest.mark.parametrize(
    "change, said",
    [
        (lambda d: d.update(format="other"), "no review file"),
        (lambda d: d.update(version=2), "version 2"),
        (lambda d: d.update(reviewer=""), "name of 1 to 40"),
        (lambda d: d.update(extra=1), "no field 'extra'"),
        (lambda d: d["cases"][0].update(id="../x"), "no plain file name"),
        (lambda d: d["cases"].append(d["cases"][0]), "a case twice"),
        (lambda d: d["cases"][0]["findings"][0].update(verdict="maybe"), "expected one of|choose one of accept"),
        (lambda d: d["cases"][0]["findings"][0].update(note="x" * 2001), "more than 2000 letters"),
        (lambda d: d["cases"][0]["findings"].append(d["cases"][0]["findings"][0]), "judged twice"),
        (lambda d: d["cases"][0].update(missed=[{"ras": [1, 2]}]), "expected 3 values"),
    ],
)
def test_a_damaged_review_is_told(cases, change, said):
    data = json.loads(json.dumps(to_dict(review("AB", opinion(cases[0], {1: "accept"})))))
    change(data)
    with pytest.raises(InputError, match=said):
        review_from(data)


def test_files_of_one_reader_become_one_review(cases, tmp_path):
    write_review(tmp_path / "in" / "1.json", review("AB", opinion(cases[0], {1: "accept"})))
    write_review(tmp_path / "in" / "deeper" / "2.json", review("AB", opinion(cases[1], {1: "reject"})))
    (tmp_path / "in" / "other.json").write_text("[1]")
    (read,) = read_reviews([tmp_path / "in"])
    assert [case.id for case in read.cases] == ["first", "second"]
    write_review(tmp_path / "3.json", review("AB", opinion(cases[0], {1: "unsure"})))
    with pytest.raises(InputError, match="AB judged first twice"):
        read_reviews([tmp_path / "in", tmp_path / "3.json"])
    with pytest.raises(InputError, match="no review file there"):
        read_reviews([tmp_path / "none" / ".."] if (tmp_path / "none").mkdir() else [tmp_path / "none"])


def test_kappa_is_cohens():
    # Cohen's own kind of table: 20 + 15 of 50 alike, 0.5 expected.
    pairs = [("accept", "accept")] * 20 + [("accept", "reject")] * 5 + [("reject", "accept")] * 10
    pairs += [("reject", "reject")] * 15
    assert kappa(pairs) == pytest.approx(0.4)
    assert np.isnan(kappa([])) and np.isnan(kappa([("accept", "accept")] * 3))


def test_readers_are_compared_on_what_both_judged(cases):
    first = review("A", opinion(cases[0], {1: "accept", 2: "accept", 3: "reject"}), opinion(cases[1], {1: "accept"}))
    second = review("B", opinion(cases[0], {1: "accept", 2: "reject"}), opinion(cases[1], {1: "accept", 2: "reject"}))
    (found,) = agreements([first, second], ["first", "second"])
    assert (found.findings, found.same) == (3, 2) and found.kappa == pytest.approx(0.0)
    same = review("C", opinion(cases[0], {1: "accept", 2: "reject"}), opinion(cases[1], {1: "accept", 2: "reject"}))
    (alike,) = agreements([second, same], ["first", "second"])
    assert (alike.kappa, alike.low, alike.high) == (1.0, 1.0, 1.0)


def test_free_response_counts_by_consensus(cases):
    near = [Missed((0.0, 0.0, 0.0))], [Missed((3.0, 0.0, 0.0))]
    readers = [
        review("A", opinion(cases[0], {1: "accept", 2: "accept", 3: "reject"}, near[0])),
        review("B", opinion(cases[0], {1: "accept", 2: "reject", 3: "reject"}, near[1])),
    ]
    told = free_response(cases, readers)
    # One true finding and one place missed by both; the finding with a split vote is neither.
    assert (told["cases"], told["lesions"], told["found"], told["false"]) == (1, 2, 1, 1)
    assert told["sensitivity"] == 0.5 and told["false_per_volume"] == 1.0
    assert [point["sensitivity"] for point in told["curve"]] == [0.5, 0.5, 0.5]
    assert [point["false_per_volume"] for point in told["curve"]] == [0.0, 0.0, 1.0]
    unfinished = [replace(each, cases=(replace(each.cases[0], finished=False),)) for each in readers]
    assert free_response(cases, unfinished)["cases"] == 0


def test_merging_writes_tables_and_agreement(run, cases, tmp_path, capsys):
    note = Missed((1.0, 2.0, 3.0), "@there")
    write_review(tmp_path / "a.json", review("=A", opinion(cases[0], {1: "accept", 2: "reject"}, [note])))
    write_review(tmp_path / "b.json", review("B", opinion(cases[0], {1: "accept", 2: "reject"})))
    files = [str(tmp_path / "a.json"), str(tmp_path / "b.json")]
    assert main(["review", str(run[0]), "--merge", *files, "--to", str(tmp_path / "to")]) == 0
    assert "=A and B: 2 of 2 alike, kappa 1.00" in capsys.readouterr().out
    table = rows(tmp_path / "to" / "review.csv")
    assert [row["kind"] for row in table] == ["finding", "finding", "missed", "finding", "finding"]
    assert (
        table[2]["note"] == "'@there" and table[0]["reader"] == "'=A" and float(table[0]["peak"]) == pytest.approx(0.9)
    )
    told = json.loads((tmp_path / "to" / "agreement.json").read_text())
    assert told["readers"][1]["accepted_per_volume"] == 1.0 and told["agreement"][0]["kappa"] == 1.0
    foreign = replace(read_review(tmp_path / "b.json").cases[0], seal="0" * 64)
    with pytest.raises(InputError, match="of another result"):
        merge_reviews(cases, [review("C", foreign)], tmp_path / "no")


def test_only_accepted_findings_stay(run, cases, tmp_path, capsys):
    write_review(tmp_path / "a.json", review("A", opinion(cases[0], {1: "reject", 2: "accept", 3: "unsure"})))
    out = tmp_path / "kept"
    assert main(["review", str(run[0]), "--apply-review", str(tmp_path / "a.json"), "--to", str(out)]) == 0
    assert "1 of 3 findings in 1 case accepted" in capsys.readouterr().out
    label = next(each["label"] for each in cases[0].facts["findings"] if each["rank"] == 2)
    mask = cases[0].mask()
    stays = read_volume(out / "first_mask.nii.gz")
    assert np.array_equal(stays.array > 0, components(mask.array > 0) == label) and stays.same_grid(mask)
    facts = json.loads((out / "first.json").read_text())
    assert [each["rank"] for each in facts["findings"]] == [2] and facts["summary"]["findings"] == 1
    assert facts["review"]["readers"]["A"]["verdicts"][str(label)] == "accept"
    assert [row["rank"] for row in rows(out / "findings.csv")] == ["2"] and not (out / "second.json").exists()
    with pytest.raises(InputError, match="stays as it is"):
        apply_reviews(cases, read_reviews([tmp_path / "a.json"]), run[0])
    with pytest.raises(InputError, match="no case of this run"):
        apply_reviews(cases[1:], read_reviews([tmp_path / "a.json"]), out)


def test_most_of_the_readers_must_accept(cases, tmp_path):
    readers = [
        review(name, opinion(cases[0], {1: verdict})) for name, verdict in zip("AB", ("accept", "reject"), strict=True)
    ]
    assert apply_reviews(cases[:1], readers, tmp_path)["accepted"] == 0
    readers.append(review("C", opinion(cases[0], {1: "accept"})))
    assert apply_reviews(cases[:1], readers, tmp_path)["accepted"] == 1


@pytest.mark.parametrize("text, kept", [("=1", "'=1"), ("-a", "'-a"), ("plain", "plain"), ("", "")])
def test_cells_are_no_formulas(text, kept):
    assert cell(text) == kept
