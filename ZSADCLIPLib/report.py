"""Everything a benchmark run puts in front of a reader: tables, figures and one self-contained page."""

from __future__ import annotations

from base64 import b64encode
from html import escape
from pathlib import Path

from . import typeset
from .figures import Drawing, draw_all, save, style
from .io import write_csv, write_text
from .page import document
from .results import Run, read_run
from .tables import Numbers, long_records, missing_rows, results_tables

SYNTHETIC = ("mini", "ci")
FOLDED = ("details", "rules", "pooled")  # long tables start closed


def write_outputs(out: str | Path, paper_table: str | Path | None = None) -> dict[str, Path]:
    """Write OUT/tables, OUT/figures and OUT/report.html from the finished rows under OUT.

    Returns the paths of what was written by short name. Raises InputError when no row is finished or a file is damaged.
    """
    out = Path(out)
    run = read_run(out)
    numbers = Numbers(run)
    tables = results_tables(numbers)
    written = {"tables": out / "tables", "figures": out / "figures", "report": out / "report.html"}
    for table in tables:
        typeset.write_table(out / "tables", table)
    write_csv(out / "tables" / "results.csv", long_records(numbers))
    pictures = {}
    with style():
        drawings = draw_all(numbers)
        for drawing in drawings:
            pictures[drawing.name] = save(drawing, out / "figures")
    write_text(written["report"], _page(run, numbers, tables, drawings, pictures))
    return written


def _page(run: Run, numbers: Numbers, tables, drawings, pictures) -> str:
    parts = [_notes(run, numbers)]
    for table in tables:
        body = typeset.html(table)
        if table.name.startswith(FOLDED):
            body = f"<details><summary>{escape(table.title)}</summary>{body}</details>"
        parts.append(body)
    parts += [_figure(drawing, pictures[drawing.name]) for drawing in drawings]
    return document("ZSADCLIP benchmark", "".join(parts))


def _notes(run: Run, numbers: Numbers) -> str:
    notes = [f"{len(run.results)} finished rows, up to {numbers.cases} test volumes a row."]
    if run.info.get("profile") in SYNTHETIC:
        notes.append(
            "Synthetic data: the volumes and models of this profile are the project's own. The backbone has seen lesion "
            "masks of its training volumes as words of anatomy. The figures show that the code works and say nothing about "
            "patients or about the paper's claims on real data."
        )
    notes += missing_rows(run)
    return "".join(f"<p>{escape(note)}</p>" for note in notes)


def _figure(drawing: Drawing, paths: dict[str, Path]) -> str:
    kind, path = ("png", paths["png"]) if drawing.raster else ("svg+xml", paths["svg"])
    data = b64encode(path.read_bytes()).decode("ascii")
    return (
        f'<figure id="{escape(drawing.name)}"><div class="scroll" tabindex="0">'
        f'<img src="data:image/{kind};base64,{data}" alt="{escape(drawing.alt)}"></div>'
        f"<figcaption><strong>{escape(drawing.title)}.</strong> {escape(drawing.caption)}</figcaption></figure>\n"
    )
