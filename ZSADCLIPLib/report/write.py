"""Everything a benchmark run puts in front of a reader: tables, figures, claims and one self-contained page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ..files.text import write_csv, write_text
from . import typeset
from .claims.paper import claims_table, claims_yaml, judge
from .figures import draw_all, save, style
from .numbers import Numbers
from .results import read_run
from .runpage import Files, run_page
from .tables.cases import case_records, differences_table, volumes_table
from .tables.comparison import comparison_table, read_paper_table
from .tables.results import long_records, results_tables
from .tables.training import runtime_table, training_table
from .typeset import Table

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
    files: Files = {table.name: typeset.write_table(out / "tables", table) for table in tables}
    files[times.name] = typeset.write_table(out, times)
    write_csv(out / "tables" / "results.csv", long_records(numbers))
    write_csv(out / "tables" / "cases.csv", case_records(numbers))
    write_text(out / "claims.yaml", claims_yaml(numbers, verdicts))
    with style():
        drawings = draw_all(numbers)
        files |= {drawing.name: save(drawing, out / "figures") for drawing in drawings}
    files[claims.name] = {"yaml": out / "claims.yaml"}
    write_text(out / "report.html", run_page(out, numbers, [*tables, times, claims], drawings, files))
    return {
        "report": out / "report.html",
        "claims": out / "claims.yaml",
        "tables": out / "tables",
        "figures": out / "figures",
        "runtime": out / "runtime.csv",
    }
