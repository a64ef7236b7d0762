"""The command line: `zsadclip COMMAND`, one of COMMANDS."""

from __future__ import annotations

import argparse
import importlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Collection

from .. import __version__
from ..errors import UsageError, ZSADCLIPError
from ..files.privacy import redact
from ..progress import Cancelled

COMMANDS = {
    "detect": ("detect", "anomaly map, mask, findings and picture of each volume"),
    "bank": ("bank", "a bank of healthy volumes, for detect --method bank"),
    "cohort": ("cohort", "a batch of volumes scored against each other; nothing is known of any"),
    "evaluate": ("evaluate", "detect on labelled volumes, and what it is worth: tables, pictures, page"),
    "review": ("review", "a page to look through results in the browser, and what readers said of them"),
    "train": ("train", "train one adapter on labelled volumes"),
    "benchmark": ("benchmark", "the paper's experiment: rows, tables, figures, report"),
    "data": ("data", "audit a data set"),
    "dicom": ("dicom", "DICOM folders listed, objects checked and sent"),
    "node": ("node", "a DICOM node: studies in, results back"),
    "serve": ("serve", "a server that scores volumes for Slicer on other computers"),
    "models": ("models", "list backbones and adapters, or download a backbone"),
    "phantom": ("models", "write synthetic cases in BraTS-MET layout"),
    "doctor": ("doctor", "what is installed, how it will run, what a volume costs here"),
    "report": ("benchmark", "tables, figures and report of a benchmark folder, from its finished rows"),
    "run": ("run", "run a job file as a child process (JSON lines)"),
}
"""Each command's module here, and help. The module has `add_NAME(parser)`, its arguments, and `run_NAME(chosen)`, which does
it and returns an exit code."""


def parser(names: Collection[str] = tuple(COMMANDS)) -> argparse.ArgumentParser:
    """The command line, with the arguments of the commands `names`; needs no torch, and without arguments next to nothing."""
    top = argparse.ArgumentParser(
        prog="zsadclip", description="Anomaly maps for medical volumes with CLIP. Research use only, not for diagnosis."
    )
    top.add_argument("--version", action="version", version=f"zsadclip {__version__}")
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, (_, text) in COMMANDS.items():
        command = commands.add_parser(name, help=text)
        if name in names:
            _part(name, "add")(command)
    return top


def _part(name: str, what: str) -> Callable:
    """A function of a command's module, which is imported only now."""
    return getattr(importlib.import_module(f".{COMMANDS[name][0]}", __name__), f"{what}_{name}")


GREETING = """ZSADCLIP finds what is unusual in medical volumes. Three commands to begin with:

  zsadclip phantom --out try --world mri --channels t2f --seed 6110
                                           a synthetic brain with lesions, to try it on
  zsadclip detect try -o out --review      anomaly map, findings, and a page for the browser: out/review/index.html
  zsadclip doctor                          what is installed, and what a volume costs here

All commands: zsadclip --help. Research use only, not for diagnosis."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; returns 0 done, 1 failed, 2 wrong arguments, 130 interrupted, 141 nobody reads on."""
    try:
        _end_like_an_interrupt()
        arguments = sys.argv[1:] if arguments is None else arguments
        if not arguments:
            print(GREETING)
            return 0
        named = next((each for each in arguments if not each.startswith("-")), "")
        if named:
            from ..execution.base import collect_seldom, keep_freed_memory

            collect_seldom()
            keep_freed_memory()
        chosen = parser((named,)).parse_args(arguments)
        return _part(chosen.command, "run")(chosen)
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
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return 141
        if os.environ.get("ZSADCLIP_TRACEBACK") == "1":
            raise
        detail = redact(f"{type(error).__name__}: {error}")
        print(f"zsadclip: unexpected {detail} (ZSADCLIP_TRACEBACK=1 shows where)", file=sys.stderr)
        return 1


def _end_like_an_interrupt() -> None:
    """Batch systems end jobs with SIGTERM: stop then as at Ctrl-C, with nothing half-written."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)


def _nobody_reads() -> bool:
    """True where standard output is a pipe whose reader has gone, as `| head` does; what is left to write then goes nowhere."""
    try:
        output = sys.stdout.fileno()
        poll = select.poll()
    except (AttributeError, OSError):  # an output that is no file, or Windows
        return False
    poll.register(output, select.POLLOUT)
    gone = any(event & select.POLLERR for _, event in poll.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    return gone
