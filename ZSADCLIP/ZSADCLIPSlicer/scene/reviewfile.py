"""Verdicts on a result as the review file that the page of `zsadclip review` writes and reads, too."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import slicer
import slicer.util
from slicer.i18n import tr as _

import ZSADCLIPLib
from ZSADCLIPLib.errors import InputError
from ZSADCLIPLib.review.verdicts import CaseReview, Judged, Missed, Review, fits, read_review, write_review

from . import findingstable


def write(result, path, reader: str) -> int:
    """Write the verdicts on the findings of the run; returns how many there are.

    A finding is judged by what the panel keeps or rejects at its place; those that the threshold of the panel hides are left
    out. Raises InputError without a reader's name or a seal.
    """
    if not reader.strip():
        raise InputError(_("A review has the name of its reader: fill in the field Reader."))
    labels, findings = ofRun(result)
    verdicts, judged = _verdicts(result), []
    for finding in findings:
        here = [kept for peak, kept in verdicts.items() if labels[peak] == finding.label]
        if here:
            judged.append(
                Judged(
                    label=finding.label,
                    peak_ras=finding.peak_ras,
                    verdict="accept" if any(here) else "reject",
                    rank=finding.rank,
                )
            )
    case = CaseReview(
        id=idOf(result), seal=_seal(result), threshold=result.threshold, findings=tuple(judged), missed=_missed(result)
    )
    write_review(Path(path), Review(reader.strip(), (case,), software=f"ZSADCLIP {ZSADCLIPLib.__version__}"))
    return len(judged)


def read(result, path) -> str:
    """Take verdicts, threshold and missed places of a review file; the reader's name.

    Raises InputError for another file, and one that has nothing on this result.
    """
    review, seal = read_review(Path(path)), _seal(result)
    case = next((case for case in review.cases if case.seal == seal), None)
    if case is None:
        raise InputError(_("{file} reviews {names}, none of which is this result: its seal differs.").format(
            file=Path(path).name, names=", ".join(case.id for case in review.cases) or _("nothing")))  # fmt: skip
    _labels, findings = ofRun(result)
    known = {finding.label: finding for finding in findings}
    fits(case, seal, list(known))
    toVoxel, verdicts = np.linalg.inv(result.volume.affine), []
    for each in case.findings:
        if each.verdict != "unsure":  # the panel keeps what is not rejected
            peak = np.rint(toVoxel @ [*known[each.label].peak_ras, 1.0])[:3].astype(int)
            verdicts.append([*map(int, peak), each.verdict == "accept"])
    findingstable.setVerdicts(result.findings, json.dumps(verdicts))
    _showMissed(result, case, review.reviewer)
    result.setThreshold(result.threshold if case.threshold is None else case.threshold)
    return review.reviewer


def idOf(result) -> str:
    """The name of the volume as the id of a case: letters, digits, dots and dashes."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", result.input.GetName()).lstrip(".-")[:120] or "case"


def _seal(result) -> str:
    if not result.attribute("Seal"):
        raise InputError(_("The result has no seal that a review could refer to: run again."))
    return result.attribute("Seal")


def ofRun(result):
    """The parts int32 (I, J, K) and findings at the threshold and sizes of the run, labelled as in its mask."""
    from ZSADCLIPLib.detection.findings import find
    from ZSADCLIPLib.evaluation.thresholds import reaches
    from ZSADCLIPLib.volumes.components import components, remove_small, slices_deep

    provenance, stack = json.loads(result.attribute("Provenance")), result.stack
    mask = reaches(result.inside.T, float(result.attribute("RunThreshold")))
    deep = slices_deep(provenance["min_depth_mm"], stack.spacing[2], len(stack.array))
    mask = remove_small(mask, result.volume.spacing, provenance["min_size_mm3"], deep, stack.permutation[0])
    return components(mask), find(result.volume, mask, stack, brain=result.brain)


def _verdicts(result) -> dict[tuple[int, int, int], bool]:
    """Peak voxel to verdict: what is in the table now, and what was judged at other thresholds."""
    rows = findingstable.rowsOf(result.findings)
    now = {(row["Peak I"], row["Peak J"], row["Peak K"]): bool(row["Accepted"]) for row in rows}
    earlier = json.loads(findingstable.verdictsOf(result.findings))
    return {tuple(peak): kept for *peak, kept in earlier} | now


def _missed(result) -> tuple[Missed, ...]:
    node = result.missed
    count = node.GetNumberOfControlPoints() if node is not None else 0
    return tuple(
        Missed(ras=tuple(node.GetNthControlPointPositionWorld(n)), note=node.GetNthControlPointDescription(n))
        for n in range(count)
    )


def _showMissed(result, case: CaseReview, reader: str) -> None:
    """The places that should have been found as points."""
    if result.missed is not None:
        slicer.mrmlScene.RemoveNode(result.missed)
    if not case.missed:
        return
    from .display import placeListKept

    with placeListKept():
        name = _("{name} missed ({reader})").format(name=result.input.GetName(), reader=reader)
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLMarkupsFiducialNode", name)
    for each in case.missed:
        index = node.AddControlPointWorld(list(each.ras), _("missed"))
        node.SetNthControlPointDescription(index, each.note)
    result.link("missed", node)
