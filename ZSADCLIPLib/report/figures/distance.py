"""Along the brain: Figure 3 (2D Dice over the distance from its centre) and Appendix B (the lesions themselves)."""

from __future__ import annotations

import numpy as np
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from ...benchmark.rows import METHOD_LABELS
from ..axis import Axis, slice_bins
from ..numbers import SLICE_LABELS, Numbers, said
from ..results import Result
from ..sections import Section
from .drawing import (
    BLUE,
    GREY,
    SETUP_COLOURS,
    SETUP_MARKERS,
    VERMILION,
    YELLOW,
    Drawing,
    canvas,
    panels,
    setup_legend,
)
from .slices import trained_results

COLUMNS = 3

AXIS_WORDS = {
    "extent": "normalised distance from the brain's centre",
    "centre": "normalised distance from the volume's centre",
    "mm": "distance from the brain's centre in millimetres",
}


def binned(result: Result, choice, along: Axis) -> list[dict]:
    """The numbers of each bin: slices with lesion, subjects, mean 2D Dice over slices and over subjects."""
    return [
        {
            "distance": dice_bin.distance,
            "lesion_slices": len(dice_bin.values),
            "subjects": len(dice_bin.dice),
            "mean_2d_over_slices": dice_bin.over_slices,
            "mean_2d_over_subjects": dice_bin.over_subjects,
        }
        for dice_bin in slice_bins([result], choice, along)
    ]


def dice_over_distance(numbers: Numbers) -> Drawing | None:
    """The paper's Fig. 3: a panel a model, a line a setup, bars for the number of slices with lesion.

    None without a row of a method that is trained.
    """
    choice, shown = numbers.run.choices()[0], trained_results(numbers)
    if not shown:
        return None
    methods = list(dict.fromkeys(result.row.method for result in shown))
    figure, axes, lowest = panels(len(methods), COLUMNS, 10 / 3, 3.6, sharey=True)
    along = numbers.axis
    data, setups, peaks, middles = [], [], [], along.centres
    for axis, method in zip(axes, methods, strict=True):
        axis.set_title(f"{METHOD_LABELS[method]} (n = {numbers.cases})")
        results = [r for r in shown if r.row.method == method]
        counts = axis.twinx()
        axis.set_zorder(counts.get_zorder() + 1)
        axis.patch.set_visible(False)
        for result in results:
            bins = binned(result, choice, along)
            if result is results[0]:
                _slice_bars(counts, bins, along)
            setup = result.row.setup
            line = [b["mean_2d_over_slices"] for b in bins]
            axis.plot(
                middles,
                line,
                color=SETUP_COLOURS[setup],
                marker=SETUP_MARKERS[setup],
                ms=4,
                lw=1.6,
                mec="white",
                mew=0.4,
            )
            setups.append(setup)
            if np.isfinite(line).any():
                peaks.append(f"{result.row.label} {middles[int(np.nanargmax(line))]:+.2f}")
            data += [{"row": result.row.id, **b} for b in bins]
        counts.grid(False)
        counts.yaxis.set_major_locator(MaxNLocator(integer=True))
        counts.spines["right"].set_visible(True)
        if axis in (*axes[COLUMNS - 1 :: COLUMNS], axes[-1]):
            counts.set_ylabel(SLICE_LABELS[choice.slices])
        axis.set_ylim(0, 1.03)
        axis.set_xlim(-1.03 * along.reach, 1.03 * along.reach)
    for axis in axes[::COLUMNS]:
        axis.set_ylabel("mean 2D Dice")
    for axis in lowest:
        axis.set_xlabel(along.label)
    setup_legend(
        figure,
        setups,
        Patch(facecolor=YELLOW, alpha=0.6, edgecolor="#b8a800", label=f"{SLICE_LABELS[choice.slices]} (right axis)"),
    )
    return Drawing(
        "fig3-distance",
        "Figure 3. 2D Dice along the brain",
        "Low lines over high bars are places with many lesions that are missed there. "
        f"Mean 2D Dice over {SLICE_LABELS[choice.slices]} in {along.count} bins of the {AXIS_WORDS[along.kind]}, "
        f"upwards positive; a gap where a bin has no such slice. n = {numbers.cases} test volumes. {said(choice)} The "
        "CSV also weights subjects equally.",
        f"Lines of mean 2D Dice over the distance from the brain's centre. Peaks: {', '.join(peaks) or 'none'}.",
        figure,
        data,
        section=Section.DISTANCE,
    )


def _slice_bars(axis, bins: list[dict], along: Axis) -> None:
    counts = [b["lesion_slices"] for b in bins]
    axis.bar(
        along.centres,
        counts,
        width=1.8 * along.reach / along.count,
        color=YELLOW,
        alpha=0.6,
        edgecolor="#b8a800",
        linewidth=0.5,
    )
    axis.set_ylim(0, max(1, max(counts)) * 1.15)


def lesions_over_distance(numbers: Numbers) -> Drawing:
    """Appendix B, our reading: lesion area and how it varies, subjects, and where in the plane lesions lie, per bin."""
    result = max(numbers.run.results, key=lambda r: len(r.files.cases))
    along = numbers.axis
    bins: list[list[tuple]] = [[] for _ in range(along.count)]
    for case in result.files.cases:
        columns, (row_mm, column_mm, _) = case["slices"], case["spacing_mm"]
        for b, area, row, across in zip(
            along.bin_of(along.distances(case)),
            columns["lesion"],
            columns["lesion_row_mm"],
            columns["lesion_column_mm"],
            strict=True,
        ):
            if area and b >= 0:
                bins[b].append((case["subject"], area * row_mm * column_mm, row, across))
    data = [_lesion_bin(*pair) for pair in zip(along.centres, bins, strict=True)]
    figure, [[areas, places]] = canvas(9.0, 3.6, 1, 2)
    shown = [d for d in data if d["slices"]]
    x = [d["distance"] for d in shown]
    areas.fill_between(
        x, [d["area_q1_mm2"] for d in shown], [d["area_q3_mm2"] for d in shown], color=BLUE, alpha=0.2, lw=0
    )
    areas.plot(x, [d["area_mean_mm2"] for d in shown], "o-", color=BLUE, ms=4)
    areas.plot(x, [d["area_sd_mm2"] for d in shown], "s--", color=VERMILION, ms=4)
    areas.set_ylabel("lesion area per slice (mm²)")
    top = areas.get_ylim()[1]
    areas.set_ylim(0, top * 1.12)
    for d in shown:
        areas.text(d["distance"], top * 1.1, d["subjects"], ha="center", va="top", fontsize=6.5, color=GREY)
    areas.legend(
        handles=[
            Line2D([], [], color=BLUE, marker="o", ms=4, label="mean"),
            Patch(facecolor=BLUE, alpha=0.2, label="quartiles"),
            Line2D([], [], color=VERMILION, marker="s", ls="--", ms=4, label="standard deviation"),
        ],
        loc="upper left",
        bbox_to_anchor=(0, 0.93),
    )
    _positions(places, shown, along)
    for axis in (areas, places):
        axis.set_xlabel(along.label)
        axis.set_xlim(-1.03 * along.reach, 1.03 * along.reach)
        axis.set_title(f"n = {len(result.files.cases)}, {sum(d['slices'] for d in data)} slices with lesion")
    return Drawing(
        "appendix-b-lesions",
        "Appendix B (our reading). Lesions along the brain",
        "Where lesions are, whatever the rows do. "
        "The content of the paper's appendix is not known to us. Left: area of the lesions in a slice, over slices with "
        f"lesion; grey numbers: subjects in the bin. Right: centroid of the lesions in a slice, positive to the right edge "
        f"of the picture (the patient's left) and to the back. Truth only, no threshold; n = {len(result.files.cases)} test "
        "volumes.",
        "Lesion area and in-plane position of lesions over the distance from the brain's centre.",
        figure,
        data,
        section=Section.DISTANCE,
    )


def _positions(axis, bins: list[dict], along: Axis) -> None:
    """Where in the plane the lesions of each bin lie."""
    for key, label, colour, marker, shift in (
        ("column", "left to right", BLUE, "o", -0.012),
        ("row", "front to back", VERMILION, "s", 0.012),
    ):
        axis.errorbar(
            np.add([d["distance"] for d in bins], shift * along.reach),
            [d[f"{key}_mean_mm"] for d in bins],
            [np.nan_to_num(d[f"{key}_sd_mm"]) for d in bins],
            fmt=marker + "-",
            color=colour,
            ms=4,
            lw=1.2,
            elinewidth=0.8,
            capsize=2,
            label=label,
        )
    axis.set_ylabel("lesion centroid from the\nbrain's centre (mm), mean ± sd")
    axis.legend(loc="best")


def _lesion_bin(distance: float, lesions: list[tuple]) -> dict:
    record = {"distance": distance, "slices": len(lesions), "subjects": len({f[0] for f in lesions})}
    if not lesions:
        return record
    area, row, column = (np.array([f[i] for f in lesions], float) for i in (1, 2, 3))
    record |= dict(
        zip(
            ("area_q1_mm2", "area_median_mm2", "area_q3_mm2"),
            np.quantile(area, (0.25, 0.5, 0.75)).tolist(),
            strict=True,
        )
    )
    for name, values, unit in (("area", area, "mm2"), ("row", row, "mm"), ("column", column, "mm")):
        record[f"{name}_mean_{unit}"] = float(values.mean())
        record[f"{name}_sd_{unit}"] = float(values.std(ddof=1)) if values.size > 1 else np.nan
    return record
