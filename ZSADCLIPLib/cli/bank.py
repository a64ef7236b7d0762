"""`zsadclip bank build`."""

from __future__ import annotations

import argparse

from ..errors import number_of
from ..jobs.bank import BuildBank
from .bar import run_with_bar, tokens_line
from .options import add_flags, job_of


def add_bank(p: argparse.ArgumentParser) -> None:
    p.add_argument("action", choices=["build"])
    add_flags(p, BuildBank)


def run_bank(chosen: argparse.Namespace) -> int:
    """Build a bank of healthy volumes."""
    result = run_with_bar(job_of(BuildBank, chosen), tokens_line)
    cut = "no threshold" if result["threshold"] is None else f"threshold {result['threshold']:.4f}"
    print(f"bank: {result['output']}, {number_of(result['cases'], 'volume')}, {result['tokens']} tokens, {cut}")
    print("zsadclip detect VOLUME -o OUT --method bank --bank FILE compares others with it.")
    return 0
