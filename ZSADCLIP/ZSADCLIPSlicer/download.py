"""Getting weights in the background, from the network or from local files: one thread, asked for its progress."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from slicer.i18n import tr as _

from ZSADCLIPLib.errors import WeightsError, ZSADCLIPError
from ZSADCLIPLib.progress import Cancelled, Progress


class Fetch:
    """Runs `work(progress)` in a thread.

    `poll()` returns (fraction, text) of the moment; when `done` is True, `error` is None, a message, or "" when it was
    cancelled.
    """

    def __init__(self, work: Callable[[Progress], object]):
        self.error, self.done = None, False
        self._work, self._state, self._stop = work, (0.0, ""), threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def cancel(self) -> None:
        self._stop.set()

    def poll(self) -> tuple[float, str]:
        return self._state

    def _progress(self, fraction: float, text: str) -> None:
        if self._stop.is_set():
            raise Cancelled("stopped by the user")
        self._state = (fraction, text)

    def _run(self) -> None:
        try:
            self._work(self._progress)
        except Cancelled:
            self.error = ""
        except (ZSADCLIPError, OSError) as error:
            self.error = str(error)
        self.done = True


def download(name: str, folder: str, progress: Progress) -> None:
    """Fetch the files of a named backbone into `folder` (empty: the engine's cache)."""
    from ZSADCLIPLib.backbones import weights

    weights.download(name, folder or None, progress)


def adopt(name: str, paths: Sequence[str], folder: str, progress: Progress) -> None:
    """Copy local files of a named backbone into `folder` (empty: the engine's cache), each checked before it is there.

    A file is known by its name; a model of a single file with a pinned checksum takes it under any name. Raises
    WeightsError naming the files that are lacking or differ.
    """
    from ZSADCLIPLib.backbones import BACKBONES
    from ZSADCLIPLib.backbones.weights import cache_dir, verify
    from ZSADCLIPLib.io import atomic_path

    files = BACKBONES[name].files
    given = {Path(path).name: Path(path) for path in paths}
    if len(files) == len(given) == 1 and next(iter(files.values()))[1]:
        given = dict(zip(files, given.values(), strict=True))
    lacking = [filename for filename in files if filename not in given]
    if lacking:
        raise WeightsError(_("{model} also needs {names}; choose all of its files at once.").format(
            model=name, names=", ".join(lacking)))  # fmt: skip
    target = Path(folder or cache_dir()) / name
    target.mkdir(parents=True, exist_ok=True)
    for n, (filename, (_url, sha)) in enumerate(files.items()):
        progress(n / len(files), filename)
        verify(given[filename], sha)
        with atomic_path(target / filename) as temporary:
            shutil.copyfile(given[filename], temporary)
    progress(1.0, name)
