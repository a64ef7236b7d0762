"""Maps of single test volumes: the slice with most lesion, all rows side by side."""

from __future__ import annotations

import numpy as np
from matplotlib.lines import Line2D

from ...evaluation.thresholds import reaches
from ..numbers import Numbers, said
from ..results import Result
from ..sections import Section
from .drawing import Drawing, canvas

TRUTH, CUT = "#76ff03", "#00e5ff"  # as in the pictures of single detections
COLUMNS = 5
TITLE, FOOT = 0.45, 0.4  # inches
KINDS = ("largest", "median", "smallest")


def qualitative(numbers: Numbers, kind: str) -> Drawing | None:
    """The test volume with the largest, median or smallest lesion volume.

    None when rows kept no pictures of it, or when an earlier one of KINDS is the same volume.
    """
    choice = numbers.run.choices()[0]
    case = chosen_case(numbers, kind)
    if case["case"] in [chosen_case(numbers, other)["case"] for other in KINDS[: KINDS.index(kind)]]:
        return None
    shown = [(r, panel) for r in numbers.run.results if (panel := _panel(r, case)) is not None]
    if not shown:
        return None
    first = shown[0][1]
    tiles = len(shown) + 1
    rows = -(-tiles // COLUMNS)
    height = 2.0 * first["image"].shape[0] / first["image"].shape[1]
    total = rows * (height + TITLE) + FOOT
    figure, axes = canvas(2.0 * COLUMNS, total, rows, COLUMNS, layout="none")  # equal tiles need no solver
    figure.subplots_adjust(
        left=0.005, right=0.995, bottom=FOOT / total, top=1 - TITLE / total, wspace=0.03, hspace=TITLE / height
    )
    places = [axis for row in axes for axis in row]
    for axis in places:
        axis.set_axis_off()
    _image(places[0], first)
    outline(places[0], first["truth"], TRUTH, "solid")
    places[0].set_title("T2w image and truth", fontsize=8)
    data = [_tile(axis, numbers, case, *tile) for axis, tile in zip(places[1:], shown, strict=False)]
    figure.legend(
        handles=[
            Line2D([], [], color="#4caf00", lw=2, label="truth"),
            Line2D([], [], color="#00b8cc", lw=2, ls="--", label="prediction"),
        ],
        loc="lower center",
        ncols=2,
    )
    return Drawing(
        f"qualitative-{kind}",
        f"Maps of the test volume with the {kind} lesion volume",
        "Cyan beyond green is marked wrongly, green without cyan is missed. "
        f"Subject {case['subject']}, {case['lesion_ml']:.2f} ml of lesion, the slice with most lesion "
        f"(index {_slice(numbers, first)} of the volume, 0 is the lowest); the patient's right is on the left. "
        f"Green: truth; cyan, dashed: prediction. {said(choice)} Colours run from the median to the highest score of the "
        "brain in this slice and differ between tiles.",
        f"Slices with anomaly maps of {len(shown)} rows, outlines of truth and prediction.",
        figure,
        data,
        raster=True,
        section=Section.PICTURES,
    )


def _tile(axis, numbers: Numbers, case: dict, result: Result, panel: dict) -> dict:
    """Draw the map of one row, and return its line of the CSV."""
    choice = numbers.run.choices()[0]
    record = next(c for c in result.files.cases if c["case"] == case["case"])
    threshold = record["rules"].get(choice.rule, {}).get("threshold")
    low, high = _scale(panel)
    _image(axis, panel)
    shade = np.where(panel["brain"], np.clip((panel["scores"] - low) / (high - low), 0, 1), 0)
    axis.imshow(shade, cmap="inferno", alpha=0.75 * shade, vmin=0, vmax=1, interpolation="nearest")
    outline(axis, panel["truth"], TRUTH, "solid")
    if threshold is not None:
        outline(axis, reaches(panel["scores"], threshold) & panel["brain"], CUT, (0, (3, 1.5)))
    dice = (
        float(result.values("dice", choice)[result.files.cases.index(record)])
        if choice.rule in result.rules
        else np.nan
    )
    axis.set_title(f"{result.row.label}\n3D Dice {'–' if np.isnan(dice) else f'{dice:.2f}'}", fontsize=8)
    return {
        "row": result.row.id,
        "case": case["case"],
        "subject": case["subject"],
        "slice": _slice(numbers, panel),
        "lesion_ml": case["lesion_ml"],
        "dice_3d": dice,
        "threshold": np.nan if threshold is None else threshold,
        "scale_low": low,
        "scale_high": high,
    }


def chosen_case(numbers: Numbers, kind: str) -> dict:
    cases = max((r.files.cases for r in numbers.run.results), key=len)
    order = sorted(cases, key=lambda c: (c["lesion_ml"], c["case"]))
    order = [c for c in order if c["lesion_ml"] > 0] or order
    return {"largest": order[-1], "median": order[(len(order) - 1) // 2], "smallest": order[0]}[kind]


def _panel(result: Result, case: dict) -> dict | None:
    return result.files.panel(case["case"]) if any(c["case"] == case["case"] for c in result.files.cases) else None


def _slice(numbers: Numbers, panel: dict) -> int:
    """The slice's index in its volume, of which the run may have kept each k-th slice only (see `slices.read_slices`)."""
    every = int(numbers.run.info.get("slices_every") or 1)
    return (every - 1) // 2 + every * int(panel["index"])


def _scale(panel: dict) -> tuple[float, float]:
    inside = panel["scores"][panel["brain"]] if panel["brain"].any() else panel["scores"].ravel()
    low, high = float(np.median(inside)), float(inside.max())
    return (low, high) if low < high else (low, low + 1.0)


def _image(axis, panel: dict) -> None:
    axis.imshow(panel["image"], cmap="gray", vmin=0, vmax=255, interpolation="nearest")


def outline(axis, mask: np.ndarray, colour: str, dashes) -> None:
    """The edge of a boolean mask (R, C), also where it meets the border."""
    if not mask.any():
        return
    padded = np.pad(mask.astype(float), 1)
    rows, columns = (np.arange(-1, size - 1) for size in padded.shape)
    axis.contour(columns, rows, padded, [0.5], colors=[colour], linewidths=1.1, linestyles=[dashes])
    axis.set_xlim(-0.5, mask.shape[1] - 0.5)
    axis.set_ylim(mask.shape[0] - 0.5, -0.5)
