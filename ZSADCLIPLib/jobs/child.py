"""A job as a child process: JSON lines on standard output, cancelled through standard input."""

from __future__ import annotations

import os
import threading
import time
from typing import TextIO

from ..errors import ZSADCLIPError
from ..progress import Cancelled
from .lines import listen, take_output
from .registry import read_job


def run(path: str) -> int:
    """Run the job file; 0 done, 1 failed, 130 cancelled.

    The work stops within one batch when standard input is closed (the parent died) or says "cancel".
    """
    emit, cancelled, started = take_output(), threading.Event(), time.monotonic()

    def hear(lines: TextIO) -> None:
        for line in lines:
            if line.strip() == "cancel":
                break
        cancelled.set()

    listen(hear)

    def progress(fraction: float, text: str, done: int | None = None, total: int | None = None) -> None:
        if cancelled.is_set():
            raise Cancelled("asked to stop")
        spent = time.monotonic() - started
        eta = spent / fraction * (1 - fraction) if fraction > 0 else None
        emit({"event": "progress", "fraction": fraction, "text": text, "done": done, "total": total, "eta": eta})

    try:
        emit({"event": "started", "pid": os.getpid()})
        result = read_job(path).run(progress, emit)
        emit({"event": "result", **result})
        return int(result.get("failed", 0) > 0)
    except Cancelled:
        emit({"event": "cancelled"})
        return 130
    except ZSADCLIPError as error:
        emit({"event": "error", "kind": type(error).__name__, "message": str(error)})
        return 1
    except Exception as error:
        # The panel shows the message; the traceback goes to the log on standard error.
        import traceback

        traceback.print_exc()
        emit({"event": "error", "kind": type(error).__name__, "message": str(error) or type(error).__name__})
        return 1
