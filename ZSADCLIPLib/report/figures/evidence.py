"""2D against 3D: rows with volumetric evidence beside the same rows without it."""

from __future__ import annotations

import numpy as np
from matplotlib.lines import Line2D

from ...benchmark.rows import row_without
from ...evaluation.statistics import Comparison, compare
from ..numbers import Numbers, said
from ..results import Choice, Result
from ..sections import Section
from .drawing import GREY, SETUP_COLOURS, SETUP_MARKERS, Drawing, canvas

FALSE = "lesion_false_positives"


def volumetric_evidence(numbers: Numbers) -> Drawing | None:
    """Paired difference of 3D Dice, and false findings a volume with and without; None when no row has its counterpart."""
    choice = numbers.run.choices()[0]
    pairs = _pairs(numbers, choice)
    if not pairs:
        return None
    dice = _compared(pairs, "dice", choice)
    figure, [axes] = canvas(9.0, 0.45 * len(pairs) + 1.6, 1, 2, sharey=True)
    places = np.arange(len(pairs))[::-1]
    _draw_differences(axes[0], places, pairs, dice)
    _draw_false_findings(axes[1], places, pairs, choice)
    axes[0].set_yticks(places, [deep.row.label for deep, _ in pairs])
    axes[0].set_ylim(-0.6, len(pairs) - 0.4)
    axes[0].set_xlabel(f"difference of 3D Dice, paired, 95 % CI (n = {numbers.cases})")
    axes[1].set_xlabel(f"false findings a volume, mean of n = {numbers.cases}")
    best = max(zip(dice, pairs, strict=True), key=lambda each: np.nan_to_num(each[0].difference, nan=-9))
    return Drawing(
        "evidence",
        "2D and 3D evidence",
        "Right of zero, looking beyond the slice helps; a line that crosses zero shows no difference. "
        "Rows that look at more than a slice (a context of neighbouring slices, three planes, or smoothing and a least depth of "
        "findings) less the same row without. Left: mean paired difference of 3D Dice with its 95 % interval over subjects. "
        f"Right: false findings a volume. {said(choice)}",
        f"Differences of 3D Dice with intervals and false findings a volume for {len(pairs)} pairs of rows. The largest "
        f"difference is {best[0].difference:+.3f}, {best[1][0].row.label}.",
        figure,
        [_record(*each, choice) for each in zip(pairs, dice, strict=True)],
        section=Section.SLICES,
    )


def _pairs(numbers: Numbers, choice: Choice) -> list[tuple[Result, Result]]:
    """Each row with volumetric evidence and its counterpart, in table order."""
    results = {result.row.id: result for result in numbers.run.results if choice.rule in result.rules}
    pairs = [(result, results.get(row_without(result.row).id)) for result in results.values()]
    return [(deep, flat) for deep, flat in pairs if flat is not None and flat is not deep]


def _compared(pairs: list[tuple[Result, Result]], metric: str, choice: Choice) -> list[Comparison]:
    """The paired differences of a metric, of the row with evidence minus the one without."""
    columns, owners = {}, {}
    for result in dict.fromkeys(result for pair in pairs for result in pair):
        values, cases = result.values(metric, choice), result.files.cases
        columns[result.row.id] = {case["case"]: float(value) for case, value in zip(cases, values, strict=True)}
        owners |= {case["case"]: case["subject"] for case in cases}
    return compare(columns, [(deep.row.id, flat.row.id) for deep, flat in pairs], owners)


def _draw_differences(axis, places: np.ndarray, pairs: list, dice: list[Comparison]) -> None:
    axis.axvline(0, color="black", lw=0.8)
    for place, (deep, _), each in zip(places, pairs, dice, strict=True):
        colour, marker = SETUP_COLOURS[deep.row.setup], SETUP_MARKERS[deep.row.setup]
        axis.plot([each.ci_low, each.ci_high], [place, place], color=colour, lw=1.6)
        axis.plot(each.difference, place, marker, color=colour, ms=6)
    axis.grid(axis="y", visible=False)


def _draw_false_findings(axis, places: np.ndarray, pairs: list, choice: Choice) -> None:
    for place, (deep, flat) in zip(places, pairs, strict=True):
        with_it, without = deep.mean(FALSE, choice), flat.mean(FALSE, choice)
        axis.plot([without, with_it], [place, place], color=GREY, lw=1.0)
        axis.plot(without, place, "o", markerfacecolor="white", markeredgecolor=GREY, ms=6)
        axis.plot(with_it, place, SETUP_MARKERS[deep.row.setup], color=SETUP_COLOURS[deep.row.setup], ms=6)
    axis.set_xlim(left=0)
    axis.grid(axis="y", visible=False)
    handles = [Line2D([], [], marker="o", markerfacecolor="white", markeredgecolor=GREY, linestyle="", label="without")]
    handles.append(Line2D([], [], marker="X", color=GREY, linestyle="", label="with"))
    axis.legend(handles=handles, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)


def _record(pair: tuple[Result, Result], dice: Comparison, choice: Choice) -> dict:
    deep, flat = pair
    return {
        "row": deep.row.id,
        "without": flat.row.id,
        "n": dice.n,
        "dice_difference": dice.difference,
        "ci_low": dice.ci_low,
        "ci_high": dice.ci_high,
        "p": dice.p,
        "false_findings": deep.mean(FALSE, choice),
        "false_findings_without": flat.mean(FALSE, choice),
    }
