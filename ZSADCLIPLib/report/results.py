"""Finished rows as numbers: one value per test case and metric, always in the order of the case ids."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from ..benchmark.rowfolder import RowFiles, read_json, read_row
from ..benchmark.rows import ALL_ROWS, Row, table_position
from ..errors import InputError, UsageError
from ..evaluation.lesions import FrocCase, froc
from ..evaluation.metrics import COUNTS, LESIONS, REGIONS, SCORES, Confusion, Metric, metric_of, scores
from ..evaluation.thresholds import from_sketches, parse_rule

SLICE_POLICIES = ("lesion", "lesion-or-prediction", "all")


@dataclass(frozen=True)
class Choice:
    """How counts become numbers: threshold rule, region (see `metrics`), policies for undefined values and for slices.

    `slices`: "lesion" keeps slices with lesion (the paper's Fig. 3); "lesion-or-prediction" adds clean slices with false
    positives as 0; "all" also counts empty, rightly empty slices as 1. `aggregate`: AUROC, AP and F1-max of a volume are those
    of all its voxels ("volume") or means over its slices with lesion ("slices").
    """

    rule: str = "f1max-pooled-train"
    region: str = "all"
    undefined: str = "nan"
    slices: str = "lesion"
    aggregate: str = "volume"


@dataclass(frozen=True, eq=False)
class Result:
    """One finished row with its numbers."""

    row: Row
    files: RowFiles
    _cut: dict = field(default_factory=dict, repr=False)

    @property
    def subjects(self) -> list[str]:
        """The subject of each case, in the order of every list of values."""
        return [case["subject"] for case in self.files.cases]

    @cached_property
    def rules(self) -> tuple[str, ...]:
        """Names of the threshold rules this row can answer, best pooled F1 on test data included when sketched."""
        names = dict.fromkeys(name for case in self.files.cases for name in case["rules"])
        if self.files.sketched:
            names.setdefault("f1max-pooled-test")
        return tuple(names)

    def values(self, metric: str, choice: Choice) -> np.ndarray:
        """One value per case, float (cases,), NaN where undefined; raises UsageError for an unknown metric or rule."""
        definition, cases = metric_of(metric), self.files.cases
        if definition.needs == COUNTS:
            values = [None if c is None else definition.of_counts(c, choice.undefined) for c in self.confusions(choice)]
        elif definition.needs == SCORES and choice.aggregate == "slices":
            values = [self._mean_of_slices(case, definition, choice.region) for case in cases]
        elif definition.needs == SCORES:
            values = [definition.function(case["regions"][choice.region]) for case in cases]
        elif definition.needs == LESIONS:
            stored = [self._stored(case, choice.rule).get("lesions") for case in cases]
            values = [definition.function(lesions) if lesions else None for lesions in stored]
        else:
            dice = [values[~np.isnan(values)] for values in self.slice_dice(choice)]
            values = [definition.function(defined) if defined.size else None for defined in dice]
        return np.array([np.nan if value is None else float(value) for value in values])

    def _mean_of_slices(self, case: dict, metric: Metric, region: str) -> float | None:
        if "slice_ranking" not in case:
            raise UsageError(f"row {self.row.id} holds no values of slices; run it with metrics.aggregate slices")
        columns = case["slice_ranking"][region]
        slices = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
        values = [value for each in slices if (value := metric.function(each)) is not None]
        return float(np.mean(values)) if values else None

    def mean(self, metric: str, choice: Choice) -> float:
        """Mean over cases with a defined value; NaN without any."""
        values = self.values(metric, choice)
        return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")

    def confusions(self, choice: Choice) -> list[Confusion | None]:
        """Voxel counts per case under the rule; None where the rule gives no threshold."""
        if choice.rule == "f1max-pooled-test" and choice.rule not in self.files.cases[0]["rules"]:
            return self._pooled_test(choice)
        stored = [self._stored(case, choice.rule).get(choice.region) for case in self.files.cases]
        return [None if counts is None else Confusion(**counts) for counts in stored]

    def pooled(self, choice: Choice) -> dict[str, float]:
        """Metrics of the counts summed over all cases."""
        return scores(sum((c for c in self.confusions(choice) if c), Confusion(0, 0, 0, 0)), choice.undefined)

    def pooled_ranking(self, region: str) -> dict[str, tuple[float, float]] | None:
        """(low, high) bounds of AUROC, AP and F1-max over all test voxels together; None without sketches."""
        sketches = self.files.sketches(region)
        if sketches is None:
            return None
        total = sketches[0]
        for other in sketches[1:]:
            total.merge(other)
        value, bound = total.auroc()
        low, high, _ = total.f1max()
        return {
            "auroc": (value - bound, value + bound),
            "average_precision": total.average_precision(),
            "f1_max": (low, high),
        }

    def slice_dice(self, choice: Choice) -> list[np.ndarray]:
        """Per case the 2D Dice of every slice (N,), NaN for slices the policy leaves out."""
        if choice.slices not in SLICE_POLICIES:
            raise UsageError(f"unknown slice policy {choice.slices!r}; choose one of {', '.join(SLICE_POLICIES)}")
        return [_slice_dice(*counts, choice.slices) for counts in self.slice_counts(choice)]

    def slice_counts(self, choice: Choice) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Per case (true positives, false positives, lesion voxels) of every slice, each int (N,)."""
        voxel_counts = []
        for case in self.files.cases:
            stored = self._stored(case, choice.rule)
            lesion = np.array(case["slices"]["lesion" if choice.region == "all" else f"lesion_in_{choice.region}"])
            if choice.region in stored.get("slices", {}):
                cut = stored["slices"][choice.region]
                voxel_counts.append((np.array(cut["tp"]), np.array(cut["fp"]), lesion))
            else:  # the rule has no threshold for this case, so nothing is known
                voxel_counts.append((np.full(lesion.size, -1), np.full(lesion.size, -1), np.full(lesion.size, -1)))
        return voxel_counts

    def froc(self) -> dict[float, float]:
        """Pooled lesion sensitivity at each number of false positives per volume; empty without FROC levels."""
        cases = [case["froc"] for case in self.files.cases]
        if not cases or not cases[0]["levels"]:
            return {}
        peaks = [tuple(-np.inf if p is None else p for p in case["peaks"]) for case in cases]
        return froc(
            [
                FrocCase(tuple(case["levels"]), peak, tuple(case["false_positives"]))
                for case, peak in zip(cases, peaks, strict=True)
            ]
        )

    def _stored(self, case: dict, rule: str) -> dict:
        if rule not in case["rules"]:
            if rule == "f1max-pooled-test" and rule in self.rules:
                return {}
            raise UsageError(f"row {self.row.id} was not evaluated with rule {rule!r}; it has {', '.join(self.rules)}")
        return case["rules"][rule]

    def _pooled_test(self, choice: Choice) -> list[Confusion]:
        if choice.region not in self._cut:
            sketches = self.files.sketches(choice.region)
            if sketches is None:
                raise UsageError(f"row {self.row.id} keeps no sketches, so rule {choice.rule!r} cannot be evaluated")
            threshold = from_sketches(parse_rule(choice.rule), sketches)
            self._cut[choice.region] = [sketch.at(threshold) for sketch in sketches]
        return self._cut[choice.region]


@dataclass(frozen=True)
class Run:
    """What one benchmark run produced: its description and its finished rows in table order."""

    info: dict
    results: tuple[Result, ...]

    def choices(self) -> tuple[Choice, ...]:
        """The primary rule over the primary region, then over the others of REGIONS.

        run.json's rule, region, undefined, slice_policy and aggregate say how; defaults as in `Choice`.
        """
        keys = {"rule": "rule", "undefined": "undefined", "slices": "slice_policy", "aggregate": "aggregate"}
        settings = {field: self.info[key] for field, key in keys.items() if key in self.info}
        regions = dict.fromkeys((self.info.get("region", Choice.region), *REGIONS))
        return tuple(Choice(region=region, **settings) for region in regions)


def read_run(out: str | Path) -> Run:
    """Read OUT/run.json and the finished rows it lists; unfinished ones are left out and named in info["unfinished"].

    Without run.json all finished rows under OUT/rows are read. Raises InputError when there is no finished row, or when
    two folders hold the same row.
    """
    out = Path(out)
    info = read_json(out / "run.json") if (out / "run.json").is_file() else {}
    names = info.get("rows") or sorted(p.name for p in (out / "rows").glob("*-*") if p.is_dir())
    finished = [name for name in names if (out / "rows" / name / "done.json").is_file()]
    rows_by_id = {row.id: row for row in ALL_ROWS}
    results = {}
    for name in finished:
        files = read_row(out / "rows" / name)
        row_id = files.manifest.get("row")
        if row_id not in rows_by_id:
            raise InputError(f"{files.folder} is row {row_id!r}, which is not a row of this benchmark")
        if row_id in results:
            raise InputError(
                f"{files.folder} and {results[row_id].files.folder} hold the same row {row_id}; "
                "list the wanted ones in run.json or remove one"
            )
        results[row_id] = Result(rows_by_id[row_id], files)
    inner = sorted(path.parent.name for path in out.glob("*/run.json")) if not results else []
    if inner:
        raise InputError(f"{out} holds several runs, each with its own report; give one of them: {', '.join(inner)}")
    if not results:
        raise InputError(f"there is no finished row under {out / 'rows'}; run the benchmark first")
    info = {**info, "unfinished": sorted(set(names) - set(finished))}
    return Run(info, tuple(sorted(results.values(), key=lambda r: table_position(r.row.id))))


def _slice_dice(tp: np.ndarray, fp: np.ndarray, lesion: np.ndarray, policy: str) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        dice = np.where(lesion >= 0, 2.0 * tp / (tp + fp + lesion), np.nan)
    if policy == "lesion":
        return np.where(lesion > 0, dice, np.nan)
    return np.where((lesion == 0) & (fp == 0), 1.0 if policy == "all" else np.nan, dice)
