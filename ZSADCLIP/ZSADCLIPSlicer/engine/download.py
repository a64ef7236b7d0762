"""Getting weights in the background, from the network or from local files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from .background import BackgroundJob


class Fetch(BackgroundJob):
    """Downloads the files of a backbone, or takes over local `files`, into `folder` (empty: the engine's cache)."""

    def __init__(self, backbone: str, files: Sequence[str] = (), folder: str = "", python: str = "",
                 command: Callable[[Path], list[str]] | None = None):  # fmt: skip
        super().__init__(python, command)
        self._job = {"job": "weights", "backbone": backbone, "folder": folder, "files": [str(path) for path in files]}

    def job(self, folder: Path) -> dict:
        return self._job

    def finish(self, folder: Path, event: dict) -> None:
        """Nothing is left to do: the engine put the files where they belong."""
