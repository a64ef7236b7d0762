"""Looking through folders: links are followed, hidden folders are not, and none is passed over without a word."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ..errors import InputError


def walk(
    folder: str | os.PathLike, keep_identifiers: bool = False, lenient: bool = False
) -> Iterator[tuple[Path, list[str]]]:
    """The folders at and below `folder`, hidden ones aside, each once and with its sorted file names.

    Raises InputError where one cannot be listed, as what it holds would be missing without a word; `lenient` passes over it.
    The error names a folder below only with `keep_identifiers`.
    """

    def refuse(error: OSError) -> None:
        named = keep_identifiers or os.fspath(error.filename) == os.fspath(folder)
        which = f"the folder {error.filename}" if named else f"a folder below {folder}"
        raise InputError(f"cannot read {which}: {error.strerror}; is its share connected?") from error

    seen: set[str] = set()
    for parent, folders, names in os.walk(folder, onerror=None if lenient else refuse, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield Path(parent), sorted(names)
