"""Where the cases of a job are worked on: in this process, in worker processes, or on a Dask cluster."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

from ..progress import Progress, sub_progress
from .base import Settle, Spreadable, set_threads


def execute(job: Spreadable, items: Sequence[dict], settle: Settle, progress: Progress) -> None:
    """Work on all items; raises what loading the model raises, and whatever `progress` raises after stopping the work."""
    if job.executor == "dask":
        from .cluster import run

        run(job, items, settle, progress)
    elif job.workers or job.time_out:
        from .processes import run

        run(job, items, settle, progress)
    else:
        _run_here(job, items, settle, progress)


def _run_here(job: Spreadable, items: Sequence[dict], settle: Settle, progress: Progress) -> None:
    @cache
    def state():
        set_threads(job.threads)
        return job.load(0)

    for n, item in enumerate(items):
        settle(n, job.work(state, item, sub_progress(progress, n / len(items), (n + 1) / len(items))))
