"""The job behind `zsadclip benchmark`: from data, or embedded brains, to rows, tables, figures and report."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, ClassVar

from ..benchmark.profiles import PROFILES, load_profile
from ..benchmark.rows import ALL_ROWS, METHOD_LABELS, SETUP_LABELS, Row, select_rows
from ..benchmark.settings import Profile
from ..errors import InputError, UsageError
from ..execution import kept
from ..execution.base import Execution
from ..fields import OneOf, flag
from ..files.atomic import clear_temporaries, clear_unfinished
from ..files.locks import folder_lock
from ..files.privacy import folders_below
from ..progress import Progress, Report, quiet, silent, sub_progress
from ..training.schedule import PRECISIONS

OWN_FILES = {"run", "split", "hashes", "claims", "runtime", "report"}
OWN_FOLDERS = ("slices", "features", "adapters", "rows", "tables", "figures")


@dataclass(frozen=True)
class Benchmark(Execution):
    """Run the paper's experiment.

    output       folder of the run; a run that finds its own finished steps there goes on.
    profile      mini, ci, paper, extended (the paper's settings for all methods), or a JSON file with a base profile and
                 changed keys.
    data         folder or manifest CSV; None: the profile's embedded synthetic brains.
    rows         row ids; or `methods` and `setups`, which limit the profile's rows or name further ones; else all of these: the
                 13 and the baseline, or of extended every method in its setups.
    paper_table  CSV with the paper's own Table 1, for a comparing column.
    precision    of models when they score, "float32", or less on a GPU.
    keep_identifiers  let names of folders into run.json, report and messages (see docs/explanation/security.md).
    outputs      False stops after the rows; `report.write.write_outputs` makes tables, figures and report from them later.
    The fields of `Execution` spread the steps over processes or a cluster; no result depends on them. A shard has every N-th
    method with all its rows, which share trainings; the last one to finish writes the outputs.
    """

    output: str = flag("--out", metavar="DIR", help="folder of the run; run again to go on")
    profile: str = flag(default="mini", help=f"{', '.join(PROFILES)}, or a JSON file")
    data: str | None = flag(
        default=None, metavar="DIR", help="BraTS-MET folder or manifest CSV (default: embedded synthetic brains)"
    )
    rows: tuple[str, ...] = flag(default=(), metavar="ROW", help=", ".join(row.id for row in ALL_ROWS))
    methods: tuple[Annotated[str, OneOf(tuple(METHOD_LABELS))], ...] = flag(default=(), metavar="METHOD")
    setups: tuple[Annotated[str, OneOf(tuple(SETUP_LABELS))], ...] = flag(default=(), metavar="SETUP")
    paper_table: str | None = flag(default=None, metavar="CSV", help="the paper's Table 1, to compare with")
    weights_dir: str | None = flag(default=None, help="folder with weights, searched before the cache")
    device: str = flag(default="auto", help="auto, cuda, cuda:N, mps or cpu")
    precision: Annotated[str, OneOf(PRECISIONS)] = flag(default="float32", help="when scoring")
    outputs: bool = flag("--no-report", default=True, help="rows only; see 'zsadclip report'")
    dry_run: bool = flag(default=False, help="show rows, sizes, cache needs and a time estimate")
    keep_identifiers: bool = flag(default=False, help="let names of folders into results and messages")

    kind: ClassVar[str] = "benchmark"

    def run(self, progress: Progress = silent, report: Report = quiet) -> dict:
        """Run what is not finished and write all outputs.

        Returns {"rows", "kept", "failed", "seconds", "output", "files"}. Raises ZSADCLIPError before any work when the
        settings cannot work, and whatever `progress` raises.
        """
        from ..benchmark.identity import check_settings
        from ..benchmark.variations import check_variations, variations

        self.check_execution()
        profile = load_profile(self.profile)
        rows, lacking = self._rows(profile)
        if lacking:
            report({"event": "note", "text": lacking})
        for name, options in profile.methods.items():
            check_settings(name, options.settings)
        runs = variations(profile, rows)
        profile = runs[0].profile
        if self.dry_run:
            from ..benchmark.estimate import estimate, short_of_room

            forecast = estimate(profile, rows, self.data, self.weights_dir, self.device)
            if len(runs) > 1:
                forecast["notes"] += [f"the first of {len(runs)} runs: {', '.join(v.label for v in runs)}"]
            forecast["notes"] += short_of_room(self.output, sum(forecast["disk_gb"].values()) * len(runs))
            return {**forecast, "dry_run": True, "output": self.output}
        if self.paper_table and not Path(self.paper_table).is_file():
            raise InputError(f"there is no file {self.paper_table}; check the name")
        check_variations(runs, self.data, self.weights_dir)
        if len(runs) > 1:
            return self._vary(runs, progress, report)
        return self._one(profile, rows, progress, report)

    def _rows(self, profile: Profile) -> tuple[tuple[Row, ...], str]:
        """The rows to run, and in words which of those that nobody named the profile has no backbone for."""
        extended = profile.rows == "extended"
        rows = select_rows(tuple(self.rows), tuple(self.methods), tuple(self.setups), extended=extended)
        roles = {row.backbone for row in rows} - {None, *profile.backbones}
        if not extended or self.rows or self.setups or not roles:
            return rows, ""
        left = tuple(row for row in rows if row.backbone not in roles)
        text = f"{len(rows) - len(left)} rows are left out, as profile {profile.name} has no backbone for "
        return left, f"{text}{', '.join(sorted(roles))}; backbones.{min(roles)} brings them in"

    def _vary(self, runs: list, progress: Progress, report: Report) -> dict:
        """Each variation in a folder of its own, then what sets their results apart."""
        from ..report.variations import write_variations

        out, total, files = Path(self.output), {"rows": 0, "kept": 0, "failed": 0, "seconds": 0.0}, {}
        with folder_lock(self.output, self.shard):
            data = self.data or self._synthetic(runs[0].profile, sub_progress(progress, 0.0, 0.04))
            for i, variation in enumerate(runs):
                profile = variation.profile
                if self.data is None:
                    profile = replace(profile, split=replace(profile.split, file=str(Path(data) / "split.json")))
                job = replace(self, output=str(out / variation.label), data=data)
                inner = sub_progress(progress, 0.04 + 0.95 * i / len(runs), 0.04 + 0.95 * (i + 1) / len(runs))

                def say(event: dict, label: str = variation.label) -> None:
                    report({**event, "id": f"{label}/{event['id']}"} if "id" in event else event)

                done = job._one(profile, variation.rows, inner, say)
                total = {key: total[key] + done[key] for key in total}
                files = {**files, variation.label: done["files"].get("report", "")}
            # Of several shards the last one finds the reports of all runs.
            if self.outputs and all((out / v.label / "report.html").is_file() for v in runs):
                files |= {name: str(path) for name, path in write_variations(out, runs).items()}
        return {**total, "seconds": round(total["seconds"], 1), "output": self.output, "files": files}

    def _one(self, profile, rows, progress: Progress, report: Report) -> dict:
        from ..benchmark.steps import Steps

        with folder_lock(self.output, self.shard), kept(Steps.like(self, self.output)):
            if not self.shard:  # what others write now looks like what a killed writer left
                self._tidy()
            return self._execute(profile, rows, progress, report)

    def _tidy(self) -> None:
        """Remove what the writers of a killed run left behind; below these folders everything is the benchmark's own."""
        clear_temporaries(self.output, lambda name: name.partition(".")[0] in OWN_FILES)
        for name in OWN_FOLDERS:
            for folder, _, _ in os.walk(Path(self.output) / name):
                clear_temporaries(folder, lambda name: True)
        clear_unfinished(Path(self.output) / "features")

    def _execute(self, profile, rows, progress: Progress, report: Report) -> dict:
        from ..benchmark.cohort import read_cohort
        from ..benchmark.plan import Machine, make_plan
        from ..benchmark.runner import run_plan
        from ..benchmark.steps import Steps
        from ..files.digests import FileHashes

        out = Path(self.output)
        hashes = FileHashes(out / "hashes.json")
        machine = Machine(self.device, self.precision, self.weights_dir)
        data = self.data or self._synthetic(profile, sub_progress(progress, 0.0, 0.04))
        if self.data is None:
            profile = replace(profile, split=replace(profile.split, file=str(Path(data) / "split.json")))
        cohort = read_cohort(profile, data, hashes, sub_progress(progress, 0.04, 0.05))
        plan = make_plan(profile, rows, cohort, out, machine, hashes)
        hashes.save()
        inner = sub_progress(progress, 0.05, 0.97)
        result = run_plan(plan, Steps.like(self, self.output), inner, report, self._folders(data))
        files = {}
        if self.outputs and (_all_finished(plan) if self.shard else result["failed"] < result["rows"]):
            from ..report.write import write_outputs

            progress(0.97, "tables, figures and report")
            paper = Path(self.paper_table) if self.paper_table else None
            files = {name: str(path) for name, path in write_outputs(out, paper).items()}
        progress(1.0, "done")
        return {**result, "output": self.output, "files": files}

    def _folders(self, data: str) -> list[str] | None:
        """Paths in all folders that messages may name; None lets them."""
        if self.keep_identifiers:
            return None
        return [*folders_below(data), data, os.path.join(self.output, "x")]

    def _synthetic(self, profile, progress: Progress) -> str:
        """The embedded brains of the profile, made below OUT/data unless they are there."""
        from ..benchmark.cohort import synthetic_plan, write_synthetic_split
        from ..benchmark.steps import Step, Steps

        if profile.data.train_cases < 1 or profile.data.test_cases < 1:
            raise UsageError(
                f"profile {profile.name} works on real data: give --data a BraTS-MET folder or a manifest CSV"
            )
        folder = Path(self.output) / "data"
        steps = [
            Step(f"brain {case['seed']}", "brain", (str(folder), profile.data.channel, case))
            for case in synthetic_plan(profile)
        ]

        def settle(step: Step, error: str, failed: dict) -> None:
            if error:
                raise InputError(f"the embedded {step.id} could not be made: {error}")

        Steps.like(self, self.output).run_all(steps, settle, progress)
        write_synthetic_split(folder / "split.json", profile)
        return str(folder)


def _all_finished(plan) -> bool:
    from ..benchmark.rowfolder import is_finished

    return all(is_finished(spec.folder) for spec in plan.rows)
