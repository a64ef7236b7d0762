"""Cases on a Dask cluster: a running scheduler, or worker processes of this machine.

Workers keep one model a process, take one case at a time, write the results themselves to the shared output folder and
return small rows. At most two cases a worker are with the scheduler at any time, so its memory does not grow either.
"""

from __future__ import annotations

import os
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import cache
from pathlib import Path

from ..errors import DependencyError, UsageError, ZSADCLIPError
from ..files.privacy import printable, redact
from ..progress import Cancelled, Progress
from .base import DIED, LATE, LOAD_SECONDS, Settle, Spreadable, cores, failed, fatal, raise_fatal, set_threads

GPU = "GPU"
HEARTBEAT = 0.5
CONNECT_SECONDS = 30
_ONE = threading.Lock()
_LOADED: dict[tuple, object] = {}
MACHINE = ("device", "threads", "batch_size", "weights_dir")  # what a loaded model depends on besides the job's key


class _TimeOut(Cancelled):
    pass


@contextmanager
def opened(job: Spreadable) -> Iterator[Callable[[Sequence[dict], Settle, Progress], None]]:
    """What works on items on the cluster, which stays until the end of the block; see `execution.execute`."""
    with ExitStack() as stack:

        @cache
        def client():
            scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="zsadclip-"))
            return stack.enter_context(_client(job, scratch))

        def run(items: Sequence[dict], settle: Settle, progress: Progress) -> None:
            if not items:
                return
            _dask()
            bare = replace(job, inputs=()) if hasattr(job, "inputs") else job
            _ = bare.key  # digests of the files it names travel with it instead of being taken again for every case
            Run(bare, items, settle, progress, client()).run()

        yield run


class Run:
    """The state of one run on a cluster."""

    def __init__(self, job: Spreadable, items: Sequence[dict], settle: Settle, progress: Progress, client):
        self.job, self.items, self.settle, self.progress, self.client = job, items, settle, progress, client
        self.inbox: queue.SimpleQueue = queue.SimpleQueue()
        self.futures: dict[int, object] = {}
        self.waiting = iter(range(len(items)))
        self.again: list[int] = []
        self.suspects: list[int] = []
        self.alone: int | None = None
        self.done, self.lost_since = 0, None

    def run(self) -> None:
        """Until every item has a row; running cases are given up when `progress` raises."""
        try:
            while self.done < len(self.items):
                self._submit()
                done, total = self.done, len(self.items)
                self.progress(done / total, f"case {done} of {total}", done, total)
                with suppress(queue.Empty):
                    self._hear(*self.inbox.get(timeout=HEARTBEAT))
                self._check_scheduler()
        finally:
            for future in self.futures.values():
                future.cancel()

    def _submit(self) -> None:
        if self.client.status != "running":
            return
        workers = self.client.scheduler_info(n_workers=-1)["workers"]
        needs = {GPU: 1} if any(GPU in worker.get("resources", {}) for worker in workers.values()) else {}
        while self.alone is None and len(self.futures) < 2 * max(1, len(workers)):
            n = self.again.pop() if self.again else next(self.waiting, None)
            if n is None and self.suspects and not self.futures:
                n = self.alone = self.suspects.pop()
            if n is None:
                return
            key = f"{self.job.kind}-{n}-{time.time_ns()}"
            arguments = (self.job, self.items[n], os.getcwd())
            future = self.client.submit(_work, *arguments, pure=False, resources=needs, key=key)
            self.futures[n] = future
            future.add_done_callback(lambda future, n=n: self.inbox.put((n, future)))

    def _hear(self, n: int, future) -> None:
        if self.futures.get(n) is not future:
            return
        del self.futures[n]
        if future.status == "finished":
            row = future.result()
            if "fatal" in row:
                raise_fatal(row["fatal"])
        elif future.status == "error":
            row = self._explain(n, future.exception())
        else:
            row = None  # the scheduler went away with it
            self.again.append(n)
        self.alone = None
        if row is not None:
            self.done += 1
            self.settle(n, row)

    def _explain(self, n: int, error: BaseException) -> dict | None:
        """The row of a failed case; None for one that has to be tried again."""
        from distributed.scheduler import KilledWorker

        if isinstance(error, KilledWorker):
            if self.alone != n:
                # A case that only waited beside one that kills its worker looks the same: at the end each runs alone.
                self.suspects.append(n)
                return None
            return failed(self.items[n], f"WorkerDied: {DIED}")
        return failed(self.items[n], printable(redact(f"Unexpected: {type(error).__name__}: {error}")))

    def _check_scheduler(self) -> None:
        if self.client.status == "running":
            self.lost_since = None
            return
        self.lost_since = self.lost_since or time.monotonic()
        if time.monotonic() - self.lost_since > self.job.patience or self.client.status == "closed":
            raise ZSADCLIPError(
                "the Dask scheduler is gone; finished cases are kept: start it again, then the same command with "
                "--skip-existing does the rest"
            )


def _work(job: Spreadable, item: dict, folder: str) -> dict:
    """One item on a worker, whose model is loaded once and kept while the job stays the same; {"fatal"} ends the run.

    Relative paths are those of the client, which was in `folder`.
    """
    with _ONE, _working_in(folder):
        deadline, limit = None, job.limit(item)
        loaded = (job.key, *(getattr(job, name, None) for name in MACHINE))

        def state():
            nonlocal deadline
            if loaded not in _LOADED:
                _LOADED.clear()
                set_threads(job.threads)
                _LOADED[loaded] = job.load(0)
            deadline = time.monotonic() + limit if limit else None
            return _LOADED[loaded]

        def progress(fraction: float, text: str, done: int | None = None, total: int | None = None) -> None:
            if deadline is not None and time.monotonic() > deadline:
                raise _TimeOut

        # A case that hangs inside a library cannot be asked to stop: its process ends, and the nanny starts another.
        spare = 60.0 if loaded in _LOADED else 60.0 + LOAD_SECONDS
        last = threading.Timer(2 * limit + spare, os._exit, (1,)) if limit else None
        if last:
            last.start()
        try:
            return job.work(state, item, progress)
        except _TimeOut:
            return failed(item, f"TimeOut: {LATE.format(limit)}")
        except Exception as error:  # raised here, Dask would print where it came from
            return {"fatal": fatal(error)}
        finally:
            if last:
                last.cancel()


@contextmanager
def _working_in(folder: str) -> Iterator[None]:
    before = os.getcwd()
    with suppress(OSError):  # not on this machine: absolute paths still work
        os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _client(job: Spreadable, scratch: str) -> Iterator:
    import dask
    from distributed import Client, LocalCluster

    threads = job.threads or (max(1, cores() // max(1, job.workers)) if not job.scheduler else 1)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    settings = {
        "distributed.scheduler.allowed-failures": job.retries,
        "distributed.nanny.pre-spawn-environ": dict.fromkeys(names, threads),
        "temporary-directory": scratch,
    }
    with dask.config.set(settings):
        cluster = None
        if not job.scheduler:
            number = max(1, job.workers)
            cluster = LocalCluster(
                n_workers=number,
                threads_per_worker=1,
                processes=True,
                dashboard_address=None,
                memory_limit=0,
                silence_logs=40,
            )
        try:
            client = _connect(Client, cluster, job.scheduler)
            try:
                yield client
            finally:
                with suppress(Exception):
                    client.close(timeout=5)
        finally:
            if cluster is not None:
                with suppress(Exception):
                    cluster.close(timeout=10)


def _connect(client, cluster, scheduler: str | None):
    if cluster is not None:
        return client(cluster, set_as_default=False)
    try:
        if Path(scheduler).is_file():
            return client(scheduler_file=scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
        return client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError, TimeoutError) as error:
        raise UsageError(
            f"no Dask scheduler answers at {scheduler} ({type(error).__name__}); give an address such as "
            "tcp://host:8786, or the file that 'dask scheduler --scheduler-file FILE' wrote"
        ) from error


def _dask() -> None:
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        raise DependencyError("--executor dask needs Dask: pip install 'zsadclip[cluster]'") from error
