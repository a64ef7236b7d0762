"""A detection as a child process of Slicer: started, followed line by line, cancelled, never left behind."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from slicer.i18n import tr as _

import ZSADCLIPLib
from ZSADCLIPLib.errors import InputError

LIBRARY = Path(ZSADCLIPLib.__file__).resolve().parent.parent
GRACE_SECONDS = 0.7  # the child answers a cancel within one batch; after this long its process tree is ended
LOG_LINES = 2000
YIELD_SECONDS = 0.001  # in Slicer the readers run only while the main thread lets go of Python
FINAL = ("result", "error", "cancelled")


def pythonExecutable(setting: str = "") -> str:
    """The interpreter for the child: the user's own setting, else PythonSlicer, else the one that runs this."""
    return setting or shutil.which("PythonSlicer") or sys.executable


def childCommand(job: Path, python: str = "") -> list[str]:
    """The command line that runs a job file."""
    return [pythonExecutable(python), "-u", "-m", "ZSADCLIPLib", "run", str(job)]


def childEnvironment(library: Path, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """The child's environment: `library` is the folder that holds ZSADCLIPLib; pipes are UTF-8 whatever the locale.

    `base` is what it starts from, by default the environment of this process, which suits PythonSlicer only.
    """
    environment = dict(os.environ if base is None else base)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [str(library), environment.get("PYTHONPATH", "")]))
    environment.update(PYTHONUTF8="1", PYTHONIOENCODING="utf-8")
    return environment


def startEngine(job: Path, python: str = "", command: Callable[[Path], list[str]] | None = None) -> ChildProcess:
    """The started child for a job file; `command(job)` stands in for the engine's own command line.

    Raises InputError when the interpreter cannot be started.
    """
    # An interpreter other than Slicer's own must not see the paths that Slicer's launcher set.
    base = None
    if python:
        from slicer.util import startupEnvironment

        base = startupEnvironment()
    line = command(job) if command else childCommand(job, python)
    child = ChildProcess(line, childEnvironment(LIBRARY, base))
    try:
        child.start()
    except OSError as error:
        raise InputError(_("The Python interpreter {path} cannot be started: {error}. Correct it under Advanced.").format(
            path=line[0], error=error.strerror or error)) from error  # fmt: skip
    return child


def isOutOfMemory(message: str) -> bool:
    """True for an error that a smaller batch or the CPU may avoid."""
    signs = r"out of memory|not enough memory|MemoryError|bad_alloc|can(no|')t allocate|CUBLAS_STATUS_ALLOC"
    return re.search(signs, message, re.I) is not None


class ChildProcess:
    """One run of the engine.

    `start()` returns at once; `poll()` gives the events that arrived since the last call and must be called now and then
    (a timer in the panel, a loop in a script). Every run ends with exactly one of the events "result", "error" or
    "cancelled". The child sees its standard input close when this process dies, and stops by itself.
    """

    def __init__(self, command: list[str], environment: dict[str, str], grace: float = GRACE_SECONDS):
        self.command, self.environment, self.grace = command, environment, grace
        self.log: list[str] = []
        self._lines: queue.Queue = queue.Queue()
        self._process: subprocess.Popen | None = None
        self._readers: list[threading.Thread] = []
        self._cancelledAt: float | None = None
        self._ended = False

    def start(self) -> None:
        """Start the child; raises OSError when the interpreter cannot be started."""
        options = {"start_new_session": True} if os.name == "posix" else {"creationflags": hiddenWindow()}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            self.command, stdin=pipe, stdout=pipe, stderr=pipe, env=self.environment, **options
        )
        for stream, name in ((self._process.stdout, "out"), (self._process.stderr, "err")):
            reader = threading.Thread(target=self._read, args=(stream, name), daemon=True)
            reader.start()
            self._readers.append(reader)

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    @property
    def running(self) -> bool:
        """True from `start()` until the final event was handed out."""
        return self._process is not None and not self._ended

    def _read(self, stream, name: str) -> None:
        # Whole lines of bytes: a read of text could end inside a character or inside a JSON object.
        for line in stream:
            self._lines.put((name, line.decode("utf-8", "replace").rstrip()))

    def poll(self) -> list[dict]:
        """The events since the last call, in order."""
        if not self.running:
            return []
        time.sleep(YIELD_SECONDS)
        finished = self._process.poll() is not None
        if finished:
            for reader in self._readers:
                reader.join(0.5)
        events = self._take()
        if self._ended:
            self._close()
        elif finished:
            self._ended = True
            events.append(self._unexpectedEnd())
            self._close()
        elif self._cancelledAt is not None and time.monotonic() - self._cancelledAt > self.grace:
            self.kill()
            events.append({"event": "cancelled"})
        return events

    def _take(self) -> list[dict]:
        events = []
        while not self._lines.empty():
            name, line = self._lines.get()
            event = _parsed(line) if name == "out" else None
            if event is None:
                self.log = [*self.log[-LOG_LINES:], line]
            elif not self._ended:
                self._ended = event["event"] in FINAL
                if self._ended and self._cancelledAt is not None:
                    event = {"event": "cancelled"}  # a result that came after the cancel is not wanted any more
                events.append(event)
        return events

    def _unexpectedEnd(self) -> dict:
        if self._cancelledAt is not None:
            return {"event": "cancelled"}
        tail = "\n".join(line for line in self.log[-4:] if line)
        code = self._process.returncode
        if code in (-9, 137):  # on Linux and macOS; nobody else ends it this way
            message = _(
                "The engine was ended by the system, most likely because the computer ran out of memory: close other "
                "programs, or choose a smaller model."
            )
            return {"event": "error", "kind": "MemoryError", "message": message}
        message = _("The engine ended with code {code}. {tail}").format(code=code, tail=tail).strip()
        return {"event": "error", "kind": "ChildEnded", "message": message}

    def cancel(self) -> None:
        """Ask the child to stop; `poll()` ends its process tree when it does not answer within the grace time."""
        if not self.running or self._cancelledAt is not None:
            return
        self._cancelledAt = time.monotonic()
        try:
            self._process.stdin.write(b"cancel\n")
            self._process.stdin.close()
        except OSError:
            pass  # the child is already gone; poll() will see it

    def kill(self) -> None:
        """End the child and everything it started, now."""
        if self._process is None:
            return
        self._ended = True
        _endTree(self._process)
        self._close()

    def _close(self) -> None:
        """Make sure nothing survives the final event: a child that hangs at exit is ended too."""
        with contextlib.suppress(OSError):
            self._process.stdin.close()
        try:
            self._process.wait(0.2)
        except subprocess.TimeoutExpired:
            _endTree(self._process)
        for stream in (self._process.stdout, self._process.stderr):
            if not any(reader.is_alive() for reader in self._readers):
                stream.close()


def _parsed(line: str) -> dict | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and "event" in event else None


def hiddenWindow() -> int:
    """Flags of a child that opens no console window on Windows."""
    return getattr(subprocess, "CREATE_NO_WINDOW", 0)


def _endTree(process: subprocess.Popen) -> None:
    # PythonSlicer is a launcher: ending only the process that was started would leave the real interpreter running.
    if process.poll() is None or os.name == "posix":
        if os.name == "posix":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
        else:
            subprocess.run(
                ["taskkill", "/F", "/T", "/PID", str(process.pid)],
                capture_output=True,
                check=False,
                creationflags=hiddenWindow(),
            )
    with contextlib.suppress(subprocess.TimeoutExpired):  # the system is still at it; waiting longer would stall Slicer
        process.wait(5)
