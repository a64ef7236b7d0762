"""What a process has only once and libraries change for a while: locale, warnings, loggers. No thread waits for another here."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager


class Shared:
    """A context for many threads: the first that comes enters the one that `make` gives, the last that goes leaves it."""

    def __init__(self, make: Callable[[], AbstractContextManager]):
        self._make, self._inside, self._lock = make, 0, threading.Lock()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self._lock:
            if not self._inside:
                self._entered = self._make()
                self._entered.__enter__()
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if not self._inside:
                    self._entered.__exit__(None, None, None)


def unlogged(*names: str) -> Shared:
    """No line of the loggers of these names in its blocks."""

    @contextmanager
    def raised() -> Iterator[None]:
        logs = [logging.getLogger(name) for name in names]
        levels = [log.level for log in logs]
        for log in logs:
            log.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            for log, level in zip(logs, levels, strict=True):
                log.setLevel(level)

    return Shared(raised)


_HEARS = threading.local()


@contextmanager
def _all_warnings() -> Iterator[None]:
    """Every warning goes to the thread that it comes from, and from threads that do not listen to where it went."""
    with warnings.catch_warnings():
        before = warnings.showwarning

        def show(message, category, *where) -> None:
            hear = getattr(_HEARS, "hear", None)
            if hear is not None:
                hear(category)
            elif issubclass(category, (UserWarning, RuntimeWarning)):  # others are shown only as "always" is on
                before(message, category, *where)

        warnings.simplefilter("always")
        warnings.showwarning = show
        yield


_listening = Shared(_all_warnings)


@contextmanager
def _heard_by(hear: Callable[[type[Warning]], None]) -> Iterator[None]:
    before = getattr(_HEARS, "hear", None)
    with _listening():
        _HEARS.hear = hear
        try:
            yield
        finally:
            _HEARS.hear = before


@contextmanager
def unwarned() -> Iterator[None]:
    """No warning of any library in this block on this thread."""
    with _heard_by(lambda category: None):
        yield


@contextmanager
def warned() -> Iterator[list[type[Warning]]]:
    """The categories of what libraries warn of in this block on this thread."""
    said: list[type[Warning]] = []
    with _heard_by(said.append):
        yield said
