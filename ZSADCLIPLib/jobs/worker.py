"""A worker process: reads a job and then items as JSON lines, writes rows; ends when its parent does."""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TextIO

from ..execution.base import Spreadable, collect_seldom, fatal, keep_freed_memory, once, set_threads
from ..execution.overlap import Cases
from ..progress import Cancelled
from .lines import listen, take_output
from .registry import job_from_dict

EVERY = 0.2  # seconds between two progress messages of a case
GRACE = 10.0  # seconds for the batch in hand when the parent is gone


def main() -> int:
    """Serve until standard input is closed; 0, or 1 after an error that ends the run."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # an interrupt goes to the whole group; the parent decides
    collect_seldom()
    keep_freed_memory()
    emit = take_output()
    inbox: queue.SimpleQueue = queue.SimpleQueue()
    gone = threading.Event()

    def hear(lines: TextIO) -> None:
        for line in lines:
            inbox.put(json.loads(line))
        gone.set()
        inbox.put(None)
        time.sleep(GRACE)
        os._exit(1)

    listen(hear)
    try:
        hello = inbox.get()
        if hello is None:
            return 0
        job = job_from_dict(hello["job"])

        @once
        def state() -> object:
            set_threads(hello["threads"])
            loaded = job.load(hello["slot"])
            emit({"loaded": True})
            return loaded

        if job.at_once() > 1:
            _overlapping(job, state, inbox, emit)
        else:
            _one_by_one(job, state, inbox, emit, gone)
        return 0
    except Cancelled:
        return 0
    except Exception as error:
        emit({"fatal": fatal(error)})
        return 1


def _one_by_one(
    job: Spreadable,
    state: Callable[[], object],
    inbox: queue.SimpleQueue,
    emit: Callable[[dict], None],
    gone: threading.Event,
) -> None:
    """Work on items as they come, on this thread."""
    last = 0.0
    while (message := inbox.get()) is not None:
        n = message["n"]

        def progress(fraction: float, text: str, done: int | None = None, total: int | None = None, n: int = n) -> None:
            nonlocal last
            if gone.is_set():
                raise Cancelled("the parent is gone")
            if time.monotonic() - last > EVERY:
                last = time.monotonic()
                emit({"n": n, "fraction": fraction})

        emit({"n": n, "row": job.work(state, message["item"], progress)})


def _overlapping(
    job: Spreadable, state: Callable[[], object], inbox: queue.SimpleQueue, emit: Callable[[dict], None]
) -> None:
    """Work on all items that the parent hands out, at once."""
    last: dict[int, float] = {}
    cases = Cases(job, state, job.at_once(), lambda n, said: inbox.put((n, said)))
    try:
        while (message := inbox.get()) is not None:
            if isinstance(message, dict):
                cases.begin(message["n"], message["item"])
                continue
            n, said = message
            if isinstance(said, Future):
                last.pop(n, None)
                emit({"n": n, "row": said.result()})
            elif time.monotonic() - last.get(n, 0.0) > EVERY:
                last[n] = time.monotonic()
                emit({"n": n, "fraction": said[0]})
    finally:
        cases.stop()
        cases.wait()


if __name__ == "__main__":
    sys.exit(main())
