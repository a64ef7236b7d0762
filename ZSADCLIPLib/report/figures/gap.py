"""The gap between 2D and 3D Dice, taken apart."""

from __future__ import annotations

import numpy as np

from ..gap import GAP_TERMS, LOSS_TERMS, TERM_LABELS, Gap, column, gaps
from ..numbers import Numbers, said
from ..sections import Section
from .drawing import BLUE, VERMILION, YELLOW, Drawing, canvas

COLOURS = {
    "lesion_slices": BLUE,
    "clean_slices": VERMILION,
    "missed": "#999999",
    "false_lesion_slices": YELLOW,
    "false_clean_slices": VERMILION,
}


def gap_bars(numbers: Numbers) -> Drawing:
    """Two stacked bar charts over rows: mean 2D Dice minus 3D Dice, and 1 minus 3D Dice, each by cause."""
    choice = numbers.run.choices()[0]
    results = [r for r in numbers.run.results if choice.rule in r.rules]
    case_gaps = [gaps(r, choice) for r in results]
    figure, [axes] = canvas(10.0, 0.30 * len(results) + 1.7, 1, 2, sharey=True)
    places = np.arange(len(results))[::-1]
    for axis, terms in zip(axes, (GAP_TERMS, LOSS_TERMS), strict=True):
        above, below = np.zeros(len(results)), np.zeros(len(results))
        for term in terms:
            means = np.array([_mean(column(rows, term)) for rows in case_gaps])
            start = np.where(means >= 0, above, below)
            axis.barh(
                places,
                means,
                left=start,
                height=0.66,
                color=COLOURS[term],
                edgecolor="black",
                linewidth=0.4,
                label=TERM_LABELS[term],
            )
            above, below = above + np.maximum(means, 0), below + np.minimum(means, 0)
        axis.grid(axis="y", visible=False)
        axis.axvline(0, color="black", lw=0.8)
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, fontsize=7.5, columnspacing=1.0)
    totals = [_mean(column(rows, "gap")) for rows in case_gaps]
    axes[0].plot(totals, places, "D", color="white", markeredgecolor="black", ms=5, label="gap")
    axes[0].set_yticks(places, [r.row.label for r in results])
    axes[0].set_xlabel(f"mean 2D Dice − 3D Dice (diamond: sum), mean of n = {numbers.cases}")
    axes[1].set_xlabel(f"1 − 3D Dice, mean of n = {numbers.cases}")
    axes[0].locator_params(axis="x", nbins=6)
    axes[0].set_ylim(-0.6, len(results) - 0.4)
    axes[1].set_xlim(0, 1)
    data = [
        {"row": r.row.id, "case": case["case"], "subject": case["subject"], **_record(gap)}
        for r, rows in zip(results, case_gaps, strict=True)
        for case, gap in zip(r.files.cases, rows, strict=True)
    ]
    worst = max(zip(totals, results, strict=True), key=lambda t: np.nan_to_num(t[0], nan=-9), default=None)
    words = f"The largest gap is {worst[0]:+.2f}, {worst[1].row.label}." if worst else "No row has this rule."
    return Drawing(
        "gap",
        "How 2D and 3D Dice differ",
        "Long red bars: false positives on slices without lesion cost most. "
        f"Means over test volumes with lesion, n = {numbers.cases}. Left: mean 2D Dice over slices with lesion minus 3D Dice "
        "is the sum of the two bars: 3D Dice weights large slices more, and it pays for false positives on slices without "
        "lesion, which 2D Dice leaves out. Below zero the 3D Dice is higher. Right: what 3D Dice lacks to 1, by cause. "
        f"{said(choice)}",
        f"Stacked bars of the gap between 2D and 3D Dice for each row. {words}",
        figure,
        data,
        section=Section.SLICES,
    )


def _record(gap: Gap) -> dict:
    names = ("mean_2d", "dice_3d", "gap", *GAP_TERMS, *LOSS_TERMS)
    return {name: getattr(gap, name) for name in names}


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else 0.0
