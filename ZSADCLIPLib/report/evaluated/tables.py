"""The tables of an evaluation: methods against the truth, lesions as objects, millilitres, and every case."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from ...evaluation.metrics import LESIONS as LESION_METRICS
from ...evaluation.metrics import METRICS, metrics_from
from ..numbers import REGION_LABELS
from ..typeset import Cell, Interval, MeanInterval, MeanSd, MedianIqr, Table
from .cases import BASELINE, BEST, FAR_MM, HEALTHY, LESIONS, NO_TRUTH, REGION, STORED, Measured
from .numbers import Evaluation, label, summary_of

USE = "Research use only, not for diagnosis."
VOXELS = ("dice", "sensitivity", "specificity", "ppv", "f1_max", "average_precision", "auroc")
OBJECTS = (*(metric.name for metric in metrics_from(LESION_METRICS)), "slice_dice")
FEW = 10  # subjects; fewer tell whether something is badly wrong, and little else
MOST_WARNINGS = 8
GROUPS = {LESIONS: "with lesions", HEALTHY: "healthy: the truth is empty", NO_TRUTH: "without a truth"}


def evaluation_tables(evaluation: Evaluation, min_mm3: float) -> dict[str, list[Table]]:
    """All tables by the heading under which they stand; those of cases with lesions only where there is one."""
    sections = {"Models": [models_table(evaluation)]}
    if evaluation.results:
        sections["Accuracy"] = [voxel_table(evaluation, region) for region in (REGION, "all")]
        sections["Lesions"] = [object_table(evaluation, min_mm3)]
    sections["Millilitres"] = [millilitre_table(evaluation)]
    sections["Cases"] = [case_table(evaluation)]
    if evaluation.results:
        sections["Cases"].append(detail_table(evaluation))
    return sections


def models_table(evaluation: Evaluation) -> Table:
    """What each model was made for, and how many cases are outside of it."""
    rows = []
    for method in evaluation.methods:
        of = evaluation.by_method[method]
        if method == BASELINE:
            continue
        made, outside = of[0].made_for, sum(any(n.code == "world" for n in each.notes) for each in of)
        rows.append(
            (
                label(method),
                made["backbone"],
                made["pictures"],
                made["trained_on"],
                made["use"],
                f"{evaluation.threshold(method, STORED)}: {made['threshold']}",
                f"{outside} of {len(of)}",
            )
        )
    heads = ("Model", "Backbone", "Made for", "Trained on", "Use", "Stored threshold", "Cases outside its world")
    return Table(
        "models", "What the models were made for", heads, tuple(rows), (USE, *warnings(evaluation)), prose=True
    )


def voxel_table(evaluation: Evaluation, region: str) -> Table:
    """Voxel metrics of each method and threshold over a region: mean and interval over the cases with lesions."""
    return Table(
        f"voxels-{region}",
        f"Voxels against the truth, {REGION_LABELS[region]}: mean [95 % interval] over cases with lesions",
        ("Method", "Threshold", "n", *(METRICS[name].label for name in VOXELS)),
        _means(evaluation, VOXELS, region),
        (
            "F1-max, AP and AUROC use the scores, no threshold; F1-max is the best F1 (= Dice) of each volume (oracle). "
            "A threshold called oracle saw the truth of the case: an upper bound, not a result.",
            "At the stored threshold the mask that detection wrote is counted. Cases where a metric is undefined are left out of "
            "its mean and counted in the detailed table.",
            *_common(evaluation),
        ),
        labels=2,
    )


def object_table(evaluation: Evaluation, min_mm3: float) -> Table:
    """Lesions as objects, of each method and threshold."""
    return Table(
        "lesions",
        f"Lesions as objects, {REGION_LABELS[REGION]}: mean [95 % interval] over cases with lesions",
        ("Method", "Threshold", "n", *(METRICS[name].label for name in OBJECTS)),
        _means(evaluation, OBJECTS, REGION),
        (
            "A lesion is a 26-connected part of the truth and found when one voxel overlaps; a false lesion is a part of the "
            "prediction that overlaps none. Precision: found / (found + false); F1: 2 found / (2 found + false + missed). "
            "One part that covers the brain finds every lesion and is not false: read these with the millilitres. "
            f"Lesion-wise Dice by the rules of BraTS 2023. Parts below {min_mm3:g} mm3 are dropped first. 2D Dice: mean over "
            "slices with lesion, then over volumes.",
            *_common(evaluation),
        ),
        labels=2,
    )


def millilitre_table(evaluation: Evaluation) -> Table:
    """How much is marked, of which how much outside the truth and in healthy tissue, by group of cases."""
    rows = []
    for method, rule in evaluation.rows:
        ml, of = evaluation.millilitres(method, rule), evaluation.with_lesions[method]
        cells = [_mean(summary_of(ml[name], of)) for name in ("truth", "marked", "false")]
        cells += _in_healthy(of) if rule == STORED else (None, None)
        rows.append((label(method), evaluation.threshold(method, rule), GROUPS[LESIONS], len(of), *cells))
    for method, of in evaluation.by_method.items():
        for group in (HEALTHY, NO_TRUTH):
            if chosen := [each for each in of if each.group == group]:
                marked = _mean(summary_of([each.marked_ml for each in chosen], chosen))
                healthy = group == HEALTHY
                cells = (0.0 if healthy else None, marked, marked if healthy else None)
                cells += _in_healthy(chosen) if healthy else (None, None)
                rows.append((label(method), evaluation.threshold(method, STORED), GROUPS[group], len(chosen), *cells))
    return Table(
        "millilitres",
        "Millilitres marked inside the brain: mean [95 % interval] over cases",
        ("Method", "Threshold", "Cases", "n", "Truth (ml)", "Marked (ml)", "Marked outside the truth (ml)")
        + ("Healthy tissue (ml)", "Marked in healthy tissue (ml)"),
        tuple(rows),
        (f"Healthy tissue: brain farther than {FAR_MM:g} mm from every lesion.", *_common(evaluation)),
        labels=3,
        digits=2,
    )


def _in_healthy(of: Sequence[Measured]) -> tuple[MeanInterval | None, MeanInterval | None]:
    """The volume of healthy tissue, and how much of it is marked."""
    columns = ([each.healthy_ml for each in of], [each.healthy_marked_ml for each in of])
    return tuple(_mean(summary_of(column, of)) for column in columns)


def case_table(evaluation: Evaluation) -> Table:
    """Every case of every method: its threshold, millilitres, metrics and warnings."""
    metrics = ("dice", "sensitivity", "ppv", "f1_max", "average_precision", "auroc")
    objects = ("lesion_sensitivity", "lesion_precision", "lesion_f1", "lesion_false_positives")
    over_all = ("dice", "average_precision", "auroc")
    rows = []
    for method in evaluation.methods:
        rule = BEST if method == BASELINE else STORED
        place = {each.case: i for i, each in enumerate(evaluation.with_lesions[method])}
        columns = ml = None
        if place:
            columns = [evaluation.values(method, name, rule) for name in (*metrics, *objects)]
            columns += [evaluation.values(method, name, rule, "all") for name in over_all]
            ml = evaluation.millilitres(method, rule)
        for each in evaluation.by_method[method]:
            i = place.get(each.case)
            known = i is not None
            cut = each.values["rules"][rule]["threshold"] if known else each.threshold
            healthy = 0.0 if each.group == HEALTHY else None
            mls = [ml[name][i] for name in ("truth", "marked")] if known else (healthy, each.marked_ml)
            values = [column[i] for column in columns] if known else (None,) * len((*metrics, *objects, *over_all))
            head = (label(method), each.case, each.subject, each.group, cut, evaluation.threshold(method, rule))
            rows.append((*head, *mls, *values, "; ".join(each.warnings)))
    labels = [METRICS[name].label for name in (*metrics, *objects)] + [
        f"{METRICS[n].label}, all voxels" for n in over_all
    ]
    heads = (
        "Method",
        "Case",
        "Subject",
        "Group",
        "Cut at",
        "Threshold",
        "Truth (ml)",
        "Marked (ml)",
        *labels,
        "Warnings",
    )
    title = f"Every case, {REGION_LABELS[REGION]} unless a column says otherwise"
    return Table("cases", title, heads, tuple(rows), (USE,), labels=2)


def detail_table(evaluation: Evaluation) -> Table:
    """Per method, region, threshold and metric: defined and undefined cases, mean, median, quartiles and interval."""
    rows: list[tuple[Cell, ...]] = []
    for method, rule in evaluation.rows:
        for region in (REGION, "all"):
            for name in (*VOXELS, *(OBJECTS if region == REGION else ())):
                s = evaluation.summary(method, name, rule, region)
                spread = MeanSd.of(s), MedianIqr.of(s), Interval.of(s)
                head = (label(method), REGION_LABELS[region], evaluation.threshold(method, rule), METRICS[name].label)
                rows.append((*head, s.n, s.undefined, *spread))
    heads = ("Method", "Region", "Threshold", "Metric", "n", "Undefined", "Mean ± sd", "Median [IQR]", "95 % CI")
    title = "Every metric in detail, over cases with lesions"
    return Table("details", title, heads, tuple(rows), _common(evaluation), labels=4, folded=True)


def left_out_table(left_out: list[dict]) -> Table:
    """The cases without a result and why; `left_out` holds their method, id, status and error."""
    rows = tuple((label(row["method"]), row["id"], row["status"], row["error"]) for row in left_out)
    return Table(
        "left-out", "Cases without a result", ("Method", "Case", "Status", "Reason"), rows, labels=2, prose=True
    )


def warnings(evaluation: Evaluation) -> tuple[str, ...]:
    """What makes results doubtful, each once, with the number of results that it was said of."""
    said = Counter(f"{label(each.method)}: {text}" for each in _results(evaluation) for text in each.warnings)
    lines = [
        f"Warning, {count} of {_total(evaluation)} results. {text}" for text, count in said.most_common(MOST_WARNINGS)
    ]
    more = len(said) - len(lines)
    return (*lines, *([f"{more} further warnings stand with the cases."] if more > 0 else []))


def subjects_note(evaluation: Evaluation) -> str:
    """Of how many subjects the means are, what that is worth, and what the intervals are."""
    subjects = len({each.subject for each in _results(evaluation) if each.group == LESIONS})
    few = ", which are very few: they show whether something is badly wrong, no more" if subjects < FEW else ""
    spans = " (over two subjects it spans their two values)" if subjects == 2 else ""
    return (
        f"n: cases; those with lesions are of {subjects} subject{'s' * (subjects != 1)}{few}. 95 % interval: percentile "
        f"bootstrap of the mean over subjects, 10 000 resamples, fixed seed{spans}."
    )


def _results(evaluation: Evaluation) -> list[Measured]:
    return [each for method, of in evaluation.by_method.items() if method != BASELINE for each in of]


def _total(evaluation: Evaluation) -> int:
    return len(_results(evaluation))


def _common(evaluation: Evaluation) -> tuple[str, ...]:
    outside = sum(any(note.code == "world" for note in each.notes) for each in _results(evaluation))
    world = f"{outside} of {_total(evaluation)} results are outside their model's world (table models)."
    return (USE, *((world,) if outside else ()), subjects_note(evaluation))


def _means(evaluation: Evaluation, metrics: tuple[str, ...], region: str) -> tuple[tuple[Cell, ...], ...]:
    rows = []
    for method, rule in evaluation.rows:
        cells = (_mean(evaluation.summary(method, name, rule, region)) for name in metrics)
        n = len(evaluation.with_lesions[method])
        rows.append((label(method), evaluation.threshold(method, rule), n, *cells))
    return tuple(rows)


def _mean(summary) -> MeanInterval | None:
    return None if np.isnan(summary.mean) else MeanInterval(summary.mean, summary.ci_low, summary.ci_high)
