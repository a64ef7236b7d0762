"""The benchmark's tables of results, from finished rows only: the same files always give the same bytes.

Table 1 has the paper's rows and metrics; the others hold what one mean hides: counts, medians, intervals, other
threshold rules, pooled values and lesions.
"""

from __future__ import annotations

from dataclasses import replace

from ...benchmark.rows import ALL_ROWS, METHOD_LABELS, SETUP_LABELS
from ...evaluation.metrics import COUNTS, LESIONS, SCORES, SLICES, Metric, metrics_from, metrics_in
from ...evaluation.statistics import Summary
from ...evaluation.thresholds import parse_rule
from ..numbers import (
    REGION_LABELS,
    SLICE_LABELS,
    Numbers,
    few_shot,
    names_of,
    row_id_of,
    rule_label,
    said,
    unfinished,
)
from ..results import Choice, Result, Run
from ..sections import Section
from ..typeset import Interval, MeanSd, MedianIqr, Table, plain

UNFINISHED = " (unfinished)"


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
    rows, metrics = [], metrics_in("paper")
    for result in numbers.run.results:
        summaries = [numbers.summary(result, metric.name, choice) for metric in metrics]
        rows.append((*names_of(result), len(result.files.cases), *map(MeanSd.of, summaries)))
    rows += [(*names, 0, *(None,) * len(metrics)) for names in _unfinished(numbers.run)]
    rows.sort(key=_table_order)
    return Table(
        f"table1-{choice.region}",
        f"Table 1. Mean ± sample standard deviation over test volumes. {said(choice)}",
        ("Model", "Setup", "n", *(metric.label for metric in metrics)),
        tuple(rows),
        (_UNDEFINED, _RANKING_NOTES[choice.aggregate], *few_shot(numbers.run), *unfinished(numbers.run)),
        labels=2,
        section=Section.TABLE_1,
        see="Sort by a column to see whether the order by Dice is that by AUROC.",
        short=f"Table 1, {REGION_LABELS[choice.region]}",
    )


def detail_table(numbers: Numbers, choice: Choice) -> Table:
    """Per row and metric: defined and undefined cases, mean, median, quartiles and the interval of the mean."""
    rows = []
    for result in numbers.run.results:
        for metric in metrics_in("details"):
            s = numbers.summary(result, metric.name, choice)
            rows.append((*names_of(result), metric.label, s.n, s.undefined, *_spread(s)))
    return Table(
        f"details-{choice.region}",
        f"Every metric in detail. {said(choice)}",
        ("Model", "Setup", "Metric", "n", "Undefined", "Mean ± sd", "Median [IQR]", "95 % CI"),
        tuple(rows),
        (_UNDEFINED, _INTERVAL_NOTE, _RANKING_NOTES[choice.aggregate]),
        labels=3,
        section=Section.TABLE_1,
        folded=True,
        see="A mean far from its median is owed to few volumes; with a wide interval other subjects could give another order.",
        short=f"Every metric in detail, {REGION_LABELS[choice.region]}",
    )


def rules_table(numbers: Numbers, primary: Choice) -> Table:
    """The metrics that need a mask, a column for each threshold rule."""
    rows = []
    for result in numbers.run.results:
        for metric in metrics_in("rules"):
            summaries = [numbers.summary(result, metric.name, replace(primary, rule=rule)) for rule in numbers.rules]
            cells = map(MeanSd.of, summaries)
            rows.append((*names_of(result), metric.label, len(result.files.cases), *cells))
    return Table(
        f"rules-{primary.region}",
        f"What the threshold decides: mean ± sd by rule, {REGION_LABELS[primary.region]}",
        ("Model", "Setup", "Metric", "n", *(rule_label(rule) for rule in numbers.rules)),
        tuple(rows),
        ("Oracle rules saw the truth of the test volumes. They are upper bounds, not results.", _UNDEFINED),
        labels=3,
        section=Section.THRESHOLDS,
        folded=True,
        see="A row that is good under the oracle rules alone has a good map and a bad threshold.",
        short=f"Every threshold rule, {REGION_LABELS[primary.region]}",
    )


def pooled_table(numbers: Numbers, choice: Choice) -> Table:
    """Metrics of all test voxels taken together."""
    rows, metrics = [], metrics_in("pooled")
    for result in numbers.run.results:
        has_rule = choice.rule in result.rules
        values = dict(result.pooled(choice)) if has_rule else {}
        values |= {name: Interval(*bounds) for name, bounds in (result.pooled_ranking(choice.region) or {}).items()}
        rows.append((*names_of(result), len(result.files.cases), *(values.get(metric.name) for metric in metrics)))
    return Table(
        f"pooled-{choice.region}",
        f"All test volumes pooled into one. {said(choice)}",
        ("Model", "Setup", "n", *(metric.label for metric in metrics)),
        tuple(rows),
        ("Pooled AUROC, F1-max and AP come from histograms; two numbers are bounds on the exact value.",),
        labels=2,
        section=Section.POOLED,
        folded=True,
        see="Large lesions count for more here: Dice above the mean of Table 1 says that they are found better than small ones.",
        short=f"Pooled, {REGION_LABELS[choice.region]}",
    )


def lesion_table(numbers: Numbers, choice: Choice) -> Table:
    """Lesions as objects, and how often they are found at a given number of false findings per volume."""
    rows, rates, metrics = [], [], metrics_in("lesions")
    for result in numbers.run.results:
        rates = list(result.froc()) or rates
    for result in numbers.run.results:
        summaries = [numbers.summary(result, metric.name, choice) for metric in metrics]
        froc = result.froc()
        cells = map(MeanSd.of, summaries)
        rows.append((*names_of(result), len(result.files.cases), *cells, *(froc.get(rate) for rate in rates)))
    sizes = {case["froc"]["min_mm3"] for result in numbers.run.results for case in result.files.cases}
    dropped = ", ".join(f"{size:g}" for size in sorted(sizes))
    return Table(
        "lesions",
        f"Lesions as objects. {said(choice)}",
        ("Model", "Setup", "n", *(metric.label for metric in metrics), *(f"FROC at {r:g}" for r in rates)),
        tuple(rows),
        (
            "A lesion is found when one voxel overlaps. FROC at r: pooled lesion sensitivity at r false findings per "
            f"volume, over all thresholds. Findings below {dropped} mm3 are dropped first. 2D Dice: mean over "
            f"{SLICE_LABELS[choice.slices]}, then over volumes. AP needs no threshold.",
        ),
        labels=2,
        section=Section.LESIONS,
        see="A row may draw voxels well and still miss small lesions, or find all of them at the price of many false findings.",
        short="Lesions as objects",
    )


def long_records(numbers: Numbers) -> list[dict[str, str]]:
    """Every summary of the run as rows of one CSV: row, region, rule, metric and its numbers."""
    records = []
    counted = [metric for metric in metrics_from(COUNTS) if "rules" in metric.tables]
    metrics = [*metrics_from(SCORES), *counted, *metrics_from(LESIONS), *metrics_from(SLICES)]
    for result in numbers.run.results:
        for region in (choice.region for choice in numbers.run.choices()):
            for metric in metrics:
                if metric.needs == LESIONS and region != result.files.cases[0]["froc"]["region"]:
                    continue  # lesions are matched in one region only
                for rule in [""] if metric.needs == SCORES else result.rules:
                    choice = replace(numbers.choice(region), rule=rule) if rule else numbers.choice(region)
                    s = numbers.summary(result, metric.name, choice)
                    if s.n or s.undefined:
                        records.append(_record(result, region, rule, metric, s))
    return records


_UNDEFINED = "Volumes where a metric is undefined are left out of its mean and counted in the detailed table."
_INTERVAL_NOTE = "95 % CI: percentile bootstrap of the mean over subjects, 10 000 resamples, fixed seed."
_RANKING_NOTES = {
    "volume": "AUROC, F1-max and AP use the scores, no threshold; F1-max is the best F1 of each volume (oracle).",
    "slices": "AUROC, F1-max and AP use the scores, no threshold; each is the mean over a volume's slices with lesion, F1-max "
    "that of each slice's best F1 (oracle).",
}


def _unfinished(run: Run) -> list[tuple[str, str]]:
    names, rows = [], {row.id: row for row in ALL_ROWS}
    for folder in run.info["unfinished"]:
        row = rows.get(row_id_of(folder))
        known = (METHOD_LABELS[row.method], SETUP_LABELS[row.setup]) if row else row_id_of(folder).split("-", 1)
        names.append((known[0], known[-1] + UNFINISHED))
    return names


def _table_order(row: tuple) -> int:
    names = (row[0].split(", ")[0], row[1].removesuffix(UNFINISHED))
    order = [(METHOD_LABELS[r.method], SETUP_LABELS[r.setup]) for r in ALL_ROWS]
    return order.index(names) if names in order else len(order)


def _spread(s: Summary) -> tuple:
    return MeanSd.of(s), MedianIqr.of(s), Interval.of(s)


def _record(result: Result, region: str, rule: str, metric: Metric, s: Summary) -> dict[str, str]:
    numbers = {key: plain(getattr(s, key)) for key in ("mean", "sd", "median", "q1", "q3", "ci_low", "ci_high")}
    return {
        "row": result.row.id,
        "region": region,
        "rule": rule,
        "oracle": str(int(metric.oracle or (bool(rule) and parse_rule(rule).oracle))),
        "metric": metric.name,
        "n": str(s.n),
        "undefined": str(s.undefined),
        **numbers,
    }
