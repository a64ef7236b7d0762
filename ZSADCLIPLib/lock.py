"""One run at a time on an output folder, or one per shard.

The lock belongs to the open file, so that the system lets go of it when a run is killed: there is no stale lock and no
clock to trust. Where a file system has no locks the run goes on; its files are still complete or absent.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from .errors import OutputError

NAME = ".zsadclip.lock"


@contextmanager
def folder_lock(folder: str | os.PathLike, shard: str | None = None) -> Iterator[None]:
    """Hold `folder` for one run, or with `shard` "I/N" for one of its shards; the folder is made.

    Shards of one output run side by side, but not beside a whole run. Raises OutputError when another run holds it, or
    when the folder cannot be written to.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}; choose another one") from error
    with ExitStack() as stack:
        if shard:
            stack.enter_context(_held(folder / f".zsadclip-{shard.replace('/', '-of-')}.lock", shared=False))
        stack.enter_context(_held(folder / NAME, shared=bool(shard)))
        yield


def is_held(folder: str | os.PathLike) -> bool:
    """True while a run holds `folder`; False also when the share it lies on is gone."""
    return Path(folder, NAME).is_file()


@contextmanager
def _held(path: Path, shared: bool) -> Iterator[None]:
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise OutputError(
                f"cannot write to the folder {path.parent}: {error.strerror}; choose another one"
            ) from error
        locks = _lock_soon(handle, shared)
        if locks is False:
            holder = os.read(handle, 200).decode(errors="replace") or "unknown"
            os.close(handle)
            raise OutputError(
                f"another run ({holder}) is writing to {path.parent}; wait for it, or choose another folder"
            )
        if _is_still(path, handle):
            break
        os.close(handle)  # its holder ended and removed it between our opening and locking
    try:
        with suppress(OSError):  # a full disk
            os.ftruncate(handle, 0)
            os.write(handle, f"process {os.getpid()} on {socket.gethostname()}".encode())
        yield
    finally:
        with suppress(OSError):
            # The last of several shards removes it. Without locks nobody knows to be the last: it stays, and holds up nobody.
            if locks and (not shared or _lock(handle, shared=False)):
                path.unlink(missing_ok=True)
        os.close(handle)


def _lock_soon(handle: int, shared: bool) -> bool | None:
    """`_lock`; a shard waits a moment, since one that ends holds the lock alone while it tidies up."""
    for _ in range(20 if shared else 1):
        if (locked := _lock(handle, shared)) is not False:
            return locked
        time.sleep(0.1 if shared else 0)
    return False


def _is_still(path: Path, handle: int) -> bool:
    try:
        there, here = os.stat(path), os.fstat(handle)
    except OSError:
        return False
    return (there.st_ino, there.st_dev) == (here.st_ino, here.st_dev)


def _lock(handle: int, shared: bool) -> bool | None:
    """Try to lock an open file; False when somebody else holds it, None where the file system has no locks."""
    try:
        import fcntl
    except ImportError:
        return _lock_on_windows(handle, shared)
    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


def _lock_on_windows(handle: int, shared: bool) -> bool:
    import msvcrt

    if shared:
        return True  # Windows has no shared lock of this kind; each shard still has its own
    try:
        os.lseek(handle, 1 << 20, os.SEEK_SET)  # beyond the text, so that others can read who holds it
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    except OSError:
        return False
    finally:
        os.lseek(handle, 0, os.SEEK_SET)
    return True
