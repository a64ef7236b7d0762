"""Progress and cancelling: one callable, which may raise `Cancelled`; and reports of cases."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

Report = Callable[[dict], None]
"""Called with one JSON-able dictionary after every case, and with {"event": "note", "text"} for what a user should know."""


class Progress(Protocol):
    """Called as `progress(fraction, text)` or `progress(fraction, text, done, total)`; may raise `Cancelled`.

    `fraction` of the whole work is in 0..1 and `text` is for people. Where things are counted (slices, cases, bytes), `done` of
    `total` are finished; programs read these numbers and never the text.
    """

    def __call__(self, fraction: float, text: str, done: int | None = None, total: int | None = None) -> None: ...


class Cancelled(Exception):
    """Raised by a progress callable to stop the work in hand; nothing half-written is left."""


def silent(fraction: float, text: str, done: int | None = None, total: int | None = None) -> None:
    """Ignore progress."""


def quiet(event: dict) -> None:
    """Ignore reports."""


def sub_progress(progress: Progress, start: float, stop: float, prefix: str = "") -> Progress:
    """A progress callable that maps its own 0..1 to `start`..`stop` of another one, and puts `prefix` before its texts."""

    def scaled(fraction: float, text: str, done: int | None = None, total: int | None = None) -> None:
        progress(start + (stop - start) * fraction, prefix + text, done, total)

    return scaled
