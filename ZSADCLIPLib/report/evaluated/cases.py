"""One case of a finished detection: evaluated as the benchmark evaluates its cases, so that equal numbers are by construction."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import nan
from pathlib import Path

import numpy as np
from scipy import ndimage

from ...detection.caserun import CaseRun
from ...detection.choice import Case
from ...detection.preparation import Look, Prepared
from ...errors import InputError
from ...evaluation.case import evaluate_case
from ...evaluation.intensity_rank import equalised
from ...files.text import parse_json
from ...notes import Note
from ...volumes.reading import read_mask, read_volume

STORED, BEST = "stored", "f1max-per-volume"
"""The two cuts: what detection marked at its own threshold, and the best one of each volume, which is an oracle."""
REGION = "brain"
"""Where lesions are matched and the best threshold is found."""
LESIONS, HEALTHY, NO_TRUTH = "with lesions", "healthy", "without truth"
"""The groups of cases: the truth marks something, it marks nothing, there is none that can be used."""
BASELINE = "intensity"
FAR_MM = 20.0
"""Brain farther than this from every lesion counts as healthy tissue: the other hemisphere, the cerebellum."""
_SIZE = 240  # pixels of the model's square, none of which is used here
_MARKED = "fixed:0.5"  # cuts a mask of 0 and 1


@dataclass(frozen=True, eq=False)
class Scan:
    """A case as detection looked at it; `truth` is bool (I, J, K), None where there is none that can be used."""

    id: str
    subject: str
    prepared: Prepared
    truth: np.ndarray | None

    @property
    def group(self) -> str:
        """One of LESIONS, HEALTHY and NO_TRUTH."""
        return NO_TRUTH if self.truth is None else LESIONS if self.truth.any() else HEALTHY

    @cached_property
    def healthy(self) -> np.ndarray | None:
        """Where the brain is farther than FAR_MM from every lesion, bool (I, J, K); None without a truth."""
        if self.group == NO_TRUTH:
            return None
        brain, stack = self.prepared.brain, self.prepared.stack
        if self.group == HEALTHY:
            return brain
        row, column, between = stack.spacing
        distance = ndimage.distance_transform_edt(~stack.arrange(self.truth), (between, row, column))
        return brain & stack.restore(distance > FAR_MM)

    def slices(self, array: np.ndarray) -> np.ndarray:
        """An array (I, J, K) on the scan's grid as its slices (N, R, C)."""
        return self.prepared.stack.arrange(array)

    @property
    def voxel_ml(self) -> float:
        """Millilitres of a voxel."""
        return float(np.prod(self.prepared.stack.spacing)) / 1000


@dataclass(frozen=True, eq=False)
class Output:
    """What detection wrote of a case: `map` raw scores and `mask` bool, both (I, J, K), and `facts`, its JSON."""

    map: np.ndarray
    mask: np.ndarray
    facts: dict


@dataclass(frozen=True, eq=False)
class Measured:
    """One method on one case.

    marked_ml  the volume of the mask; NaN for the baseline, which has no threshold of its own.
    healthy_ml, healthy_marked_ml  the volume of healthy tissue (`Scan.healthy`), and of the mask in it; NaN without a truth.
    values     what `evaluation.case.evaluate_case` gives, with the rules STORED and BEST (baseline: BEST); None in cases
               without lesions.
    """

    method: str
    case: str
    subject: str
    group: str
    threshold: float
    rule: str
    marked_ml: float
    healthy_ml: float
    healthy_marked_ml: float
    notes: tuple[Note, ...]
    values: dict | None
    made_for: dict

    @property
    def warnings(self) -> list[str]:
        """The notes that make the result doubtful."""
        return [f"{note.text} ({note.code})" for note in self.notes if note.severity != "info"]


def read_scan(case: Case, subject: str, run: CaseRun, look: Look) -> Scan:
    """Image, brain and truth of a case, found as detection finds them; raises InputError when the image cannot be read."""
    volume = read_volume(case.image, run.placement, run.series, run.keep_identifiers)
    brain = None
    if run.brain_mask:
        brain = read_mask(run.brain_mask, volume, run.placement, run.resample_mask).array > 0
    truth = None
    if case.mask is not None:
        try:
            truth = read_mask(case.mask, volume, run.placement, run.resample_mask).array > 0
        except InputError:
            truth = None  # detection noted why
    return Scan(case.id, subject, look.prepare(volume, _SIZE, brain=brain), truth)


def read_output(paths: dict[str, Path]) -> Output:
    """The map, mask and JSON of a finished case; raises InputError when one of them cannot be read."""
    try:
        facts = parse_json(paths["json"].read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {paths['json'].name}: {error}; run again") from error
    return Output(read_volume(paths["map"]).array, read_volume(paths["mask"]).array > 0, facts)


def measure(method: str, scan: Scan, output: Output, min_mm3: float) -> Measured:
    """Evaluate what a method gave on a case.

    The rule STORED counts the mask as it was written, BEST the map at its own best threshold; parts below `min_mm3` are
    dropped before lesions are matched. Raises InputError when the files do not fit the scan.
    """
    facts, values = output.facts, None
    if scan.group == LESIONS:
        values = _evaluated(scan, output.map, min_mm3)
        delivered = _evaluate(scan, output.mask.astype(np.float32), {_MARKED: 0.5}, 0.0)["rules"][_MARKED]
        values["rules"] = {STORED: {**delivered, "threshold": facts["threshold"]}, **values["rules"]}
    places = (scan.healthy, None if scan.healthy is None else scan.healthy & output.mask)
    return Measured(
        method,
        scan.id,
        scan.subject,
        scan.group,
        facts["threshold"],
        facts["threshold_rule"],
        np.count_nonzero(output.mask) * scan.voxel_ml,
        *(nan if place is None else np.count_nonzero(place) * scan.voxel_ml for place in places),
        tuple(Note(**note) for note in facts["notes"]),
        values,
        _made_for(facts["provenance"], facts["threshold_rule"]),
    )


def measure_baseline(scan: Scan, min_mm3: float) -> Measured | None:
    """The intensity's rank in the brain as a map, at its best threshold; None for a case without lesions."""
    if scan.group != LESIONS:
        return None
    stack = scan.prepared.stack
    map = stack.restore(equalised(stack.array, scan.slices(scan.prepared.brain)))
    values = _evaluated(scan, map, min_mm3)
    return Measured(BASELINE, scan.id, scan.subject, LESIONS, nan, "", nan, nan, nan, (), values, {})


def _evaluated(scan: Scan, map: np.ndarray, min_mm3: float) -> dict:
    return {"case": scan.id, "subject": scan.subject, **_evaluate(scan, map, {BEST: None}, min_mm3)}


def _evaluate(scan: Scan, map: np.ndarray, thresholds: dict, min_mm3: float) -> dict:
    if map.shape != scan.truth.shape:
        raise InputError(f"the map of {scan.id} has shape {map.shape}, its image {scan.truth.shape}; run again")
    arrays = (scan.slices(array) for array in (map, scan.truth, scan.prepared.brain))
    return evaluate_case(*arrays, thresholds, scan.prepared.stack.spacing, min_mm3=min_mm3, region=REGION)


def _made_for(provenance: dict, rule: str) -> dict[str, str]:
    """What the model was made for and trained on, in words."""
    adapter = provenance["adapter"]["provenance"]
    return {
        "backbone": provenance["backbone"]["name"],
        "pictures": adapter.get("world", {}).get("pictures", "not said"),
        "trained_on": adapter.get("trained_on", "not said"),
        "threshold": adapter.get("threshold_rule", "not said") if rule == "checkpoint" else "not the adapter's own",
        "use": adapter.get("use", "not said"),
    }
