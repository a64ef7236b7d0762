"""The benchmark's tables of results, from finished rows only: the same files always give the same bytes.

Table 1 has the paper's rows and metrics; the others hold what one mean hides: counts, medians, intervals, other
threshold rules, pooled values and lesions.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from math import nan

from .bins import BINS, Axis
from .results import EXTRA_METRICS, METRIC_LABELS, PAPER_METRICS, Choice, Result, Run
from .rows import ALL_ROWS, METHOD_LABELS, ROWS, SETUP_LABELS
from .sections import Section
from .statistics import Summary, summarize
from .thresholds import parse_rule
from .typeset import Interval, MeanSd, MedianIqr, Table, plain

RANKING = ("auroc", "f1_max", "average_precision")  # of the scores, so no threshold touches them
REGION_LABELS = {
    "all": "all voxels",
    "brain": "brain voxels",
    "bbox": "voxels of the brain's bounding box",
    "lesion-slices": "voxels of slices with lesion (oracle)",
}
SLICE_LABELS = {
    "lesion": "slices with lesion",
    "lesion-or-prediction": "slices with lesion or prediction",
    "all": "all slices",
}
CUT_METRICS = ("dice", "sensitivity", "specificity", "ppv")
LESION_METRICS = ("lesion_sensitivity", "lesion_false_positives", "lesion_dice", "slice_dice", "average_precision")
UNFINISHED = " (unfinished)"
NOTHING = Summary(0, 0, *(nan,) * 7)


class Numbers:
    """A run with its summaries over test cases, each computed once."""

    def __init__(self, run: Run):
        self.run = run
        self._known: dict[tuple, Summary] = {}

    def summary(self, result: Result, metric: str, choice: Choice) -> Summary:
        """`statistics.summarize` of one row's metric; nothing at all where the row lacks the threshold rule."""
        key = (result.row.id, metric, choice)
        if key not in self._known:
            known = metric in RANKING or choice.rule in result.rules
            self._known[key] = summarize(result.values(metric, choice), result.subjects) if known else NOTHING
        return self._known[key]

    @property
    def rules(self) -> tuple[str, ...]:
        """Threshold rules that any row can answer, the primary one first."""
        primary = self.run.choices()[0].rule
        return tuple(dict.fromkeys([primary, *(rule for r in self.run.results for rule in r.rules)]))

    @cached_property
    def axis(self) -> Axis:
        """The distance along the brain and its bins, the same for all rows."""
        cases = [case for result in self.run.results for case in result.files.cases]
        return Axis.over(self.run.info.get("axis", "extent"), int(self.run.info.get("bins", BINS)), cases)

    def choice(self, region: str) -> Choice:
        """The primary choice, over this region."""
        return next(choice for choice in self.run.choices() if choice.region == region)

    @property
    def cases(self) -> int:
        """The largest number of test cases of a row."""
        return max(len(result.files.cases) for result in self.run.results)


def rule_label(name: str) -> str:
    """A threshold rule in words, with "(oracle)" where it saw the test truth."""
    return parse_rule(name).label


def said(choice: Choice) -> str:
    """Region and threshold rule for a caption."""
    return f"{REGION_LABELS[choice.region].capitalize()}. Threshold: {rule_label(choice.rule)}."


def results_tables(numbers: Numbers) -> list[Table]:
    """All tables of results, Table 1 over all voxels first."""
    primary = numbers.run.choices()
    tables = [paper_table(numbers, choice) for choice in primary]
    tables += [detail_table(numbers, choice) for choice in primary]
    tables += [rules_table(numbers, choice) for choice in primary]
    tables += [pooled_table(numbers, choice) for choice in primary]
    return [*tables, lesion_table(numbers, primary[0])]


def paper_table(numbers: Numbers, choice: Choice) -> Table:
    """Table 1: the paper's rows and six metrics, mean and sample standard deviation over test cases."""
    rows = []
    for result in numbers.run.results:
        found = [numbers.summary(result, metric, choice) for metric in PAPER_METRICS]
        rows.append((*names_of(result), len(result.files.cases), *(MeanSd(s.mean, s.sd) for s in found)))
    rows += [(*names, 0, *(None,) * len(PAPER_METRICS)) for names in _unfinished(numbers.run)]
    rows.sort(key=_table_order)
    return Table(
        f"table1-{choice.region}",
        f"Table 1. Mean ± sample standard deviation over test volumes. {said(choice)}",
        ("Model", "Setup", "n", *(METRIC_LABELS[m] for m in PAPER_METRICS)),
        tuple(rows),
        (_UNDEFINED, _RANKING_NOTES[choice.aggregate], *few_shot(numbers.run), *missing_rows(numbers.run)),
        labels=2,
        section=Section.TABLE_1,
    )


def detail_table(numbers: Numbers, choice: Choice) -> Table:
    """Per row and metric: defined and undefined cases, mean, median, quartiles and the interval of the mean."""
    rows = []
    for result in numbers.run.results:
        for metric in PAPER_METRICS:
            s = numbers.summary(result, metric, choice)
            rows.append((*names_of(result), METRIC_LABELS[metric], s.n, s.undefined, *_spread(s)))
    return Table(
        f"details-{choice.region}",
        f"Every metric in detail. {said(choice)}",
        ("Model", "Setup", "Metric", "n", "Undefined", "Mean ± sd", "Median [IQR]", "95 % CI"),
        tuple(rows),
        (_UNDEFINED, _INTERVAL_NOTE, _RANKING_NOTES[choice.aggregate]),
        labels=3,
        section=Section.TABLE_1,
        folded=True,
    )


def rules_table(numbers: Numbers, primary: Choice) -> Table:
    """The four metrics that need a mask, a column for each threshold rule."""
    rows = []
    for result in numbers.run.results:
        for metric in CUT_METRICS:
            found = [numbers.summary(result, metric, replace(primary, rule=rule)) for rule in numbers.rules]
            cells = [MeanSd(s.mean, s.sd) if s.n else None for s in found]
            rows.append((*names_of(result), METRIC_LABELS[metric], len(result.files.cases), *cells))
    return Table(
        f"rules-{primary.region}",
        f"What the threshold decides: mean ± sd by rule, {REGION_LABELS[primary.region]}",
        ("Model", "Setup", "Metric", "n", *(rule_label(rule) for rule in numbers.rules)),
        tuple(rows),
        ("Oracle rules saw the truth of the test volumes. They are upper bounds, not results.", _UNDEFINED),
        labels=3,
        section=Section.THRESHOLDS,
        folded=True,
    )


def pooled_table(numbers: Numbers, choice: Choice) -> Table:
    """Metrics of all test voxels taken together."""
    rows = []
    for result in numbers.run.results:
        known = choice.rule in result.rules
        cut = result.pooled(choice) if known else {}
        ranking = result.pooled_ranking(choice.region) or {}
        rows.append(
            (
                *names_of(result),
                len(result.files.cases),
                *(cut.get(metric) for metric in CUT_METRICS),
                *(Interval(*ranking[m]) if m in ranking else None for m in RANKING),
            )
        )
    return Table(
        f"pooled-{choice.region}",
        f"All test volumes pooled into one. {said(choice)}",
        ("Model", "Setup", "n", *(METRIC_LABELS[m] for m in (*CUT_METRICS, *RANKING))),
        tuple(rows),
        ("Pooled AUROC, F1-max and AP come from histograms; two numbers are bounds on the exact value.",),
        labels=2,
        section=Section.POOLED,
        folded=True,
    )


def lesion_table(numbers: Numbers, choice: Choice) -> Table:
    """Lesions as objects, and how often they are found at a given number of false findings per volume."""
    rows, rates = [], []
    for result in numbers.run.results:
        rates = list(result.froc()) or rates
    for result in numbers.run.results:
        found = [numbers.summary(result, metric, choice) for metric in LESION_METRICS]
        froc = result.froc()
        cells = [MeanSd(s.mean, s.sd) if s.n else None for s in found]
        rows.append((*names_of(result), len(result.files.cases), *cells, *(froc.get(rate) for rate in rates)))
    sizes = {case["froc"]["min_mm3"] for result in numbers.run.results for case in result.files.cases}
    dropped = ", ".join(f"{size:g}" for size in sorted(sizes))
    return Table(
        "lesions",
        f"Lesions as objects. {said(choice)}",
        ("Model", "Setup", "n", *(METRIC_LABELS[m] for m in LESION_METRICS), *(f"FROC at {r:g}" for r in rates)),
        tuple(rows),
        (
            "A lesion is found when one voxel overlaps. FROC at r: pooled lesion sensitivity at r false findings per "
            f"volume, over all thresholds. Findings below {dropped} mm3 are dropped first. 2D Dice: mean over "
            f"{SLICE_LABELS[choice.slices]}, then over volumes. AP needs no threshold.",
        ),
        labels=2,
        section=Section.LESIONS,
    )


def long_records(numbers: Numbers) -> list[dict[str, str]]:
    """Every summary of the run as rows of one CSV: row, region, rule, metric and its numbers."""
    found = []
    for result in numbers.run.results:
        for region in (choice.region for choice in numbers.run.choices()):
            for metric in (*RANKING, *CUT_METRICS, *(m for m in EXTRA_METRICS if m not in RANKING)):
                if metric.startswith("lesion_") and region != result.files.cases[0]["froc"]["region"]:
                    continue  # lesions are matched in one region only
                for rule in [""] if metric in RANKING else result.rules:
                    choice = replace(numbers.choice(region), rule=rule) if rule else numbers.choice(region)
                    s = numbers.summary(result, metric, choice)
                    if s.n or s.undefined:
                        found.append(_record(result, region, rule, metric, s))
    return found


def few_shot(run: Run) -> tuple[str, ...]:
    """A note when rows compare with normal slices of training subjects."""
    rows = [r.row.label for r in run.results if r.files.manifest.get("reference")]
    return (f"Few-shot, not zero-shot, with normal slices of training subjects: {', '.join(rows)}.",) if rows else ()


def missing_rows(run: Run) -> tuple[str, ...]:
    """Notes on rows of the paper that this run does not hold."""
    started = {row_id_of(name) for name in run.info["unfinished"]}
    absent = [row.label for row in ROWS if row.id not in {r.row.id for r in run.results} | started]
    notes = []
    if started:
        notes.append(f"Unfinished, so without numbers: {', '.join(sorted(started))}. Run the benchmark again.")
    if absent:
        notes.append(f"Not part of this run: {', '.join(absent)}.")
    return tuple(notes)


def row_id_of(folder: str) -> str:
    """The row's id from its folder name ROW-KEY."""
    return folder.rsplit("-", 1)[0]


_UNDEFINED = "Volumes where a metric is undefined are left out of its mean and counted in the detailed table."
_INTERVAL_NOTE = "95 % CI: percentile bootstrap of the mean over subjects, 10 000 resamples, fixed seed."
_RANKING_NOTES = {
    "volume": "AUROC, F1-max and AP use the scores, no threshold; F1-max is the best F1 of each volume (oracle).",
    "slices": "AUROC, F1-max and AP use the scores, no threshold; each is the mean over a volume's slices with lesion, F1-max "
    "that of each slice's best F1 (oracle).",
}
SHOT = "-shot"


def names_of(result: Result) -> tuple[str, str]:
    """Model and setup of a row for a table; few-shot ones say so."""
    shots = (result.files.manifest.get("reference") or {}).get("kshot")
    few = f", {shots}{SHOT}" if shots else ""
    return METHOD_LABELS[result.row.method] + few, SETUP_LABELS[result.row.setup]


def _unfinished(run: Run) -> list[tuple[str, str]]:
    names = []
    for folder in run.info["unfinished"]:
        method, _, setup = row_id_of(folder).partition("-")
        names.append((METHOD_LABELS.get(method, method), SETUP_LABELS.get(setup, setup) + UNFINISHED))
    return names


def _table_order(row: tuple) -> int:
    names = (row[0].split(", ")[0], row[1].removesuffix(UNFINISHED))
    known = [(METHOD_LABELS[r.method], SETUP_LABELS[r.setup]) for r in ALL_ROWS]
    return known.index(names) if names in known else len(known)


def _spread(s: Summary) -> tuple:
    if not s.n:
        return None, None, None
    return MeanSd(s.mean, s.sd), MedianIqr(s.median, s.q1, s.q3), Interval(s.ci_low, s.ci_high)


def _record(result: Result, region: str, rule: str, metric: str, s: Summary) -> dict[str, str]:
    numbers = {key: plain(getattr(s, key)) for key in ("mean", "sd", "median", "q1", "q3", "ci_low", "ci_high")}
    return {
        "row": result.row.id,
        "region": region,
        "rule": rule,
        "oracle": str(int(metric == "f1_max" or (bool(rule) and parse_rule(rule).oracle))),
        "metric": metric,
        "n": str(s.n),
        "undefined": str(s.undefined),
        **numbers,
    }
