"""Everything a benchmark run puts in front of a reader: tables, figures, claims and one self-contained page."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable
from html import escape
from pathlib import Path

from ..files.text import write_csv, write_text
from . import typeset
from .claims.paper import claims_table, claims_yaml, judge
from .figures import Drawing, draw_all, save, style
from .numbers import Numbers, missing_rows, said
from .page import document
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
CSS = """
:root { color-scheme: light dark }
body { max-width: 72rem; overflow-wrap: anywhere }
h2 { margin: 2.5rem 0 .5rem; border-bottom: 1px solid #8888; scroll-margin-top: 1rem }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1rem } a { color: #0b5cad }
.scroll { overflow-x: auto; overflow-wrap: normal; margin: 1rem 0 .3rem; -webkit-overflow-scrolling: touch }
table { font-size: .86rem; min-width: max-content } caption { text-align: left; font-weight: 600; padding-bottom: .4rem;
  position: sticky; left: 0; max-width: min(90vw, 68rem); white-space: normal }
thead th { border-bottom: 2px solid #888; vertical-align: bottom } tbody tr:nth-child(even) { background: #8881 }
th[scope=row], th:first-child { text-align: left } .prose table { min-width: 54rem; width: 100% }
.prose td, .prose th { text-align: left; vertical-align: top; white-space: normal }
.notes { font-size: .85rem; opacity: .85 } .notes p { margin: .2rem 0 }
details { margin: .8rem 0; border: 1px solid #8886; border-radius: 6px; padding: .4rem .8rem } summary { cursor: pointer }
figure { margin: 1.5rem 0 } figure img { background: #fff; padding: 6px; border-radius: 6px; margin: 0; width: 100%;
  box-sizing: border-box } figcaption { font-size: .9rem }
@media (prefers-color-scheme: dark) { a { color: #8cc4ff } }
"""


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


def _page(numbers: Numbers, tables: list[Table], drawings: list[Drawing], pictures: dict[str, dict[str, Path]]) -> str:
    sections = _sections(tables, drawings, pictures)
    settings = escape(json.dumps(numbers.run.info, indent=1, sort_keys=True))
    sections[RUN] += _details("Settings of the run", f"<pre>{settings}</pre>")
    sections = {title: body for title, body in sections.items() if body}
    links = "".join(f'<a href="#s{i}">{escape(title)}</a>' for i, title in enumerate(sections))
    body = "".join(f'<section id="s{i}"><h2>{escape(t)}</h2>{b}</section>' for i, (t, b) in enumerate(sections.items()))
    title = f"ZSADCLIP benchmark: {numbers.run.info.get('profile') or 'results'}"
    return document(title, f"{_introduction(numbers)}<nav>{links}</nav>{body}", CSS)


def _sections(tables: list[Table], drawings: list[Drawing], pictures: dict[str, dict[str, Path]]) -> dict[str, str]:
    """What stands under each heading: open tables, figures, folded tables; all that names no heading under the last."""
    parts = [(table.section, typeset.html(table)) for table in tables if not table.folded]
    parts += [(drawing.section, _figure(drawing, pictures[drawing.name])) for drawing in drawings]
    parts += [(table.section, _details(table.title, typeset.html(table))) for table in tables if table.folded]
    others = (section for section, _ in parts if section)
    bodies = dict.fromkeys([*Section, *others, RUN, UNPLACED], "")
    for section, html in parts:
        bodies[section or UNPLACED] += html
    return bodies


def _introduction(numbers: Numbers) -> str:
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
    notes += missing_rows(run)
    return "".join(f"<p>{escape(note)}</p>" for note in notes)


def _details(title: str, body: str) -> str:
    return f"<details><summary>{escape(title)}</summary>{body}</details>"


def _figure(drawing: Drawing, paths: dict[str, Path]) -> str:
    kind, path = ("png", paths["png"]) if drawing.raster else ("svg+xml", paths["svg"])
    data = b64encode(path.read_bytes()).decode("ascii")
    width = 4.6 * drawing.figure.get_figwidth()  # legible on a phone, where wide figures scroll in their box
    return (
        f'<figure id="{escape(drawing.name)}"><div class="scroll" tabindex="0" role="region" '
        f'aria-label="{escape(drawing.title)}"><img style="min-width:{width:.0f}rem" src="data:image/{kind};base64,{data}" '
        f'alt="{escape(drawing.alt)}"></div>'
        f"<figcaption><strong>{escape(drawing.title)}.</strong> {escape(drawing.caption)}</figcaption></figure>\n"
    )
