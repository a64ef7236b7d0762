"""The command line: `zsadclip COMMAND`, one of COMMANDS."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading

from .. import __version__
from ..errors import UsageError, ZSADCLIPError
from ..files.privacy import redact
from ..progress import Cancelled
from .bank import add_bank, run_bank
from .benchmark import add_benchmark, add_report, run_benchmark, run_report
from .cohort import add_cohort, run_cohort
from .data import add_data, run_data
from .detect import add_detect, run_detect
from .dicom import add_dicom, run_dicom
from .doctor import add_doctor, run_doctor
from .evaluate import add_evaluate, run_evaluate
from .models import add_models, add_phantom, run_models, run_phantom
from .review import add_review, run_review
from .train import add_train, run_train


def _add_run(p: argparse.ArgumentParser) -> None:
    p.add_argument("job", metavar="JOB.json")


def _run_run(chosen: argparse.Namespace) -> int:
    from ..jobs.child import run

    return run(chosen.job)


COMMANDS = {
    "detect": (add_detect, run_detect, "anomaly map, mask, findings and picture of each volume"),
    "bank": (add_bank, run_bank, "a bank of healthy volumes, for detect --method bank"),
    "cohort": (add_cohort, run_cohort, "a batch of volumes scored against each other; nothing is known of any"),
    "evaluate": (
        add_evaluate,
        run_evaluate,
        "detect on labelled volumes, and what it is worth: tables, pictures, page",
    ),
    "review": (add_review, run_review, "a page to look through results in the browser, and what readers said of them"),
    "train": (add_train, run_train, "train one adapter on labelled volumes"),
    "benchmark": (add_benchmark, run_benchmark, "the paper's experiment: rows, tables, figures, report"),
    "data": (add_data, run_data, "audit a data set"),
    "dicom": (add_dicom, run_dicom, "list the volumes of a DICOM folder"),
    "models": (add_models, run_models, "list backbones and adapters, or download a backbone"),
    "phantom": (add_phantom, run_phantom, "write synthetic cases in BraTS-MET layout"),
    "doctor": (add_doctor, run_doctor, "what is installed, how it will run, what a volume costs here"),
    "report": (add_report, run_report, "tables, figures and report of a benchmark folder, from its finished rows"),
    "run": (_add_run, _run_run, "run a job file as a child process (JSON lines)"),
}
"""Each command's arguments, what it does (returning an exit code), and help."""


def parser() -> argparse.ArgumentParser:
    """The whole command line; needs no torch."""
    top = argparse.ArgumentParser(
        prog="zsadclip", description="Anomaly maps for medical volumes with CLIP. Research use only, not for diagnosis."
    )
    top.add_argument("--version", action="version", version=f"zsadclip {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (add, _, text) in COMMANDS.items():
        add(commands.add_parser(name, help=text))
    return top


GREETING = """ZSADCLIP finds what is unusual in medical volumes. Three commands to begin with:

  zsadclip phantom --out try --world mri      a synthetic brain to try it on
  zsadclip detect try -o out --review         anomaly map, findings, and a page for the browser: out/review/index.html
  zsadclip doctor                             what is installed, and what a volume costs here

All commands: zsadclip --help. Research use only, not for diagnosis."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0 done, 1 failed, 2 wrong arguments, 130 interrupted."""
    try:
        _end_like_an_interrupt()
        if not (sys.argv[1:] if arguments is None else arguments):
            print(GREETING)
            return 0
        chosen = parser().parse_args(arguments)
        _, run, _ = COMMANDS[chosen.command]
        return run(chosen)
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
