"""Who trains and who tests: a data set of the user's, or embedded brains made on the spot, split by subject and hashed."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ..datasets.records import Record, find_records, read_case
from ..datasets.splits import Split, apply_split, make_split, read_split, shuffled, split_of, without_side
from ..errors import InputError
from ..files.digests import FileHashes
from ..files.privacy import folders_below, redact
from ..files.text import write_json
from ..progress import Progress, silent
from ..volumes.reading import files_of, write_volume
from .settings import Profile

TRAIN_SEED, TEST_SEED = 2000, 5000
OTHER_ANATOMY = 3  # every third synthetic test brain has the anatomy that no training brain has


@dataclass(frozen=True)
class Cohort:
    """Records with their side of the split, the split, a content hash for each record id, and what could not be used."""

    records: tuple[Record, ...]
    split: Split
    hashes: dict[str, str]
    problems: tuple[str, ...] = ()

    def side(self, name: str) -> tuple[Record, ...]:
        """The records of "train" or "test", by id."""
        return tuple(record for record in self.records if record.split == name)

    def training(self, limit: int | None, seed: int | None, last: bool = False) -> tuple[Record, ...]:
        """Training records of `limit` subjects (all with None), the first or `last` ones of the seeded order.

        Without a seed the order is that of the names.
        """
        subjects = sorted({record.subject for record in self.side("train")})
        order = subjects if seed is None else shuffled(subjects, seed)
        chosen = set(order if limit is None else order[-limit:] if last else order[:limit])
        return tuple(record for record in self.side("train") if record.subject in chosen)

    def digest(self, records: tuple[Record, ...]) -> str:
        """One hash of some records' ids and contents."""
        text = json.dumps(sorted((record.id, self.hashes[record.id]) for record in records))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_cohort(profile: Profile, data: str | Path, hashes: FileHashes | None, progress: Progress = silent) -> Cohort:
    """The cases of a folder or manifest, split by the manifest's column, the profile's split file, or its seed.

    Without `hashes` the cohort has no digests: enough to count its cases. Raises InputError when there is no usable case on a
    side, and what `datasets` raises.
    """
    problems: list[str] = []
    rule = profile.data.label_rule
    records = find_records(data, profile.data.channel, rule, problems)
    if not records:
        why = redact(problems[0], folders_below(data)) if problems else "it is empty"
        raise InputError(f"{data} holds no usable case: {why}")
    if profile.split.file:
        split = read_split(profile.split.file)
    elif any(record.split for record in records):
        split = split_of(records)
        problems += without_side(records)
    else:
        volumes = lesion_volumes(records, profile, progress) if profile.split.stratify == "volume" else None
        split = make_split((r.subject for r in records), profile.split.fraction, profile.split.seed, volumes)
    records = apply_split(records, split)
    digests = {}
    for i, record in enumerate(records if hashes is not None else ()):
        progress(i / len(records), f"hash of case {i + 1} of {len(records)}", i, len(records))
        paths = [path for path in (record.image, record.mask) if path is not None]
        files = [hashes(file) for path in paths for file in files_of(path)]
        digests[record.id] = hashlib.sha256(":".join([record.rule, *files]).encode()).hexdigest()
    if hashes is not None:
        hashes.save()
    cohort = Cohort(tuple(records), split, digests, tuple(problems))
    for side in ("train", "test"):
        if not cohort.side(side):
            raise InputError(f"{data} has no case to {side} on; the split names none")
    return cohort


def lesion_volumes(records: list[Record], profile: Profile, progress: Progress = silent) -> dict[str, float]:
    """The lesion volume of each subject in mm3, the largest of its cases; raises InputError as `read_case`."""
    volumes, data = {}, profile.data
    for i, record in enumerate(records):
        progress(i / len(records), f"lesion volume of case {i + 1} of {len(records)}", i, len(records))
        case = read_case(record, data.target, data.ignore, data.placement, data.allow)
        volume = float(case.truth.sum() * np.prod(case.image.spacing))
        volumes[record.subject] = max(volume, volumes.get(record.subject, 0.0))
    return volumes


def synthetic_plan(profile: Profile) -> list[dict]:
    """The embedded brains of a profile, as arguments of `make_synthetic`."""
    train = [{"seed": TRAIN_SEED + i, "anatomy": "colin27"} for i in range(profile.data.train_cases)]
    other = [i % OTHER_ANATOMY == OTHER_ANATOMY - 1 for i in range(profile.data.test_cases)]
    test = [{"seed": TEST_SEED + i, "anatomy": "mni152" if odd else "colin27"} for i, odd in enumerate(other)]
    return [{**case, "split": "train"} for case in train] + [{**case, "split": "test"} for case in test]


def synthetic_name(seed: int) -> str:
    """The case id of a seed, in BraTS-MET's pattern."""
    return f"BraTS-MET-{seed:05d}-000"


def make_synthetic(folder: str, channel: str, case: dict, progress: Progress = silent) -> dict:
    """Write one brain and its mask below `folder` unless both are there."""
    from ..synthetic.brains import make_case

    name = synthetic_name(case["seed"])
    paths = [Path(folder) / name / f"{name}-{kind}.nii.gz" for kind in (channel, "seg")]
    if not all(path.is_file() for path in paths):
        made = make_case(case["seed"], channels=(channel,), anatomy=case["anatomy"], name=name)
        for path, volume in zip(paths, (made.volumes[channel], made.seg), strict=True):
            write_volume(path, volume)
    progress(1.0, name)
    return {"case": name}


def write_synthetic_split(path: Path, profile: Profile) -> None:
    """The split of the embedded brains: training and test seeds never meet."""
    plan = synthetic_plan(profile)
    names = {
        side: tuple(synthetic_name(c["seed"]).rsplit("-", 1)[0] for c in plan if c["split"] == side)
        for side in ("train", "test")
    }
    split = Split(**names)
    write_json(path, {**asdict(split), "sha256": split.sha256})
