"""What readers accepted: mask, JSON and table of the findings that stay."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..adapters import METHODS
from ..detection.choice import Case
from ..detection.objects import is_dicom_case, outcome_of
from ..errors import InputError
from ..files.digests import seal
from ..files.text import write_csv, write_json
from ..neighbours import LABELS
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


def apply_reviews(
    cases: Sequence[Finished],
    reviews: Sequence[Review],
    folder: Path,
    images: Mapping[str, Path] | None = None,
    series: str | None = None,
) -> dict:
    """Write ID_mask.nii.gz, ID.json and findings.csv of what was accepted; {"cases", "accepted", "of", "output", "objects"}.

    Only reviewed cases are written. With `images` (by id) the accepted findings of each DICOM case are also written as DICOM
    objects, to FOLDER/dicom/ID; "objects" counts these cases. Raises InputError where no case was reviewed, for a review of
    another result, for headers that will not do, and for a folder that holds the run itself.
    """
    if any(case.folder.resolve() == folder.resolve() for case in cases):
        raise InputError(f"{folder} holds the run itself, which stays as it is; name another folder")
    results = [result for case in cases if (result := kept(case, reviews)) is not None]
    if not results:
        raise InputError("no case of this run was reviewed; are the review files of another run?")
    rows, objects = [], 0
    sources = _sources(results, images or {}, series)  # before anything is written
    for result in results:
        _write(result, folder)
        if (of := sources.get(result.case.id)) is not None:
            _export(result, of, folder)
            objects += 1
        rows += [_row(result, finding) for finding in result.findings]
    write_csv(folder / "findings.csv", rows, COLUMNS)
    return {
        "cases": len(results),
        "accepted": len(rows),
        "of": sum(len(result.case.facts["findings"]) for result in results),
        "output": str(folder),
        "objects": objects,
    }


def _sources(results: Sequence[Kept], images: Mapping[str, Path], series: str | None) -> dict:
    """The headers of the DICOM images among those of reviewed cases, by id."""
    from ..dicom.sources import read_sources

    named = {result.case.id: images[result.case.id] for result in results if result.case.id in images}
    return {name: read_sources(path, series) for name, path in named.items() if is_dicom_case(Case(name, path))}


def _export(result: Kept, sources, folder: Path) -> None:
    from ..dicom.export import export, folder_of

    case = result.case
    method = case.facts["provenance"].get("adapter", {}).get("method", "")
    label = METHODS[method].label if method in METHODS else LABELS.get(method, method)
    mask = components(case.mask().array > 0)
    outcome = outcome_of(case.map(), mask, case.facts, result.findings, label, case.facts["settings"])
    export(folder_of(folder, case.id), sources, outcome, "results")


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
