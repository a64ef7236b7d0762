"""What a node does with a study: choose volumes by rules, score them in a child process, send the results."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from ..dicom.export import FOLDER
from ..dicom.network import has_instance, send
from ..dicom.outcome import MAKER, NUMBERS
from ..dicom.sources import discreet
from ..errors import InputError, OutputError
from ..files.text import write_json
from ..volumes.dicom import scan
from .config import NodeSettings, Rule, detect_job
from .spool import DONE, FAILED, SCORED, Ledger, Parcel, Study

Score = Callable[[dict, Path], None]
"""Runs a job with a scratch folder; raises InputError where it failed for good, OutputError where another try may do."""


def score_study(study: Study, ledger: Ledger, settings: NodeSettings, score: Score) -> Ledger:
    """Score the volumes that rules select, and put on the ledger what is to be sent; raises what `score` raises."""
    ledger = study.write(replace(ledger, images=study.names()))  # what comes meanwhile is not among them
    chosen = select(study, settings)
    parcels: list[Parcel] = []
    for n, (rule, folder) in enumerate(chosen, start=1):
        out = study.folder / "out" / str(n)
        score(detect_job(rule, str(folder), str(out), rule.send), study.folder)
        # Segments, report, map and picture: what refers to another comes after it.
        order = {f"{kind}.dcm": place for place, kind in enumerate(NUMBERS)}
        files = sorted((out / FOLDER).glob("*/*.dcm"), key=lambda file: (file.parent, order.get(file.name, len(order))))
        to = rule.results or ledger.caller
        found = [Parcel(str(file.relative_to(study.folder)), _uids(file)[-1], to) for file in files]
        parcels += [parcel for parcel in found if parcel.uid not in ledger.sent]
    said = "" if chosen else "no volume fits a rule"
    state = SCORED if parcels else DONE
    return study.write(replace(ledger, state=state, parcels=tuple(parcels), tries=0, said=said))


def select(study: Study, settings: NodeSettings) -> list[tuple[Rule, Path]]:
    """The rule and a folder of links for each volume that one selects; a volume that cannot be read is none."""
    inputs = study.folder / "input"
    shutil.rmtree(inputs, ignore_errors=True)
    chosen = []
    for group in scan(study.images).groups:
        first = group.first
        rule = next((r for r in settings.rule if r.fits(first.modality, first.description, len(group.frames))), None)
        files = list(dict.fromkeys(frame.file for frame in group.frames))
        if rule is None or group.aside or group.trouble or _is_own(files[0]):
            continue
        folder = inputs / str(len(chosen) + 1)
        folder.mkdir(mode=0o700, parents=True)
        for file in files:
            _link(file, folder / file.name)
        chosen.append((rule, folder))
    return chosen


def send_study(study: Study, ledger: Ledger, settings: NodeSettings) -> Ledger:
    """Send what is not sent yet, each object noted before and after; raises OutputError where the peer does not take it.

    One whose sending had begun when the node was killed is asked for first, so that it does not go twice.
    """
    for n, parcel in enumerate(ledger.parcels):
        if parcel.state == "sent":
            continue
        peer, file = settings.peer_of(parcel.to), study.folder / parcel.file
        if parcel.state == "begun" and has_instance(peer, settings.aet, *_uids(file)):
            ledger = _noted(study, ledger, n, "sent")
            continue
        ledger = _noted(study, ledger, n, "begun")
        problems: list[str] = []
        send([file], peer, settings.aet, lambda _, problem, problems=problems: problems.append(problem))
        if any(problems):
            raise OutputError(f"{peer} {problems[0]}")
        ledger = _noted(study, ledger, n, "sent")
    return study.write(replace(ledger, state=DONE, tries=0, said=""))


def fail(study: Study, ledger: Ledger, why: str) -> Ledger:
    """Give a study up; images that come, be it again, make it wait again."""
    return study.write(replace(ledger, state=FAILED, said=why))


def _noted(study: Study, ledger: Ledger, n: int, state: str) -> Ledger:
    parcels = list(ledger.parcels)
    parcels[n] = replace(parcels[n], state=state)
    sent = (*ledger.sent, parcels[n].uid) if state == "sent" else ledger.sent
    return study.write(replace(ledger, parcels=tuple(parcels), sent=sent))


def _uids(file: Path) -> tuple[str, str, str]:
    from pydicom import dcmread

    names = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    ds = dcmread(file, specific_tags=list(names), stop_before_pixels=True)
    return tuple(str(ds[name].value) for name in names)


def _is_own(file: Path) -> bool:
    """True for what this software made, lest it score its own results."""
    from pydicom import dcmread

    with discreet():
        try:
            head = dcmread(file, specific_tags=["Manufacturer"], stop_before_pixels=True)
            return str(head.get("Manufacturer", "")) == MAKER
        except Exception:  # a damaged header makes pydicom raise nearly anything
            return False


def _link(file: Path, name: Path) -> None:
    """A second name of a file, or a copy where the system has no links."""
    try:
        os.link(file, name)
    except OSError:
        shutil.copy2(file, name)


class ChildScore:
    """Runs a job as `python -m ZSADCLIPLib run`, so that a crash or a lack of memory costs the study, not the node."""

    def __init__(self, time_out_s: float):
        self._time_out = time_out_s
        self._child: subprocess.Popen | None = None

    def __call__(self, job: dict, scratch: Path) -> None:
        file = scratch / "job.json"
        write_json(file, job)
        command = [sys.executable, "-m", "ZSADCLIPLib", "run", str(file)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        # Its standard input is ours: it ends when this process does.
        with subprocess.Popen(command, text=True, **pipes) as self._child:
            timer = threading.Timer(self._time_out, self._child.kill)
            timer.start()
            events = [json.loads(line) for line in self._child.stdout if line.startswith("{")]
            timed_out = not timer.is_alive()
            timer.cancel()
        errors = [event for event in events if event["event"] == "error"]
        rows = [event for event in events if event["event"] == "case" and event["status"] == "failed"]
        if any(event["event"] == "result" for event in events) and not rows:
            return
        if timed_out:
            raise InputError(f"not done within {self._time_out:g} s")
        if errors and errors[0]["kind"] == "OutputError" or not (errors or rows):
            raise OutputError(errors[0]["message"] if errors else "the scoring process ended")
        raise InputError(errors[0]["message"] if errors else rows[0]["error"])

    def stop(self) -> None:
        """End a job that is running."""
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()
