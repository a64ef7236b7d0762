"""FROC: share of lesions found over false findings per volume."""

from __future__ import annotations

import numpy as np

from ...benchmark.rows import METHOD_LABELS
from ...evaluation.lesions import FROC_RATES
from ...evaluation.thresholds import reaches
from ..numbers import Numbers
from ..results import Result
from ..sections import Section
from .drawing import GREY, SETUP_COLOURS, SETUP_MARKERS, Drawing, panels, setup_legend

COLUMNS = 4
LOWEST = 0.1  # the left end of the logarithmic axis; fewer false findings are drawn here


def froc_curves(numbers: Numbers) -> Drawing | None:
    """One panel a model, one curve a setup; None when no row kept FROC levels."""
    if not any(result.froc() for result in numbers.run.results):
        return None
    methods = list(dict.fromkeys(r.row.method for r in numbers.run.results if r.froc()))
    figure, axes, lowest = panels(len(methods), COLUMNS, 2.6, 3.2, sharex=True, sharey=True)
    lesions = max(sum(len(case["froc"]["peaks"]) for case in r.files.cases) for r in numbers.run.results)
    most = max(12.0, *(1.3 * float(curve_points(r)[0][-1]) for r in numbers.run.results if r.froc()))
    data, setups = [], []
    for axis, method in zip(axes, methods, strict=True):
        axis.set_title(METHOD_LABELS[method])
        results = [r for r in numbers.run.results if r.row.method == method and r.froc()]
        for result in results:
            false, sensitivity = curve_points(result)
            setup = result.row.setup
            axis.plot(
                np.maximum(false, LOWEST),
                sensitivity,
                color=SETUP_COLOURS[setup],
                marker=SETUP_MARKERS[setup],
                ms=3.5,
                lw=1.4,
                drawstyle="steps-post",
            )
            setups.append(setup)
            data += [
                {"row": result.row.id, "false_per_volume": float(f), "sensitivity": float(s)}
                for f, s in zip(false, sensitivity, strict=True)
            ]
        axis.set_xscale("log")
        axis.set_xlim(LOWEST * 0.9, most)
        axis.set_xticks([0.1, 1, 10], ["≤0.1", "1", "10"])
        axis.minorticks_off()
        for rate in FROC_RATES:
            axis.axvline(rate, color=GREY, lw=0.6, ls=":")
        axis.set_ylim(-0.02, 1.02)
    for axis in lowest:
        axis.set_xlabel("false findings per volume")
    for axis in axes[::COLUMNS]:
        axis.set_ylabel(f"lesion sensitivity ({lesions} lesions, n = {numbers.cases})", fontsize=8)
    setup_legend(figure, setups)
    first = numbers.run.results[0].files.cases[0]["froc"]
    return Drawing(
        "froc",
        "FROC curves",
        "Higher and further to the left is better. "
        f"Lesions found among all {lesions} lesions of n = {numbers.cases} test volumes, against false findings per volume, "
        f"over all thresholds; a lesion is found when one voxel overlaps. Region: {first['region']}; findings below "
        f"{first['min_mm3']:g} mm³ dropped. Dotted: the rates of the lesion table. A curve ends where findings melt into one.",
        "Step curves of lesion sensitivity against false findings per volume, a panel a model and a line a setup.",
        figure,
        data,
        section=Section.LESIONS,
    )


def curve_points(result: Result) -> tuple[np.ndarray, np.ndarray]:
    """(mean false findings, pooled sensitivity) at descending thresholds, up to where the findings are most.

    Beyond that point parts of the map melt together, and fewer of them is no improvement.
    """
    cases = [case["froc"] for case in result.files.cases]
    false = np.mean([case["false_positives"] for case in cases], axis=0)
    peaks = np.array([-np.inf if p is None else p for case in cases for p in case["peaks"]])
    sensitivity = np.array([reaches(peaks, level).mean() if peaks.size else np.nan for level in cases[0]["levels"]])
    end = int(np.argmax(false)) + 1
    return np.maximum.accumulate(false[:end]), sensitivity[:end]
