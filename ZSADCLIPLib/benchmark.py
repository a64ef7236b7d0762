"""Run a plan: train, find thresholds, score, finish row by row; then tables, figures and report from the files.

Every step looks at the files first, so a run that was killed anywhere goes on where it was and ends with the same files.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from . import material, row_tasks
from .errors import ZSADCLIPError
from .io import write_json
from .material import record_to
from .plan import CODE, Plan
from .pool import Pool, Task
from .progress import Progress, Report, part, quiet, silent
from .rowfiles import is_finished
from .splits import write_split

# Shares of the progress bar, by what a mini run spends.
STAGES = {"slices": 0.05, "industrial": 0.2, "train": 0.3, "threshold": 0.15, "settle": 0.02, "test": 0.28}
# Seconds of a slice relative to each other, to weigh tasks (docs/benchmark.md).
SCORE_COST = {"vand": 1.0, "anomalyclip": 1.2, "adaclip": 3.0, "anovl": 4.0, "intensity": 0.05}
TRAIN_COST = {"vand": 1.0, "anomalyclip": 1.0, "adaclip": 4.0}


def run_plan(plan: Plan, workers: int = 1, progress: Progress = silent, report: Report = quiet) -> dict:
    """Execute a plan; a failed step fails the rows that need it and the others go on.

    Returns {"rows", "kept", "failed", "seconds"}. `report` gets {"event": "row", "id", "status", ...} for each row.
    """
    write_run(plan)
    with Pool(workers) as pool:
        return _Execution(plan, pool, progress, report).run()


def write_run(plan: Plan) -> None:
    """OUT/run.json, which names the row folders and how they are summarised, and OUT/split.json."""
    profile, cohort = plan.profile, plan.cohort
    write_split(plan.out / "split.json", cohort.split)
    train, test = cohort.side("train"), cohort.side("test")
    write_json(
        plan.out / "run.json",
        {
            "profile": profile.name,
            "code": CODE,
            "rule": profile.threshold.rule,
            "region": profile.metrics.region,
            "aggregate": profile.metrics.aggregate,
            "undefined": profile.metrics.undefined,
            "slice_policy": profile.metrics.slice_policy,
            "bins": profile.metrics.bins,
            "slices_every": profile.slices.every,
            "rows": [Path(spec["folder"]).name for spec in plan.rows],
            "split": cohort.split.sha256,
            "data": {
                "train": cohort.digest(train),
                "test": cohort.digest(test),
                "train_subjects": len({record.subject for record in train}),
                "test_subjects": len({record.subject for record in test}),
                "test_cases": len(test),
            },
            "problems": list(cohort.problems),
            "settings": profile.to_dict(),
        },
    )


class _Execution:
    def __init__(self, plan: Plan, pool: Pool, progress: Progress, report: Report):
        self.plan, self.pool, self.progress, self.report = plan, pool, progress, report
        self.failed: dict[str, str] = {}  # row id -> why
        self.broken: dict[str, str] = {}  # adapter or slice folder -> why
        self.started, self._at = time.monotonic(), 0.0

    def run(self) -> dict:
        plan = self.plan
        open_rows = [spec for spec in plan.rows if not is_finished(spec["folder"])]
        kept = [spec["row"] for spec in plan.rows if spec not in open_rows]
        for row in kept:
            self.report({"event": "row", "id": row, "status": "kept"})
        folders = {spec["folder"] for spec in open_rows}
        brain = [spec for spec in plan.brain if spec["folder"] in folders]
        sources = {spec["start"] for spec in brain} | {str(spec["source"]) for spec in open_rows}
        industrial = [s for s in plan.industrial if str(Path(s["folder"]) / "adapter.safetensors") in sources]
        self._slices([*industrial, *brain])
        self._train("industrial", industrial)
        self._train("train", brain)
        self._fail_without_adapter(open_rows)
        records = [r for r in plan.cohort.records if r.id in set(sum((s["threshold"]["cases"] for s in open_rows), []))]
        self._cases("threshold", open_rows, records, row_tasks.score_training_case)
        self._stage("settle", [Task(s["row"], row_tasks.settle_row, (s,)) for s in self._alive(open_rows)], self._row)
        self._cases("test", open_rows, list(plan.cohort.side("test")), row_tasks.score_case)
        seconds = round(time.monotonic() - self.started, 1)
        self.progress(1.0, "all rows")
        return {"rows": len(plan.rows), "kept": len(kept), "failed": len(self.failed), "seconds": seconds}

    def _stage(self, name: str, tasks: list[Task], on_error: Callable[[Task, str], None], on_done=None) -> None:
        share = STAGES[name]
        inner = part(self.progress, self._at, self._at + share)
        for outcome in self.pool.run(tasks, lambda f, t: inner(f, f"{name}: {t}")):
            if outcome.error:
                on_error(outcome.task, outcome.error)
            elif on_done is not None:
                on_done(outcome.task)
        self._at += share

    def _slices(self, trainings: list[dict]) -> None:
        needed = {spec["slices"] for spec in trainings if not (Path(spec["folder"]) / "adapter.safetensors").is_file()}
        tasks = [
            Task(Path(folder).name, getattr(material, function), (folder, *arguments))
            for folder, (function, *arguments) in self.plan.slice_sets.items()
            if folder in needed
        ]
        self._stage("slices", tasks, lambda task, error: self.broken.update({task.arguments[0]: error}))

    def _train(self, stage: str, trainings: list[dict]) -> None:
        tasks = []
        # The dearest first, so that no worker is left alone with it at the end.
        for spec in sorted(trainings, key=lambda spec: -self._training_cost(spec)):
            why = self.broken.get(spec["slices"]) or self.broken.get(spec["start"])
            target = str(Path(spec["folder"]) / "adapter.safetensors")
            if why:
                self.broken[target] = why
            elif not Path(target).is_file():
                name = Path(spec["folder"]).name.rsplit("-", 1)[0]
                tasks.append(Task(name, row_tasks.train_adapter, (spec,), self._training_cost(spec)))
        self._stage(stage, tasks, self._untrained)

    def _training_cost(self, spec: dict) -> float:
        return TRAIN_COST[spec["method"]] * (spec["schedule"]["epochs"] or 10) * (spec["max_slices"] or 200)

    def _untrained(self, task: Task, error: str) -> None:
        self.broken[str(Path(task.arguments[0]["folder"]) / "adapter.safetensors")] = error

    def _fail_without_adapter(self, rows: list[dict]) -> None:
        for spec in rows:
            if spec["source"] in self.broken:
                self._fail(spec["row"], self.broken[spec["source"]])

    def _alive(self, rows: list[dict]) -> list[dict]:
        return [spec for spec in rows if spec["row"] not in self.failed]

    def _cases(self, stage: str, rows: list[dict], records: list, function: Callable) -> None:
        tasks = []
        for group in self.plan.groups(self._alive(rows)):
            wanted = set(group[0]["threshold"]["cases"]) if stage == "threshold" else None
            for record in records:
                if wanted is None or record.id in wanted:
                    name = f"{', '.join(spec['row'] for spec in group)} {record.id}"
                    cost = SCORE_COST[group[0]["method"]] + 0.5 * len(group)
                    tasks.append(Task(name, function, (group, record_to(record)), cost))
        left = {spec["row"]: sum(spec in task.arguments[0] for task in tasks) for spec in self._alive(rows)}

        def done(task: Task) -> None:
            for spec in task.arguments[0]:
                left[spec["row"]] -= 1
                if stage == "test" and not left[spec["row"]] and spec["row"] not in self.failed:
                    self._close(spec)

        self._stage(stage, tasks, self._group, done)

    def _close(self, spec: dict) -> None:
        try:
            row_tasks.close_row(spec, [record.id for record in self.plan.cohort.side("test")])
        except ZSADCLIPError as error:
            self._fail(spec["row"], str(error))
        else:
            self.report({"event": "row", "id": spec["row"], "status": "done"})

    def _group(self, task: Task, error: str) -> None:
        for spec in task.arguments[0]:
            self._fail(spec["row"], f"{task.arguments[1]['id']}: {error}")

    def _row(self, task: Task, error: str) -> None:
        self._fail(task.arguments[0]["row"], error)

    def _fail(self, row: str, why: str) -> None:
        if row not in self.failed:
            self.report({"event": "row", "id": row, "status": "failed", "error": why})
        self.failed.setdefault(row, why)
