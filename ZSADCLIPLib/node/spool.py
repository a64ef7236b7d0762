"""The node's folder: a study a folder, and a ledger in it that says what was done; every step is on disk before it counts."""

from __future__ import annotations

import os
import re
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from ..errors import ZSADCLIPError
from ..fields import from_dict
from ..files.atomic import atomic_path
from ..files.privacy import pseudonym
from ..files.text import parse_json, write_json

LEDGER = "study.json"
UID = re.compile(r"[0-9.]{1,64}")
WAITING, SCORED, DONE, FAILED = "waiting", "scored", "done", "failed"
OPEN = (WAITING, SCORED)
LEDGER_S = 86400.0  # how long a study is known after its images went, so that one that comes again is not done again


@dataclass(frozen=True)
class Parcel:
    """An object to be sent: its file below the study, its UID, where to, and whether sending was begun or ended."""

    file: str
    uid: str
    to: str
    state: str = "new"


@dataclass(frozen=True)
class Ledger:
    """What is known of a study: who sent it, its state, the images that were scored, and what goes out.

    `images` are the files that were last scored; `said` is why it failed, without identifiers; `tries` of the present step;
    `sent` are the UIDs of all that went out, so that a study that is scored again sends only what is new.
    """

    caller: str
    state: str = WAITING
    images: tuple[str, ...] = ()
    parcels: tuple[Parcel, ...] = field(default_factory=tuple)
    tries: int = 0
    said: str = ""
    sent: tuple[str, ...] = ()


class Study:
    """A study in the spool: `images` as they came, `input` the volumes chosen of them, `out` their results."""

    def __init__(self, folder: Path):
        self.folder, self.images = folder, folder / "images"

    @property
    def key(self) -> str:
        """Its name, a digest."""
        return self.folder.name

    def read(self) -> Ledger | None:
        """The ledger; None where the study is just coming in for the first time, or its ledger is damaged."""
        try:
            return from_dict(Ledger, parse_json((self.folder / LEDGER).read_text("utf-8")))
        except (OSError, ValueError, ZSADCLIPError):
            return None

    def write(self, ledger: Ledger) -> Ledger:
        """Put the ledger on disk."""
        write_json(self.folder / LEDGER, asdict(ledger))
        return ledger

    def names(self) -> tuple[str, ...]:
        """The images that are there, complete ones only."""
        try:
            return tuple(sorted(name for name in os.listdir(self.images) if not name.startswith(".")))
        except OSError:
            return ()

    def silent_s(self) -> float:
        """Seconds since the last image came."""
        try:
            return max(0.0, time.time() - self.images.stat().st_mtime)
        except OSError:
            return float("inf")

    def came_again(self) -> bool:
        """True where an image came since the ledger was written."""
        try:
            return self.images.stat().st_mtime_ns > (self.folder / LEDGER).stat().st_mtime_ns
        except OSError:
            return False

    def clear(self) -> None:
        """Remove images and results; the ledger stays to be known by."""
        with suppress(OSError):  # at once, lest a kill leaves some that look as if they had come
            self.images.rename(self.folder / "gone")
        for name in ("gone", "input", "out"):
            shutil.rmtree(self.folder / name, ignore_errors=True)


class Spool:
    """All studies; made with mode 0700. `receive` may be called from several threads."""

    def __init__(self, root: Path, most_studies: int, most_bytes: float, spare_bytes: float):
        self.root, self._most, self._bytes, self._spare = root, most_studies, most_bytes, spare_bytes
        self._lock, self._used, self._began = threading.Lock(), 0, time.monotonic()
        self.studies = root / "studies"
        self.studies.mkdir(mode=0o700, parents=True, exist_ok=True)
        root.chmod(0o700)
        self.measure()

    def __iter__(self) -> Iterator[Study]:
        for entry in sorted(self.studies.iterdir()):
            if entry.is_dir() and not entry.name.startswith("."):
                yield Study(entry)

    def measure(self) -> None:
        """Look how much is in use."""
        sizes = (
            os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(self.root) for name in names
        )
        used = 0
        for size in _existing(sizes):
            used += size
        self._used = used

    def has_room(self, size: int, study: str) -> bool:
        """False where an image of `size` bytes would be more than is allowed, or a new study one too many."""
        if self._used + size > self._bytes or shutil.disk_usage(self.root).free < self._spare + size:
            return False
        return (self.studies / study).is_dir() or sum(1 for _ in self.open()) < self._most

    def open(self) -> Iterator[Study]:
        """The studies that wait for something."""
        return (study for study in self if (ledger := study.read()) is None or ledger.state in OPEN)

    def receive(self, caller: str, study_uid: str, instance_uid: str, content: bytes) -> None:
        """Keep an image; it is on disk when this returns. Raises OutputError."""
        study = Study(self.studies / study_key(caller, study_uid))
        target = study.images / f"{instance_uid}.dcm"
        with self._lock:  # so that nobody clears the study meanwhile
            study.images.mkdir(mode=0o700, parents=True, exist_ok=True)
            if study.read() is None:
                study.write(Ledger(caller))
            with atomic_path(target) as temporary:
                temporary.write_bytes(content)
        self._used += len(content)

    def settle(self, study: Study, quiet_s: float) -> Ledger | None:
        """What is to be done with a study now, None for nothing.

        Images that came since it was scored make it wait again; those of one that failed do even where they are known.
        """
        ledger, names = study.read(), study.names()
        # Who was sending when a node ended needs time to come back.
        silent_s = min(study.silent_s(), time.monotonic() - self._began)
        if ledger is None or (silent_s < quiet_s and ledger.state != SCORED):
            return None
        if ledger.state in (DONE, FAILED):
            again = ledger.state == FAILED and study.came_again()
            if not again and not set(names) - set(ledger.images):
                return None
            return study.write(Ledger(ledger.caller, sent=ledger.sent))
        return ledger

    def expire(self, keep_s: float) -> None:
        """Remove what has been done or given up for `keep_s`: images and results first, ledgers a day later."""
        for study in self:
            with self._lock:
                ledger = study.read()
                if ledger is None or ledger.state in OPEN or set(study.names()) - set(ledger.images):
                    continue
                age = time.time() - (study.folder / LEDGER).stat().st_mtime
                if age > keep_s + LEDGER_S and not study.names():
                    shutil.rmtree(study.folder, ignore_errors=True)
                elif age > keep_s and study.silent_s() > keep_s:
                    study.clear()
        self.measure()


def study_key(caller: str, study_uid: str) -> str:
    """The name of a study's folder."""
    return pseudonym(f"{caller}\0{study_uid}", "study")


def counted(ledger: Ledger) -> Ledger:
    """The ledger after one more try of its step."""
    return replace(ledger, tries=ledger.tries + 1)


def _existing(sizes: Iterator[int]) -> Iterator[int]:
    while True:
        try:
            yield next(sizes)
        except StopIteration:
            return
        except OSError:  # renamed or removed while we looked
            return
