"""What every test volume gave, and which rows differ on the same volumes: the numbers behind the means of Table 1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, replace
from itertools import combinations

import numpy as np

from ...evaluation.metrics import COUNTS, LESIONS, SCORES, SLICES, metrics_from, undefined_reason
from ...evaluation.statistics import compare
from ...evaluation.thresholds import parse_rule
from ..numbers import Numbers, said
from ..results import Result
from ..sections import Section
from ..typeset import Interval, Table, plain


def case_records(numbers: Numbers) -> Iterator[dict[str, str]]:
    """One line for each row, test case, region and threshold rule, with every metric; empty where undefined.

    `undefined` says why, metric by metric. Volume errors are in ml; prevalence is the share of lesion voxels.
    """
    for result in numbers.run.results:
        for region in (choice.region for choice in numbers.run.choices()):
            for rule in result.rules:
                yield from _records(numbers, result, region, rule)


def _records(numbers: Numbers, result: Result, region: str, rule: str) -> Iterator[dict[str, str]]:
    choice = replace(numbers.choice(region), rule=rule)
    counted = metrics_from(COUNTS)
    columns = {m.name: result.values(m.name, choice) for m in (*metrics_from(SCORES), *metrics_from(SLICES))}
    matched = region == result.files.cases[0]["froc"]["region"]  # lesions are matched in one region only
    nothing = np.full(len(result.files.cases), np.nan)
    columns |= {m.name: result.values(m.name, choice) if matched else nothing for m in metrics_from(LESIONS)}
    for i, (case, counts) in enumerate(zip(result.files.cases, result.confusions(choice), strict=True)):
        values = {m.name: m.of_counts(counts, choice.undefined) if counts else np.nan for m in counted}
        if counts:
            why = "; ".join(f"{name}: {undefined_reason(name, counts)}" for name, v in values.items() if np.isnan(v))
        else:
            why = "the rule gives no threshold for this volume"
        voxel_ml = float(np.prod(case["spacing_mm"])) / 1000
        threshold = case["rules"].get(rule, {}).get("threshold")
        yield {
            "row": result.row.id,
            "case": case["case"],
            "subject": case["subject"],
            "region": region,
            "rule": rule,
            "oracle": str(int(parse_rule(rule).oracle)),
            "threshold": plain(threshold),
            **dict(zip(("tp", "fp", "fn", "tn"), map(str, astuple(counts) if counts else ("",) * 4), strict=True)),
            **{m.name + "_ml" * m.voxels: plain(values[m.name] * (voxel_ml if m.voxels else 1.0)) for m in counted},
            **{name: plain(float(column[i])) for name, column in columns.items()},
            "prevalence": plain(float(case["regions"][region]["prevalence"])),
            "lesion_ml": plain(float(case["lesion_ml"])),
            "undefined": why,
        }


def volumes_table(numbers: Numbers) -> Table:
    """3D Dice of every test volume, a column for each row."""
    choice = numbers.run.choices()[0]
    columns, names = [], {}
    for result in numbers.run.results:
        has_rule = choice.rule in result.rules
        values = result.values("dice", choice) if has_rule else np.full(len(result.files.cases), np.nan)
        columns.append({case["case"]: float(v) for case, v in zip(result.files.cases, values, strict=True)})
        names |= {case["case"]: case["lesion_ml"] for case in result.files.cases}
    rows = tuple((case, names[case], *(column.get(case) for column in columns)) for case in sorted(names))
    return Table(
        "volumes",
        f"3D Dice of every test volume. {said(choice)}",
        ("Volume", "Lesion (ml)", *(result.row.label for result in numbers.run.results)),
        rows,
        ("All metrics of every volume, region and threshold rule, with reasons where undefined: tables/cases.csv.",),
        digits=2,
        section=Section.ACCURACY,
        folded=True,
        see="Sort by lesion volume to see whether small lesions are the hard ones.",
        short="Every test volume",
    )


def differences_table(numbers: Numbers) -> Table:
    """Paired differences of 3D Dice between rows of one method or one setup, p-values adjusted over all of them."""
    choice, columns, owners, compared = numbers.run.choices()[0], {}, {}, []
    for result in numbers.run.results:
        if choice.rule not in result.rules:
            continue
        values = result.values("dice", choice)
        columns[result.row.label] = {c["case"]: float(v) for c, v in zip(result.files.cases, values, strict=True)}
        owners |= {case["case"]: case["subject"] for case in result.files.cases}
        compared.append(result.row)
    pairs = [(a.label, b.label) for a, b in combinations(compared, 2) if a.method == b.method or a.setup == b.setup]
    rows = tuple(
        (c.first, c.second, c.n, c.difference, Interval(c.ci_low, c.ci_high), _p(c.p), _p(c.p_holm))
        for c in compare(columns, pairs, owners)
    )
    return Table(
        "differences",
        f"Paired differences of 3D Dice, first minus second. {said(choice)}",
        ("First", "Second", "n", "Difference", "95 % CI", "p", "p (Holm)"),
        rows,
        (
            "Over volumes where both are defined; intervals and tests take the volumes of a subject together. p: two-sided "
            f"Wilcoxon signed-rank test (Pratt), adjusted by Holm over all {len(pairs)} comparisons.",
        ),
        labels=2,
        section=Section.ACCURACY,
        folded=True,
        see="An interval that includes zero shows no difference.",
        short="Paired differences",
    )


def _p(value: float) -> str | None:
    return None if np.isnan(value) else f"{value:.2g}"
