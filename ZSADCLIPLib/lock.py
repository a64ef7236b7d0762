"""One run at a time on an output folder, or one per shard.

The lock belongs to the open file, so that the system lets go of it when a run is killed: there is no stale lock and no
clock to trust. Where a file system has no locks the run goes on; its files are still complete or absent.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from .errors import OutputError

NAME = ".zsadclip.lock"


@contextmanager
def folder_lock(folder: str | os.PathLike, shard: str | None = None) -> Iterator[str]:
    """Hold `folder` for one run, or with `shard` "I/N" for one of its shards; the folder is made.

    Gives a token for `is_held`. Shards of one output run side by side, but not beside a whole run. Raises OutputError when
    another run holds it, or when the folder cannot be written to.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}; choose another one") from error
    with ExitStack() as stack:
        tokens = [stack.enter_context(_held(_own(folder, shard), shared=False))]
        if shard:
            stack.enter_context(_held(folder / NAME, shared=True))
        yield tokens[0]


def is_held(folder: str | os.PathLike, token: str = "", shard: str | None = None) -> bool:
    """True while a run or shard holds `folder`, with a `token` only while that one does; False also when its share is gone.

    A worker of a run that was given up elsewhere may live on: by the token it knows that the folder is another's now. A
    shard is known by its own file, since the shared one may go early where locks do not reach other machines.
    """
    own = _own(Path(folder), shard)
    try:
        return token in own.read_text("utf-8") if token else own.is_file()
    except (OSError, ValueError):
        return False


def _own(folder: Path, shard: str | None) -> Path:
    """The file that one run or one shard alone holds."""
    return folder / (f".zsadclip-{shard.replace('/', '-of-')}.lock" if shard else NAME)


@contextmanager
def _held(path: Path, shared: bool) -> Iterator[str]:
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise OutputError(
                f"cannot write to the folder {path.parent}: {error.strerror}; choose another one"
            ) from error
        locks = _lock_soon(handle, shared)
        if locks is False:
            holder = os.read(handle, 200).decode(errors="replace").partition("\n")[0] or "unknown"
            os.close(handle)
            raise OutputError(
                f"another run ({holder}) is writing to {path.parent}; wait for it, or choose another folder"
            )
        if _is_still(path, handle):
            break
        os.close(handle)  # its holder ended and removed it between our opening and locking
    token = ""  # none where it cannot be written, on a full disk, or where another run may overwrite it
    try:
        with suppress(OSError):
            os.ftruncate(handle, 0)
            secret = uuid.uuid4().hex
            os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n{secret}".encode())
            token = secret if locks else ""
        yield token
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
