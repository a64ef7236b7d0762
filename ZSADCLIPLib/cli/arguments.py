"""Command-line arguments of training, benchmark and data audit, and what their commands do; needs no torch."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from ..adapters import DEFAULT_METHOD, trainable_methods
from ..benchmark.profiles import PROFILES
from ..benchmark.rows import ALL_ROWS, METHOD_LABELS, SETUP_LABELS
from ..execution.base import EXECUTION_FIELDS
from ..training.schedule import SELECT


def benchmark_arguments(p: argparse.ArgumentParser) -> None:
    """Arguments of `zsadclip benchmark` and scripts/benchmark, but for those of `Execution`."""
    p.add_argument("--profile", default="mini", help=f"{', '.join(PROFILES)}, or a JSON file")
    p.add_argument(
        "--data", metavar="DIR", help="BraTS-MET folder or manifest CSV (default: embedded synthetic brains)"
    )
    p.add_argument("--out", dest="output", required=True, metavar="DIR", help="folder of the run; run again to go on")
    p.add_argument("--rows", nargs="+", default=[], metavar="ROW", help=", ".join(row.id for row in ALL_ROWS))
    p.add_argument("--methods", nargs="+", default=[], choices=list(METHOD_LABELS), metavar="METHOD")
    p.add_argument("--setups", nargs="+", default=[], choices=list(SETUP_LABELS), metavar="SETUP")
    p.add_argument("--paper-table", metavar="CSV", help="the paper's Table 1, to compare with")
    p.add_argument("--weights-dir", help="folder with weights, searched before the cache")
    p.add_argument("--device", default="auto", help="auto, cuda, cuda:N, mps or cpu")
    p.add_argument("--precision", choices=["float32", "bfloat16", "float16"], default="float32", help="when scoring")
    p.add_argument("--no-report", dest="outputs", action="store_false", help="rows only; see 'zsadclip report'")
    _keep_identifiers(p)
    p.add_argument("--dry-run", action="store_true", help="show rows, sizes, cache needs and a time estimate")


def _keep_identifiers(p: argparse.ArgumentParser) -> None:
    p.add_argument("--keep-identifiers", action="store_true", help="let names of folders into results and messages")


def train_arguments(p: argparse.ArgumentParser) -> None:
    """Arguments of `zsadclip train` and scripts/train."""
    p.add_argument("--method", choices=trainable_methods(), default=DEFAULT_METHOD)
    p.add_argument("--data", metavar="DIR", help="BraTS-MET folder or manifest CSV")
    p.add_argument(
        "--out", dest="output", required=True, metavar="DIR", help="folder of the training; run again to go on"
    )
    p.add_argument("--domain", choices=["brain", "industrial"], default="brain", help="industrial makes its own images")
    p.add_argument(
        "--backbone", default="mini", help="a backbone of 'zsadclip models', an open_clip name, a JSON config"
    )
    p.add_argument("--weights", help="backbone weights: open_clip tag, file, folder, or random[:SEED]")
    p.add_argument("--weights-dir", help="folder with weights, searched before the cache")
    p.add_argument("--start", default="random", help="random, or an adapter file to go on from")
    p.add_argument("--profile", default="mini", help=f"what is not given here: {', '.join(PROFILES)}, or a JSON file")
    p.add_argument("--epochs", type=int)
    p.add_argument("--batch-size", type=int)
    p.add_argument("--max-subjects", type=int, help="train on a random subset")
    p.add_argument("--max-slices", type=int)
    p.add_argument("--slices", help="all, brain, or lesion+K")
    p.add_argument("--select", choices=SELECT, help="the epoch that is kept; best-val-f1 holds subjects out")
    p.add_argument("--augment", choices=["none", "flips", "mosaic"])
    p.add_argument("--cache", choices=["memory", "disk", "disk-half", "none"], help="of frozen features")
    p.add_argument(
        "--precision", choices=["float32", "bfloat16", "float16"], default="float32", help="autocast on a GPU"
    )
    p.add_argument("--set", dest="settings", nargs="+", default=[], metavar="FIELD=VALUE", help="method settings")
    p.add_argument("--seed", type=int, default=111)
    p.add_argument("--device", default="auto")


def data_arguments(p: argparse.ArgumentParser) -> None:
    """Arguments of `zsadclip data`."""
    p.add_argument("action", choices=["audit"])
    p.add_argument("source", metavar="DIR", help="folder or manifest CSV")
    p.add_argument("--out", metavar="DIR", help="where audit.json, audit.csv and audit.md go (default: zsadclip-audit)")
    p.add_argument("--channel", default="t2w", help="t1n, t1c, t2w or t2f")
    p.add_argument("--label-rule", default="auto", help="auto, a year such as 2023, or nonzero")
    p.add_argument("--target", choices=["wt", "tc", "et"], default="wt")
    p.add_argument("--ignore", nargs="+", type=int, default=[], metavar="LABEL", help="label values that do not count")
    _keep_identifiers(p)


def run_benchmark(arguments: argparse.Namespace, bar: Callable) -> int:
    """Run the benchmark; 1 when a row failed."""
    from ..jobs.benchmark import Benchmark

    names = (
        "output",
        "profile",
        "data",
        "paper_table",
        "weights_dir",
        "device",
        "precision",
        "outputs",
        "dry_run",
        "keep_identifiers",
    )
    values = {name: getattr(arguments, name) for name in (*names, *EXECUTION_FIELDS) if hasattr(arguments, name)}
    values |= {name: tuple(getattr(arguments, name)) for name in ("rows", "methods", "setups")}
    result = _with_bar(bar, Benchmark(**values), _benchmark_line)
    if result.get("dry_run"):
        print(dry_run_text(result))
        return 0
    kept = f", {result['kept']} kept from before" if result["kept"] else ""
    print(f"{result['rows']} rows, {result['failed']} failed{kept}, {result['seconds']:.0f} s; in {result['output']}")
    if "report" in result["files"]:
        print(f"report: {result['files']['report']}")
    print("Research use only, not for diagnosis.")
    return int(result["failed"] > 0)


def run_train(arguments: argparse.Namespace, bar: Callable, settings: dict) -> int:
    """Run a training."""
    from ..jobs.train import Train

    values = {name: value for name, value in vars(arguments).items() if name in Train.__dataclass_fields__}
    result = _with_bar(bar, Train(**{**values, "settings": settings}), _adapter_line)
    print(f"adapter: {result['adapter']}")
    return 0


def run_data(arguments: argparse.Namespace, bar: Callable) -> int:
    """Audit a data set; 1 when no case can be used."""
    from ..datasets.audit import audit, markdown, write_audit

    shown = bar()
    try:
        found = audit(
            arguments.source,
            arguments.channel,
            arguments.label_rule,
            arguments.target,
            shown,
            tuple(arguments.ignore),
            arguments.keep_identifiers,
        )
    finally:
        shown.close()
    print(markdown(found))
    paths = write_audit(arguments.out or "zsadclip-audit", found)
    print(f"saved: {', '.join(str(path) for path in paths)}")
    return int(not found.records)


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
        f"all rows: about {_hours(result['total_hours'])} of computing, {result['cache_gb']:.1f} GB of cached features, "
        f"{result['slices_gb']:.1f} GB of slices",
        *(f"backbone {name}: {state}" for name, state in result["models"].items()),
        *(f"industrial adapter of {name}: {state}" for name, state in result["industrial"].items()),
        *result["notes"],
    ]
    return "\n".join(lines)


def _hours(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.1f} min"


def _with_bar(bar: Callable, job, line: Callable[[dict], str]) -> dict:
    from tqdm import tqdm

    shown = bar()
    try:
        return job.run(shown, lambda event: tqdm.write(line(event), file=sys.stdout))
    finally:
        shown.close()


def _benchmark_line(event: dict) -> str:
    return f"{event['id']}: {event['status']}" + (f"  {event['error']}" if event["status"] == "failed" else "")


def _adapter_line(event: dict) -> str:
    cut = "" if event["threshold"] is None else f", threshold {event['threshold']:.4f}"
    return f"{event['id']}: {event['status']}, {event['epochs']} epochs, loss {event['loss']:.4f}{cut}"
