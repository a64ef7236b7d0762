"""What a case has to say in DICOM, and what all of its objects have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .. import __version__
from ..errors import InputError
from .sources import PATIENT, STUDY, UTF8, Sources, discreet, is_legal, uid
from .terms import region_of

MAKER = "ZSADCLIP"
MOST_SEGMENTS = 50
NUMBERS = {"seg": 9901, "report": 9902, "map": 9903, "picture": 9904}
"""Kinds of objects and the numbers of their series."""
SAME_MM = 1e-3
RESEARCH = "RESEARCH ONLY"
TITLES = {
    "seg": "Anomaly findings",
    "report": "Anomaly measurements",
    "map": "Anomaly scores",
    "picture": "Anomaly overview",
}


@dataclass(frozen=True, eq=False)
class Outcome:
    """A scored volume (I, J, K) on the grid of its sources.

    `map` holds raw scores, float32; `labels` the parts of the mask, 0 is background; `findings` are those to be exported, most
    abnormal first, as the JSON of a case has them: `label` is the value in `labels`. `region` is what the prompts spoke of;
    `key` stands for all settings; `display` are the lowest and highest score to be shown.
    """

    map: np.ndarray
    labels: np.ndarray
    findings: Sequence[Mapping[str, Any]]
    affine: np.ndarray
    algorithm: str
    region: str
    key: str
    display: tuple[float, float]

    @cached_property
    def segments(self) -> list[dict]:
        """The findings to be exported, `labels` in the place of `label`; beyond 50 the smallest are one, without a side."""
        own = [{**f, "labels": [f["label"]]} for f in self.findings]
        if len(own) <= MOST_SEGMENTS:
            return own
        rest = own[MOST_SEGMENTS - 1 :]
        voxels = sum(f["voxels"] for f in rest)
        together = {
            "rank": 0,
            "labels": [f["label"] for f in rest],
            "volume_mm3": sum(f["volume_mm3"] for f in rest),
            "voxels": voxels,
            "peak": max(f["peak"] for f in rest),
            "mean": sum(f["mean"] * f["voxels"] for f in rest) / voxels,
            "side": "",
        }
        return [*own[: MOST_SEGMENTS - 1], together]

    @cached_property
    def numbered(self) -> np.ndarray:
        """The number of the segment of each voxel (I, J, K) uint8, from 1; 0 outside."""
        numbers = np.zeros(int(self.labels.max(initial=0)) + 1, np.uint8)
        for n, segment in enumerate(self.segments, start=1):
            numbers[segment["labels"]] = n
        return numbers[self.labels]

    @cached_property
    def digest(self) -> str:
        """Hex digits of what is exported."""
        found = hashlib.sha256(np.ascontiguousarray(self.map, "<f4").tobytes())
        found.update(np.ascontiguousarray(self.numbered).tobytes())
        found.update(repr([(f["rank"], f["volume_mm3"], f["peak"], f["mean"]) for f in self.segments]).encode())
        return found.hexdigest()


def name_of(segment: Mapping) -> str:
    """What a segment is called."""
    return f"Finding {segment['rank']}" if segment["rank"] else "Further findings"


class Making:
    """The arguments and the finish that objects of one case share; equal sources and outcomes give equal UIDs."""

    def __init__(self, sources: Sources, outcome: Outcome):
        self.sources, self.outcome = sources, outcome
        first = sources.first
        identity = repr([str(first.get(name, "")) for name in (*PATIENT, *STUDY)])
        self._seed = (str(first.SeriesInstanceUID), outcome.key, outcome.digest, identity, __version__)

    def uid(self, *what: str) -> str:
        """The UID of a thing of this case."""
        return uid(*what, *self._seed)

    def common(self, kind: str) -> dict:
        """What every constructor of highdicom takes."""
        return {
            "series_instance_uid": self.uid(kind, "series"),
            "series_number": NUMBERS[kind],
            "sop_instance_uid": self.uid(kind, "instance"),
            "instance_number": 1,
            "manufacturer": MAKER,
        }

    def device(self) -> dict:
        """What describes the software that made an image."""
        number = self.uid("device")[-16:]
        return {
            "manufacturer_model_name": MAKER,
            "software_versions": __version__,
            "device_serial_number": number,
            "series_description": "",
        }

    @property
    def description(self) -> str:
        """What is to be known of the sources, for a field of 64 letters."""
        return "; ".join(text.split(":")[0].split(";")[0] for text in self.sources.said)[:64]

    def algorithm(self):
        """The method by name and version, as IHE's profile of AI results asks."""
        from highdicom import AlgorithmIdentificationSequence
        from pydicom.sr.codedict import codes

        family = codes.DCM.ArtificialIntelligence
        return AlgorithmIdentificationSequence(self.outcome.algorithm[:64], family, __version__, source=MAKER)

    def positions(self):
        """The places of frames where the sources are some frames of a file, None where they say it in their order."""
        sources = self.sources
        if sources.frames is None or sources.frames == tuple(
            range(len(sources.first.PerFrameFunctionalGroupsSequence))
        ):
            return None
        from highdicom import PlanePositionSequence

        found = []
        for n in sources.frames:
            place = sources.first.PerFrameFunctionalGroupsSequence[n].PlanePositionSequence[0].ImagePositionPatient
            item = PlanePositionSequence("PATIENT", [float(x) for x in place])
            item[0].ImagePositionPatient = place
            found.append(item)
        return found

    def finished(self, kind: str, made):
        """The object with the identity of its source in Unicode, a time of the source, and what it is."""
        first = self.sources.first
        with discreet():
            made.SpecificCharacterSet = UTF8
            for name in (*PATIENT, *STUDY, "PatientIdentityRemoved", "DeidentificationMethod"):
                if name in first:
                    setattr(made, name, first.get(name))
            date, time = self.sources.date_and_time
            for name in ("ContentDate", "InstanceCreationDate", "SeriesDate", "DateOfSecondaryCapture"):
                if name in made:
                    setattr(made, name, date)
                    setattr(made, name.replace("Date", "Time"), time)
            for item in made.get("ContributingEquipmentSequence", []):
                item.ContributionDateTime = date + time
            organized = [*made.get("DimensionOrganizationSequence", []), *made.get("DimensionIndexSequence", [])]
            for item in organized:
                item.DimensionOrganizationUID = self.uid(kind, "dimensions")
            self._place(made)
            made.SeriesDescription = f"{TITLES[kind]} {RESEARCH}"
            if "BodyPartExamined" not in made and kind in ("map", "picture"):
                made.BodyPartExamined = (
                    first.get("BodyPartExamined") or region_of(self.outcome.region)[1] or "WHOLEBODY"
                )
        return made

    def _place(self, made) -> None:
        """Give frames the places of their images in the same letters, which highdicom writes anew; orientation likewise.

        Of a multi-frame source it names the first frame in a place, which may be that of another echo: ours is named here.
        """
        places, first = self.sources.positions, self.sources.first
        numbers = list(places)
        known = np.array([[float(x) for x in place] for place in places.values()])
        for frame in made.get("PerFrameFunctionalGroupsSequence", []):
            own, source = frame.PlanePositionSequence[0], frame.DerivationImageSequence[0].SourceImageSequence[0]
            away = np.abs(known - np.array(own.ImagePositionPatient, float)).max(axis=1)
            image, number = numbers[int(away.argmin())]
            if away.min() > SAME_MM or source.ReferencedSOPInstanceUID != image:
                raise InputError("a frame of a DICOM result would lie beside its image; leave out --dicom")
            if number:
                source.ReferencedFrameNumber = number
            if is_legal(places[image, number]):
                own.ImagePositionPatient = places[image, number]
        if "SharedFunctionalGroupsSequence" in made:
            groups = first.get("SharedFunctionalGroupsSequence")
            turned = groups[0].PlaneOrientationSequence[0] if groups else first
            shared = made.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
            if is_legal(turned.ImageOrientationPatient):
                shared.ImageOrientationPatient = turned.ImageOrientationPatient
