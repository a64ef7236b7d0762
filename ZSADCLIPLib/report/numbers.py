"""A run's numbers, each computed once, and the words that tables and figures have for them."""

from __future__ import annotations

from functools import cached_property
from math import nan

from ..benchmark.rows import METHOD_LABELS, SETUP_LABELS
from ..evaluation.metrics import SCORES, metric_of
from ..evaluation.statistics import Summary, summarize
from ..evaluation.thresholds import parse_rule
from .axis import BINS, Axis
from .results import Choice, Result, Run

REGION_LABELS = {
    "all": "all voxels",
    "brain": "brain voxels",
    "bbox": "voxels of the brain's bounding box",
    "lesion-slices": "voxels of slices with lesion (oracle)",
}

SLICE_LABELS = {
    "lesion": "slices with lesion",
    "lesion-or-prediction": "slices with lesion or prediction",
    "all": "all slices",
}

SYNTHETIC = ("mini", "ci")
"""Profiles whose volumes are made for the run."""

NOTHING = Summary(0, 0, *(nan,) * 7)


class Numbers:
    """A run with its summaries over test cases, each computed once."""

    def __init__(self, run: Run):
        self.run = run
        self._known: dict[tuple, Summary] = {}

    def summary(self, result: Result, metric: str, choice: Choice) -> Summary:
        """`statistics.summarize` of one row's metric; nothing at all where the row lacks the threshold rule."""
        key = (result.row.id, metric, choice)
        if key not in self._known:
            available = metric_of(metric).needs == SCORES or choice.rule in result.rules
            self._known[key] = summarize(result.values(metric, choice), result.subjects) if available else NOTHING
        return self._known[key]

    @property
    def rules(self) -> tuple[str, ...]:
        """Threshold rules that any row can answer, the primary one first."""
        primary = self.run.choices()[0].rule
        return tuple(dict.fromkeys([primary, *(rule for r in self.run.results for rule in r.rules)]))

    @cached_property
    def axis(self) -> Axis:
        """The distance along the brain and its bins, the same for all rows."""
        cases = [case for result in self.run.results for case in result.files.cases]
        return Axis.over(self.run.info.get("axis", "extent"), int(self.run.info.get("bins", BINS)), cases)

    def choice(self, region: str) -> Choice:
        """The primary choice, over this region."""
        return next(choice for choice in self.run.choices() if choice.region == region)

    @property
    def is_synthetic(self) -> bool:
        """Whether the volumes were made for the run."""
        return self.run.info.get("profile") in SYNTHETIC

    @property
    def cases(self) -> int:
        """The largest number of test cases of a row."""
        return max(len(result.files.cases) for result in self.run.results)


def rule_label(name: str) -> str:
    """A threshold rule in words, with "(oracle)" where it saw the test truth."""
    return parse_rule(name).label


def said(choice: Choice) -> str:
    """Region and threshold rule for a caption."""
    return f"{REGION_LABELS[choice.region].capitalize()}. Threshold: {rule_label(choice.rule)}."


def few_shot(run: Run) -> tuple[str, ...]:
    """A note when rows compare with normal slices of training subjects."""
    rows = [r.row.label for r in run.results if r.files.manifest.get("reference")]
    return (f"Few-shot, not zero-shot, with normal slices of training subjects: {', '.join(rows)}.",) if rows else ()


def unfinished(run: Run) -> tuple[str, ...]:
    """A note on rows that were begun and have no numbers yet."""
    started = sorted(row_id_of(name) for name in run.info["unfinished"])
    return (f"Unfinished, so without numbers: {', '.join(started)}. Run the benchmark again.",) if started else ()


def made_for(result: Result) -> str:
    """What a row's model was made for and trained on, in words."""
    manifest, row = result.files.manifest, result.row
    name = (manifest.get("backbone") or {}).get("name")
    if name is None:
        return "no model, the rank of the intensity"
    subjects = (manifest.get("training") or {}).get("subjects")
    of = f" of {subjects} training subjects" if subjects else ""
    trained = {
        "brain": f"an adapter trained on brain slices with lesions{of} of the same data set",
        "healthy": f"an adapter trained on brain slices without lesion{of} of the same data set, with synthetic anomalies",
        "support": "an adapter trained on a few brain slices of the same data set",
    }
    made = "an adapter trained on industrial pictures, not on brains" if row.start else "nothing was trained"
    return f"{trained.get(row.trained_on, made)}; the backbone is {name}"


def row_id_of(folder: str) -> str:
    """The row's id from its folder name ROW-KEY."""
    return folder.rsplit("-", 1)[0]


SHOT = "-shot"


def names_of(result: Result) -> tuple[str, str]:
    """Model and setup of a row for a table; few-shot ones say so."""
    shots = (result.files.manifest.get("reference") or {}).get("kshot")
    few = f", {shots}{SHOT}" if shots else ""
    return METHOD_LABELS[result.row.method] + few, SETUP_LABELS[result.row.setup]
