"""One case of the Detect job: read, score, write, and seal, so that a later run can tell that it is complete."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ..errors import OutputError, ZSADCLIPError
from ..execution.base import failed
from ..files.digests import is_intact, seal
from ..files.locks import holder, is_held
from ..files.names import VOLUMES, split_suffix
from ..files.privacy import printable, redact, redact_all, renamed
from ..files.text import parse_json
from ..progress import Cancelled, Progress, sub_progress
from ..volumes.headers import volume_hash
from .inputs import Case
from .outputs import ENDINGS, SUMMARY, claim

LOST = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.ENETUNREACH, errno.ENETDOWN}
SPARE_BYTES = 1 << 20
BYTES_A_VOXEL = 5  # of map and mask, uncompressed


def one(job, state: Callable[[], object], item: dict, progress: Progress) -> dict:
    """The row of a case, its files written; a failed case gives a failed row.

    A share that is gone is waited for, `job.patience` seconds. Rows say in "kept" that nothing had to be done, and in
    "unwritable" that other cases would fail in the same way. Raises what `state` and `progress` raise.
    """
    case = Case(item["id"], Path(item["image"]), Path(item["mask"]) if item["mask"] else None)
    if job.skip_existing and (row := stored(job, case, item["settings"])) is not None:
        with suppress(OSError):
            claim(job.output, case.id).unlink(missing_ok=True)  # of a run that was killed between the last two steps
        return {**row, "kept": True}
    began, pause, detector = time.monotonic(), 0.5, None

    def held() -> bool:
        return is_held(job.output, item.get("run", ""), job.shard)

    while True:
        try:
            detector = detector if detector is not None else state()
            return _detect(job, detector, case, item["settings"], progress, held)
        except Cancelled:
            raise
        except Exception as error:
            if (
                not _is_given_up(job, item)
                and is_lost(error, case.image, held)
                and time.monotonic() - began < job.patience
            ):
                progress(0.0, "waiting for a share that is gone")
                time.sleep(pause)
                pause = min(2 * pause, 10.0)
                continue
            if detector is None:
                raise
            kind = type(error).__name__ if isinstance(error, (ZSADCLIPError, OSError, MemoryError)) else "Unexpected"
            detail = str(error) or "out of memory"
            if kind == "Unexpected":
                detail = f"{type(error).__name__}: {detail}"
            row = failed(item, f"{kind}: {_discreet(job, case, detail)}")
            return {**row, "unwritable": True} if isinstance(error, OutputError) else row


def _is_given_up(job, item: dict) -> bool:
    """True when another run holds the output folder by now; not when its share is gone, which may come back."""
    return bool(item.get("run")) and holder(job.output, job.shard) not in (None, "", item["run"])


def _discreet(job, case: Case, text: str) -> str:
    if not job.keep_identifiers:
        # A series is called by its id, also where a link leads to its folder.
        text = renamed(text, case.image, case.id) if split_suffix(case.image)[1] not in VOLUMES else text
        text = redact(text, (case.image, case.mask, job.brain_mask, job.output))
    return printable(text)


def is_lost(error: BaseException | None, image: Path, held: Callable[[], bool]) -> bool:
    """True when an error comes from a share that went away with the input, or with the output, which `held` tells."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in LOST:
            return True
        error = error.__cause__ or error.__context__
    try:
        # A share that is gone leaves its empty mount point; a file that was removed leaves its neighbours.
        return not held() or not image.parent.is_dir() or not any(os.scandir(image.parent))
    except OSError:
        return True


def stored(job, case: Case, settings: str) -> dict | None:
    """The row of a finished case: same settings, same input, every file with its length and content; else None."""
    paths = job.paths(case.id)
    wanted = {path.name for path in paths.values()} - {paths["json"].name}
    try:
        done = parse_json(paths["json"].read_text(encoding="utf-8"))
        same = done["settings"] == settings and set(done["files"]) == wanted and done["inputs"] == _inputs(case)
        same = same and isinstance(done["files"], dict) and done["seal"] == _seal_of(done)
        row = done["summary"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return row if same and isinstance(row, dict) and is_intact(job.output, done["files"]) else None


def _inputs(case: Case) -> dict[str, str]:
    """SHA-256 of the image and of the truth, data beside a header included, so that a replaced file is noticed."""
    return {key: volume_hash(path) for key, path in (("image", case.image), ("mask", case.mask)) if path}


def _seal_of(data: dict) -> str:
    """A digest of what a case's JSON says beside it."""
    text = json.dumps({key: value for key, value in data.items() if key != "seal"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _detect(job, detector, case: Case, settings: str, progress: Progress, held: Callable[[], bool]) -> dict:
    from ..volumes.reading import read_mask, read_volume

    _check_held(job, held)
    inputs = _inputs(case)  # before they are read: what is replaced meanwhile differs from it
    volume = read_volume(case.image)
    _check_space(job.output, volume.array.size)
    truth = read_mask(case.mask, volume).array > 0 if case.mask else None
    brain = read_mask(job.brain_mask, volume).array > 0 if job.brain_mask else None
    found = detector.detect(volume, brain, sub_progress(progress, 0.02, 0.9))
    row = {
        "id": case.id,
        "status": "done",
        "error": "",
        "volume_score": found.volume_score,
        "threshold": found.threshold,
        "threshold_rule": found.threshold_rule,
        "findings": len(found.findings),
        "volume_mm3": sum(f.volume_mm3 for f in found.findings),
    }
    if truth is not None:
        row |= _against(found, truth)
    progress(0.92, "writing")
    _check_held(job, held)
    with _begun(job, case):
        _write(job, detector, case, found, truth, {"settings": settings, "inputs": inputs, "summary": row}, held)
    progress(1.0, "done")
    return row


@contextmanager
def _begun(job, case: Case) -> Iterator[None]:
    """While results are written a claim says so; the old result is not complete any more, nor a summary of earlier runs true.

    The claim stays when the block fails after the first of the files.
    """
    mark = claim(job.output, case.id)
    try:
        mark.touch()
        job.paths(case.id)["json"].unlink(missing_ok=True)
        with suppress(PermissionError):  # open in another program; its writer says so at the end
            Path(job.output, SUMMARY).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot replace results of {case.id}: {error.strerror}; check the folder") from error
    try:
        yield
    except BaseException:
        with suppress(OSError):
            if not any(Path(job.output, case.id + end).exists() for end in ENDINGS):  # of other settings, too
                mark.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # the JSON says as much
        mark.unlink(missing_ok=True)


def _write(job, detector, case: Case, found, truth, facts: dict, held: Callable[[], bool]) -> None:
    """Write the files of a case, the JSON last: its presence says that the case is complete."""
    from ..files.text import plain, write_json
    from ..volumes.reading import write_volume

    paths = job.paths(case.id)
    write_volume(paths["map"], found.map, "float32")
    _check_held(job, held)
    write_volume(paths["mask"], found.mask, "uint8")
    _check_held(job, held)
    if "png" in paths:
        from ..adapters import METHODS
        from .pictures import montage_of

        title = f"{case.id}: {METHODS[job.method].label} on {detector.backbone.name}"
        montage_of(paths["png"], found, truth, title=title)
    data = {"id": case.id, **facts, "files": seal(path for key, path in paths.items() if key != "json")}
    told = found.to_dict()
    if not job.keep_identifiers:  # a file of prompts, say, is told by its name alone
        told["provenance"] = redact_all(told["provenance"])
    data = plain(data | told)
    _check_held(job, held)
    write_json(paths["json"], data | {"seal": _seal_of(data)})


def _check_held(job, held: Callable[[], bool]) -> None:
    """Raise OutputError unless the folder is there, and this run's."""
    if not held():
        what = (
            "holds another run by now"
            if is_held(job.output, shard=job.shard)
            else "is gone; is its share still connected?"
        )
        raise OutputError(f"the output folder {job.output} {what}")


def _check_space(folder: str | os.PathLike, voxels: int) -> None:
    """Raise OutputError before any work when the results of a volume cannot fit."""
    try:
        free = shutil.disk_usage(folder).free
    except OSError:
        return
    needed = SPARE_BYTES + BYTES_A_VOXEL * voxels
    if free < needed:
        raise OutputError(
            f"the disk of {folder} has {free / 1e6:.0f} MB left and a case may need {needed / 1e6:.0f} MB; free some space"
        )


def _against(found, truth) -> dict:
    """Voxel metrics of a detection over the whole volume, undefined ones empty."""
    from ..evaluation.curves import curve
    from ..evaluation.metrics import confusion, scores

    overlap, ranking = scores(confusion(found.mask.array > 0, truth)), curve(found.map.array, truth)
    values = {k: overlap[k] for k in ("dice", "sensitivity", "specificity", "ppv")}
    values |= {"auroc": ranking.auroc, "average_precision": ranking.average_precision, "f1_max": ranking.f1_max}
    return {k: float(v) if v == v else None for k, v in values.items()}
