"""Pictures of the best, the median and the worst case of each method, and of the one without lesions in which most is marked."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...detection.pictures import SIDES, montage, top_slices
from ...notes import Note
from .cases import LESIONS, STORED, Measured, Output, Scan
from .numbers import Evaluation, label

KINDS = ("best", "median", "worst", "most-marked")
WORDS = {
    "best": "best case",
    "median": "median case",
    "worst": "worst case",
    "most-marked": "case without lesions in which most is marked",
}


def chosen(evaluation: Evaluation, method: str) -> dict[str, Measured]:
    """The cases to draw by their kind, none twice; ordered by Dice at the stored threshold, then by AP, inside the brain."""
    found: dict[str, Measured] = {}
    if of := evaluation.with_lesions[method]:
        dice, precision = (evaluation.values(method, name, STORED) for name in ("dice", "average_precision"))
        order = np.lexsort((-precision, -np.nan_to_num(dice, nan=-1.0)))
        places = {"best": order[0], "median": order[(len(order) - 1) // 2], "worst": order[-1]}
        for kind in ("best", "worst", "median"):
            if all(each is not of[places[kind]] for each in found.values()):
                found[kind] = of[places[kind]]
    if others := [each for each in evaluation.by_method[method] if each.group != LESIONS]:
        found["most-marked"] = max(others, key=lambda each: each.marked_ml)
    return {kind: found[kind] for kind in KINDS if kind in found}


def caption(evaluation: Evaluation, measured: Measured, kind: str) -> str:
    """What a picture shows, with threshold and numbers."""
    text = f"{label(measured.method)}, {WORDS[kind]}: {measured.case}"
    if measured.group == LESIONS:
        i = evaluation.with_lesions[measured.method].index(measured)
        dice, precision = (
            evaluation.values(measured.method, name, STORED)[i] for name in ("dice", "average_precision")
        )
        truth = measured.values["lesion_ml"]
        text += f", Dice {dice:.3f}, AP {precision:.3f}, {measured.marked_ml:.1f} ml marked, truth {truth:.1f} ml"
    else:
        text += f", {measured.group}, {measured.marked_ml:.1f} ml marked"
    return f"{text}; threshold {measured.threshold:.4g}"


def draw(path: Path, scan: Scan, output: Output, title: str) -> None:
    """Write a PNG: image, map, mask and truth of the slices of `telling_slices`."""
    map, mask, brain = (scan.slices(array) for array in (output.map, output.mask, scan.prepared.brain))
    truth = None if scan.truth is None else scan.slices(scan.truth)
    stack, display = scan.prepared.stack, output.facts["display"]
    montage(
        path,
        scan.prepared.image,
        map,
        mask,
        truth,
        brain=brain,
        spacing=stack.spacing[:2],
        slices=telling_slices(mask, truth) or top_slices(np.where(brain, map, map.min()), count=3),
        display_range=(display["lo"], display["hi"]),
        sides=SIDES[stack.plane],
        title=title,
        notes=[Note(**note) for note in output.facts["notes"]],
    )


def telling_slices(mask: np.ndarray, truth: np.ndarray | None) -> list[int]:
    """The slices (N, R, C) with most lesion, most marked outside the truth and most missed, where there are such, each once.

    No two are closer than a sixteenth of the slices. Without a truth it is the slice in which most is marked.
    """
    truth = np.zeros_like(mask) if truth is None else truth
    gap, found = max(1, len(mask) // 16), []
    for voxels in (truth, mask & ~truth, truth & ~mask):
        area = np.count_nonzero(voxels, axis=(1, 2))
        for n in found:
            area[max(0, n - gap + 1) : n + gap] = 0
        if area.any():
            found.append(int(area.argmax()))
    return found
