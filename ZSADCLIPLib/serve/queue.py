"""The jobs of a server: one a client, a bounded queue, and nothing that stays longer than it must."""

from __future__ import annotations

import secrets
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from typing import BinaryIO

from ..errors import InputError, OutputError
from ..files.privacy import redact_all
from ..files.text import write_json
from ..remote.settings import BRAIN, IMAGE, OUT, RemoteSettings
from .config import MEGA, ServeSettings
from .engine import Engine, engine_command
from .job import (
    ACTIVE,
    CANCELLED,
    DONE,
    FAILED,
    ID,
    NAMES,
    QUEUED,
    RECEIVING,
    RUNNING,
    Job,
    Refused,
    failure,
    results_of,
)
from .receive import receive

ROOM = 8  # bytes on the disk for each of the volume, maps and masks included
SPARE = 256 * MEGA
MOST_EVENTS = 5000
STEP_S, SWEEP_S = 0.25, 5.0
GONE_S = 3.0  # after its call ended; a client that goes on asks within a second


class Queue:
    """Takes jobs, runs them in the order they came, and removes their files; `command` is what runs a job file."""

    def __init__(self, settings: ServeSettings, log: Callable[[str], None], command=engine_command):
        self.settings, self.log, self.counts = settings, log, Counter()
        self.root = settings.root / "jobs"
        self._command = command
        self._jobs: dict[str, Job] = {}
        self._changed = threading.Condition()
        self._stopped = False
        self._open()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(settings.workers)]
        self._threads.append(threading.Thread(target=self._watch, daemon=True))
        for thread in self._threads:
            thread.start()

    def _open(self) -> None:
        """The folder of jobs, empty; raises OutputError where it is somebody else's."""
        try:
            self.root.mkdir(mode=0o700, exist_ok=True)
            if not all(ID.fullmatch(path.name) for path in self.root.iterdir()):
                raise OutputError(f"{self.root} holds files that are no jobs; choose another --folder")
            self.root.chmod(0o700)
        except OSError as error:
            raise OutputError(
                f"cannot use the folder {self.root}: {error.strerror}; choose another --folder"
            ) from error
        self.sweep()

    def admit(self, client: str, settings: RemoteSettings, sizes: dict[str, int]) -> Job:
        """A place for a job over files of these bytes; raises Refused."""
        needed, most = sum(sizes.values()), self.settings.most_bytes
        if needed > most:
            text = f"the volume has {needed / MEGA:.1f} MB and the server takes {most / MEGA:.1f} MB; crop it, or "
            raise Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, text + "start the server with a larger --max-mb")
        if shutil.disk_usage(self.root).free < ROOM * needed + SPARE:
            raise Refused(
                HTTPStatus.INSUFFICIENT_STORAGE, "the server's disk is full; ask who runs it to free some space"
            )
        with self._changed:
            mine = [job for job in self._jobs.values() if job.client == client]
            if any(job.state in ACTIVE for job in mine):
                text = f"this client has a job already; wait for it, or {self.settings.lease_s:g} s where its Slicer is gone"
                raise Refused(HTTPStatus.CONFLICT, text)
            waiting = sum(job.state in ACTIVE for job in self._jobs.values())
            if waiting >= self.settings.workers + self.settings.queue:
                raise Refused(
                    HTTPStatus.SERVICE_UNAVAILABLE, f"the server is busy with {waiting} jobs; try again in a minute"
                )
            for job in mine:
                self._forget(job)
            job = Job(secrets.token_hex(16), client, settings, sizes, self.root)
            job.folder = self.root / job.id
            job.folder.mkdir(mode=0o700)
            self._jobs[job.id] = job
        return job

    def take(self, job: Job, body: BinaryIO, length: int) -> None:
        """The volume of a job, and its turn to wait; raises Refused, and the job is over then."""
        with self._changed:
            if job.state != RECEIVING or job.busy:
                raise Refused(HTTPStatus.CONFLICT, "the volume of this job is here, or on its way; ask for a new job")
            job.busy = True

        def heard() -> None:
            job.heard = time.monotonic()
            if job.state != RECEIVING:
                raise InputError("the job was cancelled")

        try:
            receive(body, length, {job.folder / NAMES[name]: size for name, size in job.sizes.items()}, heard)
        except InputError as error:
            self._end(job, FAILED, failure("InputError", str(error)))
            raise Refused(HTTPStatus.BAD_REQUEST, str(error)) from error
        except OSError as error:
            text = "the server could not keep the volume; try again, or ask who runs it whether the disk is full"
            self._end(job, FAILED, failure("OutputError", text))
            raise Refused(HTTPStatus.INSUFFICIENT_STORAGE, text) from error
        self._received(job)
        self.log(f"{job.name}: {sum(job.sizes.values()) / MEGA:.1f} MB received, {length / MEGA:.1f} MB packed")

    def _received(self, job: Job) -> None:
        with self._changed:
            job.busy, job.heard = False, time.monotonic()
            if job.state == RECEIVING:
                job.state = QUEUED
                self._changed.notify_all()
            elif job.unwanted:
                self._remove(job)

    def find(self, client: str, job_id: str) -> Job:
        """A client's own job; raises Refused for any other."""
        job = self._jobs.get(job_id)
        if job is None or job.client != client or job.unwanted:
            raise Refused(
                HTTPStatus.NOT_FOUND,
                "no such job: it was fetched or has expired, or the server was restarted; run again",
            )
        job.heard = time.monotonic()
        return job

    def hung_up(self, job: Job) -> None:
        """The call that asked for a job has ended: unless another one asks soon, its client is gone."""
        job.heard = min(job.heard, time.monotonic() - self.settings.lease_s + GONE_S)

    def told(self, job: Job, start: int, wait: float) -> dict:
        """State, place in the queue and events from number `start`, after at most `wait` seconds for a new one."""
        with self._changed:
            self._changed.wait_for(lambda: len(job.events) > start or job.state not in ACTIVE, wait)
            ahead = [other for other in self._jobs.values() if other.state in ACTIVE]
            place = next((n for n, other in enumerate(ahead) if other is job), 0) if job.state == QUEUED else 0
            events = job.events[start:]
            return {"id": job.id, "state": job.state, "position": place, "events": events, "next": start + len(events)}

    def forget(self, job: Job) -> None:
        """Cancel a job that goes on, and remove its files as soon as nothing uses them."""
        with self._changed:
            self._forget(job)

    def status(self) -> dict[str, int]:
        """How many jobs are in each state now, and how many ended so since the start."""
        with self._changed:
            now = Counter(job.state for job in self._jobs.values() if job.state in ACTIVE)
        return {state: now[state] for state in ACTIVE} | {
            state: self.counts[state] for state in (DONE, FAILED, CANCELLED)
        }

    def stop(self) -> None:
        """End everything and remove all files."""
        with self._changed:
            self._stopped = True
            for job in list(self._jobs.values()):
                self._forget(job)
            self._changed.notify_all()
        for thread in self._threads:
            thread.join(5)
        self.sweep()
        with suppress(OSError):  # something is in it that is not ours
            self.root.rmdir()

    def sweep(self) -> None:
        """Remove what belongs to no job: left by a server that was killed, or by its child, which may end after it."""
        for folder in self.root.glob("*"):
            if ID.fullmatch(folder.name) and folder.name not in self._jobs:
                shutil.rmtree(folder, ignore_errors=True)

    def _forget(self, job: Job, why: str = "cancelled") -> None:
        job.unwanted = True
        if job.state in ACTIVE:
            self._cancel(job, why)
        if not job.busy:
            self._remove(job)

    def _cancel(self, job: Job, why: str) -> None:
        """The job is over; its child, if it has one, ends within the grace time."""
        job.state, job.ended = CANCELLED, time.monotonic()
        job.events.append({"event": "cancelled"})
        self.counts[CANCELLED] += 1
        if job.engine is not None:
            job.engine.cancel()
        self.log(f"{job.name}: {why}")
        self._changed.notify_all()

    def _remove(self, job: Job) -> None:
        shutil.rmtree(job.folder, ignore_errors=True)
        self._jobs.pop(job.id, None)

    def _end(self, job: Job, state: str, event: dict) -> None:
        with self._changed:
            if job.state in ACTIVE:
                job.state, job.ended = state, time.monotonic()
                job.events.append(event)
                self.counts[state] += 1
                self.log(f"{job.name}: {state}")
            job.engine, job.busy = None, False
            for name in NAMES.values():
                (job.folder / name).unlink(missing_ok=True)
            if job.unwanted:
                self._remove(job)
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._stopped or self._next() is not None)
                if self._stopped:
                    return
                job = self._next()
                job.state, job.busy = RUNNING, True
            try:
                self._run(job)
            except Exception as error:  # one job must not end the server
                text = f"the server could not run the job ({type(error).__name__}); ask who runs it to look at its disk"
                self._end(job, FAILED, failure("ServerError", text))

    def _next(self) -> Job | None:
        return next((job for job in self._jobs.values() if job.state == QUEUED), None)

    def _run(self, job: Job) -> None:
        """Run a job to its end in a child."""
        image, out = job.folder / IMAGE, job.folder / OUT
        task = job.settings.job(image, job.folder / BRAIN if "brain" in job.sizes else None, out)
        file = job.folder / "job.json"
        write_json(file, task | {"weights_dir": self.settings.weights_dir or None})
        self.log(f"{job.name}: running")
        engine = None
        with self._changed:
            if job.state == RUNNING:  # and was not cancelled meanwhile
                engine = job.engine = Engine(file, lambda event: self._hear(job, event), self._command)
        last = engine.run(self.settings.time_out_s) if engine else {"event": "cancelled"}
        if last["event"] == "result":
            job.files = results_of(out)
            failed = int(last.get("failed", 0) > 0 or not job.files)
            told = {"event": "result", "cases": 1, "failed": failed, "files": list(job.files.values())}
            self._end(job, FAILED if failed else DONE, told)
        else:
            self._end(job, CANCELLED if last["event"] == "cancelled" else FAILED, self._plain(job, last))

    def _hear(self, job: Job, event: dict) -> None:
        if event["event"] == "started" or len(job.events) > MOST_EVENTS:
            return
        with self._changed:
            if job.state == RUNNING:
                job.events.append(self._plain(job, event))
                self._changed.notify_all()

    def _plain(self, job: Job, event: dict) -> dict:
        """An event without folders of the server."""
        return redact_all(event, [job.folder / OUT / "x", self.settings.weights_dir or None])

    def _watch(self) -> None:
        """Cancel jobs whose client is silent, remove what nobody fetched, and what belongs to no job."""
        swept = time.monotonic()
        while True:
            with self._changed:
                if self._changed.wait_for(lambda: self._stopped, STEP_S):
                    return
                now = time.monotonic()
                for job in list(self._jobs.values()):
                    if job.state in ACTIVE and now - job.heard > self.settings.lease_s:
                        self._forget(job, "cancelled, its client is gone")
                    elif job.state not in ACTIVE and now - job.ended > 60 * self.settings.keep_minutes:
                        self._forget(job)
                if now - swept > SWEEP_S:
                    swept = now
                    self.sweep()
