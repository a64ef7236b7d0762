"""A worker process: reads a job and then items as JSON lines, writes rows; ends when its parent does."""

from __future__ import annotations

import json
import os
import queue
import signal
import sys
import threading
import time
from functools import cache
from typing import TextIO

from ..execution.base import collect_seldom, fatal, keep_freed_memory, set_threads
from ..progress import Cancelled
from .lines import listen, take_output
from .registry import job_from_dict

EVERY = 0.2  # seconds between two progress messages
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
    last = 0.0

    def progress(fraction: float, text: str, done: int | None = None, total: int | None = None) -> None:
        nonlocal last
        if gone.is_set():
            raise Cancelled("the parent is gone")
        if time.monotonic() - last > EVERY:
            last = time.monotonic()
            emit({"fraction": fraction})

    try:
        hello = inbox.get()
        if hello is None:
            return 0
        job = job_from_dict(hello["job"])

        @cache
        def state():
            set_threads(hello["threads"])
            loaded = job.load(hello["slot"])
            emit({"loaded": True})
            return loaded

        while (message := inbox.get()) is not None:
            emit({"row": job.work(state, message["item"], progress)})
        return 0
    except Cancelled:
        return 0
    except Exception as error:
        emit({"fatal": fatal(error)})
        return 1


if __name__ == "__main__":
    sys.exit(main())
