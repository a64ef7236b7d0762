"""Findings as a DICOM segmentation (PS3.3, A.51): binary, a segment a finding."""

from __future__ import annotations

import colorsys

from .outcome import RESEARCH, Making, name_of
from .terms import ALTERED, LESION, code, region_of

GOLDEN = 0.618034  # of a turn of hues, so that neighbours in rank differ


def segmentation(making: Making):
    """The segmentation of the exported findings, at least one; frames refer to their slices and copy their places."""
    from highdicom.seg import Segmentation

    segments = making.outcome.segments
    made = Segmentation(
        making.sources.datasets,
        making.outcome.numbered.transpose(2, 1, 0),
        "BINARY",
        [_description(making, n, segment) for n, segment in enumerate(segments, start=1)],
        **making.common("seg"),
        **making.device(),
        content_label="FINDINGS",
        content_description=making.description or RESEARCH,
        plane_positions=making.positions(),
    )
    made.ContentCreatorName = ""
    _say_segments_by_frame(made)
    return making.finished("seg", made)


def _say_segments_by_frame(made) -> None:
    """Name the segment in each frame: highdicom shares it where there is one, and then cannot refer to it in a report."""
    from pydicom import Dataset

    shared = made.SharedFunctionalGroupsSequence[0]
    if named := shared.get("SegmentIdentificationSequence"):
        number = named[0].ReferencedSegmentNumber
        del shared.SegmentIdentificationSequence
        for frame in made.PerFrameFunctionalGroupsSequence:
            item = Dataset()
            item.ReferencedSegmentNumber = number
            frame.SegmentIdentificationSequence = [item]


def _description(making: Making, number: int, segment):
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription

    region, _ = region_of(making.outcome.region)
    rgb = colorsys.hsv_to_rgb((0.33 + (number - 1) * GOLDEN) % 1, 0.8, 0.95)
    made = SegmentDescription(
        number,
        name_of(segment),
        code(ALTERED),
        code(LESION),
        "AUTOMATIC",
        making.algorithm(),
        making.uid("finding", str(segment["rank"])),
        name_of(segment),
        [code(region)] if region else None,
        display_color=CIELabColor(*_lab(rgb)),
    )
    made.SegmentDescription = f"Anomaly in {making.outcome.region or 'the image'}, {RESEARCH}"[:1024]
    return made


def _lab(rgb) -> tuple[float, float, float]:
    """CIELAB (D65) of sRGB from 0 to 1 (IEC 61966-2-1)."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    rows = ((0.4124564, 0.3575761, 0.1804375), (0.2126729, 0.7151522, 0.0721750), (0.0193339, 0.1191920, 0.9503041))
    xyz = [sum(a * b for a, b in zip(row, linear, strict=True)) for row in rows]
    f = [t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116 for t in (xyz[0] / 0.95047, xyz[1], xyz[2] / 1.08883)]
    return 116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])
