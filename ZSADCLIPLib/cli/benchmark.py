"""`zsadclip benchmark` and `zsadclip report`."""

from __future__ import annotations

import argparse

from ..errors import number_of
from ..jobs.benchmark import Benchmark
from .bar import row_line, run_with_bar
from .options import add_flags, job_of


def add_benchmark(p: argparse.ArgumentParser) -> None:
    add_flags(p, Benchmark)


def run_benchmark(chosen: argparse.Namespace) -> int:
    """Run the benchmark; 1 when a row failed."""
    result = run_with_bar(job_of(Benchmark, chosen), row_line)
    if result.get("dry_run"):
        print(dry_run_text(result))
        return 0
    done = f", {result['kept']} kept from before" if result["kept"] else ""
    rows = number_of(result["rows"], "row")
    print(f"{rows}, {result['failed']} failed{done}, {result['seconds']:.0f} s; in {result['output']}")
    if "report" in result["files"]:
        print(f"report: {result['files']['report']}")
    print("Research use only, not for diagnosis.")
    return int(result["failed"] > 0)


def add_report(p: argparse.ArgumentParser) -> None:
    p.add_argument("out", metavar="OUT", help="folder of the benchmark")
    p.add_argument("--paper-table", metavar="CSV", help="the paper's own values: row,metric,mean[,sd]")


def run_report(chosen: argparse.Namespace) -> int:
    """Write tables, figures and report of a benchmark again."""
    from ..report.write import write_outputs

    for path in write_outputs(chosen.out, chosen.paper_table).values():
        print(path)
    return 0


def dry_run_text(result: dict) -> str:
    """The estimate of a benchmark as text."""
    counts = result["counts"]
    lines = [
        f"{counts['train_subjects']} subjects to train on, {counts['test_subjects']} to test, {counts['scored_slices']} "
        f"slices a volume, about {counts['train_slices']} of them train",
        "",
        f"{'row':24s}{'backbone':20s}{'epochs':>7s}{'slices':>9s}{'cache':>10s}{'train':>10s}{'scored':>9s}{'score':>10s}",
    ]
    for row in result["rows"]:
        cache = f"{row['cache_gb']:.2f} GB" if row.get("cache_gb") else "-"
        scored = row["threshold_slices"] + row["test_slices"]
        train = _hours(row["train_hours"]) if row["train_slices"] else "-"
        lines.append(
            f"{row['row']:24s}{row['backbone'] or '-':20s}{row['epochs'] or '-':>7}{row['train_slices'] or '-':>9}"
            f"{cache:>10s}{train:>10s}{scored:>9}{_hours(row['score_hours']):>10s}"
        )
    lines += [
        "",
        f"all rows: about {_hours(result['total_hours'])} of computing, {result['cache_gb']:.1f} GB of cached features",
        _disk(result["disk_gb"]),
        *(f"backbone {name}: {state}" for name, state in result["models"].items()),
        *(f"industrial adapter of {name}: {state}" for name, state in result["industrial"].items()),
        *result["notes"],
    ]
    return "\n".join(lines)


def _disk(parts: dict[str, float]) -> str:
    named = ", ".join(f"{name} {gb:.2f}" for name, gb in parts.items() if gb)
    return f"disk: about {sum(parts.values()):.2f} GB below OUT ({named})"


def _hours(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.1f} min"
