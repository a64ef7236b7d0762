"""The answer as a figure: mean 3D Dice of the rows, the best first."""

from __future__ import annotations

import matplotlib
import numpy as np

from ...benchmark.rows import SETUP_LABELS
from ..answer import ENOUGH, Ranked, rank_rows
from ..numbers import Numbers, said
from ..sections import Section
from .drawing import SETUP_COLOURS, SETUP_MARKERS, Drawing, canvas, setup_legend

_LARGE = {"font.size": 11, "axes.labelsize": 10, "xtick.labelsize": 10, "ytick.labelsize": 10, "legend.fontsize": 9}
"""Sizes that stay legible where the figure is as wide as a phone."""
MOST = 10
"""Rows that are drawn; the baseline comes on top of them."""


def best_rows(numbers: Numbers) -> Drawing | None:
    """A line a row: mean, its interval and every test volume; None when no row has a 3D Dice."""
    ranked = rank_rows(numbers)
    if not ranked:
        return None
    with matplotlib.rc_context(_LARGE):
        return _drawn(numbers, ranked)


def _drawn(numbers: Numbers, ranked: list[Ranked]) -> Drawing:
    shown = [each for n, each in enumerate(ranked) if n < MOST or each.is_baseline]
    figure, [[axis]] = canvas(6.0, 0.34 * len(shown) + 1.3)
    for place, each in zip(range(len(shown))[::-1], shown, strict=True):
        _line(axis, place, each)
    axis.set_yticks(range(len(shown)), [each.result.row.label for each in shown[::-1]])
    axis.set_ylim(-0.6, len(shown) - 0.4)
    axis.set_xlim(-0.02, 1.02)
    axis.grid(axis="y", visible=False)
    few = max(each.subjects for each in shown) < ENOUGH
    axis.set_xlabel(f"mean 3D Dice{'' if few else ', 95 % CI over subjects'} (n = {numbers.cases})")
    setup_legend(figure, [setup for setup in SETUP_LABELS if any(e.result.row.setup == setup for e in shown)])
    further = f" The {len(ranked) - len(shown)} further rows are in Figure 1." if len(ranked) > len(shown) else ""
    lines = "" if few else "line: its 95 % interval over subjects; "
    return Drawing(
        "answer",
        "The rows by mean 3D Dice, the best first",
        f"Where the pale dots of two rows lie among each other, their order is owed to single volumes. Marker: mean; {lines}"
        f"pale dots: the test volumes, n = {numbers.cases}. {said(numbers.run.choices()[0])}{further}",
        "Mean 3D Dice of rows, the best first: "
        + ", ".join(f"{each.result.row.label} {each.dice.mean:.2f}" for each in shown)
        + ".",
        figure,
        [_record(each) for each in ranked],
        section=Section.ANSWER,
        fits=True,
    )


def _line(axis, place: int, each: Ranked) -> None:
    colour, marker = SETUP_COLOURS[each.result.row.setup], SETUP_MARKERS[each.result.row.setup]
    axis.plot(each.values, np.full(each.values.size, place), "o", color=colour, alpha=0.35, mew=0, ms=5, clip_on=False)
    if each.subjects >= ENOUGH:
        axis.plot([each.dice.ci_low, each.dice.ci_high], [place, place], color=colour, lw=1.8)
    axis.plot(each.dice.mean, place, marker, color=colour, markeredgecolor="black", mew=0.6, ms=8, zorder=3)
    axis.annotate(
        f"{each.dice.mean:.2f}", (1.0, place), xytext=(10, 0), textcoords="offset points", va="center", fontsize=10
    )


def _record(each: Ranked) -> dict:
    nothing = dict.fromkeys(("difference", "ci_low", "ci_high"), None)
    behind, above = (vars(c) if c else nothing for c in (each.behind, each.above))
    return {
        "row": each.result.row.id,
        "n": each.dice.n,
        "subjects": each.subjects,
        "mean": each.dice.mean,
        "ci_low": each.dice.ci_low,
        "ci_high": each.dice.ci_high,
        **{f"best_minus_this_{key}": behind[key] for key in nothing},
        **{f"this_minus_baseline_{key}": above[key] for key in nothing},
    }
