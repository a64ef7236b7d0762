"""Fetching weights in the background: one thread, asked for its progress like a detection."""

from __future__ import annotations

import threading

from ZSADCLIPLib.errors import ZSADCLIPError
from ZSADCLIPLib.progress import Cancelled


class Download:
    """Downloads the files of a named backbone into `folder` (empty: the engine's cache).

    `poll()` returns (fraction, text) of the moment; when `done` is True, `error` is None, a message, or "" when the
    download was cancelled (an interrupted file goes on where it stopped next time).
    """

    def __init__(self, name: str, folder: str = ""):
        self.name, self.error, self.done = name, None, False
        self._state, self._stop = (0.0, name), threading.Event()
        self._thread = threading.Thread(target=self._run, args=(name, folder or None), daemon=True)

    def start(self) -> None:
        self._thread.start()

    def cancel(self) -> None:
        self._stop.set()

    def poll(self) -> tuple[float, str]:
        return self._state

    def _progress(self, fraction: float, text: str) -> None:
        if self._stop.is_set():
            raise Cancelled("the download was stopped")
        self._state = (fraction, text)

    def _run(self, name: str, folder: str | None) -> None:
        from ZSADCLIPLib.backbones.weights import download

        try:
            download(name, folder, self._progress)
        except Cancelled:
            self.error = ""
        except (ZSADCLIPError, OSError) as error:
            self.error = str(error)
        self.done = True
