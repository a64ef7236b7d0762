"""One detection from a volume node to result nodes: job file, child process, retry after lack of memory, import."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import slicer
from slicer.i18n import tr as _

from ZSADCLIPLib.errors import InputError, ZSADCLIPError
from ZSADCLIPLib.progress import Cancelled

from ..scene import findingstable, nodes, results, segmentation
from ..scene.brainmask import maskArray
from ..scene.geometry import volumeOf
from . import exchange
from .process import ChildProcess, isOutOfMemory, startEngine
from .remote import Remote
from .settings import RunSettings

POLL_SECONDS = 0.02


class EngineError(ZSADCLIPError):
    """The engine reported an error; `log` holds what it printed, `cpuMayHelp` is True when a graphics card lacked memory;
    `doubts` are the codes of notes that would let the volume pass."""

    def __init__(self, message: str, log: list[str], doubts: tuple[str, ...] = ()):
        super().__init__(message)
        self.log, self.doubts = log, doubts
        self.cpuMayHelp = isOutOfMemory(message) and re.search("CUDA|CUBLAS|HIP|MPS|GPU", message) is not None


def hint(kind: str) -> str:
    """What to do about an error that is not about the image."""
    if kind not in ("ImportError", "ModuleNotFoundError"):
        return ""
    return ". " + _(
        "The engine lacks a Python package: see the health check under Advanced, or name another interpreter."
    )


class EngineRun:
    """A run over one volume node.

    `start()` writes the volume and starts the child; `poll()` follows it and returns the progress events. When `done` is
    True, exactly one of `result`, `error` (a ZSADCLIPError), `cancelled` or `dropped` (the scene or the input is gone)
    says how it ended. With `remote` a server does the work. Raises InputError from the constructor for a volume that cannot
    be used.
    """

    def __init__(self, inputNode, settings: RunSettings, brainMask=None, brainSegment: str = "", into=None,
                 colors: str = "Inferno", python: str = "",
                 command: Callable[[Path], list[str]] | None = None, remote: Remote | None = None):  # fmt: skip
        self.settings, self._remote = settings, remote
        self._input, self._brain, self._segment, self._into = inputNode, brainMask, brainSegment, into
        self._colors, self._python = colors, python
        self._volume = volumeOf(inputNode)  # until it is written
        self._shape = self._volume.shape
        self._command = command
        self._folder: Path | None = None
        self._child: ChildProcess | None = None
        self._case: dict = {}
        self._started, self._imageTime = 0.0, 0
        self.result = self.error = None
        self.cancelled = self.dropped = False
        self.notes: list[str] = []

    @property
    def done(self) -> bool:
        return self.result is not None or self.error is not None or self.cancelled or self.dropped

    @property
    def log(self) -> list[str]:
        """What the child printed, and the traceback of an error on this side."""
        return getattr(self.error, "log", None) or (self._child.log if self._child else [])

    @property
    def childPid(self) -> int | None:
        return self._child.pid if self._child else None

    def uses(self, node) -> bool:
        """True when the run is about this volume node."""
        return node is self._input

    def start(self) -> None:
        """Write the inputs and start the child; raises InputError or OSError."""
        self._started = time.monotonic()
        self._imageTime = self._input.GetImageData().GetMTime()
        self._folder = Path(tempfile.mkdtemp(prefix="ZSADCLIP-", dir=slicer.app.temporaryPath or None))
        try:
            exchange.write(self._folder / "input.nii", self._volume.array, self._volume.affine)
            if self._brain is not None:
                mask = maskArray(self._brain, self._input, self._segment).T.astype(np.uint8)
                exchange.write(self._folder / "brain.nii", mask, self._volume.affine)
            self._volume = None
            self._launch()
        except BaseException:
            self._clean()
            raise

    def _launch(self) -> None:
        brain = self._folder / "brain.nii" if self._brain is not None else None
        job = self._folder / "job.json"
        output = self._folder / "out"
        what = self.settings.job if self._remote is None else partial(self._remote.job, self.settings)
        job.write_text(json.dumps(what(self._folder / "input.nii", brain, output)), encoding="utf-8")
        self._case = {}
        self._child = startEngine(job, self._python, self._command)

    def poll(self) -> list[dict]:
        """Follow the child; returns its progress events since the last call."""
        if self.done or self._child is None:
            return []
        progress = []
        for event in self._child.poll():
            kind = event["event"]
            if kind == "progress":
                progress.append(event)
            elif kind == "case":
                self._case = event
            elif kind == "cancelled":
                self._end(cancelled=True)
            elif kind == "error":
                self._failed(event["message"] + hint(event.get("kind")), event.get("kind") == "MemoryError")
            elif kind == "result":
                if self._case.get("status") == "failed":
                    self._failed(self._case["error"], doubts=tuple(self._case.get("doubts", ())))
                else:
                    self._import()
        return progress

    def _failed(self, message: str, memory: bool = False, doubts: tuple[str, ...] = ()) -> None:
        """Try once more with single slices when memory was short; else report."""
        if (memory or isOutOfMemory(message)) and self.settings.batch_size != 1:
            self.notes.append(_("Memory was short: trying again with one slice at a time."))
            self.settings = replace(self.settings, batch_size=1)
            self._child.kill()
            try:
                self._launch()
            except (ZSADCLIPError, OSError) as error:
                self._end(error=EngineError(str(error), list(self.log)))
        else:
            self._end(error=EngineError(message, list(self.log), doubts))

    def _import(self) -> None:
        scene = slicer.mrmlScene
        if scene.GetNodeByID(self._input.GetID() or "") is not self._input:
            self._end(dropped=True)
            return
        known = {result.map.GetID() for result in results.resultsOf(self._input)}
        try:
            result = self._store(*self._read())
        except Exception as error:  # whatever it is, a run that does not end could not even be cancelled
            for half in results.resultsOf(self._input):
                if half.map.GetID() not in known:
                    nodes.remove(half)
            message = _("The result of the engine cannot be read: {error}").format(
                error=str(error) or type(error).__name__)  # fmt: skip
            self._end(error=EngineError(message, [*self.log, *traceback.format_exc().splitlines()]))
            return
        self._end(result=result)

    def _read(self) -> tuple[dict, np.ndarray]:
        output = self._folder / "out"
        outcome = json.loads((output / "input.json").read_text(encoding="utf-8"))
        scores = exchange.read(output / "input_anomaly.nii")
        now = self._input.GetImageData().GetDimensions()
        if scores.shape != now:
            raise InputError(_("the volume changed its size from {old} to {new} during the run").format(
                old=self._shape, new=now))  # fmt: skip
        return outcome, scores

    def _store(self, outcome: dict, scores: np.ndarray):
        model = outcome["provenance"]["backbone"]["name"]
        into = self._place(model)
        if into is not None and into.complete and segmentation.edited(into.segmentation, into.input):
            self.notes.append(_("The earlier segmentation was edited by hand: it was kept, and a new result was made."))
            into = None
        result = nodes.store(into, self._input, self._brain, scores, outcome, self._colors)
        result.setAttribute("BrainMask", self._brain.GetName() if self._brain is not None else "")
        result.setAttribute("BrainSegment", self._segment)
        result.setAttribute("Method", self.settings.method)
        result.setAttribute("Model", model)
        result.setAttribute("Settings", asdict(self.settings))
        result.setAttribute("Seconds", f"{time.monotonic() - self._started:.1f}")
        result.refresh()  # verdicts on earlier findings stay with what is found in the same place
        if not all(row["Accepted"] for row in findingstable.rowsOf(result.findings)):
            self.notes.append(_("Findings that were rejected before stay rejected."))
        if self._imageTime != self._input.GetImageData().GetMTime():
            self.notes.append(_("The image was changed during the run: the result belongs to the image as it was."))
        self.notes += [note["text"] for note in outcome["notes"]]
        return result

    def _place(self, model: str):
        """The earlier result that this one replaces: the given one, else another of this volume, made with the same settings."""
        if self._into is None:
            return None
        same = [r for r in results.resultsOf(self._input) if r.madeWith(self._asked(), model)]
        return next((r for r in same if r.map is self._into.map), same[0] if same else None)

    def _asked(self) -> dict:
        return json.loads(json.dumps(asdict(self.settings)))  # as an attribute holds it

    def _end(self, result=None, error=None, cancelled=False, dropped=False) -> None:
        self.result, self.error, self.cancelled, self.dropped = result, error, cancelled, dropped
        self._clean()

    def cancel(self) -> None:
        """Ask the run to stop; `poll()` tells when it did, within a second."""
        if self._child is not None and not self.done:
            self._child.cancel()

    def abort(self, dropped: bool = True) -> None:
        """Stop at once and forget the result: the scene closes, the module is reloaded or the application ends."""
        if self._child is not None and not self.done:
            self._child.kill()
        if not self.done:
            self._end(dropped=dropped, cancelled=not dropped)

    def wait(self, progress: Callable[[float, str], None] = lambda fraction, text: None):
        """Follow the run to its end; returns the `ResultNodes`.

        Raises the run's error, or Cancelled when `progress` raised it or the run was stopped.
        """
        while not self.done:
            for event in self.poll():
                try:
                    progress(event["fraction"], event["text"])
                except Cancelled:
                    self.cancel()
            time.sleep(POLL_SECONDS)
        if self.error is not None:
            raise self.error
        if self.result is None:
            raise Cancelled(_("the run was stopped"))
        return self.result

    def _clean(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
