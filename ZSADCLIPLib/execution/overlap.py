"""Cases that overlap in this process: while one is on the device, others are read, prepared, mapped back and written."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context

from ..progress import Cancelled, Progress
from .base import Settle, Spreadable
from .shared import DeviceThread, Room, on_device, sharing

HEARTBEAT = 0.2


class Run:
    """The state of one run; `settle` and `progress` are called by the thread that calls `run`, and by no other."""

    def __init__(
        self,
        job: Spreadable,
        state: Callable[[], object],
        items: Sequence[dict],
        settle: Settle,
        progress: Progress,
    ):
        self.job, self.state, self.items, self.settle, self.progress = job, state, items, settle, progress
        self.pool, self.device, self.room = ThreadPoolExecutor(len(items), "case"), DeviceThread(), Room()
        self.told: queue.SimpleQueue = queue.SimpleQueue()
        self.fresh, self.done = iter(range(len(items))), 0
        self.running: dict[int, float] = {}
        self.at_once, self.loaded, self.stopped = 1, False, threading.Event()
        self.last = (0.0, "starting", None, None)

    def run(self) -> None:
        """Until every item has a row; when anything is raised, cases under way stop with their batch before it is passed on."""
        try:
            while self.done < len(self.items):
                self._begin()
                self._hear()
        except BaseException:
            self.stopped.set()
            self.room.close()
            raise
        finally:
            self.pool.shutdown()
            self.device.stop()  # not reached when an interrupt ends that wait: the cases may need it to the last

    def _begin(self) -> None:
        """Hand out what may be under way; one alone until the model, and with it the libraries, is there."""
        while len(self.running) < self.at_once and (n := next(self.fresh, None)) is not None:
            self.running[n] = 0.0
            future = self.pool.submit(copy_context().run, self._work, n)
            future.add_done_callback(lambda future, n=n: self.told.put((n, future)))

    def _work(self, n: int) -> dict:
        def progress(fraction: float, text: str, done: int | None = None, total: int | None = None) -> None:
            if self.stopped.is_set():
                raise Cancelled
            self.told.put((n, (fraction, text, done, total)))

        def state() -> object:
            return self.state() if self.loaded else on_device(self._load)

        with sharing(self.device, self.room, n):
            return self.job.work(state, self.items[n], progress)

    def _load(self) -> object:
        loaded = self.state()
        self._widen()
        self.loaded = True
        return loaded

    def _widen(self) -> None:
        """Let more cases be under way than one."""
        if self.at_once == 1:
            self.at_once = self.job.at_once()
            self.room.enlarge(self.at_once)

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
            if not row.get("kept"):  # there was work to do, if without a model: the libraries are there
                self._widen()
            self.settle(n, row)
            return
        self.running[n], *words = said
        whole = (self.done + sum(self.running.values())) / len(self.items)
        self.last = (max(whole, self.last[0]), *words)
        self.progress(*self.last)
