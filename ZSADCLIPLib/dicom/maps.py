"""The map of scores as a DICOM parametric map (PS3.3, A.75): float32, bit for bit."""

from __future__ import annotations

import numpy as np

from .outcome import RESEARCH, Making
from .terms import BODY, SCORE, code, region_of


def parametric_map(making: Making):
    """The parametric map of the scores, on all slices."""
    from highdicom import VOILUTTransformation
    from highdicom.pm import ParametricMap, RealWorldValueMapping
    from pydicom import Dataset
    from pydicom.sr.codedict import codes

    scores, (lo, hi) = np.ascontiguousarray(making.outcome.map.transpose(2, 1, 0), np.float32), making.outcome.display
    span = float(scores.min()), float(scores.max())
    mapping = RealWorldValueMapping(
        "SCORE", "Anomaly score", codes.UCUM.NoUnits, span, slope=1.0, intercept=0.0, quantity_definition=code(SCORE)
    )
    made = ParametricMap(
        making.sources.datasets,
        scores,
        **making.common("map"),
        **making.device(),
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[mapping],
        voi_lut_transformations=[VOILUTTransformation((lo + hi) / 2, max(hi - lo, 1e-6))],
        content_label="SCORES",
        content_description=making.description or RESEARCH,
        content_qualification="RESEARCH",
        plane_positions=making.positions(),
    )
    _along_the_normal(made, scores)
    made.ContentCreatorName = ""
    # Slicer's importer (dcmqi) ends with a crash where this group is missing.
    anatomy, region = Dataset(), code(region_of(making.outcome.region)[0] or BODY)
    anatomy.AnatomicRegionSequence, anatomy.FrameLaterality = [region], "U"
    made.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [anatomy]
    return making.finished("map", made)


def _along_the_normal(made, scores: np.ndarray) -> None:
    """Turn the frames round: highdicom stores them from the last to the first along the normal of the slices.

    Slicer's importer (dcmqi 1.5.7) lays frames on one another as they come, upwards from the lowest: it would mirror the map.
    """
    frames = list(made.PerFrameFunctionalGroupsSequence)[::-1]
    for number, frame in enumerate(frames, start=1):
        frame.FrameContentSequence[0].DimensionIndexValues = number
    made.PerFrameFunctionalGroupsSequence = frames
    made.FloatPixelData = scores.astype("<f4").tobytes()
