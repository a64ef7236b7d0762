"""`zsadclip evaluate`."""

from __future__ import annotations

import argparse

from ..errors import number_of
from ..fields import from_dict
from ..jobs.detect import Detect
from ..jobs.evaluate import OWN, Evaluate
from .bar import case_line, run_with_bar
from .options import add_flags, given


def add_evaluate(p: argparse.ArgumentParser) -> None:
    add_flags(p, Evaluate)
    add_flags(p, Detect, without=OWN)


def run_evaluate(chosen: argparse.Namespace) -> int:
    """Score volumes and hold the results against their truth; 1 when a case has no result."""
    job = from_dict(Evaluate, {**given(Evaluate, chosen), "detect": given(Detect, chosen, without=OWN)})
    result = run_with_bar(job, case_line)
    if not result.get("dry_run"):
        print(f"{number_of(result['cases'], 'result')}, {result['failed']} failed; in {result['output']}")
        if result["failed"]:
            print("The same command with --skip-existing tries only these again; the page says why they failed.")
        print(f"page: {result['files']['page']}")
        print("Research use only, not for diagnosis.")
    return int(result["failed"] > 0)
