"""`zsadclip train`."""

from __future__ import annotations

import argparse

from ..jobs.train import Train
from .bar import adapter_line, run_with_bar
from .options import add_flags, job_of


def add_train(p: argparse.ArgumentParser) -> None:
    add_flags(p, Train)


def run_train(chosen: argparse.Namespace) -> int:
    """Train an adapter."""
    result = run_with_bar(job_of(Train, chosen), adapter_line)
    print(f"adapter: {result['adapter']}")
    return 0
