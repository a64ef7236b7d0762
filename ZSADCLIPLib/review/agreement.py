"""Several readers of one run: how far they agree, and how a run looks when what they accept is the truth."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import nan
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..evaluation.lesions import FROC_RATES, FrocCase, froc
from ..evaluation.statistics import summarize
from ..evaluation.thresholds import reaches
from ..files.text import write_csv, write_json
from .accepted import cell
from .finished import Finished
from .verdicts import VERDICTS, CaseReview, Review, fits

FOLDER = "merged"
"""The folder in a run where several reviews are brought together, unless another one is named."""
SAME_MM = 5.0  # marks of different readers this near mean one place
RESAMPLES, SEED = 2000, 2024


@dataclass(frozen=True)
class Agreement:
    """How two readers agree on the findings that both judged: Cohen's kappa over VERDICTS, with a 95 % interval over cases."""

    first: str
    second: str
    findings: int
    same: int
    kappa: float
    low: float
    high: float


def kappa(pairs: Sequence[tuple[str, str]]) -> float:
    """Cohen's kappa of pairs of verdicts (Cohen, 1960); NaN without pairs, and where all of both readers are one verdict."""
    from sklearn.metrics import cohen_kappa_score

    if len({verdict for pair in pairs for verdict in pair}) < 2:
        return nan
    first, second = zip(*pairs, strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of chance agreement that is certain, which is NaN
        return float(cohen_kappa_score(first, second, labels=VERDICTS))


def agreements(reviews: Sequence[Review], case_ids: Iterable[str]) -> list[Agreement]:
    """The agreement of each two readers on the cases."""
    found, case_ids = [], list(case_ids)
    for first, second in combinations(reviews, 2):
        by_case = [pairs for name in case_ids if (pairs := _pairs(first.case(name), second.case(name)))]
        pairs = [pair for of in by_case for pair in of]
        low, high = _interval(by_case)
        same = sum(a == b for a, b in pairs)
        found.append(Agreement(first.reviewer, second.reviewer, len(pairs), same, kappa(pairs), low, high))
    return found


def _pairs(first: CaseReview | None, second: CaseReview | None) -> list[tuple[str, str]]:
    if first is None or second is None:
        return []
    other = {each.label: each.verdict for each in second.findings}
    return [(each.verdict, other[each.label]) for each in first.findings if each.label in other]


def _interval(by_case: list[list[tuple[str, str]]]) -> tuple[float, float]:
    """Percentile bootstrap of kappa over cases; (NaN, NaN) with fewer than two, or where most draws have no kappa."""
    if len(by_case) < 2:
        return nan, nan
    rng = np.random.default_rng(SEED)
    tables = np.stack([_table(pairs) for pairs in by_case])
    times = rng.multinomial(len(by_case), [1 / len(by_case)] * len(by_case), RESAMPLES)
    draws = np.array([_kappa_of(table) for table in np.tensordot(times, tables, 1)])
    defined = draws[np.isfinite(draws)]
    if defined.size < RESAMPLES // 2:
        return nan, nan
    low, high = np.quantile(defined, (0.025, 0.975))
    return float(low), float(high)


def _table(pairs: Sequence[tuple[str, str]]) -> np.ndarray:
    """How often each pair of verdicts occurs, (3, 3)."""
    count = Counter(pairs)
    return np.array([[count[a, b] for b in VERDICTS] for a in VERDICTS], float)


def _kappa_of(table: np.ndarray) -> float:
    total = table.sum()
    if not total:
        return nan
    seen, chance = np.trace(table) / total, float(table.sum(0) @ table.sum(1)) / total**2
    return (seen - chance) / (1 - chance) if chance < 1 else nan


def consensus(case: Finished, opinions: Sequence[CaseReview]) -> tuple[set[int], set[int], int]:
    """(labels that are true, labels that are false, places that were missed) by more than half of the readers who judged.

    What has no majority, "unsure" included, is neither. A place is missed where more than half of all readers marked it within
    5 mm.
    """
    true, false = set(), set()
    for finding in case.facts["findings"]:
        verdicts = [each.verdict for said in opinions for each in said.findings if each.label == finding["label"]]
        count = Counter(verdicts)
        for verdict, into in (("accept", true), ("reject", false)):
            if 2 * count[verdict] > len(verdicts):
                into.add(finding["label"])
    return true, false, _missed(opinions)


def _missed(opinions: Sequence[CaseReview]) -> int:
    places: list[tuple[np.ndarray, set[int]]] = []
    for reader, said in enumerate(opinions):
        for mark in said.missed:
            at = np.array(mark.ras)
            near = [owners for place, owners in places if np.linalg.norm(place - at) <= SAME_MM]
            if near:
                near[0].add(reader)
            else:
                places.append((at, {reader}))
    return sum(2 * len(owners) > len(opinions) for _, owners in places)


def free_response(cases: Sequence[Finished], reviews: Sequence[Review]) -> dict:
    """The free-response figures of a run, by the consensus of its readers over cases that somebody finished.

    {"cases", "lesions", "found", "false", "sensitivity", "false_per_volume", "froc": {rate: sensitivity}, "curve": points}. A
    lesion is a finding that is true, or a place that was missed; findings are ordered by their peaks. Nothing is known below
    the threshold of the run.
    """
    shares, points = [], []
    read = [(case, said) for case in cases if (said := _finished(case, reviews))]
    peaks = {finding["peak"] for case, _ in read for finding in case.facts["findings"]}
    levels = tuple(sorted(peaks, reverse=True))
    found = false = 0
    for case, opinions in read:
        true, wrong, missed = consensus(case, opinions)
        peak = {finding["label"]: finding["peak"] for finding in case.facts["findings"]}
        lesions = (*(peak[label] for label in sorted(true)), *[float("-inf")] * missed)
        counts = tuple(int(sum(reaches(np.array([peak[label]]), level)[0] for label in wrong)) for level in levels)
        shares.append(FrocCase(levels, lesions, counts))
        found, false = found + len(true), false + len(wrong)
    every = np.array([peak for share in shares for peak in share.peaks])
    for n, level in enumerate(levels):
        rate = float(np.mean([share.false_positives[n] for share in shares]))
        points.append({"level": level, "false_per_volume": rate, "sensitivity": _share(reaches(every, level))})
    return {
        "cases": len(read),
        "lesions": len(every),
        "found": found,
        "false": false,
        "sensitivity": found / len(every) if len(every) else nan,
        "false_per_volume": false / len(read) if read else nan,
        "froc": {f"{rate:g}": value for rate, value in (froc(shares, FROC_RATES) if levels else {}).items()},
        "curve": points,
    }


def _share(hits: np.ndarray) -> float:
    return float(hits.mean()) if hits.size else nan


def _finished(case: Finished, reviews: Sequence[Review]) -> list[CaseReview]:
    """What readers who finished the case said of it."""
    return [said for review in reviews if (said := review.case(case.id)) is not None and said.finished]


def merge_reviews(cases: Sequence[Finished], reviews: Sequence[Review], folder: Path) -> dict:
    """Write review.csv, a line for each finding and mark of each reader, agreement.json and froc.csv; what they say.

    Raises InputError when a review is of another result, or of none of the cases.
    """
    known = {case.id: case for case in cases}
    rows = []
    for review in reviews:
        for said in review.cases:
            if said.id in known:
                case = known[said.id]
                fits(said, case.seal, [finding["label"] for finding in case.facts["findings"]])
                rows += _rows(review, said, case)
    if not any(review.case(name) for review in reviews for name in known):
        raise InputError("no case of this run was reviewed; are the review files of another run?")
    told = {
        "readers": [_reader(review, known) for review in reviews],
        "agreement": [vars(each) for each in agreements(reviews, known)],
        "free_response": free_response(cases, reviews),
    }
    write_csv(
        folder / "review.csv", rows, ("reader", "id", "kind", "label", "rank", "verdict", *"ras", *SCORES, "note")
    )
    write_csv(folder / "froc.csv", told["free_response"]["curve"], ("level", "false_per_volume", "sensitivity"))
    write_json(folder / "agreement.json", told)
    return told


SCORES = ("volume_mm3", "peak", "mean")


def _rows(review: Review, said: CaseReview, case: Finished) -> list[dict]:
    findings = {finding["label"]: finding for finding in case.facts["findings"]}
    rows = []
    for each in said.findings:
        finding = findings[each.label]
        rows.append(
            {
                **{"reader": cell(review.reviewer), "id": said.id, "kind": "finding", "verdict": each.verdict},
                **{key: finding[key] for key in ("label", "rank", *SCORES)},
                **dict(zip("ras", finding["peak_ras"], strict=True)),
                "note": cell(each.note),
            }
        )
    for mark in said.missed:
        where = dict(zip("ras", mark.ras, strict=True))
        rows.append(
            {"reader": cell(review.reviewer), "id": said.id, "kind": "missed", **where, "note": cell(mark.note)}
        )
    return rows


def _reader(review: Review, known: dict[str, Finished]) -> dict:
    """What one reader did, over the cases of the run."""
    said = [each for each in review.cases if each.id in known]
    count = Counter(each.verdict for case in said for each in case.findings)
    per_volume = summarize([len(case.labels("accept")) for case in said if case.finished])
    return {
        "reader": review.reviewer,
        "cases": len(said),
        "finished": sum(case.finished for case in said),
        **{verdict: count[verdict] for verdict in VERDICTS},
        "missed": sum(len(case.missed) for case in said),
        "accepted_per_volume": per_volume.mean,
        "seconds_per_case": float(np.mean([case.seconds for case in said])) if said else nan,
    }
