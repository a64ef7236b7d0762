"""What a server says: JSON, fixed headers, and its status in plain words."""

from __future__ import annotations

import json
import time

from .. import __version__
from ..files.text import plain
from .queue import Queue

FIXED = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


def encoded(data: object) -> bytes:
    """JSON of an answer."""
    return json.dumps(plain(data), allow_nan=False).encode()


def status_text(queue: Queue, started: float) -> str:
    """A few numbers; nothing of any volume or client."""
    counts, minutes = queue.status(), (time.monotonic() - started) / 60
    lines = [
        f"zsadclip serve {__version__}, up {minutes:.0f} min",
        *(f"{state:10}{n:6}" for state, n in counts.items()),
    ]
    lines += [
        f"{queue.settings.workers} at a time, {queue.settings.queue} may wait",
        "Research use only, not for diagnosis.",
    ]
    return "\n".join(lines) + "\n"
