"""One case of the Detect job: read, score, write, and seal, so that a later run can tell that it is complete."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from ..backbones.words import SEQUENCE_LABELS
from ..errors import InputError, OutputError
from ..execution.shared import room_for
from ..files.digests import is_intact, seal
from ..files.locks import is_held
from ..files.privacy import redact_all
from ..files.text import parse_json
from ..notes import Note, settled
from ..progress import Progress, sub_progress
from ..volume import Volume
from ..volumes.checks import is_label_map, size_notes
from ..volumes.reading import volume_hash
from . import objects
from .caserun import CaseRun, case_of, discreet, patiently
from .choice import Case
from .outputs import ENDINGS, SUMMARY, check_space, unfinished_marker
from .summary import against_truth

LABEL_MAP = "a label map beside images; name it alone to score it"


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
    _check_output(run)
    inputs = _inputs(case)  # before they are read: what is replaced meanwhile differs from it
    volume = read_image(run, case)
    if volume is None:
        return {"id": case.id, "status": "left out", "error": LABEL_MAP}
    check_space(run.output, volume.array.size)
    with room_for(volume.array.size):
        return _detected(run, detector, case, volume, {"settings": settings, "inputs": inputs}, progress)


def _detected(run: CaseRun, detector, case: Case, volume: Volume, facts: dict, progress: Progress) -> dict:
    from ..volumes.reading import read_mask

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
        _write(run, case, detection, truth, sources, facts | {"summary": row})
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
        return None, (Note("mask", f"not compared with a truth: {discreet(run, case, str(error))}"),)
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
