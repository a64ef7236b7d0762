"""Figure 1: 3D Dice of all test volumes, a box for each row."""

from __future__ import annotations

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ...benchmark.rows import METHOD_LABELS, SETUP_LABELS
from ..numbers import Numbers, said
from ..sections import Section
from ..typeset import FEWEST
from .drawing import SETUP_COLOURS, Drawing, canvas, legend_above

_BOXES = "Boxes: quartiles and median; whiskers reach the last value within 1.5 IQR. "


def dice_boxes(numbers: Numbers) -> Drawing:
    """The paper's Fig. 1: x = model, hue = setup, one point a test volume."""
    choice = numbers.run.choices()[0]
    results = numbers.run.results
    methods = list(dict.fromkeys(r.row.method for r in results))
    figure, [[axis]] = canvas(max(8.0, 0.42 * len(results)), 4.0)  # else the boxes of 30 rows touch
    data, ticks, labels, position = [], [], [], 0.0
    for method in methods:
        group = [r for r in results if r.row.method == method]
        places = position + np.arange(len(group)) * 0.8
        for x, result in zip(places, group, strict=True):
            values = result.values("dice", choice)
            defined = values[~np.isnan(values)]
            colour = SETUP_COLOURS[result.row.setup]
            if defined.size:
                _box(axis, defined, x, colour)
            data += [
                {"row": result.row.id, "case": c["case"], "subject": c["subject"], "dice": float(v)}
                for c, v in zip(result.files.cases, values, strict=True)
            ]
        ticks.append(float(places.mean()))
        counts = sorted({len(r.files.cases) for r in group})
        labels.append(f"{METHOD_LABELS[method]}\nn = {'/'.join(map(str, counts))}")
        position = places[-1] + 1.4
    axis.set_xticks(ticks, labels)
    axis.grid(axis="x", visible=False)
    axis.set_ylim(-0.02, 1.02)
    axis.set_ylabel("3D Dice")
    setups = [s for s in SETUP_LABELS if any(r.row.setup == s for r in results)]
    handles = [Patch(facecolor=SETUP_COLOURS[s], alpha=0.55, edgecolor="black", label=SETUP_LABELS[s]) for s in setups]
    handles.append(Line2D([], [], marker="D", color="black", markerfacecolor="white", linestyle="", ms=5, label="mean"))
    legend_above(figure, handles)
    best = max(results, key=lambda r: np.nan_to_num(numbers.summary(r, "dice", choice).mean, nan=-1))
    return Drawing(
        "fig1-dice",
        "Figure 1. 3D Dice of the test volumes",
        f"The highest mean is that of {best.row.label}. Where rows overlap, volumes differ by more than rows do. "
        f"{_BOXES if numbers.cases >= FEWEST else ''}Points: test volumes; diamond: mean. {said(choice)}",
        f"Box plot of 3D Dice by model and setup. The highest mean is {numbers.summary(best, 'dice', choice).mean:.2f}, "
        f"{best.row.label}.",
        figure,
        data,
        section=Section.ACCURACY,
    )


def _box(axis, values: np.ndarray, x: float, colour: str) -> None:
    # Points spread sideways in their own order, so that the picture is the same each time.
    spread = (np.arange(values.size) % 7 - 3) * 0.06
    axis.plot(x + spread, values, "o", color=colour, markeredgecolor="black", markeredgewidth=0.4, ms=3, zorder=3)
    if values.size < FEWEST:
        axis.plot(x, values.mean(), "D", color="black", markerfacecolor="white", ms=4.5, zorder=4)
        return
    axis.boxplot(
        [values],
        positions=[x],
        widths=0.62,
        showfliers=False,
        showmeans=True,
        patch_artist=True,
        manage_ticks=False,
        boxprops={"facecolor": colour, "alpha": 0.55, "linewidth": 0.8},
        medianprops={"color": "black", "linewidth": 1.4},
        meanprops={"marker": "D", "markerfacecolor": "white", "markeredgecolor": "black", "markersize": 4.5},
        whiskerprops={"linewidth": 0.8},
        capprops={"linewidth": 0.8},
    )
