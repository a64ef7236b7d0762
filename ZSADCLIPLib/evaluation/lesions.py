"""Lesions as objects: which were found, how many findings were false, and region-wise overlap.

Lesions are 26-connected parts of the truth. Voxel metrics hide small lesions; these do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from ..errors import InputError, UsageError
from ..volumes.components import bounds, components, remove_small
from .thresholds import reaches

FROC_RATES = (0.5, 1.0, 2.0, 4.0, 8.0)  # false positives per volume, the points of LUNA16's competition metric and 0.5
BRATS_SMALLEST_MM3 = 2.0  # BraTS-MET 2023 scores no lesion of this size or smaller


@dataclass(frozen=True)
class LesionMatch:
    """How the parts of a prediction meet the lesions of the truth.

    `detected` says for each lesion whether a part of the prediction overlaps it; `false_positives` counts the parts that
    overlap none.
    """

    detected: np.ndarray
    false_positives: int

    @property
    def sensitivity(self) -> float:
        """Share of lesions detected; NaN without lesions."""
        return float(self.detected.mean()) if self.detected.size else float("nan")


def match_lesions(prediction: np.ndarray, lesions: np.ndarray) -> LesionMatch:
    """Match 26-connected parts of a boolean prediction (N, R, C) with labelled lesions (N, R, C) of `components`.

    One common voxel is a detection. Raises InputError when the shapes differ.
    """
    if prediction.shape != lesions.shape:
        raise InputError(
            f"the lesions have shape {lesions.shape}, the prediction {prediction.shape}; expected one grid"
        )
    count = int(lesions.max(initial=0))
    detected = np.zeros(count, bool)
    detected[np.unique(lesions[prediction & (lesions > 0)]) - 1] = True
    box = _box(prediction)
    if box is None:
        return LesionMatch(detected, 0)
    parts = components(prediction[box])
    touching = np.unique(parts[(lesions[box] > 0) & (parts > 0)])
    return LesionMatch(detected, int(parts.max()) - touching.size)


@dataclass(frozen=True)
class FrocCase:
    """One volume's share of a FROC curve at common `levels` (score thresholds, descending).

    A lesion is found at every level up to its entry of `peaks`: its highest score, or, where small parts are dropped, the
    highest level at which a part that is kept meets it (-inf: never). `false_positives` counts false parts at each level.
    """

    levels: tuple[float, ...]
    peaks: tuple[float, ...]
    false_positives: tuple[int, ...]


def froc_case(
    scores: np.ndarray,
    lesions: np.ndarray,
    levels: tuple[float, ...],
    region: np.ndarray | None = None,
    spacing: tuple[float, float, float] = (1.0, 1.0, 1.0),
    min_mm3: float = 0.0,
    min_slices: int = 1,
) -> FrocCase:
    """Lesion peaks and false positives of a map (N, R, C) at each level.

    `lesions` are labels of `components`; `region` (boolean) is where the map counts; parts below `min_mm3`, or in fewer than
    `min_slices` slices, are dropped before anything is matched, with `spacing` in mm along N, R, C. Raises UsageError unless
    the levels descend, InputError when shapes differ.
    """
    if any(low >= high for high, low in zip(levels, levels[1:], strict=False)):
        raise UsageError(f"the FROC levels must descend, got {levels}")
    peaks = np.full(int(lesions.max(initial=0)), -np.inf)  # -inf: wholly outside the region, never to be found
    filters = min_mm3 > 0 or min_slices > 1
    if not filters:
        inside = lesions > 0 if region is None else (lesions > 0) & region
        np.maximum.at(peaks, lesions[inside] - 1, scores[inside])
    box = None if region is None else _box(region)
    box = tuple(slice(None) for _ in range(3)) if box is None else box
    scores, lesions = scores[box], lesions[box]
    region = None if region is None else region[box]
    false = []
    for level in levels:
        prediction = reaches(scores, level)
        if region is not None:
            prediction &= region
        if filters:
            prediction = remove_small(prediction, spacing, min_mm3, min_slices)
        match = match_lesions(prediction, lesions)
        false.append(match.false_positives)
        if filters:  # parts only grow as the level falls, so what is found once stays found
            lesion_peaks = peaks[: match.detected.size]
            lesion_peaks[match.detected & np.isneginf(lesion_peaks)] = level
    return FrocCase(tuple(map(float, levels)), tuple(peaks.tolist()), tuple(false))


def froc(cases: list[FrocCase], rates: tuple[float, ...] = FROC_RATES) -> dict[float, float]:
    """Lesion sensitivity pooled over volumes at each mean number of false positives per volume.

    Levels are walked downwards until the mean exceeds the rate for the first time, because far below that parts melt into
    one and the count falls again although the map got worse. NaN without lesions or cases, and where even the highest level
    has more false positives, so that nothing is known; UsageError when the cases' levels differ.
    """
    if len({case.levels for case in cases}) > 1:
        raise UsageError("the FROC levels differ between cases; evaluate all cases of a row with the same levels")
    peaks = np.array([peak for case in cases for peak in case.peaks])
    if not peaks.size:
        return {rate: float("nan") for rate in rates}
    mean_false = np.mean([case.false_positives for case in cases], axis=0)
    result = {}
    for rate in rates:
        exceeded = np.flatnonzero(mean_false > rate)
        usable = exceeded[0] if exceeded.size else mean_false.size
        result[rate] = float(reaches(peaks, cases[0].levels[usable - 1]).mean()) if usable else float("nan")
    return result


def lesionwise_dice(
    prediction: np.ndarray,
    truth: np.ndarray,
    spacing: tuple[float, float, float],
    smallest_mm3: float = BRATS_SMALLEST_MM3,
    dilation: int = 1,
) -> float:
    """Lesion-wise Dice by the published rules of the BraTS 2023 metastasis challenge.

    Truth (N, R, C) parts whose dilations (18-neighbour element) touch are one lesion; a lesion is compared with the union
    of all prediction parts that meet its dilation; the result is the sum of Dice over lesions above `smallest_mm3`
    divided by their number plus the number of prediction parts that meet no lesion at all. `spacing` is mm along N, R, C.
    Both empty gives 1, as in the challenge; only unscored lesions and no false part gives NaN.
    """
    if prediction.shape != truth.shape:
        raise InputError(f"the truth has shape {truth.shape}, the prediction {prediction.shape}; expected one grid")
    box = _box(prediction | truth, margin=dilation + 1)
    if box is None:
        return 1.0
    prediction, truth = prediction[box], truth[box]
    element = ndimage.generate_binary_structure(3, 2)
    grown = ndimage.binary_dilation(truth, element, iterations=dilation) if dilation else truth
    lesions = np.where(truth, components(grown), 0)
    parts = components(prediction)
    sizes = np.bincount(parts.ravel())
    matched: set[int] = set()
    total, counted = 0.0, 0
    for label, block in enumerate(ndimage.find_objects(lesions), start=1):
        block = tuple(
            slice(max(0, s.start - dilation), min(n, s.stop + dilation))
            for s, n in zip(block, truth.shape, strict=True)
        )
        lesion = lesions[block] == label
        near = ndimage.binary_dilation(lesion, element, iterations=dilation) if dilation else lesion
        hits = np.unique(parts[block][near])
        hits = hits[hits > 0]
        matched.update(hits.tolist())
        voxels = int(lesion.sum())
        if voxels * float(np.prod(spacing)) <= smallest_mm3:
            continue
        overlap = int(np.isin(parts[block][lesion], hits).sum())
        total += 2 * overlap / (voxels + int(sizes[hits].sum()))
        counted += 1
    counted += int(parts.max(initial=0)) - len(matched)
    return total / counted if counted else float("nan")


def _box(mask: np.ndarray, margin: int = 0) -> tuple[slice, ...] | None:
    """The smallest block of slices around a mask plus `margin`, None when it is empty."""
    if not mask.any():
        return None
    return tuple(slice(max(0, span.start - margin), span.stop + margin) for span in bounds(mask))
