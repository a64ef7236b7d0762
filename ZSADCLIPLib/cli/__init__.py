"""The command line: `zsadclip detect`, `train`, `benchmark`, `report`, `data`, `models`, `phantom`, `run`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading

from .. import __version__
from ..adapters import DEFAULT_METHOD, METHODS
from ..backbones import BACKBONES
from ..errors import UsageError, ZSADCLIPError
from ..execution.base import EXECUTORS
from ..files.privacy import redact
from ..progress import Cancelled
from .arguments import benchmark_arguments, data_arguments, run_benchmark, run_data, run_train, train_arguments


def parser() -> argparse.ArgumentParser:
    """The whole command line; needs no torch."""
    top = argparse.ArgumentParser(
        prog="zsadclip", description="Anomaly maps for medical volumes with CLIP. Research use only, not for diagnosis."
    )
    top.add_argument("--version", action="version", version=f"zsadclip {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _detect_arguments(commands.add_parser("detect", help="anomaly map, mask, findings and picture of each volume"))
    train_arguments(commands.add_parser("train", help="train one adapter on labelled volumes"))
    benchmark = commands.add_parser("benchmark", help="the paper's experiment: rows, tables, figures, report")
    benchmark_arguments(benchmark)
    add_execution(benchmark)
    data_arguments(commands.add_parser("data", help="audit a data set"))
    models = commands.add_parser("models", help="list backbones and adapters, or download a backbone")
    models.add_argument("action", nargs="?", choices=["list", "get"], default="list")
    models.add_argument("name", nargs="?", help="backbone to download")
    models.add_argument("--weights-dir", help="folder with weights, searched before the cache")
    phantom = commands.add_parser("phantom", help="write synthetic cases in BraTS-MET layout")
    phantom.add_argument("--cases", type=int, default=1)
    phantom.add_argument("--seed", type=int, default=0)
    phantom.add_argument("--out", required=True)
    phantom.add_argument("--healthy", action="store_true", help="without lesions")
    phantom.add_argument("--channels", nargs="+", default=["t2w"], metavar="CHANNEL", help="t2w t1n t1c t2f")
    phantom.add_argument("--domain", choices=["brain", "industrial"], default="brain")
    report = commands.add_parser(
        "report", help="tables, figures and report of a benchmark folder, from its finished rows"
    )
    report.add_argument("out", metavar="OUT", help="folder of the benchmark")
    report.add_argument("--paper-table", metavar="CSV", help="the paper's own values: row,metric,mean[,sd]")
    run = commands.add_parser("run", help="run a job file as a child process (JSON lines)")
    run.add_argument("job", metavar="JOB.json")
    return top


def _detect_arguments(p: argparse.ArgumentParser) -> None:
    p.add_argument("inputs", nargs="+", metavar="INPUT", help="volumes, folders, globs, or a CSV with id,image[,mask]")
    p.add_argument("-o", "--output", required=True, metavar="OUT", help="folder for the results")
    p.add_argument("--method", choices=list(METHODS), default=DEFAULT_METHOD)
    p.add_argument("--backbone", default="mini", help=f"{', '.join(BACKBONES)}, an open_clip name, or a JSON config")
    p.add_argument("--weights", help="backbone weights: open_clip tag, file, folder, or random[:SEED]")
    p.add_argument("--weights-dir", help="folder with weights, searched before the cache")
    p.add_argument("--activation", choices=["gelu", "quick_gelu"], help="default: as the adapter was trained")
    p.add_argument("--checkpoint", help="adapter file (ours or the authors'), or METHOD:random[:SEED]")
    p.add_argument("--allow-mismatch", action="store_true", help="accept an adapter trained on other backbone weights")
    p.add_argument("--object", dest="object_name", help="what the prompts speak of, such as brain")
    p.add_argument("--prompts", help="embedded prompt set or JSON file")
    p.add_argument(
        "--set", dest="settings", nargs="+", default=[], metavar="FIELD=VALUE", help="further method settings"
    )
    p.add_argument(
        "--reference", nargs="+", default=[], metavar="FILE", help="normal volumes for the memory bank (VAND)"
    )
    p.add_argument("--plane", choices=["axial", "coronal", "sagittal"], default="axial")
    p.add_argument("--image-size", type=int, help="pixels the model sees (default 240)")
    p.add_argument(
        "--intensity",
        choices=["per-volume-percentile", "per-volume-zscore", "per-slice-minmax", "window"],
        default="per-volume-percentile",
    )
    p.add_argument("--window", nargs=2, type=float, metavar=("LOW", "HIGH"))
    p.add_argument("--device", default="auto", help="auto, cuda, cuda:N, mps or cpu")
    p.add_argument("--precision", choices=["auto", "float32", "bfloat16", "float16"], default="auto")
    p.add_argument("--fast", action="store_true", help="compute only the brain's bounding box; quicker, not exact")
    p.add_argument("--batch-size", default="auto")
    p.add_argument("--threshold", default="checkpoint", help="checkpoint, NUMBER, fixed:NUMBER or quantile:Q")
    p.add_argument("--min-size", dest="min_size_mm3", type=float, default=0.0, metavar="MM3")
    p.add_argument("--background", choices=["keep", "zero"], default="keep", help="map values outside the brain")
    p.add_argument("--brain-mask", metavar="FILE")
    p.add_argument("--skip-existing", action="store_true", help="keep finished results of the same settings")
    p.add_argument("--dry-run", action="store_true", help="show what would be done")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--no-pictures", dest="pictures", action="store_false")
    p.add_argument(
        "--keep-identifiers",
        action="store_true",
        help="let names of folders and DICOM series into ids and messages",
    )
    add_execution(p)


def add_execution(p: argparse.ArgumentParser) -> None:
    """The options of `execution.base.Execution`."""
    g = p.add_argument_group("many cases")
    g.add_argument("--executor", choices=EXECUTORS, default="local", help="worker processes here, or a Dask cluster")
    g.add_argument("--workers", type=int, default=0, metavar="N", help="worker processes (0: this process alone)")
    g.add_argument("--threads", type=int, default=0, metavar="N", help="CPU threads a worker (0: cores / workers)")
    g.add_argument("--time-out", type=float, metavar="SECONDS", help="longest time for a case")
    g.add_argument("--retries", type=int, default=1, metavar="N", help="new tries of a case whose worker died")
    g.add_argument(
        "--patience", type=float, default=60.0, metavar="SECONDS", help="wait this long for a share that is gone"
    )
    g.add_argument(
        "--shard",
        metavar="I/N",
        help="every N-th case (benchmark: method) from the I-th on, I from 1 to N, for job arrays",
    )
    g.add_argument("--scheduler", metavar="ADDRESS|FILE", help="running Dask scheduler, or its scheduler file")


def _parse_settings(pairs: list[str]) -> dict:
    import json

    out = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals:
            raise UsageError(f"--set {pair!r}: expected FIELD=VALUE")
        try:
            out[name] = json.loads(text)
        except ValueError:
            out[name] = text
    return out


class Bar:
    """Progress as a bar on standard error, silent when it is not a terminal."""

    def __init__(self):
        from tqdm import tqdm

        form = "{percentage:3.0f}% |{bar}| {desc} [{elapsed}<{remaining}]"
        self._bar = tqdm(total=1.0, bar_format=form, file=sys.stderr, disable=not sys.stderr.isatty(), leave=False)

    def __call__(self, fraction: float, text: str, done: int | None = None, total: int | None = None) -> None:
        self._bar.set_description_str(text, refresh=False)
        self._bar.update(max(0.0, fraction - self._bar.n))
        self._bar.refresh()

    def close(self) -> None:
        self._bar.close()


def _report(event: dict) -> None:
    from tqdm import tqdm

    if event["event"] == "note":
        tqdm.write(f"note: {event['text']}", file=sys.stderr)
        return
    status, detail = event["status"], ""
    if status == "failed":
        detail = event["error"]
    elif status == "done":
        detail = f"score {event['volume_score']:.3f}, {event['findings']} findings, {event['volume_mm3'] / 1000:.2f} ml"
        if "dice" in event and event["dice"] is not None:
            detail += f", Dice {event['dice']:.2f}"
    tqdm.write(f"{event['id']}: {status}{'  ' + detail if detail else ''}", file=sys.stdout)


def _run_detect(arguments: argparse.Namespace) -> int:
    from ..jobs.registry import Detect

    values = {k: v for k, v in vars(arguments).items() if k != "command"}
    values["settings"] = _parse_settings(values["settings"])
    for name in ("inputs", "reference"):
        values[name] = tuple(values[name])
    values["window"] = tuple(values["window"]) if values["window"] else None
    bar = Bar()
    try:
        result = Detect(**values).run(bar, _report)
    finally:
        bar.close()
    if not result.get("dry_run"):
        kept = f", {result['skipped']} kept" if result["skipped"] else ""
        print(f"{result['cases']} cases, {result['failed']} failed{kept}; results in {result['output']}")
        if result["failed"]:
            more = " ..." if result["failed"] > len(result["failed_ids"]) else ""
            print(f"failed: {', '.join(result['failed_ids'])}{more}")
            print("The same command with --skip-existing tries only these again; summary.csv says why they failed.")
        print("Research use only, not for diagnosis.")
    return int(result["failed"] > 0)


def _run_models(arguments: argparse.Namespace) -> int:
    from ..adapters.checkpoint import list_adapters
    from ..backbones.weights import download, status

    if arguments.action == "get":
        if not arguments.name:
            raise UsageError("zsadclip models get NAME: name a backbone of 'zsadclip models'")
        bar = Bar()
        try:
            for path in download(arguments.name, arguments.weights_dir, bar):
                print(path)
        finally:
            bar.close()
        return 0
    for row in status(arguments.weights_dir):
        size = f"{row['size_bytes'] / 1e6:5.0f} MB" if row["size_bytes"] else " " * 8
        print(f"{row['name']:20s} {row['state']:10s} {size}  {row['label']}  {row['where']}")
    for info in list_adapters(arguments.weights_dir):
        print(f"{info.name:34s} {METHODS[info.method].label} on {info.backbone.get('name')}")
    return 0


def _run_phantom(arguments: argparse.Namespace) -> int:
    from ..synthetic.brains import write_dataset

    bar = Bar()
    try:
        paths = write_dataset(
            arguments.out,
            cases=arguments.cases,
            seed=arguments.seed,
            healthy=arguments.healthy,
            channels=tuple(arguments.channels),
            domain=arguments.domain,
            progress=bar,
        )
    finally:
        bar.close()
    print(f"{len(paths)} synthetic cases in {arguments.out}")
    return 0


def _run_report(arguments: argparse.Namespace) -> int:
    from ..report.write import write_outputs

    for path in write_outputs(arguments.out, arguments.paper_table).values():
        print(path)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0 done, 1 failed, 2 wrong arguments, 130 interrupted."""
    try:
        _end_like_an_interrupt()
        chosen = parser().parse_args(arguments)
        if chosen.command == "run":
            from ..jobs.child import run

            return run(chosen.job)
        if chosen.command == "benchmark":
            return run_benchmark(chosen, Bar)
        if chosen.command == "train":
            return run_train(chosen, Bar, _parse_settings(chosen.settings))
        if chosen.command == "data":
            return run_data(chosen, Bar)
        commands = {"detect": _run_detect, "models": _run_models, "phantom": _run_phantom, "report": _run_report}
        return commands[chosen.command](chosen)
    except UsageError as error:
        print(f"zsadclip: {error}", file=sys.stderr)
        return 2
    except ZSADCLIPError as error:
        print(f"zsadclip: {error}", file=sys.stderr)
        return 1
    except (KeyboardInterrupt, Cancelled):
        print("zsadclip: interrupted; finished cases are complete, nothing else was written", file=sys.stderr)
        return 130
    except Exception as error:
        if os.environ.get("ZSADCLIP_TRACEBACK") == "1":
            raise
        detail = redact(f"{type(error).__name__}: {error}")
        print(f"zsadclip: unexpected {detail} (ZSADCLIP_TRACEBACK=1 shows where)", file=sys.stderr)
        return 1


def _end_like_an_interrupt() -> None:
    """Batch systems end jobs with SIGTERM: stop then as at Ctrl-C, with nothing half-written."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
