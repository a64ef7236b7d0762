"""How much the threshold rule decides, and how AUROC and Dice disagree."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from matplotlib.lines import Line2D

from ...benchmark.rows import METHOD_LABELS, SETUP_LABELS
from ...evaluation.metrics import REGIONS
from ...evaluation.statistics import kendall
from ...evaluation.thresholds import parse_rule
from ..numbers import REGION_LABELS, Numbers, rule_label
from ..sections import Section
from ..typeset import FEWEST
from .drawing import METHOD_COLOURS, SETUP_MARKERS, Drawing, canvas

# Filled: usable on new data. Hollow: oracle.
_LOOKS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999", "#F0E442")


def thresholds(numbers: Numbers) -> Drawing:
    """Mean 3D Dice of each row under every threshold rule."""
    results = numbers.run.results
    primary = numbers.run.choices()[0]
    rules = sorted(numbers.rules, key=lambda rule: parse_rule(rule).oracle)  # stable: the primary rule stays first
    figure, [[axis]] = canvas(8.5, 0.36 * len(results) + 1.9)
    offsets = np.linspace(0.3, -0.3, len(rules)) if len(rules) > 1 else [0.0]
    data, handles = [], []
    for i, rule in enumerate(rules):
        oracle, colour, marker = parse_rule(rule).oracle, _COLOURS[i % 9], _LOOKS[i % 9]
        face = "white" if oracle else colour
        for index, result in enumerate(reversed(results)):
            s = numbers.summary(result, "dice", replace(primary, rule=rule))
            if not s.n:
                continue
            y = index + offsets[i]
            if s.n >= FEWEST:
                axis.plot([s.ci_low, s.ci_high], [y, y], color=colour, lw=1)
            axis.plot(s.mean, y, marker, color=colour, markerfacecolor=face, ms=5, zorder=3, clip_on=False)
            data.append(
                {
                    "row": result.row.id,
                    "rule": rule,
                    "oracle": int(oracle),
                    "n": s.n,
                    "mean": s.mean,
                    "ci_low": s.ci_low,
                    "ci_high": s.ci_high,
                }
            )
        handles.append(Line2D([], [], color=colour, marker=marker, markerfacecolor=face, lw=1, label=rule_label(rule)))
    axis.set_yticks(range(len(results)), [r.row.label for r in reversed(results)])
    axis.set_ylim(-0.6, len(results) - 0.4)
    axis.grid(axis="y", visible=False)
    for line in np.arange(len(results) - 1) + 0.5:
        axis.axhline(line, color="#dddddd", lw=0.6)
    axis.set_xlim(0, 1)
    interval = "" if numbers.cases < FEWEST else ", 95 % CI over subjects"
    axis.set_xlabel(f"mean 3D Dice{interval} (n = {numbers.cases})")
    figure.legend(handles=handles, loc="outside upper center", ncols=2)
    return Drawing(
        "thresholds",
        "What the threshold rule decides",
        "Far apart are the markers of a row whose result is owed to the rule; from a filled to a hollow one is what a better "
        "threshold could win. "
        "The same maps cut in different ways. Hollow markers are oracle rules, which saw the truth of the test volumes. "
        f"n = {numbers.cases} test volumes. {REGION_LABELS[primary.region].capitalize()}.",
        "Dot plot of mean 3D Dice of each row under each threshold rule.",
        figure,
        sorted(data, key=lambda d: [r.row.id for r in results].index(d["row"])),
        section=Section.THRESHOLDS,
    )


def ranking(numbers: Numbers) -> Drawing:
    """Mean AUROC and mean AP against mean Dice, over all voxels and over the brain."""
    choices = [numbers.choice(region) for region in REGIONS]
    figure, axes = canvas(8.5, 6.4, 2, 2, sharex=True, sharey="row")
    data = []
    for row, metric, label in zip(axes, ("auroc", "average_precision"), ("mean AUROC", "mean AP"), strict=True):
        for axis, choice in zip(row, choices, strict=True):
            points = []
            for result in numbers.run.results:
                dice = numbers.summary(result, "dice", choice).mean
                value = numbers.summary(result, metric, choice).mean
                points.append((dice, value))
                axis.plot(
                    dice,
                    value,
                    SETUP_MARKERS[result.row.setup],
                    color=METHOD_COLOURS[result.row.method],
                    markeredgecolor="black",
                    markeredgewidth=0.5,
                    ms=8,
                    alpha=0.85,
                    clip_on=False,
                )
                data.append(
                    {"row": result.row.id, "region": choice.region, "metric": metric, "dice": dice, "value": value}
                )
            tau = kendall(*zip(*points, strict=True))
            correlation = f", Kendall's τ = {tau:+.2f}" if np.isfinite(tau) else ""  # two rows have no rank correlation
            axis.set_title(f"{REGION_LABELS[choice.region]}{correlation}")
            axis.set_xlim(0, 1)
        row[0].set_ylabel(label)
    for axis in axes[1]:
        axis.set_xlabel(f"mean 3D Dice (n = {numbers.cases})")
        axis.set_ylim(0, 1)
    share = _prevalence(numbers)
    handles = [
        Line2D([], [], marker="o", ls="", color=METHOD_COLOURS[m], ms=7, label=label)
        for m, label in METHOD_LABELS.items()
        if any(r.row.method == m for r in numbers.run.results)
    ]
    handles += [
        Line2D([], [], marker=SETUP_MARKERS[s], ls="", color="white", markeredgecolor="black", ms=7, label=label)
        for s, label in SETUP_LABELS.items()
        if any(r.row.setup == s for r in numbers.run.results)
    ]
    figure.legend(handles=handles, loc="outside upper center", ncols=6)
    return Drawing(
        "ranking",
        "AUROC, AP and Dice",
        "A row far from the line of the others is ranked otherwise by AUROC or AP than by Dice. "
        "Each marker is a row: colour the model, shape the setup; means "
        f"over n = {numbers.cases} test volumes. Lesions are "
        f"{share['all']:.2%} of all voxels and {share['brain']:.2%} of brain voxels, which is also the AP of random scores. "
        f"The easy background lifts AUROC over all voxels. Threshold for Dice: {rule_label(choices[0].rule)}; AUROC and AP "
        "need none.",
        "Scatter plots of mean AUROC and mean AP against mean 3D Dice over all voxels and over brain voxels.",
        figure,
        data,
        section=Section.ACCURACY,
    )


def _prevalence(numbers: Numbers) -> dict[str, float]:
    cases = max((r.files.cases for r in numbers.run.results), key=len)
    return {region: float(np.mean([case["regions"][region]["prevalence"] for case in cases])) for region in REGIONS}
