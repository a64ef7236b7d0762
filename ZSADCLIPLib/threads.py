"""What a process has only once and libraries change for a while: locale, warnings, loggers; for one thread at a time."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

ALONE = threading.RLock()
"""Held while any of it is changed, or while a library is used that would not bear two threads."""


@contextmanager
def unwarned() -> Iterator[None]:
    """No warning of any library in this block, which other threads do not enter meanwhile."""
    with ALONE, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextmanager
def warned() -> Iterator[list[type[Warning]]]:
    """The categories of what libraries warn of in this block on this thread; other threads' warnings go where they went."""
    said: list[type[Warning]] = []
    mine = threading.get_ident()
    with ALONE, warnings.catch_warnings():
        before = warnings.showwarning

        def hear(message, category, *where) -> None:
            if threading.get_ident() == mine:
                said.append(category)
            elif issubclass(category, (UserWarning, RuntimeWarning)):  # the others are shown only as "always" is on
                before(message, category, *where)

        warnings.simplefilter("always")
        warnings.showwarning = hear
        yield said
