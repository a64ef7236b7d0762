"""`zsadclip detect`."""

from __future__ import annotations

import argparse

from ..errors import number_of
from ..jobs.detect import Detect
from .bar import case_line, run_with_bar
from .options import add_flags, job_of


def add_detect(p: argparse.ArgumentParser) -> None:
    add_flags(p, Detect)


def run_detect(chosen: argparse.Namespace) -> int:
    """Score volumes; 1 when a case failed."""
    result = run_with_bar(job_of(Detect, chosen), case_line)
    if not result.get("dry_run"):
        skipped = f", {result['skipped']} kept" if result["skipped"] else ""
        print(
            f"{number_of(result['cases'], 'case')}, {result['failed']} failed{skipped}; results in {result['output']}"
        )
        if result["failed"]:
            more = " ..." if result["failed"] > len(result["failed_ids"]) else ""
            print(f"failed: {', '.join(result['failed_ids'])}{more}")
            print("The same command with --skip-existing tries only these again; summary.csv says why they failed.")
        if "page" in result:
            print(f"page: {result['page']}")
        print("Research use only, not for diagnosis.")
    return int(result["failed"] > 0)
