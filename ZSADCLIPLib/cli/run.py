"""`zsadclip run`."""

from __future__ import annotations

import argparse


def add_run(p: argparse.ArgumentParser) -> None:
    p.add_argument("job", metavar="JOB.json")


def run_run(chosen: argparse.Namespace) -> int:
    """Run a job file as a child process."""
    from ..jobs.child import run

    return run(chosen.job)
