"""Worker processes on this machine: cases are handed out one by one, and a process that dies costs a retry of its case.

Workers are `python -m ZSADCLIPLib.jobs.worker` and speak JSON lines, so nothing is pickled and no library state is inherited.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from ..errors import ZSADCLIPError, number_of
from ..progress import Progress
from .base import DIED, LATE, LOAD_SECONDS, Settle, Spreadable, cores, failed, raise_fatal

STILLBORN = 3
HEARTBEAT = 0.2
GRACE = 5.0


class Worker:
    """One process and the items in its hands, each with the share that is done; `at_once` is how many it may have.

    Its messages arrive in `inbox` as (worker, message), None when it ended.
    """

    def __init__(self, slot: int, hello: dict, environment: dict, inbox: queue.SimpleQueue):
        pipe = subprocess.PIPE
        command = [sys.executable, "-m", "ZSADCLIPLib.jobs.worker"]
        self.slot, self.at_once, self.loaded, self.deadline = slot, 1, False, None
        self.items: dict[int, float] = {}
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, env=environment, text=True, encoding="utf-8")
        threading.Thread(target=self._listen, args=(inbox,), daemon=True).start()
        self.send(hello)

    def send(self, message: dict) -> None:
        with suppress(OSError, ValueError):  # one that is dead is heard as such
            self.process.stdin.write(json.dumps(message) + "\n")
            self.process.stdin.flush()

    def _listen(self, inbox: queue.SimpleQueue) -> None:
        for line in self.process.stdout:
            try:
                inbox.put((self, json.loads(line)))
            except ValueError:
                break  # killed in the middle of a line
        inbox.put((self, None))

    def stop(self) -> None:
        with suppress(OSError):
            self.process.stdin.close()


class Pool:
    """Worker processes of a job; they and what they loaded stay from one run to the next."""

    def __init__(self, job: Spreadable):
        self.job, self.workers = job, []
        self.inbox: queue.SimpleQueue = queue.SimpleQueue()
        self.stillborn = 0
        here = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
        self.environment = {**os.environ, "PYTHONPATH": path}
        described = {"job": job.kind, **asdict(job)}
        described |= {"inputs": []} if "inputs" in described else {}  # they may be many, and the items say it all
        self.hello = {"job": described}

    def share_cores(self, number: int) -> None:
        """Let each of `number` processes have its share of the cores, unless the job or an earlier run said how many."""
        threads = self.hello.setdefault("threads", self.job.threads or max(1, cores() // number))
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        self.environment |= dict.fromkeys(names, str(threads))

    def start(self, slot: int) -> Worker:
        worker = Worker(slot, {**self.hello, "slot": slot}, self.environment, self.inbox)
        self.workers.append(worker)
        return worker

    def bury_idle(self) -> None:
        """Forget processes that ended while there was nothing to do."""
        self.workers = [worker for worker in self.workers if worker.process.poll() is None]

    def stop(self) -> None:
        """Ask all to stop, give them a moment to leave nothing half-written, then end them."""
        for worker in self.workers:
            worker.stop()
        patience = time.monotonic() + GRACE
        for worker in self.workers:
            try:
                worker.process.wait(max(0.0, patience - time.monotonic()))
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
        self.workers = []


class Run:
    """The state of one run over the processes of a pool."""

    def __init__(self, pool: Pool, items: Sequence[dict], settle: Settle, progress: Progress):
        self.pool, self.job = pool, pool.job
        self.items, self.settle, self.progress = items, settle, progress
        self.number = min(max(1, self.job.workers), len(items))
        self.at_once = self.job.at_once()
        self.fresh, self.again = iter(range(len(items))), deque()
        self.deaths: dict[int, int] = {}
        self.suspects: set[int] = set()
        self.done = 0

    def run(self) -> None:
        """Until every item has a row; the processes wait for the next run then, and are stopped when this one fails."""
        pool = self.pool
        pool.share_cores(self.number)
        pool.bury_idle()
        if not pool.workers:
            self.progress(0.0, f"starting {number_of(self.number, 'worker')}")
        try:
            for worker in pool.workers:
                self._hand_out(worker)
            for slot in sorted(set(range(self.number)) - {worker.slot for worker in pool.workers}):
                self._hand_out(pool.start(slot))
            while self.done < len(self.items):
                self._hear()
                self._kill_late()
                running = sum(sum(worker.items.values()) for worker in pool.workers)
                done, total = self.done, len(self.items)
                self.progress((done + running) / total, f"case {done} of {total}", done, total)
        except BaseException:
            pool.stop()
            raise

    def _hand_out(self, worker: Worker) -> None:
        """As many items as the worker may have; one that a process died with is tried by itself, and so found or cleared."""
        if self.again and not worker.items:
            self._give(worker, self.again.popleft())
            return
        if self.suspects & worker.items.keys():
            return
        while len(worker.items) < worker.at_once and (item := next(self.fresh, None)) is not None:
            self._give(worker, item)

    def _give(self, worker: Worker, item: int) -> None:
        worker.items[item] = 0.0
        self._set_deadline(worker)
        worker.send({"n": item, "item": self.items[item]})

    def _set_deadline(self, worker: Worker) -> None:
        # A worker that was killed for being late may still have a message on its way; a limit means one item at a time.
        limits = [limit for item in worker.items if (limit := self.job.limit(self.items[item]))]
        limit = limits[0] if limits else None
        spare = 0.0 if worker.loaded else LOAD_SECONDS
        worker.deadline = time.monotonic() + limit + spare if limit else None

    def _hear(self) -> None:
        try:
            worker, message = self.pool.inbox.get(timeout=HEARTBEAT)
        except queue.Empty:
            return
        if worker not in self.pool.workers:
            return  # buried already
        if message is None:
            self._bury(worker)
        elif "fatal" in message:
            raise_fatal(message["fatal"])
        elif "row" in message:
            del worker.items[message["n"]]
            if not message["row"].get("kept"):
                worker.at_once = self.at_once
            self._finish(message["n"], message["row"])
            self._hand_out(worker)
        elif "loaded" in message:
            worker.loaded, worker.at_once, self.pool.stillborn = True, self.at_once, 0
            self._set_deadline(worker)
            self._hand_out(worker)
        else:
            worker.items[message["n"]] = message["fraction"]

    def _bury(self, worker: Worker) -> None:
        """A worker died; somebody else takes over."""
        pool = self.pool
        pool.workers.remove(worker)
        code = worker.process.wait()
        if not worker.items:
            return
        pool.stillborn += not worker.loaded
        if pool.stillborn >= STILLBORN:
            raise ZSADCLIPError(
                f"worker processes end before the model is loaded (exit code {code}); there may be too little memory for "
                f"{self.number} of them: use fewer --workers"
            )
        for item in worker.items:
            # Of several nobody knows which it was: only what a process dies with alone counts.
            self.deaths[item] = self.deaths.get(item, 0) + (len(worker.items) == 1)
            if self.deaths[item] > self.job.retries:
                self._finish(item, failed(self.items[item], f"WorkerDied: {DIED}"))
            else:
                self.again.append(item)
                self.suspects.add(item)
        if self.done < len(self.items):
            self._hand_out(pool.start(worker.slot))

    def _kill_late(self) -> None:
        now, pool = time.monotonic(), self.pool
        for worker in pool.workers:
            if worker.items and worker.deadline is not None and now > worker.deadline:
                (item,) = worker.items
                pool.workers.remove(worker)
                worker.process.kill()
                worker.process.wait()
                self._finish(item, failed(self.items[item], f"TimeOut: {LATE.format(self.job.time_out)}"))
                if self.done < len(self.items):
                    self._hand_out(pool.start(worker.slot))
                return  # the list has changed; the next one is due in a moment

    def _finish(self, item: int, row: dict) -> None:
        self.done += 1
        self.settle(item, row)


@contextmanager
def opened(job: Spreadable) -> Iterator[Callable[[Sequence[dict], Settle, Progress], None]]:
    """What works on items in worker processes, which stay until the end of the block; see `execution.execute`."""
    pool = Pool(job)

    def run(items: Sequence[dict], settle: Settle, progress: Progress) -> None:
        if items:
            Run(pool, items, settle, progress).run()

    try:
        yield run
    finally:
        pool.stop()
