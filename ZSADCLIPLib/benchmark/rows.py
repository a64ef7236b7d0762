"""The benchmark's rows: each method in its setups, which makes the paper's 13 cells and the extra rows of this project.

industrial: the adapter trained on the industrial domain, applied to brains as it is. finetune: that adapter trained on
with brains. brats: the adapter trained on brains from a random start. pmc and biomedclip: as brats, on the backbone
PMC-CLIP or BiomedCLIP. healthy: trained from a random start on slices without lesion, with synthetic anomalies. few-shot: a
memory bank of a few normal slices beside the industrial adapter; or, where a method does that, an adapter that is trained on
these and as many with a lesion, and the bank beside it, if it has one. A training-free method has the cells industrial,
biomedclip and few-shot only. context-brats, smooth-brats and planes-brats: as brats, with evidence of more than a slice
(EVIDENCE). volume: volumes that are compared with training ones (bank) or with each other (cohort).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..adapters.registry import METHODS
from ..errors import UsageError
from ..neighbours import BANK, COHORT, LABELS

_PAPER = ("adaclip", "anovl", "anomalyclip", "vand")  # the order of the paper's table; other methods come after
_METHODS = sorted(METHODS, key=lambda name: _PAPER.index(name) if name in _PAPER else len(_PAPER))
METHOD_LABELS = {**{name: METHODS[name].name for name in _METHODS}, **LABELS, "intensity": "Intensity"}
SETUP_LABELS = {
    "industrial": "Industrial",
    "finetune": "Finetune",
    "brats": "Brats",
    "pmc": "PMC",
    "biomedclip": "BiomedCLIP",
    "healthy": "Healthy",
    "few-shot": "Few-shot",
    "context-brats": "Brats, context",
    "smooth-brats": "Brats, smoothed",
    "planes-brats": "Brats, 3 planes",
    "volume": "Volumes",
    "baseline": "Baseline",
}


FEW_SHOT, SHOTS = "few-shot", 4
"""A setup, and the normal slices that it has where the profile says no other number (`methods.M.kshot`)."""


@dataclass(frozen=True)
class Evidence:
    """What the rows of a setup have that those of the setup `of` lack: settings of their method, keys of the section score."""

    of: str
    settings: dict = field(default_factory=dict)
    score: dict = field(default_factory=dict)


EVIDENCE = {
    "context-brats": Evidence("brats", settings={"context": [-8.0, -4.0, 4.0, 8.0]}),
    "smooth-brats": Evidence("brats", score={"smooth_mm": 2.0, "min_depth_mm": 3.0}),
    "planes-brats": Evidence("brats", score={"planes": ("axial", "coronal", "sagittal")}),
}
"""Setups that look at more than one slice. Those that only score otherwise have the adapter of the row they are compared with."""


@dataclass(frozen=True)
class Row:
    """One cell of the benchmark.

    `backbone` is a role that a profile turns into a model: default, pmc or biomedclip; None without a model. `start` is
    where the adapter's weights come from: industrial, random, or None without an adapter to train. `trained_on` is what
    the row itself trains on: brain, healthy, support (a few slices of brains), or None.
    """

    method: str
    setup: str
    backbone: str | None = "default"
    start: str | None = None
    trained_on: str | None = None

    @property
    def id(self) -> str:
        """Stable name such as "vand-brats"."""
        return f"{self.method}-{self.setup}"

    @property
    def label(self) -> str:
        """Name for tables and figures."""
        return f"{METHOD_LABELS[self.method]} {SETUP_LABELS[self.setup]}"

    @property
    def settings(self) -> dict:
        """Settings of its method that it has where a profile does not say otherwise."""
        return METHODS[self.method].support if self.trained_on == "support" else self.evidence.settings

    @property
    def evidence(self) -> Evidence:
        """What it has beyond slices; nothing for most rows."""
        return EVIDENCE.get(self.setup, Evidence(self.setup))


# Backbone, start and trained_on of a row that trains.
_SETUPS = {
    "industrial": ("default", "industrial", None),
    "finetune": ("default", "industrial", "brain"),
    "brats": ("default", "random", "brain"),
    "pmc": ("pmc", "random", "brain"),
    "biomedclip": ("biomedclip", "random", "brain"),
    "healthy": ("default", "random", "healthy"),
}
_SETUPS |= {setup: _SETUPS[evidence.of] for setup, evidence in EVIDENCE.items()}
_TRAINING_FREE = ("industrial", "biomedclip", FEW_SHOT)  # the setups of a method without a training


def row_of(method: str, setup: str) -> Row:
    """The row of a method in a setup."""
    if setup == FEW_SHOT:
        backbone, start, trained_on = (
            ("default", "random", "support") if METHODS[method].support is not None else _SETUPS["industrial"]
        )
    else:
        backbone, start, trained_on = _SETUPS[setup]
    return Row(method, setup, backbone, *((start, trained_on) if METHODS[method].trainable else (None, None)))


def _rows(*setups: str) -> tuple[Row, ...]:
    cells = [(method, setup) for method in _METHODS for setup in setups]
    return tuple(row_of(*cell) for cell in cells if METHODS[cell[0]].trainable or cell[1] in _TRAINING_FREE)


_CELLS = ("industrial", "finetune", "brats", "pmc")
ROWS = tuple(row for row in _rows(*_CELLS) if row.method in _PAPER)
MORE_ROWS = tuple(row for row in _rows(*_CELLS) if row.method not in _PAPER)
"""Rows of methods that the paper does not have."""
BASELINE = Row("intensity", "baseline", None, None, None)
BIOMEDCLIP_ROWS = _rows("biomedclip")
HEALTHY_ROWS = _rows("healthy")
VOLUME_ROWS = tuple(
    row for row in _rows(*EVIDENCE) if METHODS[row.method].context or "context" not in row.evidence.settings
)
FEW_SHOT_ROWS = tuple(row for row in _rows(FEW_SHOT) if METHODS[row.method].few_shot)
CELL_ROWS = (Row(BANK, "volume"), Row(COHORT, "volume"))
"""Rows that compare volumes with each other (`cells`)."""
ALL_ROWS = (*ROWS, *MORE_ROWS, BASELINE, *BIOMEDCLIP_ROWS, *HEALTHY_ROWS, *FEW_SHOT_ROWS, *VOLUME_ROWS, *CELL_ROWS)


def row_without(row: Row) -> Row:
    """The row that differs from this one by its evidence alone; itself when it has none."""
    return row_of(row.method, row.evidence.of) if row.setup in EVIDENCE else row


def select_rows(
    ids: tuple[str, ...] = (),
    methods: tuple[str, ...] = (),
    setups: tuple[str, ...] = (),
    baseline: bool = True,
    extended: bool = False,
) -> tuple[Row, ...]:
    """The rows asked for, in table order: by id, or the 13 limited to methods and setups, with the baseline last.

    BiomedCLIP and few-shot rows and those with volumetric evidence come only by id or by naming the setup, those of methods that
    the paper does not have by id or by naming the method, those that compare volumes either way; `extended`, all but volumetric
    ones come unnamed. The setup healthy, which the paper has not, has every trained method. Raises UsageError naming what does
    not exist.
    """
    rows_by_id = {row.id: row for row in ALL_ROWS}
    for kind, names, allowed in (
        ("row", ids, rows_by_id),
        ("method", methods, METHOD_LABELS),
        ("setup", setups, SETUP_LABELS),
    ):
        unknown = [name for name in names if name not in allowed]
        if unknown:
            raise UsageError(f"unknown {kind} {', '.join(unknown)}; choose from {', '.join(allowed)}")
    if ids:
        return tuple(row for row in ALL_ROWS if row.id in ids)
    named = (row for row in VOLUME_ROWS if row.setup in setups)
    more = (*BIOMEDCLIP_ROWS, *HEALTHY_ROWS, *FEW_SHOT_ROWS)
    further = (row for row in more if extended or row.setup in setups)
    known = methods or (METHODS if extended else _PAPER)
    pool = tuple(row for row in (*ROWS, *MORE_ROWS, *further, *named) if row.method in known or row in HEALTHY_ROWS)
    pool += tuple(row for row in CELL_ROWS if row.method in methods or (row.setup in setups and not methods))
    chosen = tuple(r for r in pool if (not methods or r.method in methods) and (not setups or r.setup in setups))
    wanted = baseline if not (methods or setups) else "intensity" in methods or "baseline" in setups
    chosen += (BASELINE,) if wanted else ()
    if not chosen:
        raise UsageError(
            f"no row has method {', '.join(methods)} and setup {', '.join(setups)}; a training-free method has "
            f"{' and '.join(_TRAINING_FREE)} only"
        )
    return chosen


def table_position(row_id: str) -> int:
    """Where a row stands in the tables; unknown rows come last."""
    ids = [row.id for row in ALL_ROWS]
    return ids.index(row_id) if row_id in ids else len(ids)
