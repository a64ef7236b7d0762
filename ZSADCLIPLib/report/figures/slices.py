"""Figure 2: per subject the 2D Dice of the slices and the 3D Dice of the volume."""

from __future__ import annotations

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ...adapters.registry import trainable_methods
from ...benchmark.rows import METHOD_LABELS, SETUP_LABELS
from ..numbers import SLICE_LABELS, Numbers, said
from ..results import Result
from ..sections import Section
from .drawing import BLUE, VERMILION, Drawing, panels

TRAINED = [method for method in METHOD_LABELS if method in trainable_methods()]
"""The methods that may have a panel, in the order of the tables; the paper leaves AnoVL out, which has one setup."""
COLUMNS = 4


def trained_results(numbers: Numbers) -> list[Result]:
    """The rows of TRAINED, a method after the other, setups in their own order."""
    setups = list(SETUP_LABELS)
    found = [result for result in numbers.run.results if result.row.method in TRAINED]
    return sorted(found, key=lambda r: (TRAINED.index(r.row.method), setups.index(r.row.setup)))


def slices_and_volumes(numbers: Numbers) -> Drawing | None:
    """The paper's Fig. 2: a panel a model and setup, subjects from the smallest to the largest lesion volume.

    None without a row of TRAINED.
    """
    choice, results = numbers.run.choices()[0], trained_results(numbers)
    if not results:
        return None
    figure, axes, lowest = panels(len(results), COLUMNS, 2.6, 2.2, sharey=True)
    data, below, compared = [], 0, 0
    for axis, result in zip(axes, results, strict=True):
        axis.set_title(result.row.label)
        axis.set_ylim(-0.03, 1.03)
        cases = _subjects(result, choice)
        _panel(axis, cases)
        data += [{"row": result.row.id, **{k: s[k] for k in s if k != "slices"}, **_quartiles(s)} for s in cases]
        pairs = [(s["mean_2d"], s["dice_3d"]) for s in cases if not np.isnan(s["mean_2d"] + s["dice_3d"])]
        below += sum(volume < flat for flat, volume in pairs)
        compared += len(pairs)
    for axis in axes[::COLUMNS]:
        axis.set_ylabel("Dice")
    for axis in lowest:
        axis.set_xlabel(f"test volume, by lesion volume (n = {numbers.cases})", fontsize=8)
    box = Patch(
        facecolor=BLUE, alpha=0.45, edgecolor=BLUE, label=f"2D Dice of {SLICE_LABELS[choice.slices]}: quartiles, 5-95 %"
    )
    cross = Line2D([], [], marker="x", color=VERMILION, linestyle="", ms=7, mew=2, label="3D Dice of the volume")
    figure.legend(handles=[box, cross], loc="outside upper center", ncols=2)
    return Drawing(
        "fig2-slices",
        "Figure 2. 2D Dice of slices and 3D Dice of volumes",
        f"The 3D Dice lies below the mean 2D Dice in {below} of {compared} volumes; small lesions, on the left, are harder where "
        f"the crosses rise to the right. One column a test volume, n = {numbers.cases}. Box: quartiles and median of the 2D Dice "
        f"of {SLICE_LABELS[choice.slices]}; whiskers: 5th and 95th percentile; cross: 3D Dice. {said(choice)}",
        f"Panels of models by setups; in {below} of {compared} test volumes the 3D Dice lies below the mean 2D Dice.",
        figure,
        data,
        section=Section.SLICES,
    )


def _subjects(result: Result, choice) -> list[dict]:
    volumes = result.values("dice", choice)
    cases = []
    for case, slices, volume in zip(result.files.cases, result.slice_dice(choice), volumes, strict=True):
        defined = slices[~np.isnan(slices)]
        cases.append(
            {
                "case": case["case"],
                "subject": case["subject"],
                "lesion_ml": case["lesion_ml"],
                "slices": defined,
                "slices_with_lesion": defined.size,
                "mean_2d": float(defined.mean()) if defined.size else np.nan,
                "dice_3d": float(volume),
            }
        )
    return sorted(cases, key=lambda s: (s["lesion_ml"], s["case"]))


def _quartiles(subject: dict) -> dict:
    if not subject["slices"].size:
        return {}
    names = ("p5_2d", "q1_2d", "median_2d", "q3_2d", "p95_2d")
    return dict(zip(names, np.quantile(subject["slices"], (0.05, 0.25, 0.5, 0.75, 0.95)).tolist(), strict=True))


def _panel(axis, cases: list[dict]) -> None:
    places = [i for i, s in enumerate(cases, start=1) if s["slices"].size]
    if places:
        axis.boxplot(
            [s["slices"] for s in cases if s["slices"].size],
            positions=places,
            widths=0.6,
            whis=(5, 95),
            showfliers=False,
            patch_artist=True,
            manage_ticks=False,
            boxprops={"facecolor": BLUE, "alpha": 0.45, "edgecolor": BLUE, "linewidth": 0.8},
            medianprops={"color": BLUE, "linewidth": 1.4},
            whiskerprops={"color": BLUE, "linewidth": 0.8},
            capprops={"color": BLUE, "linewidth": 0.8},
        )
    axis.plot(range(1, len(cases) + 1), [s["dice_3d"] for s in cases], "x", color=VERMILION, ms=6, mew=1.8, zorder=4)
    axis.set_xlim(0.3, len(cases) + 0.7)
    axis.grid(axis="x", visible=False)
    step = max(1, -(-len(cases) // 8))
    axis.set_xticks(range(1, len(cases) + 1, step))
