"""The job behind `zsadclip evaluate`: detection on labelled volumes, and its numbers against their truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from ..adapters import DEFAULT_METHOD, METHODS
from ..datasets.manifest import is_manifest, read_manifest
from ..errors import UsageError, describe
from ..fields import OneOf, check, flag, from_dict
from ..files.locks import folder_lock
from ..files.privacy import redact
from ..neighbours import BANK
from ..progress import Cancelled, Progress, Report, quiet, silent, sub_progress
from .detect import Detect

if TYPE_CHECKING:
    from ..detection.choice import Case
    from ..report.evaluated.cases import Measured, Output, Scan

OWN = ("inputs", "output", "method", "shard")
"""The fields of Detect that are no settings of an evaluation."""
SCORING = 0.9  # of the progress


@dataclass(frozen=True)
class Evaluate:
    """Score labelled volumes with one or more methods and hold the results against their truth.

    manifest  a CSV with id,image,mask[,subject], or a folder that brings its truth; a case whose mask is empty is healthy.
    output    gets METHOD/ with the results of detection, tables/, pictures/, evaluation.md and evaluation.html.
    methods   each is scored with the same settings.
    detect    settings of `jobs.detect.Detect` other than OWN, such as {"skip_existing": true, "workers": 2}.
    """

    manifest: str = flag("manifest", metavar="MANIFEST", help="CSV with id,image,mask[,subject], or a BraTS folder")
    output: str = flag("-o", "--out", metavar="DIR", help="folder for results, tables, pictures and page")
    methods: tuple[Annotated[str, OneOf((*METHODS, BANK))], ...] = flag(
        default=(DEFAULT_METHOD,), metavar="METHOD", help=f"one or more of {', '.join((*METHODS, BANK))}"
    )
    detect: dict = field(default_factory=dict)

    kind: ClassVar[str] = "evaluate"

    def run(self, progress: Progress = silent, report: Report = quiet) -> dict:
        """Detect, evaluate and write; a bad case is reported and the others go on.

        Returns {"cases", "failed", "output", "files"}, where a case counts once for each method. Raises ZSADCLIPError before
        any work when the settings cannot work, OutputError when results cannot be written, and whatever `progress` raises.
        """
        check(self)
        jobs = self.detections()
        if jobs[0].dry_run:
            planned = [job.run(progress, _named(job.method, report)) for job in jobs]
            return {**planned[0], "cases": sum(each["cases"] for each in planned), "output": self.output}
        with folder_lock(self.output):
            rows: dict[str, dict[str, dict]] = {}
            for n, job in enumerate(jobs):
                share = sub_progress(progress, SCORING * n / len(jobs), SCORING * (n + 1) / len(jobs))
                rows[job.method] = _detected(job, share, report)
            return self._evaluate(jobs, rows, sub_progress(progress, SCORING, 1.0), report)

    def detections(self) -> list[Detect]:
        """The detection of each method; raises UsageError for settings that are not allowed."""
        if not self.methods or len(set(self.methods)) < len(self.methods):
            raise UsageError(f"methods {self.methods}: expected one or more, each once")
        if wrong := [name for name in OWN if name in self.detect]:
            raise UsageError(f"detect.{wrong[0]} is no setting of an evaluation; run detect into DIR/METHOD for shards")
        if BANK in self.methods and not self.detect.get("bank"):
            raise UsageError(f"the method {BANK} needs a bank; 'zsadclip bank build' makes one of healthy volumes")
        if self.detect.get("checkpoint") and len(self.methods) > 1:
            raise UsageError(
                "a checkpoint belongs to one method; evaluate them one after another, each into its own folder"
            )
        own = (
            {"inputs": [self.manifest], "output": str(Path(self.output, name)), "method": name} for name in self.methods
        )
        return [from_dict(Detect, {**self.detect, **each}, "detect:") for each in own]

    def _evaluate(self, jobs: list[Detect], rows: dict, progress: Progress, report: Report) -> dict:
        """Evaluate what was detected, and write."""
        from ..detection.inputs import expand_inputs
        from ..report.evaluated.numbers import Evaluation
        from ..report.evaluated.write import write_evaluation

        cases = expand_inputs([self.manifest], jobs[0].keep_identifiers, jobs[0].output, channel=jobs[0].channel)
        subjects = self._subjects(cases)
        measured: list[Measured] = []
        left_out = [row for of in rows.values() for row in of.values() if row["status"] != "done"]
        for n, case in enumerate(cases):
            progress(0.9 * n / len(cases), f"evaluating {case.id}", n, len(cases))
            done = [job for job in jobs if rows[job.method].get(case.id, {}).get("status") == "done"]
            for result in _measured(case, subjects[case.id], done):
                if isinstance(result, dict):
                    left_out.append(result)
                    _named(result["method"], report)({"event": "case", **result})
                else:
                    measured.append(result)
        progress(0.9, "writing")
        draw = _drawer({case.id: case for case in cases}, {job.method: job for job in jobs})
        files = write_evaluation(self.output, Evaluation(measured), left_out, jobs[0].min_size_mm3, draw)
        progress(1.0, "done")
        return {
            "cases": sum(len(of) for of in rows.values()),
            "failed": sum(row["status"] == "failed" for row in left_out),
            "output": self.output,
            "files": {name: str(path) for name, path in files.items()},
        }

    def _subjects(self, cases: list[Case]) -> dict[str, str]:
        """The subject of each case by its id: what the manifest says, else the case itself."""
        path = Path(self.manifest).expanduser()
        entries = read_manifest(path) if path.is_file() and is_manifest(path) else ()
        told = {(entry.image, entry.mask): entry.subject for entry in entries}
        return {case.id: told.get((case.image, case.mask)) or case.id for case in cases}


def _detected(job: Detect, progress: Progress, report: Report) -> dict[str, dict]:
    """Run a detection; the row of each case by its id."""
    rows: dict[str, dict] = {}

    def keep(event: dict) -> None:
        if event["event"] == "case":
            rows[event["id"]] = {**event, "method": job.method}
        _named(job.method, report)(event)

    job.run(progress, keep)
    return rows


def _named(method: str, report: Report) -> Report:
    """A report whose cases say the method, too."""

    def named(event: dict) -> None:
        report({**event, "id": f"{method} {event['id']}"} if event["event"] == "case" else event)

    return named


def _measured(case: Case, subject: str, jobs: list[Detect]) -> Iterator[Measured | dict]:
    """What each detection gave on a case, then the baseline; a row that says why where that cannot be evaluated."""
    from ..report.evaluated.cases import measure, measure_baseline

    scan: Scan | None = None
    for job in jobs:
        try:
            scan = scan or _scan(case, subject, job)
            yield measure(job.method, scan, _output(job, case.id), job.min_size_mm3)
        except Cancelled:
            raise
        except Exception as error:
            why = redact(describe(error), (case.image, case.mask, job.output))
            yield {"method": job.method, "id": case.id, "status": "failed", "error": why}
    if scan is not None and (baseline := measure_baseline(scan, jobs[0].min_size_mm3)) is not None:
        yield baseline


def _scan(case: Case, subject: str, job: Detect) -> Scan:
    from ..detection.preparation import Look
    from ..report.evaluated.cases import read_scan

    return read_scan(case, subject, job.case_run, Look(**job.look))


def _output(job: Detect, case_id: str) -> Output:
    from ..report.evaluated.cases import read_output

    return read_output(job.paths(case_id))


def _drawer(cases: dict[str, Case], jobs: dict[str, Detect]) -> Callable[[Measured, Path, str], None]:
    """Draws a measured case; its arrays are read again, since those of all cases would not fit into memory."""
    from ..report.evaluated.pictures import draw

    def picture(measured: Measured, path: Path, title: str) -> None:
        job = jobs[measured.method]
        scan = _scan(cases[measured.case], measured.subject, job)
        draw(path, scan, _output(job, measured.case), title)

    return picture
