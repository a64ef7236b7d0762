"""What claims are judged by: the run's numbers by row, with a reason wherever a number is missing."""

from __future__ import annotations

import numpy as np

from ...benchmark.rows import METHOD_LABELS, ROWS, SETUP_LABELS
from ...evaluation.statistics import Summary, compare
from ..axis import Axis, slice_bins
from ..numbers import Numbers, row_id_of
from ..results import Result

MIN_SUBJECTS = 5  # with fewer, quantiles and shares of subjects say nothing
MIN_BIN_SUBJECTS = 3  # a bin of one or two subjects shows those, not the place
SETUPS = ("industrial", "finetune", "brats", "pmc")


class NotTestable(Exception):
    """A claim cannot be judged on this run; the text says why."""


class Evidence:
    """Numbers of one run under its primary threshold rule and region."""

    def __init__(self, numbers: Numbers):
        self.numbers = numbers
        self.choice = numbers.run.choices()[0]
        self._results = {result.row.id: result for result in numbers.run.results}
        self._unfinished = {row_id_of(name) for name in numbers.run.info["unfinished"]}

    def result(self, row_id: str) -> Result:
        """A row with enough subjects; raises NotTestable otherwise."""
        if row_id not in self._results:
            state = "is unfinished" if row_id in self._unfinished else "is not part of this run"
            raise NotTestable(f"the row {row_id} {state}")
        result = self._results[row_id]
        count = len(set(result.subjects))
        if count < MIN_SUBJECTS:
            raise NotTestable(f"{count} test subjects are too few; at least {MIN_SUBJECTS} are needed")
        return result

    def present(self) -> list[str]:
        """Ids of the paper's rows in this run."""
        return [row.id for row in ROWS if row.id in self._results]

    def missing(self) -> list[str]:
        """Ids of the paper's rows that are not in this run or not finished."""
        return [row.id for row in ROWS if row.id not in self._results]

    def summary(self, row_id: str, metric: str = "dice", region: str = "") -> Summary:
        """Summary of a metric over a region, the primary one when empty; raises NotTestable when it is defined nowhere."""
        choice = self.numbers.choice(region) if region else self.choice
        summary = self.numbers.summary(self.result(row_id), metric, choice)
        if not summary.n:
            raise NotTestable(f"{metric} of {row_id} is defined for no test volume")
        return summary

    def dice(self, row_id: str) -> np.ndarray:
        """3D Dice of the volumes where it is defined."""
        values = self.result(row_id).values("dice", self.choice)
        return values[~np.isnan(values)]

    def slices(self, row_id: str) -> np.ndarray:
        """2D Dice of all slices with lesion."""
        values = np.concatenate(self.result(row_id).slice_dice(self.choice))
        values = values[~np.isnan(values)]
        if not values.size:
            raise NotTestable(f"{row_id} has no slice with lesion")
        return values

    def means(self, row_ids) -> dict[str, float]:
        """Mean 3D Dice of rows."""
        return {row_id: self.summary(row_id).mean for row_id in row_ids}

    def pooled(self, method: str) -> np.ndarray:
        """3D Dice of all volumes and all four setups of a method."""
        return np.concatenate([self.dice(f"{method}-{setup}") for setup in SETUPS])

    def difference(self, first: str, second: str):
        """Paired difference of 3D Dice between two rows, a `statistics.Comparison`."""
        columns, owners = {}, {}
        for row_id in (first, second):
            result = self.result(row_id)
            values = result.values("dice", self.choice)
            columns[row_id] = {c["case"]: float(v) for c, v in zip(result.files.cases, values, strict=True)}
            owners |= {case["case"]: case["subject"] for case in result.files.cases}
        return compare(columns, [(first, second)], owners)[0]

    def bins(self, method: str) -> dict[str, np.ndarray]:
        """`dice` and `slices` of each bin of the distance, all setups pooled; NaN where fewer than 3 subjects have one."""
        count = self.numbers.axis.count
        bins = slice_bins([self.result(f"{method}-{setup}") for setup in SETUPS], self.choice, Axis(count=count))
        enough = [len(each.dice) >= MIN_BIN_SUBJECTS for each in bins]
        if sum(enough) < 5:
            raise NotTestable(
                f"only {sum(enough)} of {count} bins of the distance hold lesions of at least {MIN_BIN_SUBJECTS} subjects"
            )
        dice = np.array([each.over_slices if usable else np.nan for each, usable in zip(bins, enough, strict=True)])
        counts = [len(b.values) / len(SETUPS) if usable else np.nan for b, usable in zip(bins, enough, strict=True)]
        return {"dice": dice, "slices": np.array(counts), "distance": np.array([each.distance for each in bins])}

    @property
    def subjects(self) -> int:
        """The largest number of test subjects of a row."""
        return max(len(set(result.subjects)) for result in self._results.values())


def label(row_id: str) -> str:
    """Such as "VAND PMC"."""
    method, _, setup = row_id.partition("-")
    return f"{METHOD_LABELS[method]} {SETUP_LABELS[setup]}"
