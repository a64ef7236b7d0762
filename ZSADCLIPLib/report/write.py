"""Everything a benchmark run puts in front of a reader: tables, figures, claims and one self-contained page."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..files.text import write_csv, write_text
from . import typeset
from .claims.paper import claims_table, claims_yaml, judge
from .figures import Drawing, draw_all, save, style
from .numbers import Numbers, missing_rows, said
from .page import page
from .results import read_run
from .sections import Section
from .tables.cases import case_records, differences_table, volumes_table
from .tables.comparison import comparison_table, read_paper_table
from .tables.results import long_records, results_tables
from .tables.training import runtime_table, training_table
from .typeset import Table

SYNTHETIC = ("mini", "ci")
RUN, UNPLACED = "Run", "Further figures and tables"
TABLES: tuple[Callable[[Numbers], Table], ...] = (
    differences_table,
    volumes_table,
    lambda numbers: training_table(numbers.run),
)
"""The tables of a run beside `results_tables`, in the order of the page."""


def write_outputs(out: str | Path, paper_table: str | Path | None = None) -> dict[str, Path]:
    """Write OUT/tables, OUT/figures, OUT/claims.yaml, OUT/runtime.* and OUT/report.html from the finished rows under OUT.

    `paper_table` is a CSV of the paper's own values (`comparison.read_paper_table`). Returns the paths by short name.
    Tables and figures depend on results only and come out byte-identical; runtime, the claim on training time and the
    page also hold times. Raises InputError when no row is finished or a file is damaged.
    """
    out = Path(out)
    paper = read_paper_table(paper_table) if paper_table else None
    numbers = Numbers(read_run(out))
    verdicts = judge(numbers)
    tables = [*results_tables(numbers), *(make(numbers) for make in TABLES)]
    tables += [comparison_table(numbers, paper)] if paper else []
    times, claims = runtime_table(numbers.run), claims_table(numbers, verdicts)
    for table in tables:
        typeset.write_table(out / "tables", table)
    typeset.write_table(out, times)
    write_csv(out / "tables" / "results.csv", long_records(numbers))
    write_csv(out / "tables" / "cases.csv", case_records(numbers))
    write_text(out / "claims.yaml", claims_yaml(numbers, verdicts))
    with style():
        drawings = draw_all(numbers)
        pictures = {drawing.name: save(drawing, out / "figures") for drawing in drawings}
    write_text(out / "report.html", _page(numbers, [*tables, times, claims], drawings, pictures))
    return {
        "report": out / "report.html",
        "claims": out / "claims.yaml",
        "tables": out / "tables",
        "figures": out / "figures",
        "runtime": out / "runtime.csv",
    }


@dataclass(frozen=True)
class Picture:
    """A figure in the page; `width` in rem keeps it legible on a phone, where wide figures scroll in their box."""

    drawing: Drawing
    source: str
    width: int


@dataclass
class Parts:
    """What stands under one heading, in this order."""

    tables: list[Table] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    folded: list[Table] = field(default_factory=list)
    settings: dict = field(default_factory=dict)

    def __bool__(self) -> bool:
        return any(vars(self).values())


def _page(numbers: Numbers, tables: list[Table], drawings: list[Drawing], files: dict[str, dict[str, Path]]) -> str:
    pictures = [_picture(drawing, files[drawing.name]) for drawing in drawings]
    sections = _sections(tables, pictures)
    sections[RUN].settings = numbers.run.info
    title = f"ZSADCLIP benchmark: {numbers.run.info.get('profile') or 'results'}"
    shown = {str(heading): parts for heading, parts in sections.items() if parts}
    return page("run", title=title, notes=_introduction(numbers), sections=shown)


def _sections(tables: list[Table], pictures: list[Picture]) -> dict[str, Parts]:
    """What stands under each heading; all that names no heading is under the last."""
    named = [*(t for t in tables if not t.folded), *(p.drawing for p in pictures), *(t for t in tables if t.folded)]
    headings = dict.fromkeys([*Section, *(part.section for part in named if part.section), RUN, UNPLACED])
    sections = {heading: Parts() for heading in headings}
    for table in tables:
        parts = sections[table.section or UNPLACED]
        (parts.folded if table.folded else parts.tables).append(table)
    for picture in pictures:
        sections[picture.drawing.section or UNPLACED].pictures.append(picture)
    return sections


def _introduction(numbers: Numbers) -> list[str]:
    run = numbers.run
    notes = [
        f"{len(run.results)} finished rows, up to n = {numbers.cases} test volumes a row. {said(run.choices()[0])} "
        "Numbers are means over test volumes unless they say otherwise; intervals are 95 % bootstrap intervals over "
        "subjects. What is called oracle saw the truth of the test volumes: an upper bound, not a result."
    ]
    if run.info.get("profile") in SYNTHETIC:
        notes.append(
            "Synthetic data: the volumes and models of this profile are the project's own. The backbone has seen lesion "
            "masks of its training volumes as words of anatomy, never as anomalies. The numbers show that the code works. "
            "They say nothing about patients, and nothing about the paper's claims on real data."
        )
    every = int(run.info.get("slices_every") or 1)
    if every > 1:
        notes.append(f"One axial slice in {every} was scored; volumes and 3D metrics count those slices only.")
    if run.info.get("problems"):
        notes.append(f"{len(run.info['problems'])} cases of the data set could not be used; they are listed under Run.")
    return [*notes, *missing_rows(run)]


def _picture(drawing: Drawing, paths: dict[str, Path]) -> Picture:
    kind, path = ("png", paths["png"]) if drawing.raster else ("svg+xml", paths["svg"])
    data = b64encode(path.read_bytes()).decode("ascii")
    return Picture(drawing, f"data:image/{kind};base64,{data}", round(4.6 * drawing.figure.get_figwidth()))
