"""JSON lines with the parent process over the standard streams: what `child` and `worker` share."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import TextIO

from ..progress import Cancelled


def take_output() -> Callable[[dict], None]:
    """What writes a message as a line; it raises Cancelled when the parent is gone.

    Libraries may print: the protocol keeps the real standard output for itself, and prints go to standard error.
    """
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    one = threading.Lock()

    def emit(message: dict) -> None:
        try:
            with one:
                out.write(json.dumps(message) + "\n")
                out.flush()
        except (BrokenPipeError, ValueError) as error:
            raise Cancelled("the parent is gone") from error

    return emit


def listen(hear: Callable[[TextIO], None]) -> None:
    """Let `hear` read standard input in a thread of its own."""
    _load_before_listening()
    threading.Thread(target=hear, args=(sys.stdin,), daemon=True).start()


def _load_before_listening() -> None:
    """On Windows, load the numerical libraries now: once a thread waits for standard input, their start would wait for it too.

    Their Fortran runtime asks for the type of standard input when it is loaded, which a pending read holds up
    (numpy issue 24290).
    """
    if sys.platform == "win32":
        with suppress(ImportError):  # the job says what is missing
            import scipy.linalg  # noqa: F401
