"""The numbers of an evaluation, by the same classes that hold a benchmark run's."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from ...benchmark.rowfolder import RowFiles
from ...benchmark.rows import METHOD_LABELS, Row
from ...evaluation.statistics import Summary, summarize
from ..numbers import Numbers, rule_label
from ..results import Choice, Result, Run
from .cases import BASELINE, BEST, LESIONS, REGION, STORED, Measured


class Evaluation:
    """Measured cases of one or more methods, in the order of the methods and of the cases; the baseline comes last."""

    def __init__(self, measured: Sequence[Measured]):
        methods = dict.fromkeys(each.method for each in measured if each.method != BASELINE)
        self.methods = [*methods, *({BASELINE} & {each.method for each in measured})]
        self.by_method = {name: [each for each in measured if each.method == name] for name in self.methods}
        results = (_result(name, of) for name, of in self.with_lesions.items() if of)
        self.results = {result.row.method: result for result in results}
        self.numbers = Numbers(Run({"rule": STORED, "region": REGION}, tuple(self.results.values())))

    @cached_property
    def with_lesions(self) -> dict[str, list[Measured]]:
        """The cases whose truth marks something, by method."""
        return {name: [each for each in of if each.group == LESIONS] for name, of in self.by_method.items()}

    @cached_property
    def rows(self) -> list[tuple[str, str]]:
        """Method and rule of each row of a table: the stored threshold and the best one, of the baseline the best alone."""
        return [
            (name, rule) for name, result in self.results.items() for rule in (STORED, BEST) if rule in result.rules
        ]

    def values(self, method: str, metric: str, rule: str, region: str = REGION) -> np.ndarray:
        """One value for each case with lesions, float (cases,), NaN where it is undefined."""
        return self.results[method].values(metric, Choice(rule, region))

    def summary(self, method: str, metric: str, rule: str, region: str = REGION) -> Summary:
        """A metric over the cases with lesions, its interval over subjects."""
        return self.numbers.summary(self.results[method], metric, Choice(rule, region))

    def millilitres(self, method: str, rule: str) -> dict[str, np.ndarray]:
        """Of each case with lesions, float (cases,): "truth", "marked" in the brain, and "false", marked outside the truth."""
        result = self.results[method]
        counts = result.confusions(Choice(rule, REGION))
        ml = np.array([np.prod(case["spacing_mm"]) / 1000 for case in result.files.cases])
        return {
            "truth": np.array([case["lesion_ml"] for case in result.files.cases]),
            "marked": ml * [c.tp + c.fp if c else np.nan for c in counts],
            "false": ml * [c.fp if c else np.nan for c in counts],
        }

    def threshold(self, method: str, rule: str) -> str:
        """The threshold of a row in words: its value or values, and where it comes from."""
        if rule == BEST:
            return rule_label(BEST)
        of = self.by_method[method]
        low, high = (pick(each.threshold for each in of) for pick in (min, max))
        value = f"{low:.4g}" if low == high else f"{low:.4g} to {high:.4g}"
        return f"{value} ({', '.join(dict.fromkeys(each.rule for each in of))})"


def label(method: str) -> str:
    """A method's name for tables and pictures."""
    return METHOD_LABELS[method]


def summary_of(values: Sequence[float], measured: Sequence[Measured]) -> Summary:
    """`summarize` of one value a case, by the subjects of the cases."""
    return summarize(values, [each.subject for each in measured])


def _result(method: str, measured: Sequence[Measured]) -> Result:
    files = RowFiles(Path(), {}, {}, {}, (), tuple(each.values for each in measured))
    return Result(Row(method, "baseline" if method == BASELINE else "evaluation", None), files)
