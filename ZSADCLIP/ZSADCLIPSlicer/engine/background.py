"""A small job of the engine in a child process, followed by a timer: nothing of it is left behind.

A thread would crawl: in Slicer other threads of Python run only while the main thread runs Python, not while it waits for
the user.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

import slicer

from ZSADCLIPLib.errors import ZSADCLIPError

from .process import ChildProcess, startEngine


class BackgroundJob(ABC):
    """`poll()` returns (fraction, text) of the moment; when `done` is True, `error` is None, a message, or "" when it was
    cancelled. `start()` raises InputError when the interpreter cannot be started.
    """

    def __init__(self, python: str = "", command: Callable[[Path], list[str]] | None = None):
        self.error, self.done = None, False
        self._python, self._command = python, command
        self._state = (0.0, "")
        self._folder: Path | None = None
        self._child: ChildProcess | None = None

    @abstractmethod
    def job(self, folder: Path) -> dict:
        """The engine's job; what it reads may be written into `folder`, which lasts as long as the job."""

    @abstractmethod
    def finish(self, folder: Path, event: dict) -> None:
        """Take what the job wrote; a ZSADCLIPError raised here is the job's error."""

    def start(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ZSADCLIP-", dir=slicer.app.temporaryPath or None))
        path = self._folder / "job.json"
        try:
            path.write_text(json.dumps(self.job(self._folder)), encoding="utf-8")
            self._child = startEngine(path, self._python, self._command)
        except BaseException:
            self._end(None)
            raise

    def cancel(self) -> None:
        """Ask it to stop; `poll()` tells when it did, within a second."""
        if self._child is not None:
            self._child.cancel()

    def abort(self) -> None:
        """Stop at once."""
        if self._child is not None and not self.done:
            self._child.kill()
            self._end("")

    def poll(self) -> tuple[float, str]:
        for event in self._child.poll() if not self.done else ():
            kind = event["event"]
            if kind == "progress":
                self._state = (event["fraction"], event["text"])
            elif kind == "result":
                self._finished(event)
            elif kind == "cancelled":
                self._end("")
            elif kind == "error":
                self._end(event["message"])
        return self._state

    def _finished(self, event: dict) -> None:
        try:
            self.finish(self._folder, event)
        except (ZSADCLIPError, OSError) as error:
            self._end(str(error))
        else:
            self._end(None)

    def _end(self, error: str | None) -> None:
        self.error, self.done = error, True
        shutil.rmtree(self._folder, ignore_errors=True)
