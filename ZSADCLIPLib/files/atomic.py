"""Files that are complete or absent, whatever happens to the process or the disk meanwhile."""

from __future__ import annotations

import errno
import os
import re
import shutil
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import OutputError, UsageError, ZSADCLIPError
from .names import split_suffix

_ONE = threading.Lock()
TEMPORARY = re.compile(r"\.(?P<stem>.+)\.[0-9a-f]{12}\.tmp(?P<suffix>\.[^.]*\.gz|\.[^.]*|)")
UNFINISHED = re.compile(r"\..+\.[0-9a-f]{8}")
PROBE = 2**16  # bytes
LONGEST_STEM = 200  # bytes; most file systems end at 255 for the whole name
ADVICE = {
    errno.ENOSPC: "free some space, or choose another folder",
    errno.EDQUOT: "your quota is used up: free some space, or choose another folder",
    errno.EROFS: "the folder is read-only: choose another one",
    errno.EACCES: "you may not write there: choose another folder",
    errno.ENOENT: "the folder is gone: is its share still connected?",
}


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Give a temporary path beside `path`, with its suffix, that takes its place when the block ends without an error.

    Folders on the way are made. Content and name are flushed to the disk. On an error nothing is left behind and what was
    at `path` stays. Raises UsageError if the folder cannot be made and OutputError where the system cannot write.
    """
    path = Path(path)
    stem, suffix = split_suffix(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"cannot make the folder {path.parent}: {error.strerror}; choose another one") from error
    short = stem.encode()[:LONGEST_STEM].decode(errors="ignore")
    temporary = path.with_name(f".{short}.{uuid.uuid4().hex[:12]}.tmp{suffix}")
    try:
        yield temporary
        put_in_place(temporary, path)
    except Exception as error:
        refusal = _refusal(temporary, error)
        if refusal is None:
            raise
        advice = ADVICE.get(refusal.errno, "check the disk, then run again")
        raise OutputError(f"cannot write {path.name}: {refusal.strerror or refusal}; {advice}") from error
    finally:
        _remove(temporary)


def _refusal(temporary: Path, error: Exception) -> OSError | None:
    """What the system says against writing at a temporary path, None where it says nothing.

    ITK, torch and safetensors have errors of their own for a full disk, and NumPy gives no number: then the system is asked.
    """
    if isinstance(error, OSError) and error.errno:
        return error
    if isinstance(error, ZSADCLIPError):
        return None
    try:
        with open(temporary, "ab") as file:
            file.write(bytes(PROBE))
            file.flush()
            os.fsync(file.fileno())
    except OSError as refusal:
        return refusal
    return error if isinstance(error, OSError) else None


def put_in_place(temporary: Path, path: Path) -> None:
    """Flush a finished file to the disk, give it its name, and flush the name; raises OSError."""
    with open(temporary, "rb+") as file:
        os.fsync(file.fileno())
    with suppress(OSError):  # some shares allow writing and refuse this
        temporary.chmod(0o666 & ~_umask())  # some writers make their files readable by their owner only
    os.replace(temporary, path)
    _flush_names(path.parent)


def clear_temporaries(folder: str | os.PathLike, ours: Callable[[str], bool]) -> int:
    """Remove what writers that were killed left in `folder`, where `ours(name of the wanted file)`; returns how many."""
    try:
        names = [entry.name for entry in os.scandir(folder)]
    except OSError:
        return 0
    stale = [name for name in names if (match := TEMPORARY.fullmatch(name)) and ours(match["stem"] + match["suffix"])]
    for name in stale:
        _remove(Path(folder, name))
    return len(stale)


def unfinished(folder: Path) -> Path:
    """A hidden folder beside `folder`, to be filled and then renamed; nothing is made yet."""
    return folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}")


def clear_unfinished(root: str | os.PathLike) -> None:
    """Remove the folders of `unfinished` that killed runs left in `root` or below it."""
    for folder, names, _ in os.walk(root):
        for name in filter(UNFINISHED.fullmatch, names):
            shutil.rmtree(Path(folder, name), ignore_errors=True)


def _flush_names(folder: Path) -> None:
    """Make a rename last through a power cut; some file systems cannot, and need not."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    with suppress(OSError):
        os.fsync(handle)
    os.close(handle)


def _remove(path: Path) -> None:
    with suppress(OSError):  # the disk or the share is gone; the next run clears it
        if path.exists():
            os.truncate(path, 0)  # a library that failed may hold it open, and with it its room
        path.unlink(missing_ok=True)


def _umask() -> int:
    with _ONE:
        mask = os.umask(0o022)
        os.umask(mask)
    return mask
