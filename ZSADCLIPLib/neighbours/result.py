"""From the scores of a volume's cells to a `Detection`: map, mask, findings and what they depend on."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch

from .. import __version__
from ..detection.detector import Detection
from ..detection.findings import find
from ..detection.preparation import Prepared
from ..detection.scoring import PLAIN, Scoring
from ..detection.threshold import Threshold
from ..evaluation.thresholds import reaches
from ..notes import Note
from ..volume import Volume
from ..volumes.components import check_depth, check_size, remove_small, slices_deep
from ..volumes.intensity import is_skull_stripped
from ..volumes.maptypes import as_stored, check_map_type
from .cells import CellGrid
from .tokens import TokenSettings

TOP_SHARE = 0.01  # of the cells, whose mean is the score of a volume


@dataclass(frozen=True)
class Cut:
    """How a mask is cut from a map; raises UsageError for values that are not allowed. See `detection.detector.Detector`."""

    threshold: Threshold = Threshold()
    scoring: Scoring = PLAIN
    min_size_mm3: float = 0.0
    min_depth_mm: float = 0.0
    map_type: str = "float32"

    def __post_init__(self):
        check_map_type(self.map_type)
        check_size(self.min_size_mm3)
        check_depth(self.min_depth_mm)


@dataclass(frozen=True)
class Source:
    """What scores came from: the `method`, and in `facts` what the provenance says of it, JSON-able.

    `thresholds` is the raw score to cut at as an adapter's provenance has it ({} without one), `rule` its words; `display` are
    the ends of the colour scale.
    """

    method: str
    backbone: dict
    settings: TokenSettings
    facts: dict
    thresholds: dict
    rule: str
    display: tuple[float, float]


def detection_of(
    volume: Volume, prepared: Prepared, cells: np.ndarray, scores: np.ndarray, source: Source, cut: Cut, notes=()
) -> Detection:
    """The detection of a volume whose `cells` (n, 3) have the `scores` (n,); `prepared` are its slices in the first plane.

    Voxels that are not scored have the lowest value of the map. A slice's score is the largest in it, the volume's the mean of
    its highest 1 % of cells, which one cell alone cannot raise.
    """
    stack, scored = prepared.stack, prepared.scored
    array = CellGrid(stack, source.settings.cell_mm).draw(cells, scores)
    scoring = cut.scoring.settled((stack.plane,), source.thresholds)
    array = scoring.smoothed(array, stack, scored)
    array = as_stored(np.where(scored, array, array[scored].min()), cut.map_type)
    threshold, rule = cut.threshold.value_for(array, scored, source.thresholds, scoring)
    deep = slices_deep(cut.min_depth_mm, stack.spacing[2], len(stack.array))
    mask = reaches(array, threshold) & scored
    mask = remove_small(mask, volume.spacing, cut.min_size_mm3, deep, stack.permutation[0])
    result = volume.with_array(array)
    said = (*volume.notes, *prepared.notes, *notes, *cut.threshold.doubts(source.thresholds, scoring))
    return Detection(
        map=result,
        mask=volume.with_array(mask.astype(np.uint8)),
        slice_scores=stack.arrange(array).max(axis=(1, 2)),
        volume_score=volume_score(scores),
        findings=find(result, mask, stack, brain=prepared.brain),
        threshold=threshold,
        threshold_rule=source.rule if rule == "checkpoint" else rule,
        display=dict(zip(("lo", "hi"), map(float, source.display), strict=True)),
        provenance=_provenance(volume, prepared, len(cells), source, cut, scoring, said),
        notes=said,
        stack=stack,
        image=prepared.image,
        brain=prepared.brain,
        map_type=cut.map_type,
    )


def volume_score(scores: np.ndarray) -> float:
    """The mean of the highest 1 % of the scores (n,) of a volume's cells, of one at least."""
    return float(np.sort(scores)[-max(1, int(TOP_SHARE * len(scores))) :].mean(dtype=np.float64))


def _provenance(
    volume: Volume, prepared: Prepared, cells: int, source: Source, cut: Cut, scoring: Scoring, notes: tuple[Note, ...]
) -> dict:
    """Under the names that a `Detector` uses, for all who read results."""
    stack, settings = prepared.stack, source.settings
    return {
        "software": f"ZSADCLIP {__version__}, torch {torch.__version__.split('+')[0]}",
        "use": "research use only, not for diagnosis",
        "adapter": {"method": source.method, "config": asdict(settings), "provenance": source.facts},
        "backbone": source.backbone,
        "adapted": [],
        "preprocessing": {
            **prepared.record(),
            "image_size": settings.image_size,
            "slices": list(stack.shape),
            "slice_axes": [int(axis) for axis in stack.permutation],
            "slice_flips": [bool(flip) for flip in stack.flips],
            "skull_stripped": is_skull_stripped(volume),
            "notes": [note.text for note in notes],
        },
        "cells": cells,
        "scoring": scoring.way,
        "planes": list(settings.planes),
        "smooth_mm": scoring.smooth_mm,
        "smooth": scoring.directions if scoring.smooth_mm else None,
        "exact": not settings.fast and source.backbone["dtype"] == "float32",
        "background": "zero",
        "map_type": cut.map_type,
        "min_size_mm3": cut.min_size_mm3,
        "min_depth_mm": cut.min_depth_mm,
        "device": source.facts.get("device", "cpu"),
    }
