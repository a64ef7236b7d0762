"""Train and test by subject: seeded, written to a file, reusable, never overlapping."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from ..errors import InputError, UsageError
from ..files.text import parse_json, write_json
from .records import Record

FRACTION = 0.7
SEED = 2024
STRATA = 4
PAPER_ADACLIP_SUBJECTS = 50  # the paper trained AdaCLIP on as many patients as it tested on


@dataclass(frozen=True)
class Split:
    """Subjects for training and for testing; raises InputError when one is in both or named twice."""

    train: tuple[str, ...]
    test: tuple[str, ...]
    seed: int | None = None
    fraction: float | None = None

    def __post_init__(self):
        both = sorted(set(self.train) & set(self.test))
        if both:
            raise InputError(
                f"{len(both)} subjects are in train and test, among them {', '.join(both[:5])}; keep each once"
            )
        for name, subjects in (("train", self.train), ("test", self.test)):
            if len(set(subjects)) < len(subjects):
                raise InputError(f"the split names a subject twice in {name}; keep each once")

    @property
    def sha256(self) -> str:
        """Hash of who trains and who tests, whatever the order in the file."""
        text = json.dumps({"train": sorted(self.train), "test": sorted(self.test)}, ensure_ascii=True)
        return hashlib.sha256(text.encode()).hexdigest()


def make_split(
    subjects: Iterable[str], fraction: float = FRACTION, seed: int = SEED, volumes: Mapping[str, float] | None = None
) -> Split:
    """A seeded split of distinct subjects, int(fraction * n) for training.

    The order is that of SHA-256 over seed and name, so it depends on no library version and not on the order given. With
    `volumes` (lesion volume of each subject) it is stratified: subjects in the order of their volume are cut into `STRATA`
    groups of nearly equal size, and each gives its share to training; sizes are those of a split without strata.
    Raises UsageError unless 0 < fraction < 1, InputError when a side would be empty.
    """
    if not 0 < fraction < 1:
        raise UsageError(f"the training fraction {fraction} is not between 0 and 1")
    order = shuffled(subjects, seed)
    order = order if volumes is None else _interleaved(order, volumes, fraction)
    size = int(fraction * len(order) + 1e-9)
    if not 0 < size < len(order):
        raise InputError(
            f"{len(order)} subjects cannot be split {fraction:g} to {1 - fraction:g}; at least one on each side"
        )
    return Split(tuple(sorted(order[:size])), tuple(sorted(order[size:])), seed, fraction)


def _interleaved(order: list[str], volumes: Mapping[str, float], fraction: float) -> list[str]:
    """The order with those first that train in their stratum: shares rounded down, what is missing from the largest rests."""
    by_volume = sorted(order, key=lambda subject: (volumes[subject], subject))
    cuts = [len(order) * k // STRATA for k in range(STRATA + 1)]
    stratum = {s: k for k in range(STRATA) for s in by_volume[cuts[k] : cuts[k + 1]]}
    groups = [[s for s in order if stratum[s] == k] for k in range(STRATA)]
    wanted = [fraction * len(group) for group in groups]
    taken = [int(share + 1e-9) for share in wanted]
    rests = sorted(range(STRATA), key=lambda k: taken[k] - wanted[k])
    for k in rests[: int(fraction * len(order) + 1e-9) - sum(taken)]:
        taken[k] += 1
    first = {s for group, count in zip(groups, taken, strict=True) for s in group[:count]}
    return [s for s in order if s in first] + [s for s in order if s not in first]


def shuffled(subjects: Iterable[str], seed: int) -> list[str]:
    """Distinct subjects in a seeded order that depends on names and seed only; the first n are a random subset."""
    return sorted(set(subjects), key=lambda s: hashlib.sha256(f"{seed}:{s}".encode()).hexdigest())


def write_split(path: str | os.PathLike, split: Split) -> None:
    """Write the split as JSON, to be committed and reused."""
    write_json(
        path,
        {
            "seed": split.seed,
            "fraction": split.fraction,
            "sha256": split.sha256,
            "train": list(split.train),
            "test": list(split.test),
        },
    )


def read_split(path: str | os.PathLike) -> Split:
    """Read a split file; raises InputError when it is damaged, overlaps, or its hash does not fit."""
    try:
        data = parse_json(Path(path).read_text(encoding="utf-8"))
        split = Split(
            tuple(map(str, data["train"])), tuple(map(str, data["test"])), data.get("seed"), data.get("fraction")
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"cannot read the split {path}: {error!r}; expected JSON with the lists train and test"
        ) from error
    if data.get("sha256") not in (None, split.sha256):
        raise InputError(f"the lists in {path} do not fit its sha256; restore the file or remove that entry")
    return split


def apply_split(records: list[Record], split: Split) -> list[Record]:
    """Records of the split's subjects with `split` set; others are left out.

    Raises InputError when a subject of the split has no record: the data is not what the split was made for.
    """
    present = {record.subject for record in records}
    missing = sorted({*split.train, *split.test} - present)
    if missing:
        raise InputError(
            f"{len(missing)} subjects of the split are not in the data, among them {', '.join(missing[:5])}; "
            "use the data the split was made for, or make a new split"
        )
    side = {**dict.fromkeys(split.train, "train"), **dict.fromkeys(split.test, "test")}
    return [replace(record, split=side[record.subject]) for record in records if record.subject in side]


def split_of(records: list[Record]) -> Split:
    """The split that the records themselves carry (a manifest's column); InputError when a subject is on both sides."""
    sides = {name: tuple(sorted({r.subject for r in records if r.split == name})) for name in ("train", "test")}
    return Split(sides["train"], sides["test"])


def without_side(records: list[Record]) -> list[str]:
    """One sentence for each record that has no split although others have one: it takes no part."""
    if not any(record.split for record in records):
        return []
    placed = {record.subject for record in records if record.split}
    return [
        f"case {record.id} has no split while other lines of the manifest have one, so it neither trains nor tests; "
        "write train or test, or leave the column empty everywhere"
        for record in records
        if record.subject not in placed
    ]
