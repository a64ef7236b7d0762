"""Small benchmark runs on disk, written with the engine's own evaluation, for the tests of tables, figures and reports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy import ndimage

from ZSADCLIPLib.benchmark.rowfolder import finish_row, make_panel, row_folder, write_case
from ZSADCLIPLib.benchmark.rows import ALL_ROWS, BASELINE, ROWS, Row
from ZSADCLIPLib.evaluation.case import evaluate_case, sketch_case
from ZSADCLIPLib.evaluation.thresholds import PAPER_RULES, PRIMARY, froc_levels, from_sketches, parse_rule
from ZSADCLIPLib.files.text import write_csv, write_json

SHAPE = (26, 24, 20)
QUALITY = {"industrial": 0.15, "finetune": 0.45, "brats": 0.6, "pmc": 0.55, "baseline": 0.3, "biomedclip": 0.5}
QUALITY |= {"context-brats": 0.65, "smooth-brats": 0.7, "planes-brats": 0.68, "few-shot": 0.4}
METHOD = {"adaclip": 0.0, "anovl": -0.1, "anomalyclip": -0.25, "vand": 0.1, "linear-probe": 0.05, "intensity": 0.0}
METHOD |= {"winclip": -0.2, "mvfa": 0.02, "madclip": 0.03}


def brain_of(shape=SHAPE) -> np.ndarray:
    """An ellipsoid with a margin."""
    z, y, x = np.indices(shape)
    centre = [(s - 1) / 2 for s in shape]
    return sum(((g - c) / (0.45 * s)) ** 2 for g, c, s in zip((z, y, x), centre, shape, strict=True)) < 1


def phantom(seed: int, shape=SHAPE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(image uint8, truth, brain) with one to four balls as lesions, mostly in the upper half."""
    rng = np.random.default_rng(seed)
    brain = brain_of(shape)
    truth = np.zeros(shape, bool)
    grid = np.indices(shape)
    for _ in range(rng.integers(1, 5)):
        centre = [rng.normal(0.58, 0.12) * shape[0], rng.uniform(0.3, 0.7) * shape[1], rng.uniform(0.3, 0.7) * shape[2]]
        truth |= sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True)) < rng.uniform(1.5, 4) ** 2
    truth &= brain
    texture = ndimage.gaussian_filter(rng.normal(size=shape), 1.0)
    image = np.where(brain, 90 + 90 * texture + 90 * truth, 0)
    return np.clip(image, 0, 255).astype(np.uint8), truth, brain


def map_of(row: Row, seed: int, truth: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """A score map in 0..1 whose contrast depends on the row."""
    rng = np.random.default_rng([seed, sum(map(ord, row.id))])
    noise = ndimage.gaussian_filter(rng.normal(size=truth.shape), 1.5) * 1.2
    quality = max(0.0, QUALITY[row.setup] + METHOD[row.method] + rng.normal(0, 0.08))
    scores = 0.3 + 0.16 * noise + 0.5 * quality * ndimage.gaussian_filter(truth.astype(float), 1.0)
    return np.clip(np.where(brain, scores, 0.1 + 0.02 * noise), 0, 1).astype(np.float32)


def manifest_of(row: Row) -> dict:
    """The settings a row's manifest records."""
    trained = row.trained_on is not None
    return {
        "row": row.id,
        "code_version": "0.1.0",
        "split": "0123abcd",
        "backbone": None if row.backbone is None else {"name": "mini-rn" if row.backbone == "pmc" else "mini"},
        "method": {"name": row.method, "trainable_parameters": 4321 if row.start else 0},
        "training": {
            "epochs": 3,
            "batch_size": 8,
            "learning_rate": 1e-3,
            "optimizer": "Adam",
            "seed": 111,
            "slices": 120,
            "slices_seen": 360,
            "subjects": 4,
        }
        if trained
        else None,
        "threshold_rule": PRIMARY,
    }


def write_row(out: Path, row: Row, seeds, train_seeds=(901, 902), names=None, rules=PAPER_RULES, finish=True) -> Path:
    """One row: thresholds from training maps, all test cases, panels, training log."""
    folder = row_folder(out, row.id, {"row": row.id})
    train = []
    for seed in train_seeds:
        _, truth, brain = phantom(seed)
        train.append(sketch_case(map_of(row, seed, truth, brain), truth, brain))
    sketches = [s["all"] for s in train]
    thresholds = {}
    for name in rules:
        rule = parse_rule(name)
        if rule.source != "test":
            thresholds[name] = None if rule.source == "volume" else from_sketches(rule, sketches)
    levels = froc_levels(sketches[0], 10, 1e-4, 5e-2)
    write_json(folder / "manifest.json", manifest_of(row))
    write_json(folder / "threshold.json", {"rules": thresholds, "levels": list(levels)})
    write_json(folder / "runtime.json", {"train_seconds": 12.5, "test_seconds": 3.25, "peak_memory_mb": 812.0})
    if row.trained_on:
        log = [{"epoch": e, "total": 2.0 / e, "dice": 1.0 / e, "seconds": 1.5} for e in (1, 2, 3)]
        write_csv(folder / "training.csv", log)
    ids = []
    for i, seed in enumerate(seeds):
        image, truth, brain = phantom(seed)
        scores = map_of(row, seed, truth, brain)
        case = f"case-{seed:05d}"
        evaluation = evaluate_case(scores, truth, brain, thresholds, (1.0, 1.0, 1.0), levels=levels, region="brain")
        subject = names[i] if names else f"subject-{seed:05d}"
        panel = make_panel(image, scores, truth, brain)
        write_case(folder, case, subject, evaluation, sketch_case(scores, truth, brain), panel)
        ids.append(case)
    if finish:
        finish_row(folder, ids)
    return folder


def write_run(out: Path, rows=(*ROWS, BASELINE), seeds=range(6), profile="mini", names=None, unfinished=()) -> Path:
    """A whole run; rows in `unfinished` (ids) have no done.json."""
    folders = [write_row(out, row, seeds, names=names, finish=row.id not in unfinished) for row in rows]
    write_json(out / "run.json", {"profile": profile, "rule": PRIMARY, "rows": [folder.name for folder in folders]})
    return out


def row_of(row_id: str) -> Row:
    """A row by its id."""
    return next(row for row in ALL_ROWS if row.id == row_id)
