"""Looking through folders: links are followed, hidden folders are not, and none is passed over without a word."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from .errors import InputError


def refuse(error: OSError) -> None:
    """Raise InputError for a folder that cannot be listed: what it holds would be missing without a word."""
    raise InputError(f"cannot read the folder {error.filename}: {error.strerror}; is its share connected?") from error


def walk(
    folder: str | os.PathLike, onerror: Callable[[OSError], None] | None = refuse
) -> Iterator[tuple[Path, list[str]]]:
    """The folders at and below `folder`, hidden ones aside, each once and with its sorted file names.

    `onerror` is told of a folder that cannot be listed; None passes over it.
    """
    seen: set[str] = set()
    for place, folders, names in os.walk(folder, onerror=onerror, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(place), sorted(names)
