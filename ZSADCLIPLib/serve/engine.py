"""One job in a child process of its own: followed line by line, cancelled within a second, and ended with all it started."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

LIBRARY = Path(__file__).resolve().parents[2]
GRACE = 0.7  # seconds for the child to stop by itself
FINAL = ("result", "error", "cancelled")
LONGEST = 1 << 20  # bytes of a line


def engine_command(job: Path) -> list[str]:
    """What runs a job file."""
    return [sys.executable, "-u", "-m", "ZSADCLIPLib", "run", str(job)]


def environment() -> dict[str, str]:
    """The child's: it finds this engine, fetches no models, and its pipes are UTF-8."""
    path = os.pathsep.join(filter(None, (str(LIBRARY), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8"}


class Engine:
    """A child that runs `job`; `hear(event)` is told what it says before its last word."""

    def __init__(self, job: Path, hear: Callable[[dict], None], command: Callable[[Path], list[str]] = engine_command):
        self._hear, self._log = hear, deque(maxlen=4)
        self._lock = threading.Lock()
        self._cancelled = self._late = False
        options = {"start_new_session": True} if os.name == "posix" else {}
        pipe = subprocess.PIPE
        # Its standard input is ours: it stops within a batch when this process dies.
        self._process = subprocess.Popen(
            command(job), stdin=pipe, stdout=pipe, stderr=pipe, env=environment(), cwd=job.parent, **options
        )

    @property
    def pid(self) -> int:
        return self._process.pid

    def run(self, time_out: float) -> dict:
        """Follow the child to its end; its last event: "result", "error" or "cancelled"."""
        errors = threading.Thread(target=self._read_errors, daemon=True)
        errors.start()
        timer = threading.Timer(time_out, self._end_late)
        timer.daemon = True
        timer.start()
        last = None
        for line in iter(lambda: self._process.stdout.readline(LONGEST), b""):
            event = _parsed(line)
            if event is not None and event["event"] in FINAL:
                last = event
                break
            if event is not None:
                self._hear(event)
        if last is not None:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(GRACE)
        else:
            self._process.wait()
        timer.cancel()
        self.kill()  # also what it may have left behind
        errors.join(GRACE)
        self._close()
        return self._outcome(last, time_out)

    def _outcome(self, last: dict | None, time_out: float) -> dict:
        if self._cancelled:
            return {"event": "cancelled"}
        if last is not None:
            return last
        if self._late:
            text = f"not done within {time_out:g} s, the longest that the server allows; choose a smaller model or fewer planes"
            return {"event": "error", "kind": "TimeOut", "message": text}
        code = self._process.returncode
        if code in (-9, 137):
            text = "the server ran out of memory: try again later, or choose a smaller model"
            return {"event": "error", "kind": "MemoryError", "message": text}
        said = " ".join(self._log)[-300:]
        return {
            "event": "error",
            "kind": "ChildEnded",
            "message": f"the server's engine ended with code {code}. {said}".strip(),
        }

    def cancel(self) -> None:
        """Ask the child to stop, and end it after the grace time; returns at once."""
        with self._lock:
            if self._cancelled:
                return
            self._cancelled = True
        threading.Thread(target=self._cancel, daemon=True).start()

    def _cancel(self) -> None:
        with suppress(OSError, ValueError):
            self._process.stdin.write(b"cancel\n")
            self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE)
        self.kill()

    def kill(self) -> None:
        """End the child and all that it started, now."""
        if os.name == "posix":
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        elif self._process.poll() is None:
            subprocess.run(["taskkill", "/F", "/T", "/PID", str(self._process.pid)], capture_output=True, check=False)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE)

    def _end_late(self) -> None:
        self._late = True
        self.kill()

    def _read_errors(self) -> None:
        for line in iter(lambda: self._process.stderr.readline(LONGEST), b""):
            self._log.append(line.decode("utf-8", "replace").strip())

    def _close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            with suppress(OSError, ValueError):
                stream.close()


def _parsed(line: bytes) -> dict | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event if isinstance(event, dict) and isinstance(event.get("event"), str) else None
