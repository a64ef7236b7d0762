"""A job whose cases can be spread: an `Execution` that fulfils `Spreadable`; and what all executors share."""

from __future__ import annotations

import gc
import os
import re
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Annotated, ClassVar, NoReturn, Protocol, runtime_checkable

from .. import errors
from ..errors import UsageError, ZSADCLIPError
from ..fields import AtLeast, Between, Count, OneOf, check, flag
from ..progress import Progress

Settle = Callable[[int, dict], None]
"""Called once for every item with its position and its row, in the order of finishing."""
EXECUTORS = ("local", "dask")
DIED = "the worker process died each time on this case; it may need more memory than there is, or crash a library"
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
LOAD_SECONDS = 900.0  # a model that takes longer to load than this and the time-out will not come
LATE = "the case took longer than the time-out of {:g} s; give more time, or look at the file"


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How the cases of a job are spread. Files have the same bytes however that is.

    executor    "local" or "dask".
    workers     processes; 0 is this process without others (local) or the number the cluster has (dask).
    threads     of the CPU a worker; 0 is all cores divided by the workers of this machine.
    time_out    seconds a case may take, None without limit; needs a worker process. A benchmark's trainings have none.
    retries     further tries of a case whose worker process died.
    patience    seconds to wait for a network share that is gone.
    shard       "I/N" works on every N-th case, beginning with the I-th, for job arrays.
    scheduler   address of a running Dask scheduler, or its scheduler file.
    """

    executor: Annotated[str, OneOf(EXECUTORS)] = flag(default="local", help="worker processes here, or a Dask cluster")
    workers: Count = flag(default=0, metavar="N", help="worker processes (0: this process alone)")
    threads: Count = flag(default=0, metavar="N", help="CPU threads a worker (0: cores / workers)")
    time_out: Annotated[float, Between(0)] | None = flag(
        default=None, metavar="SECONDS", help="longest time for a case"
    )
    retries: Count = flag(default=1, metavar="N", help="new tries of a case whose worker died")
    patience: Annotated[float, AtLeast(0)] = flag(
        default=60.0, metavar="SECONDS", help="wait this long for a share that is gone"
    )
    shard: str | None = flag(
        default=None,
        metavar="I/N",
        help="every N-th case (benchmark: method) from the I-th on, I from 1 to N, for job arrays",
    )
    scheduler: str | None = flag(
        default=None, metavar="ADDRESS|FILE", help="running Dask scheduler, or its scheduler file"
    )

    kind: ClassVar[str] = ""

    def check_execution(self) -> None:
        """Raise UsageError for values of any field that are not allowed."""
        check(self)
        if self.executor == "local" and self.scheduler:
            raise UsageError("a scheduler belongs to --executor dask")
        self.shard_position()

    def limit(self, item: dict) -> float | None:
        """Seconds that an item may take, None without limit."""
        return self.time_out

    def at_once(self) -> int:
        """How many items may be under way at once in a process."""
        return 1

    def shard_position(self) -> tuple[int, int]:
        """(position from 0, number of shards), (0, 1) for a whole run; raises UsageError for a shard that is not I/N."""
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", self.shard or "1/1")
        if not match or not 1 <= int(match[1]) <= int(match[2]):
            raise UsageError(f"shard {self.shard!r}: expected I/N with 1 <= I <= N, such as 3/8")
        return int(match[1]) - 1, int(match[2])


@runtime_checkable
class Spreadable(Protocol):
    """What the executors ask of a job, which is an `Execution` as well."""

    kind: ClassVar[str]

    @property
    def key(self) -> str:
        """A digest of the settings that a loaded state depends on; a process loads anew when it changes."""

    def limit(self, item: dict) -> float | None:
        """Seconds that an item may take, None without limit."""

    def at_once(self) -> int:
        """How many items may be under way at once in a process; 1 unless all that they ask of the device is asked for by
        `shared.on_device`. Asked in a process that worked on one, or has workers."""

    def load(self, slot: int) -> object:
        """What is needed once a process, such as the model; `slot`, from 0, tells the processes of a machine apart."""

    def work(self, state: Callable[[], object], item: dict, progress: Progress) -> dict:
        """Work on one JSON-able item {"id", ...} and return its row {"id", "status", "error", ...}.

        `state()` returns what was loaded. Files are written here. A bad item is told in its row; an error that is raised ends
        the run.
        """


EXECUTION_FIELDS = (*Execution.__dataclass_fields__, "overlap")
"""Those of `jobs.overlapping`, too: what says how, and not what."""


def failed(item: dict, error: str) -> dict:
    """The row of an item that could not be finished."""
    return {"id": item["id"], "status": "failed", "error": error}


def fatal(error: Exception) -> dict[str, str]:
    """What a process says of an error that ends the run: its kind, a name in `errors`, and its message."""
    if isinstance(error, ZSADCLIPError):
        return {"kind": type(error).__name__, "message": str(error)}
    return {"kind": "ZSADCLIPError", "message": f"unexpected {type(error).__name__}: {error}"}


def raise_fatal(failure: dict[str, str]) -> NoReturn:
    """Raise what another process said with `fatal`."""
    raise getattr(errors, failure["kind"], ZSADCLIPError)(failure["message"])


def once(load: Callable[[], object]) -> Callable[[], object]:
    """What gives the result of `load()`, called when it is first asked for; whoever asks meanwhile waits for it."""
    lock, loaded = threading.Lock(), cache(load)

    def state() -> object:
        with lock:
            return loaded()

    return state


def set_threads(number: int) -> None:
    """Let torch use `number` CPU threads; 0 changes nothing."""
    if number:
        import torch

        torch.set_num_threads(number)


def collect_seldom() -> None:
    """Let Python look for unused objects after 20,000 new ones, for a process that does nothing else.

    By default it looks after 700, a thousand times while torch is imported, where none is unused: a fifth of the time until the
    first batch.
    """
    gc.set_threshold(20_000, 10, 2)


def keep_freed_memory() -> None:
    """Let the C library keep what arrays leave behind for the next ones, for a process that does nothing else.

    By default it hands every large array's memory back to the system, which clears it, page by page, for the next array: more
    than half of the system's time in a run. Nothing changes without the C library of GNU.
    """
    if sys.platform.startswith("linux"):
        import ctypes

        if set_option := getattr(ctypes.CDLL(None), "mallopt", None):
            for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
                set_option(option, 1 << 30)


def cores() -> int:
    """CPU cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:
        return os.cpu_count() or 1
