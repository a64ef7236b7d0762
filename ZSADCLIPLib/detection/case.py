"""One case of the Detect job: read, score, write, and seal, so that a later run can tell that it is complete."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..backbones.words import SEQUENCE_LABELS
from ..errors import InputError, OutputError, ZSADCLIPError
from ..execution.base import failed
from ..files.digests import is_intact, seal
from ..files.locks import holder, is_held
from ..files.names import split_suffix
from ..files.privacy import printable, redact, redact_all, renamed
from ..files.text import parse_json
from ..notes import DoubtError, Note, settled
from ..progress import Cancelled, Progress, sub_progress
from ..volume import Volume
from ..volumes.checks import is_label_map, size_notes
from ..volumes.reading import FORMATS, volume_hash
from . import objects
from .choice import Case
from .outputs import ENDINGS, SUMMARY, check_space, unfinished_marker
from .summary import against_truth

LOST = {errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.ENETUNREACH, errno.ENETDOWN}
LABEL_MAP = "a label map beside images; name it alone to score it"


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


def run_case(run: CaseRun, state: Callable[[], object], item: dict, progress: Progress) -> dict:
    """The row of a case, its files written; a failed case gives a failed row.

    A share that is gone is waited for, `run.patience` seconds. Rows say in "kept" that nothing had to be done, in "unwritable"
    that other cases would fail in the same way, and in "doubts" which codes would let the case pass. Raises what `state` and
    `progress` raise.
    """
    run, case = replace(run, token=item.get("run", "")), case_of(item)
    if run.skip_existing and (row := stored(run, case, item["settings"])) is not None:
        with suppress(OSError):
            # Of a run that was killed between the last two steps.
            unfinished_marker(run.output, case.id).unlink(missing_ok=True)
        return {**row, "kept": True}

    def work(detector) -> dict:
        return _detect(run, detector, case, item["settings"], progress)

    return patiently(run, case, state, work, progress)


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
            row = failed({"id": case.id}, f"{kind}: {_discreet(run, case, detail)}")
            if isinstance(error, DoubtError):
                row |= {"doubts": list(error.codes)}
            return {**row, "unwritable": True} if isinstance(error, OutputError) else row


def _discreet(run: CaseRun, case: Case, text: str) -> str:
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


def stored(run: CaseRun, case: Case, settings: str) -> dict | None:
    """The row of a finished case: same settings, same input, every file with its length and content; else None."""
    paths = run.paths(case.id)
    wanted = {path.name for path in paths.values()} - {paths["json"].name}
    try:
        done = parse_json(paths["json"].read_text(encoding="utf-8"))
        same = done["settings"] == settings and done["inputs"] == _inputs(case)
        same = same and isinstance(done["files"], dict) and done["seal"] == _seal_of(done)
        row = done["summary"]
        same = same and objects.has_files(run, case, done["files"], wanted, row["findings"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return row if same and isinstance(row, dict) and is_intact(run.output, done["files"]) else None


def _inputs(case: Case) -> dict[str, str]:
    """SHA-256 of the image and of the truth, data beside a header included, so that a replaced file is noticed."""
    return {key: volume_hash(path) for key, path in (("image", case.image), ("mask", case.mask)) if path}


def _seal_of(data: dict) -> str:
    """A digest of what a case's JSON says beside it."""
    text = json.dumps({key: value for key, value in data.items() if key != "seal"}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _detect(run: CaseRun, detector, case: Case, settings: str, progress: Progress) -> dict:
    from ..volumes.reading import read_mask

    _check_output(run)
    inputs = _inputs(case)  # before they are read: what is replaced meanwhile differs from it
    volume = read_image(run, case)
    if volume is None:
        return {"id": case.id, "status": "left out", "error": LABEL_MAP}
    check_space(run.output, volume.array.size)
    truth, notes = _truth(run, case, volume)
    sources, about = objects.sources_of(run, case)
    volume = replace(volume, notes=settled((*volume.notes, *size_notes(volume), *notes, *about), run.allow))
    brain = None
    if run.brain_mask:
        mask = read_mask(run.brain_mask, volume, run.placement, run.resample_mask)
        brain, volume = mask.array > 0, replace(volume, notes=volume.notes + _about(mask, "brain mask"))
    detection = detector.detect(volume, brain, sub_progress(progress, 0.02, 0.9))
    row = {
        "id": case.id,
        "status": "done",
        "error": "",
        "volume_score": detection.volume_score,
        "threshold": detection.threshold,
        "threshold_rule": detection.threshold_rule,
        "findings": len(detection.findings),
        "volume_mm3": sum(f.volume_mm3 for f in detection.findings),
        "sequence": (_sequence(detection) or {}).get("name", ""),
        "notes": [note.to_dict() for note in detection.notes],
    }
    if truth is not None:
        row |= against_truth(detection, truth)
    progress(0.92, "writing")
    _check_output(run)
    with _begun(run, case):
        _write(run, case, detection, truth, sources, {"settings": settings, "inputs": inputs, "summary": row})
    progress(1.0, "done")
    return row


def read_image(run: CaseRun, case: Case) -> Volume | None:
    """The image of a case, None for a label map beside images; raises InputError when it cannot be read."""
    from ..volumes.reading import read_volume

    volume = read_volume(case.image, run.placement, run.series, run.keep_identifiers)
    if not is_label_map(volume):
        return volume
    note = Note("label-map", "few whole values: this looks like a label map")
    return None if case.beside else replace(volume, notes=(*volume.notes, note))


def _truth(run: CaseRun, case: Case, volume: Volume) -> tuple[np.ndarray | None, tuple[Note, ...]]:
    """The truth, bool (I, J, K), where there is one that can be used; else why not: the image can be scored all the same."""
    from ..volumes.reading import read_mask

    if case.mask is None:
        return None, ()
    try:
        mask = read_mask(case.mask, volume, run.placement, run.resample_mask)
    except InputError as error:
        return None, (Note("mask", f"not compared with a truth: {_discreet(run, case, str(error))}"),)
    return mask.array > 0, _about(mask, "truth")


def _about(mask: Volume, what: str) -> tuple[Note, ...]:
    """The notes on a mask, for the list of the image's; a constant or unplaced one is as good as any."""
    return tuple(replace(note, text=f"{what}: {note.text}") for note in mask.notes if note.severity != "error")


@contextmanager
def _begun(run: CaseRun, case: Case) -> Iterator[None]:
    """While results are written a marker says so; the old result is not complete any more, nor a summary of earlier runs true.

    The marker stays when the block fails after the first of the files.
    """
    marker = unfinished_marker(run.output, case.id)
    try:
        marker.touch()
        run.paths(case.id)["json"].unlink(missing_ok=True)
        objects.clear(run, case)
        with suppress(PermissionError):  # open in another program; its writer says so at the end
            Path(run.output, SUMMARY).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot replace results of {case.id}: {error.strerror}; check the folder") from error
    try:
        yield
    except BaseException:
        with suppress(OSError):
            if not any(Path(run.output, case.id + end).exists() for end in ENDINGS):  # of other settings, too
                marker.unlink(missing_ok=True)
        raise
    with suppress(OSError):  # the JSON says as much
        marker.unlink(missing_ok=True)


def _write(run: CaseRun, case: Case, detection, truth, sources, facts: dict) -> None:
    """Write the files of a case, the JSON last: its presence says that the case is complete."""
    from ..files.text import plain, write_json
    from ..volumes.reading import write_map, write_volume

    paths = run.paths(case.id)
    write_map(paths["map"], detection.map, detection.map_type)
    _check_output(run)
    write_volume(paths["mask"], detection.mask, "uint8")
    _check_output(run)
    if "png" in paths:
        from .pictures import montage_of

        title = f"{case.id}: {run.label} on {detection.provenance['backbone']['name']}{_looks(detection)}"
        montage_of(paths["png"], detection, truth, title=title)
    files, record = seal(path for key, path in paths.items() if key != "json"), detection.to_dict()
    if sources is not None:
        files |= objects.write_objects(run, case, sources, detection, record, facts["settings"])
    data = {"id": case.id, **facts, "files": files}
    if not run.keep_identifiers:  # a file of prompts, say, is told by its name alone
        record["provenance"] = redact_all(record["provenance"])
    data = plain(data | record)
    _check_output(run)
    write_json(paths["json"], data | {"seal": _seal_of(data)})


def _sequence(detection) -> dict | None:
    """What words make of the sequence, {"name", "share"}, where they were asked."""
    return detection.provenance.get("preprocessing", {}).get("sequence")


def _looks(detection) -> str:
    """The end of a picture's title: which sequence the scan looks like, with the share of the words."""
    found = _sequence(detection)
    return f", looks like {SEQUENCE_LABELS[found['name']]} ({100 * found['share']:.0f} %)" if found else ""


def _check_output(run: CaseRun) -> None:
    """Raise OutputError unless the folder is there, and this run's."""
    if not run.owns_output():
        what = (
            "holds another run by now"
            if is_held(run.output, shard=run.shard)
            else "is gone; is its share still connected?"
        )
        raise OutputError(f"the output folder {run.output} {what}")
