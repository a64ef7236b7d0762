"""`zsadclip cohort`."""

from __future__ import annotations

import argparse

from ..errors import number_of
from ..jobs.cohort import Cohort
from .bar import case_line, run_with_bar
from .options import add_flags, job_of


def add_cohort(p: argparse.ArgumentParser) -> None:
    add_flags(p, Cohort)


def run_cohort(chosen: argparse.Namespace) -> int:
    """Score a batch of volumes against each other; 1 when a volume could not be used."""
    result = run_with_bar(job_of(Cohort, chosen), case_line)
    print(f"{number_of(result['cases'], 'volume')}, {result['failed']} failed; results in {result['output']}")
    if result["failed"]:
        print(f"failed: {', '.join(result['failed_ids'])}; the batch is the others. summary.csv says why they failed.")
    print("Scores hold within this batch only. Research use only, not for diagnosis.")
    return int(result["failed"] > 0)
