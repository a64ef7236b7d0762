"""Labelled data sets: BraTS folders of any year by file name pattern, or a manifest CSV, as a list of records."""

from __future__ import annotations

import os
import re
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import InputError, UsageError
from ..files.folders import walk
from ..files.names import safe_ids, split_suffix
from ..notes import settled
from ..volume import Volume
from ..volumes.checks import size_notes
from ..volumes.intensity import brain_mask
from ..volumes.reading import read_mask, read_volume
from .labels import label_rule
from .manifest import read_manifest, where

CHANNELS = ("t1n", "t1c", "t2w", "t2f")
_OLD_CHANNELS = {"t1": "t1n", "t1ce": "t1c", "t1gd": "t1c", "t2": "t2w", "flair": "t2f"}
_PATTERNS = (
    # BraTS-MET-00002-000-t2w (2023 to 2026; also GLI and the other tasks): a five-digit subject and a visit
    re.compile(
        r"(?P<case>(?P<subject>BraTS-(?P<task>[A-Za-z]+)-\d+)-(?P<visit>\d+))[-_](?P<kind>t1n|t1c|t2w|t2f|seg)", re.I
    ),
    # BraTS2021_00002_t2, BraTS20_Training_001_seg, BraTS19_CBICA_AAB_1_flair
    re.compile(r"(?P<case>(?P<subject>BraTS(?P<year>20\d\d|\d\d)_\w+?))_(?P<kind>t1ce|t1gd|t1|t2|flair|seg)", re.I),
    # the industrial domain of this project
    re.compile(r"(?P<case>(?P<subject>industrial-\d+))-(?P<kind>image|seg)", re.I),
)


@dataclass(frozen=True)
class Record:
    """One labelled case.

    `id` is unique and safe as a file name; `subject` is the patient, who may have several cases; `image` holds the channel
    asked for; `mask` the labels, None (only in manifests) when the case is healthy; `split` "train", "test" or None; `site`
    the folder path between the root and the case; `rule` names the entry of LABEL_RULES.
    """

    id: str
    subject: str
    image: Path
    mask: Path | None = None
    split: str | None = None
    site: str = ""
    rule: str = "2024"


def find_records(
    source: str | os.PathLike, channel: str = "t2w", rule: str = "auto", problems: list[str] | None = None
) -> list[Record]:
    """The labelled cases of a folder (searched below at any depth) or of a manifest CSV, sorted by id.

    `rule` "auto" takes the year from the path (a 20xx in a folder's name), else the 2024 rule, which reads 2023 masks
    alike. Manifests are read by `manifest.read_manifest`: a line's own rule comes first, `rule` "auto" means "nonzero", a case
    without a subject is its own, and ids become file names as in `names.safe_ids`. With `problems` given, cases of a folder
    that cannot be used are described there and left out; otherwise they raise InputError.
    """
    path = Path(source).expanduser()
    if path.is_file():
        return _from_manifest(path, "nonzero" if rule == "auto" else rule)
    if not path.is_dir():
        raise InputError(f"there is no folder or manifest {path}; check the name")
    if channel not in (*CHANNELS, "image"):
        raise UsageError(f"unknown channel {channel!r}; choose one of {', '.join(CHANNELS)}")
    files: dict[str, dict[str, list[Path]]] = defaultdict(lambda: defaultdict(list))
    facts: dict[str, dict[str, str]] = {}
    for folder, names in walk(path):
        for name in names:
            facts_of_file = match_name(name)
            if facts_of_file:
                case = facts_of_file["case"]
                files[case][facts_of_file["kind"]].append(folder / name)
                facts.setdefault(case, facts_of_file)
    records, wrong = [], []
    for case, kinds in sorted(files.items()):
        try:
            records.append(_record(path, case, facts[case], kinds, channel, rule))
        except InputError as error:
            wrong.append(str(error))
    if not files:
        raise InputError(
            f"{path} holds no case: expected names such as BraTS-MET-00002-000-t2w.nii.gz, at any depth, or a manifest .csv "
            "or .tsv"
        )
    if wrong and problems is None:
        raise InputError(wrong[0] + (f" (and {len(wrong) - 1} more cases)" if len(wrong) > 1 else ""))
    if problems is not None:
        problems.extend(wrong)
    return _named_safely(records)


def match_name(name: str) -> dict[str, str] | None:
    """case, subject, kind (a channel, "image" or "seg") and, where it is in the name, year; None for other files."""
    stem, suffix = split_suffix(Path(name))
    if suffix not in (".nii", ".nii.gz"):
        return None
    for pattern in _PATTERNS:
        match = pattern.fullmatch(stem)
        if match:
            facts = {key: value for key, value in match.groupdict().items() if value}
            kind = facts["kind"].lower()
            return {**facts, "kind": _OLD_CHANNELS.get(kind, kind) if "year" in facts else kind}
    return None


def _record(root: Path, case: str, facts: dict, kinds: dict[str, list[Path]], channel: str, rule: str) -> Record:
    wanted = "image" if "image" in kinds else channel
    for kind, paths in sorted(kinds.items()):
        if len(paths) > 1:
            places = ", ".join(str(p) for p in paths)
            raise InputError(f"case {case} has more than one {kind} file: {places}; keep one")
    if wanted not in kinds:
        raise InputError(
            f"case {case} has no {wanted} file beside its {', '.join(sorted(kinds))}; add it or leave it out"
        )
    image = kinds[wanted][0]
    if rule == "auto":
        rule = "nonzero" if "image" in kinds else _year(root, image, facts)
    site = image.parent.relative_to(root)
    site = site.parent if site.name == case else site
    if "seg" not in kinds:
        raise InputError(f"case {case} has no seg file; unlabelled cases can neither train nor test")
    return Record(
        case, facts["subject"], image, kinds["seg"][0], None, "" if site == Path(".") else site.as_posix(), rule
    )


def _year(root: Path, image: Path, facts: dict) -> str:
    if "year" in facts:
        return "2018-2021"
    # The folder nearest to the file says most; the root's own name counts, folders above it do not.
    for part in reversed((root.resolve().name, *image.parent.relative_to(root).parts)):
        match = re.search(r"(?<!\d)(202[3-6])(?!\d)", part)
        if match:
            return match.group(1)
    return "2024"


def _from_manifest(path: Path, rule: str) -> list[Record]:
    records = []
    for entry in read_manifest(path):
        if entry.split not in ("", "train", "test"):
            raise InputError(
                f"{where(path, entry.line)} has the split {entry.split!r}; expected train, test or nothing"
            )
        records.append(
            Record(
                id=entry.id,
                subject=entry.subject or entry.id,
                image=entry.image,
                mask=entry.mask,
                split=entry.split or None,
                site=entry.site,
                rule=entry.rule or rule,
            )
        )
    return _named_safely(records)


def _named_safely(records: list[Record]) -> list[Record]:
    """The records sorted by id, each id made a file name, since results are written under it; subjects stay as they are."""
    ids = safe_ids([record.id for record in records])
    return sorted((replace(r, id=id) for r, id in zip(records, ids, strict=True)), key=lambda record: record.id)


@dataclass(frozen=True, eq=False)
class LabelledCase:
    """A record with its voxels: `truth`, `ignore` and `brain` are boolean (I, J, K) on the image's grid."""

    record: Record
    image: Volume
    truth: np.ndarray
    ignore: np.ndarray
    brain: np.ndarray


def read_case(
    record: Record,
    target: str = "wt",
    ignore: tuple[int, ...] = (),
    placement: str | None = None,
    allow: tuple[str, ...] = (),
) -> LabelledCase:
    """Read a record's image and mask; without a mask file nothing is lesion.

    `target` and further `ignore` label values go to the record's label rule, `placement` to `read_volume`. Raises InputError
    for unreadable files, doubts about the image that `allow` does not name, another grid, or label values that the rule does
    not know.
    """
    image = read_volume(record.image, placement)
    try:
        image = replace(image, notes=settled((*image.notes, *size_notes(image)), allow))
    except InputError as error:
        raise InputError(f"case {record.id}: {error}") from error
    if record.mask is None:
        nothing = np.zeros(image.shape, bool)
        return LabelledCase(record, image, nothing, nothing, brain_mask(image))
    labels = read_mask(record.mask, image, placement).array
    try:
        truth, ignored = label_rule(record.rule, ignore).split(labels, target)
    except InputError as error:
        raise InputError(f"case {record.id}: {error}") from error
    return LabelledCase(record, image, truth, ignored, brain_mask(image))
