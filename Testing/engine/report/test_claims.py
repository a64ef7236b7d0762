"""Every claim on a run where it holds and on one where it does not; what cannot be judged says why."""

import shutil
from dataclasses import replace

import pytest
import yaml
from designed_run import Design, paper_like, write_designed

from ZSADCLIPLib.report.claims.evidence import Evidence, NotTestable
from ZSADCLIPLib.report.claims.paper import CLAIMS, claims_table, claims_yaml, judge
from ZSADCLIPLib.report.numbers import Numbers
from ZSADCLIPLib.report.results import read_run

BY_ID = {claim.id: claim for claim in CLAIMS}
BASE = paper_like()


def changed(*methods_or_rows: str, **fields) -> dict[str, Design]:
    """The designs of some rows, or of all rows of a method, with other fields."""
    return {
        row: replace(design, **fields)
        for row, design in BASE.items()
        if row in methods_or_rows or row.partition("-")[0] in methods_or_rows
    }


# What is changed so that the claim fails.
AGAINST = {
    "A1": changed("vand-pmc", volumes=(0.6,), peak=0.95),
    "A2": changed("adaclip", volumes=(0.3,)),
    "A3": changed("adaclip-pmc", volumes=(0.6,)),
    "A4": changed("vand-brats", volumes=(0.5,)),
    "A5": changed("anomalyclip-industrial", volumes=(0.2,), peak=0.6),
    "A6": changed("anovl-industrial", volumes=(0.2,), peak=0.6),
    "A7": changed("adaclip", "vand", missed=0.3) | changed("anomalyclip", "anovl", missed=0.05),
    "A8": changed("adaclip", "vand", missed=0.3),
    "B1": changed("vand-pmc", volumes=(0.1,)),
    "B2": changed("vand-pmc", volumes=(0.15,)),
    "B3": changed("adaclip-brats", volumes=(0.5,)),
    "B4": changed("anomalyclip-brats", volumes=(0.15,)),
    "B5": changed("vand", volumes=(None,)),
    "C1": changed("vand", centre=8),
    "C2": changed("adaclip", "vand", peak=0.4, slope=-0.05, volumes=(0.1,)),
    "C3": changed("anomalyclip", peak=0.5),
    "D1": changed("adaclip", "vand", "anomalyclip", "anovl", whole=True),
    "D2": changed("vand-brats", seconds=500.0),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return write_designed(tmp_path_factory.mktemp("paper-like"), BASE)


@pytest.fixture(scope="module")
def evidence(base):
    return Evidence(Numbers(read_run(base)))


def test_ids_are_the_papers():
    assert list(BY_ID) == [
        *(f"A{i}" for i in range(1, 9)),
        *(f"B{i}" for i in range(1, 6)),
        "C1",
        "C2",
        "C3",
        "D1",
        "D2",
    ]
    assert set(AGAINST) == set(BY_ID)


@pytest.mark.parametrize("name", list(BY_ID))
def test_a_run_like_the_papers_reproduces_it(evidence, name):
    found = BY_ID[name].test(evidence)
    assert found.holds, found.numbers
    assert found.numbers


@pytest.mark.parametrize("name", list(AGAINST))
def test_another_run_contradicts_it(base, tmp_path, name):
    out = tmp_path / "run"
    shutil.copytree(base, out)
    write_designed(out, AGAINST[name])
    shutil.copy(base / "run.json", out / "run.json")
    found = BY_ID[name].test(Evidence(Numbers(read_run(out))))
    assert not found.holds, found.numbers


def test_intervals_say_how_sure_a_verdict_is(base, evidence, tmp_path):
    unsure = BY_ID["A1"].test(evidence)
    assert unsure.holds and unsure.clear is False and unsure.numbers["CI"][0] < 0.5 < unsure.numbers["CI"][1]
    assert unsure.numbers["mean Dice"] == pytest.approx(2.73 / 6, abs=2e-3)
    out = tmp_path / "run"
    shutil.copytree(base, out)
    write_designed(out, changed("adaclip-finetune", volumes=(0.3,)))
    shutil.copy(base / "run.json", out / "run.json")
    sure = BY_ID["A1"].test(Evidence(Numbers(read_run(out))))
    assert sure.holds and sure.clear is True and sure.numbers["highest"] == "VAND PMC"


def test_numbers_by_hand(evidence):
    found = BY_ID["A4"].test(evidence).numbers
    assert found["mean Dice VAND PMC"] == pytest.approx(sum(BASE["vand-pmc"].volumes) / 6, abs=2e-3)
    assert found["best"] == "VAND PMC"
    assert found["lead"] == pytest.approx(
        (sum(BASE["vand-pmc"].volumes) - sum(BASE["vand-brats"].volumes)) / 6, abs=3e-3
    )
    place = BY_ID["C1"].test(evidence).numbers
    assert place["peak at, vand"] == pytest.approx(0.25) and place["highest, vand"] == pytest.approx(0.75, abs=0.02)
    assert BY_ID["D2"].test(evidence).numbers["ms per training slice, adaclip"] == pytest.approx(100)


def test_too_few_subjects_are_not_testable(tmp_path):
    numbers = Numbers(read_run(write_designed(tmp_path, BASE, subjects=4)))
    verdicts = judge(numbers)
    assert len(verdicts) == len(CLAIMS)
    for verdict in verdicts:
        assert verdict.verdict == "not testable" and "4 test subjects are too few" in verdict.reason, verdict.claim.id


def test_missing_rows_are_not_testable_unless_they_cannot_matter(tmp_path):
    some = {row: BASE[row] for row in ("vand-brats", "vand-pmc", "adaclip-brats")}
    verdicts = {v.claim.id: v for v in judge(Numbers(read_run(write_designed(tmp_path / "few", some))))}
    assert verdicts["A4"].reason == "the row vand-industrial is not part of this run"
    assert "10 of 13 rows are missing" in verdicts["A1"].reason
    assert verdicts["B1"].verdict == verdicts["B2"].verdict == verdicts["B3"].verdict == "reproduced"
    high = {"vand-pmc": AGAINST["A1"]["vand-pmc"]}
    verdicts = {v.claim.id: v for v in judge(Numbers(read_run(write_designed(tmp_path / "high", high))))}
    assert verdicts["A1"].verdict == "contradicted"  # one row above the limit is enough


def test_unfinished_rows_and_missing_times_are_named(base, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(base, out)
    write_designed(out, changed("adaclip-brats", seconds=0.0))
    shutil.copy(base / "run.json", out / "run.json")
    next((out / "rows").glob("anovl-industrial-*/done.json")).unlink()
    evidence = Evidence(Numbers(read_run(out)))
    with pytest.raises(NotTestable, match="anovl-industrial is unfinished"):
        BY_ID["A6"].test(evidence)
    with pytest.raises(NotTestable, match="adaclip-brats recorded no training time"):
        BY_ID["D2"].test(evidence)


def test_the_yaml_is_yaml_and_says_the_same(base):
    numbers = Numbers(read_run(base))
    verdicts = judge(numbers)
    text = claims_yaml(numbers, verdicts)
    data = yaml.safe_load(text)
    assert text == claims_yaml(numbers, judge(numbers))
    assert (data["threshold_rule"], data["region"], data["test_subjects"]) == ("f1max-pooled-train", "all", 6)
    assert [c["id"] for c in data["claims"]] == list(BY_ID)
    for entry, verdict in zip(data["claims"], verdicts, strict=True):
        assert entry["verdict"] == verdict.verdict and entry["statement"] == verdict.claim.statement
        assert entry["predicate"] == verdict.claim.predicate and entry["interval_agrees"] is verdict.clear
        assert list(entry["numbers"]) == list(verdict.numbers)
        for key, value in verdict.numbers.items():
            assert entry["numbers"][key] == (pytest.approx(value, rel=1e-5) if not isinstance(value, str) else value)


def test_yaml_of_what_cannot_be_judged(tmp_path):
    numbers = Numbers(read_run(write_designed(tmp_path, {"vand-pmc": BASE["vand-pmc"]}, subjects=2)))
    data = yaml.safe_load(claims_yaml(numbers, judge(numbers)))
    assert len(data["claims"]) == len(CLAIMS)
    assert all(c["verdict"] == "not testable" and c["reason"] and c["numbers"] == {} for c in data["claims"])
    assert all(c["interval_agrees"] is None for c in data["claims"])


def test_the_table_has_a_line_a_claim(base):
    numbers = Numbers(read_run(base))
    table = claims_table(numbers, judge(numbers))
    assert [row[0] for row in table.rows] == list(BY_ID) and {row[2] for row in table.rows} == {"reproduced"}


def test_differences_draw_the_visits_of_a_subject_together(base):
    run = read_run(base)
    single = Evidence(Numbers(run)).difference("vand-pmc", "vand-brats")
    visits = []
    for result in run.results:
        cases = tuple({**case, "case": f"{case['case']}-{visit}"} for case in result.files.cases for visit in (1, 2))
        visits.append(replace(result, files=replace(result.files, cases=cases)))
    paired = Evidence(Numbers(replace(run, results=tuple(visits)))).difference("vand-pmc", "vand-brats")
    assert paired.n == 2 * single.n and paired.p == single.p
    assert (paired.ci_low, paired.ci_high) == pytest.approx((single.ci_low, single.ci_high))
