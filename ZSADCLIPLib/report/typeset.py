"""One table, three spellings: CSV with plain numbers, Markdown and LaTeX with rounded ones; pages set it by table.html.j2."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isfinite, nan

from ..files.text import write_csv, write_text

ABSENT = "–"
FEWEST = 3
"""Of fewer values no deviation, quartiles or interval is given: two numbers are their own summary."""
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "–": "--",
    **{c: "\\" + c for c in "&%$#_{}"},
}


@dataclass(frozen=True)
class MeanSd:
    """A mean with the sample standard deviation."""

    mean: float
    sd: float
    parts = ("mean", "sd")

    @classmethod
    def of(cls, summary) -> MeanSd | None:
        """Of a `statistics.Summary`, without the deviation of fewer than FEWEST values; None where there is none."""
        return cls(summary.mean, summary.sd if summary.n >= FEWEST else nan) if summary.n else None

    def text(self, digits: int) -> str:
        """Such as "0.312 ± 0.120"; the mean alone where one value has no deviation."""
        return _number(self.mean, digits) + (f" ± {self.sd:.{digits}f}" if isfinite(self.sd) else "")


@dataclass(frozen=True)
class MedianIqr:
    """A median with the quartiles."""

    median: float
    q1: float
    q3: float
    parts = ("median", "q1", "q3")

    @classmethod
    def of(cls, summary) -> MedianIqr | None:
        """Of a `statistics.Summary`, without the quartiles of fewer than FEWEST values; None where there is none."""
        quartiles = (summary.q1, summary.q3) if summary.n >= FEWEST else (nan, nan)
        return cls(summary.median, *quartiles) if summary.n else None

    def text(self, digits: int) -> str:
        """Such as "0.31 [0.20, 0.44]"; the median alone without quartiles."""
        return _range(self.median, self.q1, self.q3, digits) if isfinite(self.q1) else _number(self.median, digits)


@dataclass(frozen=True)
class MeanInterval:
    """A mean with the bounds of its interval."""

    mean: float
    low: float
    high: float
    parts = ("mean", "low", "high")

    def text(self, digits: int) -> str:
        """Such as "0.31 [0.20, 0.44]"; the mean alone where one subject gives no interval."""
        return _range(self.mean, self.low, self.high, digits) if isfinite(self.low) else _number(self.mean, digits)


@dataclass(frozen=True)
class Interval:
    """Two bounds."""

    low: float
    high: float
    parts = ("low", "high")

    @classmethod
    def of(cls, summary) -> Interval | None:
        """That of the mean of a `statistics.Summary`; None for fewer than FEWEST values."""
        return cls(summary.ci_low, summary.ci_high) if summary.n >= FEWEST else None

    def text(self, digits: int) -> str:
        """Such as "0.25 to 0.37", or one number where the bounds agree in print."""
        low, high = _number(self.low, digits), _number(self.high, digits)
        return low if low == high else f"{low} to {high}"


Cell = str | int | float | MeanSd | MedianIqr | MeanInterval | Interval | None


@dataclass(frozen=True)
class Table:
    """`name` is the file's stem, `heads` the column heads, `rows` cells under them, `notes` stand below the table.

    None and NaN print as a dash and are empty in the CSV. The first `labels` columns name the row. `see` says in a sentence what
    to look for, `short` is the title for a list of contents. In the report the table stands under the heading `section`, closed
    when it is `folded`; `prose` cells hold sentences.
    """

    name: str
    title: str
    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()
    labels: int = 1
    digits: int = 3
    section: str = ""
    folded: bool = False
    prose: bool = False
    see: str = ""
    short: str = ""

    @property
    def brief(self) -> str:
        """The title for a list of contents."""
        return self.short or self.title

    @property
    def remarks(self) -> tuple[str, ...]:
        """What stands with the table: what to see, then the notes."""
        return (*filter(None, [self.see]), *self.notes)

    def texts(self) -> list[list[str]]:
        """Every cell as printed."""
        return [[_text(cell, self.digits) for cell in row] for row in self.rows]

    def cells(self) -> list[list[tuple[str, str]]]:
        """Every cell as (printed, what it sorts by): the plain number of a number, the first one of several; else nothing."""
        return [
            list(zip(texts, map(_key, row), strict=True)) for texts, row in zip(self.texts(), self.rows, strict=True)
        ]


def records(table: Table) -> list[dict[str, str]]:
    """The rows for a CSV: compound cells in columns of their own ("Dice mean", "Dice sd"), 6 significant digits."""
    kinds = [next((c for c in column if hasattr(c, "parts")), None) for column in zip(*table.rows, strict=True)]
    lines = []
    for row in table.rows:
        record = {}
        for head, kind, cell in zip(table.heads, kinds, row, strict=True):
            if kind is None:
                record[head] = plain(cell)
            else:
                for part in kind.parts:
                    record[f"{head} {part}"] = plain(getattr(cell, part, None))
        lines.append(record)
    return lines


def markdown(table: Table) -> str:
    """A pipe table with its title above and its notes below."""
    lines = [f"**{_markdown(table.title)}**", ""]
    lines.append("| " + " | ".join(_markdown(head) for head in table.heads) + " |")
    lines.append(
        "| " + " | ".join("---" if i < table.labels or table.prose else "---:" for i in range(len(table.heads))) + " |"
    )
    lines += ["| " + " | ".join(_markdown(text) for text in row) + " |" for row in table.texts()]
    for note in table.remarks:
        lines += ["", _markdown(note)]
    return "\n".join(lines) + "\n"


def latex(table: Table) -> str:
    """A table environment that needs no package."""
    columns = "l" * table.labels + "r" * (len(table.heads) - table.labels)
    lines = [r"\begin{table}", r"\centering\small", rf"\caption{{{_latex(table.title)}}}"]
    lines += [rf"\label{{tab:{table.name}}}", rf"\begin{{tabular}}{{{columns}}}", r"\hline"]
    lines += [" & ".join(_latex(head) for head in table.heads) + r" \\", r"\hline"]
    lines += [" & ".join(_latex(text) for text in row) + r" \\" for row in table.texts()]
    lines += [r"\hline", r"\end{tabular}"]
    lines += [rf"\par\footnotesize {_latex(note)}" for note in table.remarks]
    return "\n".join([*lines, r"\end{table}"]) + "\n"


def write_table(folder, table: Table) -> dict[str, object]:
    """Write NAME.csv, NAME.md and NAME.tex into a folder; the paths by suffix."""
    paths = {suffix: folder / f"{table.name}.{suffix}" for suffix in ("csv", "md", "tex")}
    write_csv(paths["csv"], records(table))
    write_text(paths["md"], markdown(table))
    write_text(paths["tex"], latex(table))
    return paths


def plain(value: Cell) -> str:
    """A cell of a CSV: six significant digits, nothing for what is undefined."""
    if value is None or (isinstance(value, float) and not isfinite(value)):
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _key(cell: Cell) -> str:
    first = getattr(cell, cell.parts[0]) if hasattr(cell, "parts") else cell
    return plain(first) if isinstance(first, (int, float)) else ""


def _text(cell: Cell, digits: int) -> str:
    if cell is None:
        return ABSENT
    if isinstance(cell, float):
        return _number(cell, digits)
    return cell.text(digits) if hasattr(cell, "text") else str(cell)


def _number(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}" if isfinite(value) else ABSENT
    return text.removeprefix("-") if re.fullmatch(r"-0\.?0*", text) else text


def _range(middle: float, low: float, high: float, digits: int) -> str:
    return f"{middle:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]" if isfinite(middle) else ABSENT


def _markdown(text: str) -> str:
    text = " ".join(str(text).split())
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", text)


def _latex(text: str) -> str:
    return "".join(_LATEX.get(character, character) for character in " ".join(str(text).split()))
