"""Run a plan: train, find thresholds, score, finish row by row; then tables, figures and report from the files.

Every step looks at the files first, so a run that was killed anywhere goes on where it was and ends with the same files.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from ..adapters.registry import METHODS
from ..datasets.splits import write_split
from ..errors import describe
from ..files.digests import code_version, content_key
from ..files.privacy import redact_all
from ..files.text import write_json
from ..progress import Progress, Report, quiet, silent, sub_progress
from . import tasks
from .cells import turns_of
from .plan import Plan
from .rowfolder import is_finished, reopen_if_damaged
from .specs import RowSpec, TrainingSpec, to_json
from .steps import Step, Steps

# Shares of the progress bar, by what a mini run spends.
STAGES = {
    "slices": 0.05,
    "industrial": 0.2,
    "train": 0.25,
    "tokens": 0.04,
    "cells": 0.01,
    "threshold": 0.15,
    "settle": 0.02,
    "test": 0.28,
}


def run_plan(
    plan: Plan, steps: Steps, progress: Progress = silent, report: Report = quiet, folders: list[str] | None = None
) -> dict:
    """Execute a plan; a failed step fails the rows that need it and the others go on.

    With `folders`, paths of the data, names of folders are kept out of run.json and of errors.

    Returns {"rows", "kept", "failed", "seconds"}. `report` gets {"event": "row", "id", "status", ...} for each row.
    """
    write_run(plan, folders)
    return _Execution(plan, steps, progress, report, folders).run()


def write_run(plan: Plan, folders: list[str] | None) -> None:
    """OUT/run.json, which names the row folders and how they are summarised, and OUT/split.json."""
    profile, cohort = plan.profile, plan.cohort
    write_split(plan.out / "split.json", cohort.split)
    train, test = cohort.side("train"), cohort.side("test")
    write_json(
        plan.out / "run.json",
        {
            "profile": profile.name,
            "code": code_version(),
            "rule": profile.threshold.rule,
            "region": profile.metrics.region,
            "undefined": profile.metrics.undefined,
            "slice_policy": profile.metrics.slice_policy,
            "bins": profile.metrics.bins,
            "axis": profile.metrics.axis,
            "aggregate": profile.metrics.aggregate,
            "slices_every": profile.slices.every,
            "rows": [Path(spec.folder).name for spec in plan.rows],
            "split": cohort.split.sha256,
            "data": {
                "train": cohort.digest(train),
                "test": cohort.digest(test),
                "train_subjects": len({record.subject for record in train}),
                "test_subjects": len({record.subject for record in test}),
                "test_cases": len(test),
            },
            "problems": _told(list(cohort.problems), folders),
            "settings": _told(profile.to_dict(), folders),
        },
    )


def _told(value, folders: list[str] | None):
    return value if folders is None else redact_all(value, folders)


def groups(rows: list[RowSpec]) -> list[list[RowSpec]]:
    """Rows that share a backbone, method and way of scoring, whose frozen features one pass gives."""
    alike: dict[str, list[RowSpec]] = {}
    for spec in rows:
        shared = {"method": spec.method, "backbone": to_json(spec.backbone), "score": to_json(spec.score)}
        alike.setdefault(content_key(shared), []).append(spec)
    return list(alike.values())


def _score_cost(spec: RowSpec) -> float:
    return METHODS[spec.method].score_cost if spec.adapter else 0.0


class _Execution:
    def __init__(self, plan: Plan, steps: Steps, progress: Progress, report: Report, folders: list[str] | None):
        self.plan, self.steps, self.progress, self.report = plan, steps, progress, report
        self.folders = folders
        self.failed: dict[str, str] = {}  # row id -> why
        self.broken: dict[str, str] = {}  # adapter or slice folder -> why
        self.started, self._at = time.monotonic(), 0.0

    def run(self) -> dict:
        plan, rows = self.plan, self._own_rows()
        for i, spec in enumerate(rows):
            self.progress(0.0, f"finished rows: {i + 1} of {len(rows)}", i + 1, len(rows))
            if is_finished(spec.folder) and (damaged := reopen_if_damaged(spec.folder)):
                self.progress(0.0, f"{spec.row}: {', '.join(damaged[:3])} damaged, made anew")
        open_rows = [spec for spec in rows if not is_finished(spec.folder)]
        finished = [spec.row for spec in rows if spec not in open_rows]
        for row in finished:
            self.report({"event": "row", "id": row, "status": "kept"})
        brain = list({spec.training.adapter: spec.training for spec in open_rows if spec.training}.values())
        sources = {spec.start for spec in brain} | {spec.adapter.source for spec in open_rows if spec.adapter}
        industrial = [spec for spec in plan.industrial if spec.adapter in sources]
        self._slices([*industrial, *brain], open_rows)
        self._train("industrial", industrial)
        self._train("train", brain)
        self._cells(open_rows)
        self._fail_without_adapter(open_rows)
        records = [
            r for r in plan.cohort.records if r.id in {case for spec in open_rows for case in spec.threshold.cases}
        ]
        self._cases("threshold", open_rows, records)
        self._settle(open_rows)
        self._cases("test", open_rows, list(plan.cohort.side("test")))
        seconds = round(time.monotonic() - self.started, 1)
        self.progress(1.0, "all rows")
        return {"rows": len(rows), "kept": len(finished), "failed": len(self.failed), "seconds": seconds}

    def _own_rows(self) -> list[RowSpec]:
        """The rows of this shard: those of every N-th method, as the rows of a method share trainings."""
        position, number = self.steps.shard_position()
        methods = list(dict.fromkeys(spec.method for spec in self.plan.rows))
        return [spec for spec in self.plan.rows if methods.index(spec.method) % number == position]

    def _stage(
        self, name: str, steps: list[Step], on_error: Callable[[Step, str], None], on_done=None, share: float = 1.0
    ) -> None:
        end = self._at + share * STAGES[name]
        inner = sub_progress(self.progress, self._at, end, f"{name}: ")
        self._at = end

        def settle(step: Step, error: str, failed: dict) -> None:
            if error:
                on_error(step, error)
            elif on_done is not None:
                on_done(step, failed)

        self.steps.run_all(steps, settle, inner)

    def _slices(self, trainings: list[TrainingSpec], rows: list[RowSpec]) -> None:
        needed = {f for spec in trainings if not Path(spec.adapter).is_file() for f in spec.slice_folders}
        needed |= {spec.adapter.reference.folder for spec in rows if spec.adapter and spec.adapter.reference}
        steps = [
            Step(Path(spec.folder).name, "slices", (spec, records))
            for spec, records in self.plan.slice_sets
            if spec.folder in needed
        ]
        self._stage("slices", steps, lambda step, error: self.broken.update({step.arguments[0].folder: error}))

    def _train(self, stage: str, trainings: list[TrainingSpec]) -> None:
        steps = []
        # The dearest first, so that no worker is left alone with it at the end.
        for spec in sorted(trainings, key=lambda spec: -self._training_cost(spec)):
            why = next((self.broken[f] for f in (*spec.slice_folders, spec.start) if f in self.broken), None)
            if why:
                self.broken[spec.adapter] = why
            elif not Path(spec.adapter).is_file():
                steps.append(Step(Path(spec.folder).name.rsplit("-", 1)[0], "train", (spec,)))
        self._stage(stage, steps, self._untrained)

    def _cells(self, rows: list[RowSpec]) -> None:
        """Tokens of all cases that rows compare, then their scores pass after pass."""
        rows = [spec for spec in rows if spec.cells]
        records = {record.id: record for record in self.plan.cohort.records}
        tokens, using = {}, {}
        for spec in rows:
            for case in (*spec.cells.train, *spec.cells.test):
                tokens[spec.cells.token_folder, case] = Step(case, "tokens", (spec.cells, records[case]))
                using.setdefault((spec.cells.token_folder, case), []).append(spec.row)

        def without_tokens(step: Step, error: str) -> None:
            spec, record = step.arguments
            for row in using[spec.token_folder, record.id]:
                self._fail(row, f"{record.id}: {error}")

        self._stage("tokens", list(tokens.values()), without_tokens)
        most = max((turns_of(spec.cells) for spec in rows), default=1)
        for turn in range(most):
            alive = [spec for spec in self._alive(rows) if turn < turns_of(spec.cells)]
            row_of = {spec.cells.folder: spec.row for spec in alive}
            steps = [
                Step(f"{spec.row} {case}", "cells", (spec.cells, turn, case))
                for spec in alive
                for case in dict.fromkeys((*spec.cells.train, *spec.cells.test))
            ]
            self._stage(
                "cells",
                steps,
                lambda step, why, of=row_of: self._fail(of[step.arguments[0].folder], why),
                share=1 / most,
            )

    def _training_cost(self, spec: TrainingSpec) -> float:
        return METHODS[spec.method].train_cost * (spec.schedule.epochs or 10) * (spec.max_slices or 200)

    def _untrained(self, step: Step, error: str) -> None:
        self.broken[step.arguments[0].adapter] = error

    def _fail_without_adapter(self, rows: list[RowSpec]) -> None:
        for spec in rows:
            if spec.adapter is None:
                continue
            for needed in (spec.adapter.source, spec.adapter.reference and spec.adapter.reference.folder):
                if needed in self.broken:
                    self._fail(spec.row, self.broken[needed])

    def _alive(self, rows: list[RowSpec]) -> list[RowSpec]:
        return [spec for spec in rows if spec.row not in self.failed]

    def _settle(self, rows: list[RowSpec]) -> None:
        inner = sub_progress(self.progress, self._at, self._at + STAGES["settle"])
        self._at += STAGES["settle"]
        alive = self._alive(rows)
        for i, spec in enumerate(alive):
            inner(i / len(alive), f"thresholds: {spec.row}", i, len(alive))
            try:
                self.steps.await_home(inner)
                tasks.settle_row(spec)
            except Exception as error:  # the other rows go on
                self._fail(spec.row, describe(error))

    def _cases(self, stage: str, rows: list[RowSpec], records: list) -> None:
        steps = []
        # The dearest first, as in training; rows finish one method after the other.
        for group in sorted(groups(self._alive(rows)), key=lambda group: -_score_cost(group[0])):
            wanted = set(group[0].threshold.cases) if stage == "threshold" else None
            for record in records:
                if wanted is None or record.id in wanted:
                    name = f"{', '.join(spec.row for spec in group)} {record.id}"
                    steps.append(Step(name, f"{stage}-case", (group, record)))
        left = {spec.row: sum(spec in step.arguments[0] for step in steps) for spec in self._alive(rows)}

        def done(step: Step, failed: dict) -> None:
            for row, why in failed.items():
                self._fail(row, f"{step.arguments[1].id}: {why}")
            for spec in step.arguments[0]:
                left[spec.row] -= 1
                if stage == "test" and not left[spec.row] and spec.row not in self.failed:
                    self._close(spec)

        self._stage(stage, steps, self._group, done)

    def _close(self, spec: RowSpec) -> None:
        try:
            self.steps.await_home()
            tasks.close_row(spec, [record.id for record in self.plan.cohort.side("test")])
        except Exception as error:  # the other rows go on
            self._fail(spec.row, describe(error))
        else:
            self.report({"event": "row", "id": spec.row, "status": "done"})

    def _group(self, step: Step, error: str) -> None:
        for spec in step.arguments[0]:
            self._fail(spec.row, f"{step.arguments[1].id}: {error}")

    def _fail(self, row: str, why: str) -> None:
        records = self.plan.cohort.records
        paths = [path for record in records for path in (record.image, record.mask)] if self.folders else []
        why = _told(why, self.folders and [*self.folders, *paths])
        if row not in self.failed:
            self.report({"event": "row", "id": row, "status": "failed", "error": why})
        self.failed.setdefault(row, why)
