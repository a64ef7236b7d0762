"""Review files: what a reader says of the findings of a run, as JSON that pages, Slicer and exports share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

from ..errors import InputError, UsageError
from ..fields import AtLeast, Count, OneOf, Positive, from_dict
from ..files.text import parse_json, write_json
from .finished import ID

FORMAT, VERSION = "zsadclip-review", 1
VERDICTS = ("accept", "reject", "unsure")
ENDING = "_review.json"
LONGEST_NOTE, LONGEST_NAME, MOST = 2000, 40, 2000  # letters, letters, findings or marks of a case
LARGEST = 1 << 24  # bytes
Point = tuple[float, float, float]


@dataclass(frozen=True)
class Judged:
    """A finding that was judged: `label` is its value in `volumes.components.components` of the mask, `rank` null when blind."""

    label: Positive
    peak_ras: Point
    verdict: Annotated[str, OneOf(VERDICTS)]
    note: str = ""
    rank: Positive | None = None


@dataclass(frozen=True)
class Missed:
    """A place that should have been found, RAS mm."""

    ras: Point
    note: str = ""


@dataclass(frozen=True)
class CaseReview:
    """What a reader says of a case whose result has the `seal`; findings that were not judged are left out."""

    id: str
    seal: str
    threshold: float | None = None
    findings: tuple[Judged, ...] = ()
    missed: tuple[Missed, ...] = ()
    finished: bool = False
    seconds: Annotated[float, AtLeast(0)] = 0.0

    def labels(self, verdict: str) -> set[int]:
        """The findings with a verdict."""
        return {each.label for each in self.findings if each.verdict == verdict}


@dataclass(frozen=True)
class Review:
    """One reader's review of one case or many."""

    reviewer: str
    cases: tuple[CaseReview, ...]
    blind: bool = False
    format: Annotated[str, OneOf((FORMAT,))] = FORMAT
    version: Count = VERSION
    software: str = ""

    def case(self, case_id: str) -> CaseReview | None:
        """The review of a case, None where there is none."""
        return next((case for case in self.cases if case.id == case_id), None)


def review_from(data: object, where: str = "the review") -> Review:
    """A review from its JSON; raises InputError naming the field, its value and what was expected."""
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise InputError(f'{where} is no review file; expected JSON with "format": "{FORMAT}"')
    if data.get("version") != VERSION:
        raise InputError(f"{where} has version {data.get('version')!r:.20}; this software reads version {VERSION}")
    try:
        review = from_dict(Review, data, f"{where}:")
    except UsageError as error:
        raise InputError(str(error)) from error
    if not 0 < len(review.reviewer) <= LONGEST_NAME or not review.reviewer.isprintable():
        raise InputError(f"{where}: reviewer {review.reviewer!r:.60}; expected a name of 1 to {LONGEST_NAME} letters")
    ids = [case.id for case in review.cases]
    if len(set(ids)) < len(ids):
        raise InputError(f"{where} has a case twice; expected each once")
    for case in review.cases:
        _check(case, where)
    return review


def _check(case: CaseReview, where: str) -> None:
    if not ID.fullmatch(case.id):
        raise InputError(f"{where}: the id {case.id!r:.60} is no plain file name")
    labels = [each.label for each in case.findings]
    if len(set(labels)) < len(labels):
        raise InputError(f"{where}: a finding of {case.id} is judged twice")
    if max(len(labels), len(case.missed)) > MOST:
        raise InputError(f"{where}: {case.id} has more than {MOST} entries")
    if any(len(each.note) > LONGEST_NOTE for each in (*case.findings, *case.missed)):
        raise InputError(f"{where}: a note of {case.id} has more than {LONGEST_NOTE} letters")


def read_review(path: Path) -> Review:
    """The review in a file; raises InputError when it is none."""
    try:
        if path.stat().st_size > LARGEST:
            raise InputError(f"{path.name} has more than {LARGEST >> 20} MB; it is no review file")
        data = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path.name}: {error}; expected a review file") from error
    return review_from(data, path.name)


def read_reviews(paths: Iterable[str | os.PathLike]) -> list[Review]:
    """One review for each reader in files and folders, in the order of their names.

    Of a folder all files *.json at or below it that are reviews count. Raises InputError for a file that is none, and for a
    reader with two opinions on one case.
    """
    by_reader: dict[str, Review] = {}
    for path in (file for each in paths for file in _files(Path(each).expanduser())):
        review = read_review(path)
        known = by_reader.setdefault(review.reviewer, replace(review, cases=()))
        for case in review.cases:
            if (other := known.case(case.id)) not in (None, case):
                raise InputError(
                    f"{path.name}: {review.reviewer} judged {case.id} twice, and not alike; leave one of the files out, or "
                    "give the readers different names"
                )
            known = replace(known, cases=(*known.cases, *([] if other else [case])))
        by_reader[review.reviewer] = known
    if not by_reader:
        raise InputError("no review file there; name files that a review page saved, or folders with them")
    return [by_reader[name] for name in sorted(by_reader)]


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    return [file for file in sorted(path.rglob("*.json")) if _says_review(file)]


def _says_review(path: Path) -> bool:
    try:
        data = parse_json(path.read_bytes()) if path.stat().st_size <= LARGEST else None
    except (OSError, ValueError):
        return False
    return isinstance(data, dict) and data.get("format") == FORMAT


def write_review(path: Path, review: Review) -> None:
    """Write a review file, complete or not at all."""
    write_json(path, to_dict(review))


def to_dict(review: Review) -> dict:
    """The JSON of a review, what it is first."""
    data = asdict(review)
    return {key: data.pop(key) for key in ("format", "version", "reviewer")} | data


def fits(case: CaseReview, seal: str, labels: Sequence[int]) -> None:
    """Raise InputError unless a review is of the result with this seal and judges findings that it has."""
    if case.seal != seal:
        raise InputError(f"the review of {case.id} is of another result than the one in this folder; review it again")
    if unknown := {each.label for each in case.findings} - set(labels):
        raise InputError(f"the review of {case.id} judges the finding {min(unknown)}, which the result does not have")
