"""Progress and cancelling: one callable `progress(fraction, text)`, which may raise `Cancelled`."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[float, str], None]


class Cancelled(Exception):
    """Raised by a progress callable to stop the work in hand; nothing half-written is left."""


def silent(fraction: float, text: str) -> None:
    """Ignore progress."""


def part(progress: Progress, start: float, stop: float) -> Progress:
    """A progress callable that maps its own 0..1 to `start`..`stop` of another one."""

    def scaled(fraction: float, text: str) -> None:
        progress(start + (stop - start) * fraction, text)

    return scaled
