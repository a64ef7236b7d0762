"""Where the cases of a job are worked on: in this process, in worker processes, or on a Dask cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar

from ..progress import Progress, sub_progress
from .base import Settle, Spreadable, once, set_threads
from .overlap import Run as Overlapping

Run = Callable[[Sequence[dict], Settle, Progress], None]
_KEPT: ContextVar[tuple[Spreadable, Run] | None] = ContextVar("kept", default=None)


def execute(job: Spreadable, items: Sequence[dict], settle: Settle, progress: Progress) -> None:
    """Work on all items; raises what loading the model raises, and whatever `progress` raises after stopping the work."""
    found = _KEPT.get()
    if found is not None and found[0] == job:
        found[1](items, settle, progress)
        return
    with _opened(job) as run:
        run(items, settle, progress)


@contextmanager
def kept(job: Spreadable) -> Iterator[None]:
    """What `execute` starts for an equal job in this block, processes and what they loaded, stays until the end of the block."""
    with _opened(job) as run:
        before = _KEPT.set((job, run))
        try:
            yield
        finally:
            _KEPT.reset(before)


def _opened(job: Spreadable) -> AbstractContextManager[Run]:
    if job.executor == "dask":
        from .cluster import opened
    elif job.workers or job.time_out:
        from .processes import opened
    else:
        opened = _here
    return opened(job)


@contextmanager
def _here(job: Spreadable) -> Iterator[Run]:
    @once
    def state() -> object:
        set_threads(job.threads)
        return job.load(0)

    def run(items: Sequence[dict], settle: Settle, progress: Progress) -> None:
        total = len(items)
        for n, item in enumerate(items):
            row = job.work(state, item, sub_progress(progress, n / total, (n + 1) / total))
            fresh = not row.get("kept")
            settle(n, row)
            # What has worked on a case has the model, and the libraries that several threads should not import at once.
            if fresh and (first := n + 1) < total and (at_once := job.at_once()) > 1:
                share = sub_progress(progress, first / total, 1.0)
                Overlapping(job, state, items[first:], at_once, lambda k, row: settle(first + k, row), share).run()
                return

    yield run
