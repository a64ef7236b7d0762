"""A job of a server: whose it is, what it is about, and what has happened to it."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path

from ..errors import ZSADCLIPError
from ..files.digests import seal
from ..remote.settings import BRAIN, IMAGE, RESULTS, RemoteSettings
from .engine import Engine

RECEIVING, QUEUED, RUNNING = "receiving", "queued", "running"
DONE, FAILED, CANCELLED = "done", "failed", "cancelled"
ACTIVE = (RECEIVING, QUEUED, RUNNING)
NAMES = {"input": IMAGE, "brain": BRAIN}
ID = re.compile("[0-9a-f]{32}")


class Refused(ZSADCLIPError):
    """What a client asks for cannot be had; `status` is HTTP's, and `message` says what to do."""

    def __init__(self, status: HTTPStatus, message: str):
        super().__init__(message)
        self.status = status


@dataclass
class Job:
    """A job of a client, and what has happened to it.

    `heard` and `ended` are times of the monotonic clock. While it is `busy` something writes into its folder; once it is
    `unwanted` nobody asks for it any more.
    """

    id: str
    client: str
    settings: RemoteSettings
    sizes: dict[str, int]
    folder: Path
    state: str = RECEIVING
    events: list[dict] = field(default_factory=list)
    files: dict[str, dict] = field(default_factory=dict)
    heard: float = field(default_factory=time.monotonic)
    ended: float = 0.0
    engine: Engine | None = None
    busy: bool = False
    unwanted: bool = False

    @property
    def name(self) -> str:
        """What logs call it: its id is the client's alone."""
        return self.id[:8]


def failure(kind: str, message: str) -> dict:
    """The last event of a job that failed."""
    return {"event": "error", "kind": kind, "message": message}


def results_of(out: Path) -> dict[str, dict]:
    """Name, bytes and SHA-256 of the result files that are there."""
    sealed = seal(path for path in (out / name for name in RESULTS) if path.is_file() and not path.is_symlink())
    return {name: {"name": name, **facts} for name, facts in sealed.items()}
