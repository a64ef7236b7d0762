"""What readers accepted: mask, JSON and table of the findings that stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import InputError
from ..files.digests import seal
from ..files.text import write_csv, write_json
from ..volumes.components import components
from ..volumes.reading import write_volume
from .finished import Finished
from .verdicts import CaseReview, Review, fits

FOLDER = "accepted"
"""The folder in a run where accepted findings go, unless another one is named."""
COLUMNS = ("id", "label", "rank", "volume_mm3", "peak", "mean", "side", "r", "a", "s", "accepted_by", "readers", "note")


@dataclass(frozen=True)
class Kept:
    """The findings of a case that stay, as its JSON has them, and what readers said of it."""

    case: Finished
    findings: list[dict]
    opinions: dict[str, CaseReview]

    @property
    def labels(self) -> set[int]:
        return {finding["label"] for finding in self.findings}


def kept(case: Finished, reviews: Sequence[Review]) -> Kept | None:
    """The findings of a case that more than half of those who judged them accept; None where nobody reviewed it.

    "Unsure" is a judgement and no acceptance. Raises InputError when a review is of another result.
    """
    opinions = {review.reviewer: said for review in reviews if (said := review.case(case.id)) is not None}
    for said in opinions.values():
        fits(said, case.seal, [finding["label"] for finding in case.facts["findings"]])
    if not opinions:
        return None
    stay = []
    for finding in case.facts["findings"]:
        verdicts = _verdicts(finding["label"], opinions)
        if 2 * list(verdicts.values()).count("accept") > len(verdicts):
            stay.append(finding)
    return Kept(case, stay, opinions)


def apply_reviews(cases: Sequence[Finished], reviews: Sequence[Review], folder: Path) -> dict:
    """Write ID_mask.nii.gz, ID.json and findings.csv of what was accepted; {"cases", "accepted", "of", "output"}.

    Only reviewed cases are written. Raises InputError where no case was reviewed, for a review of another result, and for a
    folder that holds the run itself.
    """
    if any(case.folder.resolve() == folder.resolve() for case in cases):
        raise InputError(f"{folder} holds the run itself, which stays as it is; name another folder")
    results = [result for case in cases if (result := kept(case, reviews)) is not None]
    if not results:
        raise InputError("no case of this run was reviewed; are the review files of another run?")
    rows = []
    for result in results:
        _write(result, folder)
        rows += [_row(result, finding) for finding in result.findings]
    write_csv(folder / "findings.csv", rows, COLUMNS)
    return {
        "cases": len(results),
        "accepted": len(rows),
        "of": sum(len(result.case.facts["findings"]) for result in results),
        "output": str(folder),
    }


def _write(result: Kept, folder: Path) -> None:
    case, path = result.case, folder / f"{result.case.id}_mask.nii.gz"
    mask = case.mask()
    stays = np.isin(components(mask.array > 0), sorted(result.labels))
    write_volume(path, mask.with_array(stays.astype(np.uint8)), "uint8")
    readers = {
        name: {
            "finished": said.finished,
            "seconds": said.seconds,
            "verdicts": {str(each.label): each.verdict for each in said.findings},
            "missed": [{"ras": each.ras, "note": each.note} for each in said.missed],
        }
        for name, said in result.opinions.items()
    }
    facts = {key: value for key, value in case.facts.items() if key not in ("seal", "slice_scores")}
    told = {key: case.facts["summary"][key] for key in ("id", "status", "error", "volume_score", "threshold")}
    told |= {"findings": len(result.findings), "volume_mm3": sum(each["volume_mm3"] for each in result.findings)}
    facts |= {"findings": result.findings, "files": seal([path]), "summary": told}
    write_json(folder / f"{case.id}.json", facts | {"review": {"of": case.seal, "readers": readers}})


def _row(result: Kept, finding: dict) -> dict:
    verdicts = _verdicts(finding["label"], result.opinions)
    notes = (each.note for said in result.opinions.values() for each in said.findings if each.label == finding["label"])
    row = {key: finding[key] for key in ("label", "rank", "volume_mm3", "peak", "mean", "side")}
    return {
        "id": result.case.id,
        **row,
        **dict(zip("ras", finding["peak_ras"], strict=True)),
        "accepted_by": list(verdicts.values()).count("accept"),
        "readers": len(verdicts),
        "note": cell(" / ".join(filter(None, notes))),
    }


def _verdicts(label: int, opinions: dict[str, CaseReview]) -> dict[str, str]:
    """The verdict of each reader who judged a finding."""
    return {name: each.verdict for name, said in opinions.items() for each in said.findings if each.label == label}


def cell(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
