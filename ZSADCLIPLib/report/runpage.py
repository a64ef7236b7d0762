"""The page of a run: the answer, a list of contents, then what stands under each heading."""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass, field
from pathlib import Path

from . import reviews
from .answer import answer
from .figures import Drawing
from .numbers import Numbers
from .page import page
from .sections import Section
from .typeset import FEWEST, Table

RUN, DOWNLOADS, UNPLACED = "Run", "Downloads", "Further figures and tables"
Files = dict[str, dict[str, Path]]
"""The files of each table and figure by suffix."""
Links = list[tuple[str, str]]
"""(name, address relative to the page)."""
NAMES = {"csv": "CSV", "md": "Markdown", "tex": "LaTeX", "png": "PNG", "svg": "SVG", "yaml": "YAML", "json": "JSON"}
WHOLE = {
    "tables/results.csv": "every summary",
    "tables/cases.csv": "every test volume",
    "claims.yaml": "the paper's claims with verdicts",
    "runtime.csv": "time and memory",
    "run.json": "settings of the run",
    "split.json": "who trained and who tested",
}
"""Files of a whole run, and what they hold."""


@dataclass(frozen=True)
class Picture:
    """A figure in the page; `least` and `most` are its width in rem: wide figures scroll in their box on a phone."""

    drawing: Drawing
    source: str
    least: int
    most: int
    files: Links


@dataclass
class Parts:
    """What stands under one heading, in this order; `tables` and `folded` ones come with their files."""

    words: list[str] = field(default_factory=list)
    tables: list[tuple[Table, Links]] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    folded: list[tuple[Table, Links]] = field(default_factory=list)
    pages: list[reviews.Reviewed] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    settings: dict = field(default_factory=dict)
    downloads: list[tuple[str, Links]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return any(vars(self).values())

    def contents(self) -> Links:
        """(title, anchor) of what is under the heading, in the order of the page."""
        titles = [(table.brief, f"table-{table.name}") for table, _ in self.tables]
        titles += [(picture.drawing.title, picture.drawing.name) for picture in self.pictures]
        return titles + [(table.brief, f"table-{table.name}") for table, _ in self.folded]


def run_page(out: Path, numbers: Numbers, tables: list[Table], drawings: list[Drawing], files: Files) -> str:
    """The HTML of OUT/report.html; tables and figures are in it, `files` are linked."""
    links = {name: [(NAMES[kind], _address(out, path)) for kind, path in of.items()] for name, of in files.items()}
    sections = _sections(tables, [_picture(drawing, files[drawing.name], links) for drawing in drawings], links)
    sections[Section.ANSWER].words = answer(numbers)
    sections[Section.CASES].pages = reviews.review_pages(out, numbers)
    sections[Section.CASES].words, sections[Section.CASES].commands = _of_cases(out, numbers)
    sections[RUN].words, sections[RUN].settings = _of_run(numbers), numbers.run.info
    sections[DOWNLOADS].downloads = _downloads(out, links)
    title = f"ZSADCLIP benchmark: {numbers.run.info.get('profile') or 'results'}"
    shown = {str(heading): parts for heading, parts in sections.items() if parts}
    anchors = {heading: "section-" + re.sub(r"[^a-z0-9]+", "-", heading.lower()).strip("-") for heading in shown}
    return page("run", title=title, warnings=_warnings(numbers), sections=shown, anchors=anchors)


def _sections(tables: list[Table], pictures: list[Picture], links: dict[str, Links]) -> dict[str, Parts]:
    """What stands under each heading; all that names no heading is under the last."""
    named = [*(t for t in tables if not t.folded), *(p.drawing for p in pictures), *(t for t in tables if t.folded)]
    headings = dict.fromkeys([*Section, *(part.section for part in named if part.section), RUN, UNPLACED, DOWNLOADS])
    sections = {heading: Parts() for heading in headings}
    for table in (table for table in tables if table.rows):
        parts = sections[table.section or UNPLACED]
        (parts.folded if table.folded else parts.tables).append((table, links.get(table.name, [])))
    for picture in pictures:
        sections[picture.drawing.section or UNPLACED].pictures.append(picture)
    return sections


def _warnings(numbers: Numbers) -> list[str]:
    if not numbers.is_synthetic:
        return []
    return ["Synthetic data: the numbers show that the code works and say nothing about patients."]


def _of_cases(out: Path, numbers: Numbers) -> tuple[list[str], list[str]]:
    """What is said of review pages, and the commands that make the first one where there is none."""
    every = int(numbers.run.info.get("slices_every") or 1)
    thin = f" The Dice here counts one slice in {every}, the page shows all." if every > 1 else ""
    if reviews.review_pages(out, numbers):
        return [f"Pages with three planes, the map and a live threshold; the lowest 3D Dice comes first.{thin}"], []
    made = reviews.commands(out, numbers)
    if made is None:
        return ["There is no review page of this run, and no row keeps an adapter that detection can load."], []
    row, lines = made
    where = "OUT is the folder of this page" + ("" if numbers.is_synthetic else ", DATA that of the data set")
    return [
        f"There is no review page of this run yet. These commands make one of {row}, for the volumes of the pictures, and link "
        f"it here; {where}.{thin}"
    ], lines


def _of_run(numbers: Numbers) -> list[str]:
    run = numbers.run
    notes = [
        f"{len(run.results)} finished rows, up to n = {numbers.cases} test volumes a row. Numbers are means over test volumes "
        "unless they say otherwise; intervals are 95 % bootstrap intervals over subjects. What is called oracle saw the truth of "
        "the test volumes: an upper bound, not a result."
    ]
    if numbers.is_synthetic:
        notes.append(
            "Synthetic data: volumes and models of this profile are the project's own, and the backbone has seen lesion masks of "
            "its training volumes as words of anatomy, never as anomalies. The numbers say nothing about the paper's claims on "
            "real data either."
        )
    if numbers.cases < FEWEST:
        notes.append(f"Of fewer than {FEWEST} volumes no deviation, quartiles or interval is given in tables.")
    every = int(run.info.get("slices_every") or 1)
    if every > 1:
        notes.append(f"One axial slice in {every} was scored; volumes and 3D metrics count those slices only.")
    if run.info.get("problems"):
        notes.append(
            f"{len(run.info['problems'])} cases of the data set could not be used; the settings below list them."
        )
    return notes


def _downloads(out: Path, links: dict[str, Links]) -> list[tuple[str, Links]]:
    """Whole files that are there, then those of each table and figure."""
    whole = [(words, [(Path(name).name, name)]) for name, words in WHOLE.items() if (out / name).is_file()]
    return [*whole, *((name, of) for name, of in links.items() if name != "claims")]


def _picture(drawing: Drawing, paths: dict[str, Path], links: dict[str, Links]) -> Picture:
    kind, path = ("png", paths["png"]) if drawing.raster else ("svg+xml", paths["svg"])
    data = b64encode(path.read_bytes()).decode("ascii")
    width = drawing.figure.get_figwidth()
    least = 0 if drawing.fits else round(4.6 * width)
    return Picture(drawing, f"data:image/{kind};base64,{data}", least, round(6.5 * width), links[drawing.name])


def _address(out: Path, path: Path) -> str:
    return path.relative_to(out).as_posix()
