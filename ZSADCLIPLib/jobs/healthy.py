"""A folder of healthy scans as what a training needs: a cohort without masks, how they are looked at, and their world."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..benchmark.cohort import Cohort
from ..benchmark.profiles import PROFILES
from ..benchmark.settings import Profile
from ..datasets.records import Record
from ..datasets.splits import Split
from ..detection.choice import LABEL_NAME, Case
from ..detection.inputs import expand_inputs
from ..detection.preparation import Look
from ..detection.world import World
from ..errors import InputError, listed
from ..files.digests import FileHashes
from ..files.names import split_suffix
from ..notes import settled
from ..progress import Progress, Report
from ..volumes.hounsfield import WINDOWS, is_hounsfield
from ..volumes.reading import FORMATS, files_of, read_volume
from ..volumes.sequences import SEQUENCES, sequence_of
from ..volumes.skull import has_skull

LEAST = 2
"""One scan trains, another one gives the threshold."""
RULE = "fpr:0.001"
SLICES = 16  # of each scan: a hospital has tens of scans, a benchmark hundreds


@dataclass(frozen=True)
class Facts:
    """What a scan is: Hounsfield units, skull (None: cannot be told), sequence (None likewise), pixel and square in mm."""

    hounsfield: bool
    skull: bool | None
    sequence: str | None
    pixel: float
    square: float


def healthy_profile(profile: Profile) -> Profile:
    """A profile for scans of any origin: the threshold is a rate of false positives in the head, and for a profile of the package
    every slice counts, the head fills the square, and a fifth of the scans gives the threshold.

    Synthetic anomalies are larger and far more common than lesions, so the threshold with the best F1 on them is much too low.
    """
    rules = tuple(dict.fromkeys((RULE, *profile.threshold.rules)))
    threshold, metrics = replace(profile.threshold, rule=RULE, rules=rules), replace(profile.metrics, region="brain")
    profile = replace(profile, threshold=threshold, metrics=metrics)
    if profile.name not in PROFILES:
        return profile
    return replace(
        profile,
        slices=replace(profile.slices, every=1, crop="head"),
        healthy=replace(profile.healthy, slices=SLICES),
        threshold=replace(profile.threshold, max_subjects=None),
    )


def read_healthy(
    source: str, profile: Profile, hashes: FileHashes, progress: Progress, report: Report
) -> tuple[Cohort, Profile, World]:
    """The scans that `source` names (as for `expand_inputs`), the profile with their contrast, and their world.

    Every scan is read once, so that one that cannot be used is named before any work. `report` is warned of segmentations, which
    speak of lesions. Raises InputError for fewer than `LEAST` scans, for one that cannot be read or is doubtful, and for CT among
    others.
    """
    cases = expand_inputs(source, report=report)
    if marked := _segmentations(cases):
        names = listed([path.name for path in marked])
        text = (
            f"segmentations lie beside the scans ({names}): they are not read; leave out every scan that shows a lesion"
        )
        report({"event": "note", "text": text})
    if len(cases) < LEAST:
        raise InputError(
            f"{source} holds {len(cases)} scan and at least {LEAST} are needed: one to train on, one for the threshold; give more"
        )
    facts, digests = {}, {}
    for i, case in enumerate(cases):
        progress(i / len(cases), f"healthy scan {i + 1} of {len(cases)}", i, len(cases))
        facts[case.id] = _facts(case, profile)
        digests[case.id] = hashlib.sha256(":".join(map(hashes, _files(case.image))).encode()).hexdigest()
    hashes.save()
    if len({fact.hounsfield for fact in facts.values()}) > 1:
        odd = listed([name for name, fact in facts.items() if fact.hounsfield])
        raise InputError(
            f"some scans are CT ({odd}) and others are not; train an adapter for each kind in a run of its own"
        )
    if next(iter(facts.values())).hounsfield:
        profile = replace(profile, slices=replace(profile.slices, intensity="window", window=WINDOWS["brain"]))
    records = tuple(Record(case.id, case.id, case.image, split="train") for case in cases)
    cohort = Cohort(records, Split(tuple(record.subject for record in records), ()), digests)
    return cohort, profile, _world(list(facts.values()))


def _files(image: Path) -> list[Path]:
    if image.is_dir():
        return sorted(path for path in image.rglob("*") if path.is_file())
    return files_of(image)


def _segmentations(cases: Sequence[Case]) -> list[Path]:
    """Label maps that are named as such, of the cases or beside them."""
    found = {case.mask for case in cases if case.mask is not None}
    for folder in {case.image.parent for case in cases if not case.series}:
        for path in folder.iterdir():
            stem, suffix = split_suffix(path)
            if suffix in FORMATS and LABEL_NAME.fullmatch(stem):
                found.add(path)
    return sorted(found)


def _facts(case: Case, profile: Profile) -> Facts:
    data = profile.data
    try:
        volume = read_volume(case.image, data.placement)
        settled(volume.notes, data.allow)
    except InputError as error:
        raise InputError(f"healthy scan {case.id}: {error}; repair it, or take it out of the folder") from error
    seen = Look("axial", crop=profile.slices.crop).prepare(volume, profile.slices.image_size)
    if not seen.brain.any():
        raise InputError(f"healthy scan {case.id}: there is no head in it; take it out of the folder")
    hounsfield, skull = is_hounsfield(volume.array), has_skull(volume)
    sequence = None if hounsfield or skull else sequence_of(volume.array, seen.brain)
    return Facts(hounsfield, skull, sequence, max(seen.stack.spacing[:2]), seen.square_mm)


def _world(facts: list[Facts]) -> World:
    sequences, skulls = {fact.sequence for fact in facts}, {fact.skull for fact in facts}
    known = None not in sequences
    words = (
        ", ".join(SEQUENCES[name] for name in sorted(sequences)) if known else "CT" if facts[0].hounsfield else "MRI"
    )
    kind = {(False,): "skull-stripped ", (True,): "whole-head "}.get(tuple(skulls), "")
    squares = [fact.square for fact in facts]
    return World(
        pictures=f"healthy scans with synthetic anomalies: {len(facts)} {kind}{words} scans, axial slices",
        sequences=tuple(sorted(sequences)) if known else (),
        skull_stripped={(False,): True, (True,): False}.get(tuple(skulls)),
        plane="axial",
        pixel_mm=round(1.5 * max(fact.pixel for fact in facts), 3),
        square_mm=(round(0.75 * min(squares), 1), round(1.33 * max(squares), 1)),
    )
