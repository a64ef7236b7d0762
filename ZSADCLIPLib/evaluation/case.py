"""All values of one test case: per volume, per slice, per lesion and per threshold rule, as one JSON-able dictionary.

Counts are stored rather than ratios, so that tables can choose how undefined values and slices are treated.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np

from ..errors import InputError
from ..volumes.components import components, remove_small
from .curves import curve, labelled_chunks
from .lesions import froc_case, lesionwise_dice, match_lesions
from .metrics import MORE_REGIONS, Confusion
from .sketches import ScoreSketch
from .thresholds import parse_rule, reaches, volume_threshold


def slice_distances(brain: np.ndarray) -> np.ndarray:
    """Normalised distance of each slice from the brain's centre, (N,): -1 lowest, +1 highest slice with brain.

    Slices of `brain` (N, R, C) run from inferior to superior; values beyond -1..1 lie outside the brain. All 0 when the
    brain fills one slice or none.
    """
    brain_slices = np.flatnonzero(brain.any(axis=(1, 2)))
    if brain_slices.size < 2:
        return np.zeros(len(brain))
    return 2.0 * (np.arange(len(brain)) - brain_slices[0]) / (brain_slices[-1] - brain_slices[0]) - 1.0


def regions_of(
    brain: np.ndarray, ignore: np.ndarray | None, truth: np.ndarray | None = None, more: str = "all"
) -> dict[str, np.ndarray]:
    """The voxels that count, by name of REGIONS, and of `more` when it is one of MORE_REGIONS; ignored ones count nowhere.

    "lesion-slices" needs the `truth`. A volume without brain has no bounding box and counts nowhere in it.
    """
    valid = np.ones(brain.shape, bool) if ignore is None else ~ignore
    regions = {"all": valid, "brain": brain & valid}
    if more == "bbox":
        box = np.zeros(brain.shape, bool)
        if brain.any():
            box[tuple(slice(at.min(), at.max() + 1) for at in np.nonzero(brain))] = True
        regions[more] = box & valid
    elif more == "lesion-slices":
        regions[more] = (truth & valid).any(axis=(1, 2))[:, None, None] & valid
    return regions


def evaluate_case(
    scores: np.ndarray,
    truth: np.ndarray,
    brain: np.ndarray,
    thresholds: Mapping[str, float | None],
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    ignore: np.ndarray | None = None,
    levels: tuple[float, ...] = (),
    min_mm3: float = 0.0,
    region: str = "all",
    slice_ranking: bool = False,
    min_slices: int = 1,
) -> dict:
    """Evaluate one map.

    scores      (N, R, C) raw map; axial slices from inferior to superior, as `slicing.slice_volume` gives them.
    truth       (N, R, C) boolean; brain and ignore likewise. Ignored voxels are removed before anything is counted.
    thresholds  rule name -> raw score; None asks for the volume's own (rules with source "volume").
    spacing     (row, column, slice) in mm.
    levels      descending scores at which FROC is sampled.
    min_mm3     smaller parts of a prediction are dropped before lesions are matched (voxel counts keep them).
    min_slices  parts of a prediction in fewer slices are dropped before anything is counted, voxels, too.
    region      where per-volume thresholds are found and lesions matched; one of MORE_REGIONS is evaluated beside REGIONS.
    slice_ranking  also AUROC, AP and F1-max of every slice with lesion (None elsewhere).

    Raises InputError when shapes differ or a score is NaN, UsageError for an unknown rule.
    """
    for name, other in (("truth", truth), ("brain", brain), ("ignore", ignore)):
        if other is not None and other.shape != scores.shape:
            raise InputError(f"the {name} has shape {other.shape}, the map {scores.shape}; expected the same grid")
    regions = regions_of(brain, ignore, truth, region)
    truth = truth & regions["all"]
    zyx = (spacing[2], spacing[0], spacing[1])
    voxel_ml = float(np.prod(spacing)) / 1000
    labels = components(truth)
    distance = slice_distances(brain)
    chosen = regions[region]
    froc = froc_case(scores, labels, levels, chosen, zyx, min_mm3, min_slices)
    ranked = {name: _each_slice(scores, truth, where) for name, where in regions.items()} if slice_ranking else {}
    return {
        "shape": list(scores.shape),
        "spacing_mm": [float(s) for s in spacing],
        "brain_ml": int(brain.sum()) * voxel_ml,
        "lesion_ml": int(truth.sum()) * voxel_ml,
        "regions": {name: _ranking(scores, truth, where) for name, where in regions.items()},
        "slices": _slices(scores, truth, brain, regions["brain"], distance, spacing) | _within(truth, regions),
        **({"slice_ranking": ranked} if slice_ranking else {}),
        "lesions": _lesions(scores, labels, distance, voxel_ml * 1000),
        "froc": {
            "levels": list(froc.levels),
            "peaks": list(froc.peaks),
            "false_positives": list(froc.false_positives),
            "region": region,
            "min_mm3": min_mm3,
        },
        "rules": {
            name: _at_rule(name, value, scores, truth, labels, regions, chosen, zyx, min_mm3, min_slices)
            for name, value in thresholds.items()
        },
    }


def _ranking(scores: np.ndarray, truth: np.ndarray, where: np.ndarray) -> dict:
    ranking = curve(scores, truth, where)
    return {**asdict(ranking), "prevalence": ranking.prevalence}


def _each_slice(scores: np.ndarray, truth: np.ndarray, where: np.ndarray) -> dict[str, list[float | None]]:
    """Columns over slices; None where a slice has no lesion or, for AUROC, nothing else."""
    columns: dict[str, list] = {"auroc": [], "average_precision": [], "f1_max": []}
    for one, lesion, inside in zip(scores, truth, where, strict=True):
        values = asdict(curve(one, lesion, inside)) if (lesion & inside).any() else {}
        for name, column in columns.items():
            value = values.get(name)
            column.append(None if value is None or np.isnan(value) else float(value))
    return columns


def _slices(scores, truth, brain, valid, distance, spacing) -> dict:
    """Columns over slices; centroids of lesions are mm from the centre of the brain's extent, row and column."""
    area, lesion = brain.sum(axis=(1, 2)), truth.sum(axis=(1, 2))
    middle = []
    for axis in (1, 2):
        occupied = np.flatnonzero(brain.any(axis=(0, 3 - axis)))
        middle.append((occupied[0] + occupied[-1]) / 2 if occupied.size else (brain.shape[axis] - 1) / 2)
    offsets = []
    for axis in (1, 2):
        weight = truth.sum(axis=3 - axis)  # (N, positions along this axis)
        with np.errstate(invalid="ignore"):
            centre = (weight * np.arange(truth.shape[axis])).sum(1) / lesion
        offsets.append((centre - middle[axis - 1]) * spacing[axis - 1])
    peak = np.where(valid, scores, -np.inf).max(axis=(1, 2))
    return {
        "distance": [round(float(d), 6) for d in distance],
        "brain": area.tolist(),
        "lesion": lesion.tolist(),
        "lesion_in_brain": (truth & brain).sum(axis=(1, 2)).tolist(),
        "lesion_row_mm": _numbers(offsets[0]),
        "lesion_column_mm": _numbers(offsets[1]),
        "peak": _numbers(peak),
    }


def _within(truth: np.ndarray, regions: Mapping[str, np.ndarray]) -> dict:
    """Lesion voxels of each slice inside a region on request."""
    return {f"lesion_in_{n}": (truth & w).sum(axis=(1, 2)).tolist() for n, w in regions.items() if n in MORE_REGIONS}


def _lesions(scores: np.ndarray, labels: np.ndarray, distance: np.ndarray, voxel_mm3: float) -> list[dict]:
    at = np.flatnonzero(labels)
    owner, values = labels.reshape(-1)[at] - 1, scores.reshape(-1)[at].astype(np.float64)
    sizes = np.bincount(owner)
    peaks = np.full(sizes.size, -np.inf)
    np.maximum.at(peaks, owner, values)
    means = np.bincount(owner, weights=values) / sizes
    slices = at // int(np.prod(labels.shape[1:]))
    centre_distances = np.interp(np.bincount(owner, weights=slices) / sizes, np.arange(len(distance)), distance)
    return [
        {"volume_mm3": float(n * voxel_mm3), "peak": float(p), "mean": float(m), "distance": round(float(d), 6)}
        for n, p, m, d in zip(sizes, peaks, means, centre_distances, strict=True)
    ]


def _at_rule(name, value, scores, truth, labels, regions, chosen, zyx, min_mm3, min_slices) -> dict:
    rule = parse_rule(name)
    threshold = volume_threshold(rule, scores, truth, chosen) if value is None else value
    per_slice = np.ndim(threshold) == 1
    prediction = reaches(scores, threshold[:, None, None] if per_slice else threshold)
    result = {"threshold": None if per_slice else float(threshold), "slices": {}}
    if np.isnan(np.max(threshold)):
        return {"threshold": None, "undefined": "the rule needs a lesion and this case has none"}
    for region, where in regions.items():
        # Parts are those inside the region; choosing slices by their lesions, though, must not cut parts through.
        whole = regions["all"] if region == "lesion-slices" else where
        cut = remove_small(prediction & whole, zyx, 0.0, min_slices) & where
        tp, predicted = (cut & truth).sum(axis=(1, 2)), cut.sum(axis=(1, 2))
        positives = int((truth & where).sum())
        fp = int(predicted.sum() - tp.sum())
        tn = int(where.sum()) - positives - fp
        result[region] = asdict(Confusion(int(tp.sum()), fp, positives - int(tp.sum()), tn))
        result["slices"][region] = {"tp": tp.tolist(), "fp": (predicted - tp).tolist()}
    filtered = remove_small(prediction & chosen, zyx, min_mm3, min_slices)
    match = match_lesions(filtered, labels)
    result["lesions"] = {
        "sensitivity": match.sensitivity,
        "false_positives": match.false_positives,
        "dice": lesionwise_dice(filtered, truth, zyx),
        "detected": match.detected.tolist(),
    }
    return result


def sketch_case(
    scores: np.ndarray,
    truth: np.ndarray,
    brain: np.ndarray,
    ignore: np.ndarray | None = None,
    lo: float = 0.0,
    hi: float = 1.0,
    region: str = "all",
) -> dict[str, ScoreSketch]:
    """One `ScoreSketch` over lo..hi per region; arrays and region as in `evaluate_case`."""
    sketches = {}
    for name, where in regions_of(brain, ignore, truth, region).items():
        sketches[name] = ScoreSketch(lo, hi)
        for values, labels in labelled_chunks(scores, truth, where):
            sketches[name].add(values, labels)
    return sketches


def _numbers(values: np.ndarray) -> list[float | None]:
    """Rounded for the file; None where there is no number."""
    return [round(float(v), 6) if np.isfinite(v) else None for v in values]
