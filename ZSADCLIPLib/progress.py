"""Progress and cancelling: one callable `progress(fraction, text)`, which may raise `Cancelled`; and reports of cases."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[float, str], None]
Report = Callable[[dict], None]
"""Called with one JSON-able dictionary after every case, and with {"event": "note", "text"} for what a user should know."""


class Cancelled(Exception):
    """Raised by a progress callable to stop the work in hand; nothing half-written is left."""


def silent(fraction: float, text: str) -> None:
    """Ignore progress."""


def quiet(event: dict) -> None:
    """Ignore reports."""


def part(progress: Progress, start: float, stop: float) -> Progress:
    """A progress callable that maps its own 0..1 to `start`..`stop` of another one."""

    def scaled(fraction: float, text: str) -> None:
        progress(start + (stop - start) * fraction, text)

    return scaled
