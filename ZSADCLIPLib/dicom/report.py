"""Findings as a DICOM measurement report (PS3.16, TID 1500): a group a segment, with its volume, scores, side and images."""

from __future__ import annotations

import numpy as np

from .. import __version__
from .outcome import MAKER, Making, name_of
from .terms import ALTERED, COUNT, FIRST_IMAGE, LAST_IMAGE, LESION, PROCEDURE, SCORE, SIDES, VOLUME, code, region_of


def measurement_report(making: Making, segmentation=None):
    """The report on the exported findings, whose segments `segmentation` holds, or on there being none.

    It names no region of an image: readers that find one look for planes and leave the segments aside.
    """
    from highdicom.sr import (
        ComprehensiveSR,
        DeviceObserverIdentifyingAttributes,
        MeasurementReport,
        ObservationContext,
        ObserverContext,
    )
    from pydicom.sr.codedict import codes

    device = DeviceObserverIdentifyingAttributes(
        making.uid("device"), MAKER, manufacturer_name=MAKER, model_name=MAKER, serial_number=__version__
    )
    groups = [_group(making, n, each, segmentation) for n, each in enumerate(making.outcome.segments, start=1)]
    content = MeasurementReport(
        ObservationContext(observer_device_context=ObserverContext(codes.DCM.Device, device)),
        code(PROCEDURE),
        groups or [_nothing(making)],
        title=codes.DCM.ImagingMeasurementReport,
    )
    evidence = [*making.sources.datasets, *([segmentation] if segmentation is not None else [])]
    made = ComprehensiveSR(evidence, content, **making.common("report"), is_complete=True, is_final=False)
    made.SoftwareVersions, made.ManufacturerModelName = __version__, MAKER
    made.DeviceSerialNumber = making.device()["device_serial_number"]
    return making.finished("report", made)


def _nothing(making: Making):
    """A group that says that there are no findings."""
    from highdicom.sr import (
        AlgorithmIdentification,
        Measurement,
        MeasurementsAndQualitativeEvaluations,
        TrackingIdentifier,
    )
    from pydicom.sr.codedict import codes

    return MeasurementsAndQualitativeEvaluations(
        TrackingIdentifier(making.uid("no finding"), "No findings"),
        measurements=[Measurement(code(COUNT), 0, codes.UCUM.NoUnits)],
        algorithm_id=AlgorithmIdentification(making.outcome.algorithm[:64], __version__),
    )


def _group(making: Making, number: int, segment, segmentation):
    from highdicom.sr import (
        AlgorithmIdentification,
        FindingSite,
        Measurement,
        ReferencedSegment,
        TrackingIdentifier,
        VolumetricROIMeasurementsAndQualitativeEvaluations,
    )
    from pydicom.sr.codedict import codes

    name, outcome = name_of(segment), making.outcome
    region, _ = region_of(outcome.region)
    side = SIDES.get(segment["side"])
    sites = [FindingSite(code(region), code(side) if side else None)] if region else None
    slices = np.flatnonzero((outcome.numbered == number).any(axis=(0, 1)))
    images = [making.sources.image_number(int(k)) for k in (slices[0], slices[-1])]
    none = codes.UCUM.NoUnits
    measured = [
        Measurement(code(VOLUME), _decimal(segment["volume_mm3"]), codes.UCUM.CubicMillimeter),
        Measurement(code(SCORE), _decimal(segment["peak"]), none, derivation=codes.SCT.Maximum),
        Measurement(code(SCORE), _decimal(segment["mean"]), none, derivation=codes.SCT.Mean),
        Measurement(code(FIRST_IMAGE), min(images), none),
        Measurement(code(LAST_IMAGE), max(images), none),
    ]
    return VolumetricROIMeasurementsAndQualitativeEvaluations(
        TrackingIdentifier(making.uid("finding", str(segment["rank"])), name),
        referenced_segment=ReferencedSegment.from_segmentation(segmentation, number),
        finding_type=code(LESION),
        finding_category=code(ALTERED),
        finding_sites=sites,
        algorithm_id=AlgorithmIdentification(outcome.algorithm[:64], __version__),
        measurements=measured,
    )


def _decimal(value: float) -> float:
    """The value to 12 digits, which a decimal string of 16 letters holds."""
    return float(f"{value:.10g}")
