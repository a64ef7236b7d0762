"""A job as a child process: JSON lines on standard output, cancelled through standard input."""

from __future__ import annotations

import json
import os
import sys
import threading
import time

from ..errors import ZSADCLIPError
from ..execution.base import load_before_listening
from ..progress import Cancelled
from .registry import read_job


class Line:
    """Writes events; a parent that is gone cancels the work."""

    def __init__(self, stream):
        self._stream = stream

    def __call__(self, event: dict) -> None:
        try:
            self._stream.write(json.dumps(event) + "\n")
            self._stream.flush()
        except (BrokenPipeError, ValueError) as error:
            raise Cancelled("the parent is gone") from error


def run(path: str) -> int:
    """Run the job file; 0 done, 1 failed, 130 cancelled.

    The work stops within one batch when standard input is closed (the parent died) or says "cancel".
    """
    # Libraries may print; the protocol keeps the real standard output for itself.
    emit = Line(os.fdopen(os.dup(1), "w", encoding="utf-8"))
    os.dup2(2, 1)
    cancelled, started = threading.Event(), time.monotonic()

    def listen() -> None:
        for line in sys.stdin:
            if line.strip() == "cancel":
                break
        cancelled.set()

    load_before_listening()
    threading.Thread(target=listen, daemon=True).start()

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
