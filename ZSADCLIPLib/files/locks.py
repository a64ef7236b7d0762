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

from ..errors import OutputError

NAME = ".zsadclip.lock"


@contextmanager
def folder_lock(folder: str | os.PathLike, shard: str | None = None) -> Iterator[str]:
    """Hold `folder` for one run, or with `shard` "I/N" for one of its shards; the folder is made.

    Gives a token for `is_held`. Shards of one output run side by side, but not beside a whole run or shards of another number,
    which have the same cases. Raises OutputError when another run holds it, or when the folder cannot be written to.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot make the folder {folder}: {error.strerror}; choose another one") from error
    with ExitStack() as stack:
        token = stack.enter_context(_held(_own(folder, shard), shared=False))
        if shard:
            _check_others(folder, shard.rpartition("/")[2])
            stack.enter_context(_held(folder / NAME, shared=True))
        yield token


def is_held(folder: str | os.PathLike, token: str = "", shard: str | None = None) -> bool:
    """True while a run or shard holds `folder`, with a `token` only while that one does; False also when its share is gone.

    A worker of a run that was given up elsewhere may live on: by the token it knows that the folder is another's now. A
    shard is known by its own file, since the shared one may go early where locks do not reach other machines.
    """
    if not token:
        return _own(Path(folder), shard).is_file()
    # One that is there and says nothing yet is being written, by us as far as anybody can know.
    return holder(folder, shard) in (token, "")


def holder(folder: str | os.PathLike, shard: str | None = None) -> str | None:
    """The token of the run or shard that holds `folder`, "" where it says none, None where nobody does."""
    try:
        return _own(Path(folder), shard).read_text("utf-8").partition("\n")[2]
    except PermissionError:
        return ""  # there and locked: some shares (CIFS) let nobody else read what one process holds
    except (OSError, ValueError):
        return None


def _own(folder: Path, shard: str | None) -> Path:
    """The file that one run or one shard alone holds."""
    return folder / (f".zsadclip-{shard.replace('/', '-of-')}.lock" if shard else NAME)


def _check_others(folder: Path, number: str) -> None:
    for path in folder.glob(".zsadclip-*-of-*.lock"):
        if path.stem.rpartition("-")[2] == number:
            continue
        with suppress(OSError):  # one that ended meanwhile
            handle = os.open(path, os.O_RDWR)
            # A shared lock, as several may look at the file of one that was killed; Windows has none that would do.
            locked = _lock(handle, shared=os.name != "nt")
            os.close(handle)
            if locked is False:
                raise OutputError(
                    f"shards of another number are writing to {folder} ({path.name}); wait for them, or choose another folder"
                )


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
            who = _text(handle).partition("\n")[0] or "unknown"
            os.close(handle)
            raise OutputError(f"another run ({who}) is writing to {path.parent}; wait for it, or choose another folder")
        if _is_still(path, handle):
            break
        os.close(handle)  # its holder ended and removed it between our opening and locking
    token = ""  # none where it cannot be written, on a full disk, or where another run may overwrite it
    try:
        with suppress(OSError):
            os.ftruncate(handle, 0)
            secret = uuid.uuid4().hex
            os.write(handle, f"process {os.getpid()} on {socket.gethostname()}\n{secret}".encode())
            os.fsync(handle)  # other machines read it, too
            token = secret if locks else ""
        yield token
    finally:
        with suppress(OSError):
            # The last of several shards removes it. Without locks nobody knows to be the last: it stays, and holds up nobody.
            if locks and (not shared or _lock(handle, shared=False)):
                path.unlink(missing_ok=True)
        os.close(handle)


def _text(handle: int) -> str:
    try:
        return os.read(handle, 200).decode(errors="replace")
    except OSError:  # locked against reading, too
        return ""


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
