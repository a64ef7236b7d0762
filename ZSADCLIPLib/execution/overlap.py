"""Cases that overlap in a process: while one is on the device, others are read, prepared, mapped back and written."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context

from ..progress import Cancelled, Progress
from .base import Settle, Spreadable
from .shared import DeviceThread, Room, sharing

HEARTBEAT = 0.2
Tell = Callable[[int, object], None]


class Cases:
    """At most `at_once` cases under way in this process, each on a thread of its own.

    `state` gives what the job loaded; where that is not there yet, a single case is begun and the others after it.
    `tell` hears on any thread what the n-th case says: (fraction, text, done, total) of its progress, and in the end its future.
    """

    def __init__(self, job: Spreadable, state: Callable[[], object], at_once: int, tell: Tell):
        self.job, self.state, self.tell = job, state, tell
        self.pool, self.device, self.room = ThreadPoolExecutor(at_once, "case"), DeviceThread(), Room(at_once)
        self.stopped = threading.Event()

    def begin(self, n: int, item: dict) -> None:
        """Let the work on an item begin, as the n-th: when two want the same, the smaller number has it first."""
        future = self.pool.submit(copy_context().run, self._work, n, item)
        future.add_done_callback(lambda future: self.tell(n, future))

    def stop(self) -> None:
        """Let cases under way raise Cancelled after the batch in hand."""
        self.stopped.set()
        self.room.close()

    def wait(self) -> None:
        """Until none is under way; none can be begun afterwards."""
        self.pool.shutdown()
        self.device.stop()  # not reached when an interrupt ends the wait: the cases may need it to the last

    def _work(self, n: int, item: dict) -> dict:
        def progress(fraction: float, text: str, done: int | None = None, total: int | None = None) -> None:
            if self.stopped.is_set():
                raise Cancelled
            self.tell(n, (fraction, text, done, total))

        with sharing(self.device, self.room, n):
            return self.job.work(self.state, item, progress)


class Run:
    """The state of one run; `settle` and `progress` are called by the thread that calls `run`, and by no other."""

    def __init__(
        self,
        job: Spreadable,
        state: Callable[[], object],
        items: Sequence[dict],
        at_once: int,
        settle: Settle,
        progress: Progress,
    ):
        self.items, self.at_once, self.settle, self.progress = items, at_once, settle, progress
        self.told: queue.SimpleQueue = queue.SimpleQueue()
        self.cases = Cases(job, state, at_once, lambda n, said: self.told.put((n, said)))
        self.fresh, self.done = iter(range(len(items))), 0
        self.running: dict[int, float] = {}
        self.last = (0.0, "reading", None, None)

    def run(self) -> None:
        """Until every item has a row; when anything is raised, cases under way stop with their batch before it is passed on."""
        try:
            while self.done < len(self.items):
                while len(self.running) < self.at_once and (n := next(self.fresh, None)) is not None:
                    self.running[n] = 0.0
                    self.cases.begin(n, self.items[n])
                self._hear()
        except BaseException:
            self.cases.stop()
            raise
        finally:
            self.cases.wait()

    def _hear(self) -> None:
        try:
            n, said = self.told.get(timeout=HEARTBEAT)
        except queue.Empty:
            self.progress(*self.last)  # which may raise, to stop the work
            return
        if isinstance(said, Future):
            row = said.result()
            del self.running[n]
            self.done += 1
            self.settle(n, row)
            return
        self.running[n], *words = said
        whole = (self.done + sum(self.running.values())) / len(self.items)
        self.last = (max(whole, self.last[0]), *words)
        self.progress(*self.last)
