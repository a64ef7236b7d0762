"""What the work on a case knows of its run, and how it waits for shares that are gone."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..errors import OutputError, ZSADCLIPError
from ..execution.base import failed
from ..files.locks import holder, is_held
from ..files.names import split_suffix
from ..files.privacy import printable, redact, renamed
from ..notes import DoubtError
from ..progress import Cancelled, Progress
from ..volumes.reading import FORMATS
from .choice import Case

LOST = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.ENETUNREACH, errno.ENETDOWN}


@dataclass(frozen=True)
class CaseRun:
    """What the work on a case needs to know of its run; the meaning of the settings is `jobs.detect.Detect`'s.

    `label` is the method's name in pictures; `paths` gives the files of a case by their kind: map, mask, json and, where one is
    wanted, png. `allow` names the doubts that do not stop a case; `placement` and `resample_mask` are those of `read_mask`,
    `series` chooses among the volumes of a DICOM folder. `shard` is the part of the run that holds the output folder, `token`
    what its lock there says, and `patience` how many seconds a share that is gone is waited for. `dicom` is the set of objects
    that a DICOM case gets, one of `dicom.export.SETS`.
    """

    output: str
    label: str
    paths: Callable[[str], dict[str, Path]]
    skip_existing: bool
    keep_identifiers: bool
    brain_mask: str | None
    allow: tuple[str, ...]
    placement: str | None
    resample_mask: bool
    series: str | None
    shard: str | None
    patience: float
    token: str = ""
    dicom: str | None = None

    def owns_output(self) -> bool:
        """True while the output folder is there and held by this run."""
        return is_held(self.output, self.token, self.shard)

    def is_given_up(self) -> bool:
        """True when another run holds the output folder by now; not when its share is gone, which may come back."""
        return bool(self.token) and holder(self.output, self.shard) not in (None, "", self.token)


def case_of(item: dict) -> Case:
    """The case that an item of a job is about."""
    mask = Path(item["mask"]) if item["mask"] else None
    return Case(item["id"], Path(item["image"]), mask, beside=item.get("beside", False))


def patiently(
    run: CaseRun, case: Case, state: Callable[[], object], work: Callable[[object], dict], progress: Progress
) -> dict:
    """The row that `work(state())` makes of a case, or a failed row; waits for shares that are gone. See `run_case`."""
    began, pause, loaded = time.monotonic(), 0.5, None
    while True:
        try:
            loaded = loaded if loaded is not None else state()
            return work(loaded)
        except Cancelled:
            raise
        except Exception as error:
            lost = not run.is_given_up() and is_lost(error, case.image, run.owns_output)
            if lost and time.monotonic() - began < run.patience:
                progress(0.0, "waiting for a share that is gone")
                time.sleep(pause)
                pause = min(2 * pause, 10.0)
                continue
            if loaded is None:
                raise
            kind = type(error).__name__ if isinstance(error, (ZSADCLIPError, OSError, MemoryError)) else "Unexpected"
            detail = str(error) or "out of memory"
            if kind == "Unexpected":
                detail = f"{type(error).__name__}: {detail}"
            row = failed({"id": case.id}, f"{kind}: {discreet(run, case, detail)}")
            if isinstance(error, DoubtError):
                row |= {"doubts": list(error.codes)}
            return {**row, "unwritable": True} if isinstance(error, OutputError) else row


def discreet(run: CaseRun, case: Case, text: str) -> str:
    """A message about a case without what may name a patient, unless the run keeps identifiers."""
    if not run.keep_identifiers:
        # A series is called by its id, also where a link leads to its folder.
        text = renamed(text, case.image, case.id) if split_suffix(case.image)[1] not in FORMATS else text
        text = renamed(text, case.mask, "mask") if case.mask and split_suffix(case.mask)[1] not in FORMATS else text
        text = redact(text, (case.image, case.mask, run.brain_mask, run.output))
    return printable(text)


def is_lost(error: BaseException | None, image: Path, owns_output: Callable[[], bool]) -> bool:
    """True when an error comes from a share that went away with the input, or with the output, which `owns_output` tells."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in LOST:
            return True
        error = error.__cause__ or error.__context__
    try:
        # A share that is gone leaves its empty mount point; a file that was removed leaves its neighbours.
        return not owns_output() or not image.parent.is_dir() or not any(os.scandir(image.parent))
    except OSError:
        return True
