"""The answer of a run: which row has the highest mean 3D Dice, and how far it lies above the next and above the baseline."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..benchmark.rows import BASELINE
from ..evaluation.statistics import Comparison, Summary, compare
from .numbers import Numbers, made_for, said, unfinished
from .results import Result

ENOUGH = 5
"""Test subjects. With fewer a bootstrap over them is too narrow to show a difference."""


@dataclass(frozen=True)
class Ranked:
    """A row in the order of mean 3D Dice; `values` are those of its volumes, NaN where undefined.

    `behind` is the paired difference to the best row, `above` to the baseline; None without one.
    """

    result: Result
    values: np.ndarray
    dice: Summary
    behind: Comparison | None
    above: Comparison | None

    @property
    def is_baseline(self) -> bool:
        """Whether it is the intensity baseline."""
        return self.result.row == BASELINE

    @property
    def subjects(self) -> int:
        """Test subjects."""
        return len(set(self.result.subjects))


def rank_rows(numbers: Numbers) -> list[Ranked]:
    """The rows with a mean 3D Dice under the primary rule, the best first; none where no row has one."""
    choice = numbers.run.choices()[0]
    results = [r for r in numbers.run.results if numbers.summary(r, "dice", choice).n]
    results.sort(key=lambda r: -numbers.summary(r, "dice", choice).mean)  # stable: equal ones in table order
    columns, owners = {}, {}
    for result in results:
        values, cases = result.values("dice", choice), result.files.cases
        columns[result.row.id] = {case["case"]: float(value) for case, value in zip(cases, values, strict=True)}
        owners |= {case["case"]: case["subject"] for case in cases}
    ids = list(columns)
    with_best = dict(zip(ids[1:], compare(columns, [(ids[0], b) for b in ids[1:]], owners), strict=True))
    rest = [a for a in ids if a != BASELINE.id] if BASELINE.id in ids else []
    with_baseline = dict(zip(rest, compare(columns, [(a, BASELINE.id) for a in rest], owners), strict=True))
    return [
        Ranked(
            r,
            r.values("dice", choice),
            numbers.summary(r, "dice", choice),
            with_best.get(r.row.id),
            with_baseline.get(r.row.id),
        )
        for r in results
    ]


def answer(numbers: Numbers) -> list[str]:
    """The answer in a sentence, then what it rests on, each a paragraph."""
    ranked = rank_rows(numbers)
    if not ranked:
        return ["No row has a 3D Dice on any test volume.", said(numbers.run.choices()[0])]
    best = ranked[0]
    return [
        _headline(ranked),
        *_certainty(ranked),
        f"{said(numbers.run.choices()[0])} {best.result.row.label}: {made_for(best.result)}.",
        *unfinished(numbers.run),
    ]


def _headline(ranked: list[Ranked]) -> str:
    best, rest = ranked[0], ranked[1:]
    volumes = f"{best.dice.n} test volume{'s' * (best.dice.n != 1)}"
    volumes += f" of {best.subjects} subject{'s' * (best.subjects != 1)}" if best.subjects != best.dice.n else ""
    dice = f"{best.dice.mean:.3f}{_spread(best)} on {volumes}"
    if not rest:
        return f"{best.result.row.label}, the only row, has a mean 3D Dice of {dice}."
    compared = [_compared(rest[0].behind, best.subjects, f"the next row, {rest[0].result.row.label}")]
    if best.above and not rest[0].is_baseline:
        compared.append(_compared(best.above, best.subjects, "the intensity baseline"))
    words = f"{best.result.row.label} has the highest mean 3D Dice, {dice}: {', and '.join(compared)}."
    return f"{words} No model of this run beats the intensity baseline." if best.is_baseline else words


def _compared(c: Comparison, subjects: int, other: str) -> str:
    """A difference in words; one whose interval includes zero is not shown."""
    if not c.n:
        return f"no volume to compare it on with {other},"
    if subjects < ENOUGH:
        return f"{c.difference:.3f} above {other}"
    interval = f"95 % CI {c.ci_low:+.3f} to {c.ci_high:+.3f}"
    if c.ci_low > 0:
        return f"{c.difference:.3f} above {other} ({interval})"
    return f"no difference to {other}, is shown ({c.difference:+.3f}, {interval})"


def _certainty(ranked: list[Ranked]) -> list[str]:
    best = ranked[0]
    if best.subjects < ENOUGH:
        return [f"No difference is shown: that needs {ENOUGH} test subjects at least, and there {_are(best.subjects)}."]
    if len(ranked) < 2:
        return []
    return [
        "Differences are paired: of the same volumes, with the interval of a bootstrap over subjects. The best of "
        f"{len(ranked)} rows was found on these very volumes, so that its lead is somewhat flattered; no interval corrects that."
    ]


def _are(count: int) -> str:
    return "is 1" if count == 1 else f"are {count}"


def _spread(ranked: Ranked) -> str:
    """The interval of a mean, where there are enough subjects for one; of two volumes their values."""
    if ranked.subjects >= ENOUGH:
        return f" (95 % CI {ranked.dice.ci_low:.3f} to {ranked.dice.ci_high:.3f})"
    defined = ranked.values[~np.isnan(ranked.values)]
    return f" ({defined[0]:.3f} and {defined[1]:.3f})" if defined.size == 2 else ""
