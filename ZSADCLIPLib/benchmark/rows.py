"""The benchmark's rows: each method in its setups, which makes the paper's 13 cells and the extra rows of this project.

industrial: the adapter trained on the industrial domain, applied to brains as it is. finetune: that adapter trained on
with brains. brats: the adapter trained on brains from a random start. pmc and biomedclip: as brats, on the backbone
PMC-CLIP or BiomedCLIP. A training-free method has the cells industrial and biomedclip only. Methods that the paper does not
compare have the same setups, in rows that are asked for by name.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..adapters.registry import METHODS
from ..errors import UsageError

_PAPER = ("adaclip", "anovl", "anomalyclip", "vand")  # the order of the paper's table; other methods come after
_METHODS = sorted(METHODS, key=lambda name: _PAPER.index(name) if name in _PAPER else len(_PAPER))
METHOD_LABELS = {**{name: METHODS[name].name for name in _METHODS}, "intensity": "Intensity"}
SETUP_LABELS = {
    "industrial": "Industrial",
    "finetune": "Finetune",
    "brats": "Brats",
    "pmc": "PMC",
    "biomedclip": "BiomedCLIP",
    "baseline": "Baseline",
}


@dataclass(frozen=True)
class Row:
    """One cell of the benchmark.

    `backbone` is a role that a profile turns into a model: default, pmc or biomedclip; None without a model. `start` is
    where the adapter's weights come from: industrial, random, or None without an adapter to train. `trained_on` is what
    the row itself trains on: brain, or None.
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


# Backbone, start and trained_on of a row that trains.
_SETUPS = {
    "industrial": ("default", "industrial", None),
    "finetune": ("default", "industrial", "brain"),
    "brats": ("default", "random", "brain"),
    "pmc": ("pmc", "random", "brain"),
    "biomedclip": ("biomedclip", "random", "brain"),
}
_TRAINING_FREE = ("industrial", "biomedclip")  # the setups of a method without a training


def _row(method: str, setup: str) -> Row:
    backbone, start, trained_on = _SETUPS[setup]
    return Row(method, setup, backbone, *((start, trained_on) if METHODS[method].trainable else (None, None)))


def _rows(*setups: str) -> tuple[Row, ...]:
    cells = [(method, setup) for method in _METHODS for setup in setups]
    return tuple(_row(*cell) for cell in cells if METHODS[cell[0]].trainable or cell[1] in _TRAINING_FREE)


_CELLS = _rows("industrial", "finetune", "brats", "pmc")
ROWS = tuple(row for row in _CELLS if row.method in _PAPER)
FURTHER_ROWS = tuple(row for row in _CELLS if row.method not in _PAPER)
BASELINE = Row("intensity", "baseline", None, None, None)
BIOMEDCLIP_ROWS = _rows("biomedclip")
ALL_ROWS = (*ROWS, *FURTHER_ROWS, BASELINE, *BIOMEDCLIP_ROWS)


def select_rows(
    ids: tuple[str, ...] = (), methods: tuple[str, ...] = (), setups: tuple[str, ...] = (), baseline: bool = True
) -> tuple[Row, ...]:
    """The rows asked for, in table order: by id, or the 13 limited to methods and setups, with the baseline last.

    BiomedCLIP rows come only by id or by naming the setup biomedclip, those of further methods by id or by naming the method.
    Raises UsageError naming what does not exist.
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
    pool = (*ROWS, *FURTHER_ROWS, *(BIOMEDCLIP_ROWS if "biomedclip" in setups else ()))
    pool = tuple(row for row in pool if row.method in (*_PAPER, *methods))
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
