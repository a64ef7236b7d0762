"""Getting weights in the background, from the network or from local files: the engine's own job in a child process.

A thread would crawl: in Slicer other threads of Python run only while the main thread runs Python, not while it waits for
the user.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import slicer

from .process import ChildProcess, startEngine


class Fetch:
    """Downloads the files of a backbone, or takes over local `files`, into `folder` (empty: the engine's cache).

    `poll()` returns (fraction, text) of the moment; when `done` is True, `error` is None, a message, or "" when it was
    cancelled. `start()` raises InputError when the interpreter cannot be started.
    """

    def __init__(self, backbone: str, files: Sequence[str] = (), folder: str = "", python: str = "",
                 command: Callable[[Path], list[str]] | None = None):  # fmt: skip
        self.error, self.done = None, False
        self._job = {"job": "weights", "backbone": backbone, "folder": folder, "files": [str(path) for path in files]}
        self._python, self._command = python, command
        self._state = (0.0, "")
        self._folder: Path | None = None
        self._child: ChildProcess | None = None

    def start(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="ZSADCLIP-", dir=slicer.app.temporaryPath or None))
        job = self._folder / "job.json"
        try:
            job.write_text(json.dumps(self._job), encoding="utf-8")
            self._child = startEngine(job, self._python, self._command)
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
                self._end(None)
            elif kind == "cancelled":
                self._end("")
            elif kind == "error":
                self._end(event["message"])
        return self._state

    def _end(self, error: str | None) -> None:
        self.error, self.done = error, True
        shutil.rmtree(self._folder, ignore_errors=True)
