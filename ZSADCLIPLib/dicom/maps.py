"""The map of scores as a DICOM parametric map (PS3.3, A.75): float32, bit for bit."""

from __future__ import annotations

import inspect

import numpy as np

from .outcome import RESEARCH, Making
from .sources import Sources
from .terms import BODY, CALCULATED, PROCESSED, SCORE, code, region_of


def parametric_map(making: Making):
    """The parametric map of the scores, on all slices."""
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
        **_window(ParametricMap, (lo + hi) / 2, max(hi - lo, 1e-6)),
        content_label="SCORES",
        content_description=making.description or RESEARCH,
        content_qualification="RESEARCH",
        plane_positions=making.positions(),
    )
    _along_the_normal(made, scores, making.sources)
    _say_sources(made, making.sources)
    made.ContentCreatorName = ""
    # Slicer's importer (dcmqi) ends with a crash where this group is missing.
    anatomy, region = Dataset(), code(region_of(making.outcome.region)[0] or BODY)
    anatomy.AnatomicRegionSequence, anatomy.FrameLaterality = [region], "U"
    made.SharedFunctionalGroupsSequence[0].FrameAnatomySequence = [anatomy]
    return making.finished("map", made)


def _window(made_by: type, center: float, width: float) -> dict:
    """How the map is shown, as this highdicom asks for it: Slicer 5.12 has 0.27."""
    if "voi_lut_transformations" not in inspect.signature(made_by).parameters:
        return {"window_center": center, "window_width": width}
    from highdicom import VOILUTTransformation

    return {"voi_lut_transformations": [VOILUTTransformation(center, width)]}


def _say_sources(made, sources: Sources) -> None:
    """Name the image of each frame where highdicom does not, which is before 0.28."""
    from pydicom import Dataset

    for n, frame in enumerate(made.PerFrameFunctionalGroupsSequence):
        if not frame.DerivationImageSequence:
            image, derivation = Dataset(), Dataset()
            ds = sources.first if sources.frames is not None else sources.datasets[n]
            image.ReferencedSOPClassUID, image.ReferencedSOPInstanceUID = ds.SOPClassUID, ds.SOPInstanceUID
            image.SpatialLocationsPreserved = "YES"
            image.PurposeOfReferenceCodeSequence = [code(PROCESSED)]
            derivation.SourceImageSequence = [image]
            derivation.DerivationCodeSequence = [code(CALCULATED)]
            frame.DerivationImageSequence = [derivation]


def _along_the_normal(made, scores: np.ndarray, sources: Sources) -> None:
    """Turn the frames round where highdicom stores them, from 0.28 on, from the last to the first along their normal.

    Slicer's importer (dcmqi 1.5.7) lays frames on one another as they come, upwards from the lowest: it would mirror the map.
    """
    frames, places = list(made.PerFrameFunctionalGroupsSequence), list(sources.positions.values())
    here = np.array(frames[0].PlanePositionSequence[0].ImagePositionPatient, float)
    first, last = (np.linalg.norm(here - np.array(place, float)) for place in (places[0], places[-1]))
    if last < first:
        frames.reverse()
    for number, frame in enumerate(frames, start=1):
        frame.FrameContentSequence[0].DimensionIndexValues = number
    made.PerFrameFunctionalGroupsSequence = frames
    made.FloatPixelData = scores.astype("<f4").tobytes()
