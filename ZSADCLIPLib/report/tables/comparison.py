"""This run beside the paper's own Table 1, when the user has copied it into a CSV; the project holds none of its values."""

from __future__ import annotations

import csv
from math import isfinite, nan
from pathlib import Path

from ...benchmark.rows import ROWS
from ...errors import InputError
from ...evaluation.metrics import metrics_in
from ..numbers import Numbers, said
from ..sections import Section
from ..typeset import FEWEST, Interval, MeanSd, Table

PaperTable = dict[tuple[str, str], MeanSd]
"""(row id, metric) -> the paper's mean and standard deviation."""


def read_paper_table(path: str | Path) -> PaperTable:
    """Read a CSV with the columns row, metric, mean and, if known, sd.

    Row ids are those of `rows.ROWS`, metrics those of Table 1, values from 0 to 1. Raises InputError
    naming the line for anything else.
    """
    path = Path(path)
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            columns = [(name or "").strip().lower() for name in reader.fieldnames or []]
            reader.fieldnames = columns
            lines = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read the paper's table {path}: {error}") from error
    if not {"row", "metric", "mean"} <= set(columns):
        raise InputError(
            f"the paper's table {path} has the columns {columns}; expected row, metric, mean and perhaps sd"
        )
    cells: PaperTable = {}
    for number, line in lines:
        cell = {key: (value or "").strip() for key, value in line.items() if isinstance(key, str)}
        where = f"line {number} of the paper's table {path}"
        key = (cell["row"].lower(), cell["metric"].lower())
        if key[0] not in {row.id for row in ROWS}:
            raise InputError(f"{where}: unknown row {cell['row']!r}; expected one of {', '.join(r.id for r in ROWS)}")
        names = [metric.name for metric in metrics_in("paper")]
        if key[1] not in names:
            raise InputError(f"{where}: unknown metric {cell['metric']!r}; expected one of {', '.join(names)}")
        if key in cells:
            raise InputError(f"{where}: {key[0]} {key[1]} occurs a second time; keep one")
        cells[key] = MeanSd(_value(cell["mean"], where), _value(cell["sd"], where) if cell.get("sd") else nan)
    if not cells:
        raise InputError(f"the paper's table {path} has no line below its header")
    return cells


def comparison_table(numbers: Numbers, paper: PaperTable) -> Table:
    """Rows and metrics that both have: the paper's value, this run's, and the difference with its interval."""
    choice = numbers.run.choices()[0]
    rows = []
    for result in numbers.run.results:
        for metric in metrics_in("paper"):
            theirs = paper.get((result.row.id, metric.name))
            if theirs is None:
                continue
            s = numbers.summary(result, metric.name, choice)
            rows.append(
                (
                    result.row.label,
                    metric.label,
                    theirs,
                    MeanSd.of(s),
                    s.n,
                    s.mean - theirs.mean if s.n else None,
                    Interval(s.ci_low - theirs.mean, s.ci_high - theirs.mean) if s.n >= FEWEST else None,
                )
            )
    return Table(
        "comparison",
        f"This run and the paper's Table 1. This run: {said(choice)}",
        ("Row", "Metric", "Paper", "This run", "n", "Difference", "95 % CI"),
        tuple(rows),
        (
            "The paper's values come from the file the user gave. Its threshold rule is not stated, and its data are not "
            "these unless the same volumes were used. Interval: bootstrap of this run's mean only.",
        ),
        labels=2,
        section=Section.TABLE_1,
    )


def _value(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = nan
    if not (isfinite(value) and 0 <= value <= 1):
        raise InputError(f"{where}: {text!r} is no number from 0 to 1")
    return value
