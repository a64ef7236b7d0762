"""Runs whose numbers are chosen: slice Dice, volume Dice, AUROC and training times, written as real row folders.

Every volume has 20 slices of 40 x 40 voxels with a brain of 32 x 32. Subject i has lesions of 5 x 5 voxels in 5 to 15
slices around slice 12 (distance +0.26). `paper_like` is a run on which every claim of the paper holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ZSADCLIPLib.benchmark.rowfolder import finish_row, row_folder, write_case
from ZSADCLIPLib.benchmark.rows import ROWS
from ZSADCLIPLib.evaluation.case import evaluate_case
from ZSADCLIPLib.files.text import write_json

SLICES, SIDE, MIDDLE, AREA = 20, 40, 12, 25
RULE = "f1max-pooled-train"


@dataclass(frozen=True)
class Design:
    """One row: 2D Dice is `peak` at slice `centre` and falls by `slope` a slice; `volumes` are the 3D Dice wanted.

    `missed` is the score of lesion voxels that are not found: background is 0.1 in the brain and 0 outside. `whole`:
    the brain fills the picture. 3D Dice is lowered by false positives on clean slices, so it cannot exceed what the
    slices give; None asks for none.
    """

    volumes: tuple[float | None, ...]
    peak: float
    slope: float = 0.0
    centre: int = MIDDLE
    missed: float = 0.3
    whole: bool = False
    seconds: float = 10.0


def paper_like() -> dict[str, Design]:
    """A design for each of the paper's rows."""
    adaclip, vand = dict(peak=0.85, slope=0.06, missed=0.05), dict(peak=0.75, slope=0.05, missed=0.05)
    low, lowest = dict(peak=0.28, slope=0.02), dict(peak=0.15, slope=0.0)
    return {
        "adaclip-industrial": Design((0.08, 0.1, 0.1, 0.12, 0.15, 0.2), **adaclip),
        "adaclip-finetune": Design((0.67, 0.66, 0.5, 0.4, 0.3, 0.2), **adaclip),
        "adaclip-brats": Design((0.22, 0.25, 0.3, 0.35, 0.38, 0.5), **adaclip, seconds=100.0),
        "adaclip-pmc": Design((0.1, 0.15, 0.2, 0.2, 0.3, 0.3), **adaclip),
        "anovl-industrial": Design((0.02, 0.03, 0.04, 0.05, 0.06, 0.08), **lowest),
        "anomalyclip-industrial": Design((0.02, 0.02, 0.03, 0.03, 0.04, 0.05), **low),
        "anomalyclip-finetune": Design((0.03, 0.03, 0.04, 0.04, 0.05, 0.06), **low),
        "anomalyclip-brats": Design((0.04, 0.05, 0.05, 0.06, 0.06, 0.08), **low),
        "anomalyclip-pmc": Design((0.06, 0.07, 0.08, 0.09, 0.12, 0.12), **low),
        "vand-industrial": Design((0.15, 0.18, 0.2, 0.22, 0.25, 0.3), **vand),
        "vand-finetune": Design((0.2, 0.22, 0.25, 0.3, 0.3, 0.35), **vand),
        "vand-brats": Design((0.21, 0.25, 0.3, 0.3, 0.35, 0.4), **vand),
        "vand-pmc": Design((0.3, 0.35, 0.4, 0.45, 0.48, 0.5), **vand),
    }


def write_designed(out: Path, designs: dict[str, Design], subjects: int = 6) -> Path:
    """Write rows and run.json; rows that are there already are overwritten."""
    names = []
    for row in ROWS:
        if row.id not in designs:
            continue
        design, folder = designs[row.id], row_folder(out, row.id, {})
        write_json(folder / "manifest.json", {"row": row.id, "training": {"slices_seen": 1000}})
        write_json(folder / "threshold.json", {})
        write_json(folder / "runtime.json", {"train_seconds": design.seconds} if design.seconds else {})
        cases = [f"case-{i}" for i in range(subjects)]
        for i, case in enumerate(cases):
            scores, truth, brain = designed_case(design, i)
            write_case(folder, case, case, evaluate_case(scores, truth, brain, {RULE: 0.5}))
        finish_row(folder, cases)
        names.append(folder.name)
    write_json(out / "run.json", {"profile": "designed", "rule": RULE, "rows": names})
    return out


def designed_case(design: Design, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(scores, truth, brain) of subject i."""
    shape = (SLICES, SIDE, SIDE)
    brain, truth = np.zeros(shape, bool), np.zeros(shape, bool)
    brain[:, 4:36, 4:36] = True
    if design.whole:
        brain[:] = True
    width = 2 + i % 6
    lesion = range(MIDDLE - width, MIDDLE + width + 1)
    truth[lesion.start : lesion.stop, 5:10, 5:10] = True
    scores = np.where(brain, 0.1, 0.0).astype(np.float32)
    scores[truth] = design.missed
    found = 0
    for n in lesion:
        dice = np.clip(design.peak - design.slope * abs(n - design.centre), 0, 1)
        hits = round(AREA * dice / (2 - dice))
        block = scores[n, 5:10, 5:10].ravel()
        block[:hits] = 1
        scores[n, 5:10, 5:10] = block.reshape(5, 5)
        found += hits
    wanted = design.volumes[i % len(design.volumes)]
    if wanted is not None:
        false = round(2 * found / wanted - found - truth.sum())
        clean = np.flatnonzero(brain & ~truth.any(axis=(1, 2))[:, None, None])
        assert 0 <= false <= clean.size, f"3D Dice {wanted} cannot be reached: {false} false positives"
        scores.reshape(-1)[clean[:false]] = 1
    return scores, truth, brain
