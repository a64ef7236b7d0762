"""The files of an evaluation: tables as CSV, Markdown and LaTeX, pictures, one text and one self-contained page."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

from ...benchmark.rows import METHOD_LABELS
from ...files.text import write_text
from ...review import page as review
from .. import typeset
from ..page import page
from .cases import BASELINE, LESIONS, Measured
from .numbers import Evaluation
from .pictures import KINDS, WORDS, caption, chosen
from .tables import USE, evaluation_tables, left_out_table, subjects_note, warnings

PAGE, TEXT = "evaluation.html", "evaluation.md"
Draw = Callable[[Measured, Path, str], None]
"""Draws a measured case to a path under a title."""


def write_evaluation(
    out: str | Path, evaluation: Evaluation, left_out: list[dict], min_mm3: float, draw: Draw
) -> dict[str, Path]:
    """Write OUT/tables, OUT/pictures, the page and the text; the paths by short name.

    `left_out` holds method, id, status and error of the cases without a result; `draw` makes the pictures. What an earlier
    evaluation left there under these names and is no longer true is removed. Raises OutputError where nothing can be written.
    """
    out = Path(out)
    again = (out / PAGE).is_file()
    sections = evaluation_tables(evaluation, min_mm3) if evaluation.methods else {}
    if left_out:
        sections["Cases without a result"] = [left_out_table(left_out)]
    tables = [table for of in sections.values() for table in of]
    for table in tables:
        typeset.write_table(out / "tables", table)
    if again:
        _forget(out / "tables", {table.name for table in tables})
    pictures = _pictures(out / "pictures", evaluation, draw)
    said, notes = warnings(evaluation), _introduction(evaluation)
    shown = [typeset.markdown(table) for table in tables if not table.folded]
    write_text(out / TEXT, "\n".join([f"{USE}\n", *(f"{line}\n" for line in notes), *shown]))
    title = "ZSADCLIP evaluation"
    # Written by --review; a page that is not there is no link.
    addresses = {name: f"{name}/{review.FOLDER}/index.html" for name in evaluation.methods}
    reviews = {METHOD_LABELS[name]: address for name, address in addresses.items() if (out / address).is_file()}
    html = page(
        "evaluation", title=title, warnings=said, notes=notes, sections=sections, pictures=pictures, reviews=reviews
    )
    write_text(out / PAGE, html)
    return {"page": out / PAGE, "text": out / TEXT, "tables": out / "tables", "pictures": out / "pictures"}


def _introduction(evaluation: Evaluation) -> list[str]:
    counts: dict[str, set[str]] = {}
    for method, of in evaluation.by_method.items():
        for each in of if method != BASELINE else ():
            counts.setdefault(each.group, set()).add(each.case)
    groups = ", ".join(f"{len(ids)} {group}" for group, ids in counts.items())
    if not groups:
        return ["No case has a result."]
    lines = [f"Cases: {groups}. The numbers are those of the benchmark, computed by the same function."]
    return [*lines, subjects_note(evaluation)] if LESIONS in counts else lines


def _pictures(folder: Path, evaluation: Evaluation, draw: Draw) -> list[dict[str, str]]:
    shown, names = [], set()
    for method in filter(BASELINE.__ne__, evaluation.methods):
        for kind, measured in chosen(evaluation, method).items():
            path, text = folder / f"{method}-{kind}.png", caption(evaluation, measured, kind)
            draw(measured, path, text)
            names.add(path.name)
            source = f"data:image/png;base64,{b64encode(path.read_bytes()).decode('ascii')}"
            alt = f"Slices of the {WORDS[kind]} with anomaly map and the outlines of mask and truth."
            shown.append({"caption": text, "alt": alt, "source": source})
    for name in {f"{method}-{kind}.png" for method in METHOD_LABELS for kind in KINDS} - names:
        (folder / name).unlink(missing_ok=True)
    return shown


def _forget(folder: Path, names: set[str]) -> None:
    """Remove the tables of an earlier evaluation that this one does not have."""
    known = {"models", "voxels-brain", "voxels-all", "lesions", "millilitres", "cases", "details", "left-out"}
    for name in known - names:
        for suffix in ("csv", "md", "tex"):
            (folder / f"{name}.{suffix}").unlink(missing_ok=True)
