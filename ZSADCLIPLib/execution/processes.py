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
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from ..errors import ZSADCLIPError
from ..progress import Progress
from .base import DIED, LATE, LOAD_SECONDS, Settle, Spreadable, cores, failed, raise_fatal

STILLBORN = 3
HEARTBEAT = 0.2
GRACE = 5.0


class Worker:
    """One process and the item it works on; its messages arrive in `inbox` as (worker, message), None when it ended."""

    def __init__(self, slot: int, hello: dict, environment: dict, inbox: queue.SimpleQueue):
        pipe = subprocess.PIPE
        command = [sys.executable, "-m", "ZSADCLIPLib.jobs.worker"]
        self.slot, self.item, self.loaded, self.fraction, self.deadline = slot, None, False, 0.0, None
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
    """The state of one run over worker processes."""

    def __init__(self, job: Spreadable, items: Sequence[dict], settle: Settle, progress: Progress):
        self.job, self.items, self.settle, self.progress = job, items, settle, progress
        self.number = min(max(1, job.workers), len(items))
        self.inbox: queue.SimpleQueue = queue.SimpleQueue()
        self.workers: list[Worker] = []
        self.fresh, self.again = iter(range(len(items))), deque()
        self.deaths: dict[int, int] = {}
        self.done = self.stillborn = 0
        threads = job.threads or max(1, cores() // self.number)
        names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        here = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join(filter(None, (here, os.environ.get("PYTHONPATH"))))
        self.environment = {**os.environ, **dict.fromkeys(names, str(threads)), "PYTHONPATH": path}
        described = {"job": job.kind, **asdict(job)}
        described |= {"inputs": []} if "inputs" in described else {}  # they may be many, and the items say it all
        self.hello = {"job": described, "threads": threads}

    def run(self) -> None:
        """Until every item has a row."""
        self.progress(0.0, f"starting {self.number} worker{'s' if self.number > 1 else ''}")
        try:
            for slot in range(self.number):
                self._start(slot)
            while self.done < len(self.items):
                self._hear()
                self._kill_late()
                running = sum(worker.fraction for worker in self.workers if worker.item is not None)
                done, total = self.done, len(self.items)
                self.progress((done + running) / total, f"case {done} of {total}", done, total)
        finally:
            self._stop()

    def _start(self, slot: int) -> None:
        worker = Worker(slot, {**self.hello, "slot": slot}, self.environment, self.inbox)
        self.workers.append(worker)
        self._hand_out(worker)

    def _hand_out(self, worker: Worker) -> None:
        worker.item = self.again.popleft() if self.again else next(self.fresh, None)
        worker.fraction = 0.0
        if worker.item is None:
            worker.stop()
            return
        self._set_deadline(worker)
        worker.send({"item": self.items[worker.item]})

    def _set_deadline(self, worker: Worker) -> None:
        # A worker that was killed for being late may still have a message on its way.
        limit = None if worker.item is None else self.job.limit(self.items[worker.item])
        spare = 0.0 if worker.loaded else LOAD_SECONDS
        worker.deadline = time.monotonic() + limit + spare if limit else None

    def _hear(self) -> None:
        try:
            worker, message = self.inbox.get(timeout=HEARTBEAT)
        except queue.Empty:
            return
        if message is None:
            self._bury(worker)
        elif "fatal" in message:
            raise_fatal(message["fatal"])
        elif "row" in message and worker.item is not None:
            item, worker.item = worker.item, None
            self._finish(item, message["row"])
            self._hand_out(worker)
        elif "loaded" in message:
            worker.loaded, self.stillborn = True, 0
            self._set_deadline(worker)
        else:
            worker.fraction = message.get("fraction", worker.fraction)

    def _bury(self, worker: Worker) -> None:
        """A worker ended: at the end of the work, or by dying, and then somebody else takes over."""
        self.workers.remove(worker)
        code = worker.process.wait()
        if worker.item is None:
            return
        self.stillborn += not worker.loaded
        if self.stillborn >= STILLBORN:
            raise ZSADCLIPError(
                f"worker processes end before the model is loaded (exit code {code}); there may be too little memory for "
                f"{self.number} of them: use fewer --workers"
            )
        self.deaths[worker.item] = self.deaths.get(worker.item, 0) + 1
        if self.deaths[worker.item] > self.job.retries:
            self._finish(worker.item, failed(self.items[worker.item], f"WorkerDied: {DIED}"))
        else:
            self.again.append(worker.item)
        if self.done < len(self.items):
            self._start(worker.slot)

    def _kill_late(self) -> None:
        now = time.monotonic()
        for worker in self.workers:
            if worker.item is not None and worker.deadline is not None and now > worker.deadline:
                item, worker.item = worker.item, None
                worker.process.kill()
                self._finish(item, failed(self.items[item], f"TimeOut: {LATE.format(self.job.time_out)}"))
                if self.done < len(self.items):
                    self._start(worker.slot)
                return  # the list has changed; the next one is due in a moment

    def _finish(self, item: int, row: dict) -> None:
        self.done += 1
        self.settle(item, row)

    def _stop(self) -> None:
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


def run(job: Spreadable, items: Sequence[dict], settle: Settle, progress: Progress) -> None:
    """Work on `items` in worker processes; see `execution.execute`."""
    if items:
        Pool(job, items, settle, progress).run()
