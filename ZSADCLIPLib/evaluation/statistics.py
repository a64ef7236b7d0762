"""Summaries over test subjects: undefined values counted, bootstrap intervals over subjects, paired tests."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import nan

import numpy as np
from scipy import stats

from ..errors import UsageError

RESAMPLES = 10_000
SEED = 2024


@dataclass(frozen=True)
class Summary:
    """One metric over test cases; NaN where it cannot be computed.

    `n` counts defined values and `undefined` the others; `sd` is the sample standard deviation (n - 1); `q1` and `q3` are
    the quartiles (linear interpolation); `ci_low` and `ci_high` bound the mean with 95 % confidence.
    """

    n: int
    undefined: int
    mean: float
    sd: float
    median: float
    q1: float
    q3: float
    ci_low: float
    ci_high: float


def summarize(
    values: Sequence[float],
    subjects: Sequence[Hashable] | None = None,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> Summary:
    """Summarize one value per case; `subjects` (as many) names whose case it is, without it every case is a subject.

    The interval is the percentile bootstrap of the mean over subjects (Efron & Tibshirani, 1993): all cases of a subject
    are drawn together. Raises UsageError when the lengths differ.
    """
    values = np.asarray(values, float)
    if subjects is not None and len(subjects) != len(values):
        raise UsageError(f"{len(values)} values but {len(subjects)} subjects; give one subject per value")
    defined = ~np.isnan(values)
    sample = values[defined]
    undefined = int(values.size - sample.size)
    if not sample.size:
        return Summary(0, undefined, *(nan,) * 7)
    owners = np.arange(values.size) if subjects is None else np.unique(list(map(str, subjects)), return_inverse=True)[1]
    low, high = bootstrap_mean(sample, owners[defined], resamples, seed)
    q1, median, q3 = np.quantile(sample, (0.25, 0.5, 0.75))
    sd = float(sample.std(ddof=1)) if sample.size > 1 else nan
    return Summary(sample.size, undefined, float(sample.mean()), sd, float(median), float(q1), float(q3), low, high)


def bootstrap_mean(
    values: np.ndarray, owners: np.ndarray, resamples: int = RESAMPLES, seed: int = SEED
) -> tuple[float, float]:
    """95 % percentile interval of the mean of `values` when whole groups of equal `owners` are drawn with replacement.

    (NaN, NaN) with fewer than two groups, where no variation can be seen.
    """
    _, group = np.unique(owners, return_inverse=True)
    counts = np.bincount(group)
    if counts.size < 2:
        return nan, nan
    sums = np.bincount(group, weights=values)
    times = _draws(counts.size, resamples, seed)
    low, high = np.quantile((times @ sums) / (times @ counts), (0.025, 0.975))
    return float(low), float(high)


@lru_cache(maxsize=4)  # every metric of a run asks for the same draws
def _draws(groups: int, resamples: int, seed: int) -> np.ndarray:
    """How often each group is drawn in each resample, float64 (resamples, groups)."""
    rng = np.random.default_rng(seed)
    times = np.empty((resamples, groups))
    step = max(1, 2_000_000 // groups)
    for start in range(0, resamples, step):
        size = min(step, resamples - start)
        drawn = rng.integers(groups, size=(size, groups)) + groups * np.arange(size)[:, None]
        times[start : start + size] = np.bincount(drawn.ravel(), minlength=size * groups).reshape(size, groups)
    times.flags.writeable = False  # shared by all callers
    return times


@dataclass(frozen=True)
class Comparison:
    """Paired mean difference `first - second` over `n` common cases, with the two-sided Wilcoxon signed-rank p.

    `p_holm` is p adjusted for all comparisons made together. NaN where nothing can be tested.
    """

    first: str
    second: str
    n: int
    difference: float
    ci_low: float
    ci_high: float
    p: float
    p_holm: float


def compare(
    values: dict[str, dict[str, float]],
    pairs: Sequence[tuple[str, str]],
    owners: Mapping[str, Hashable] | None = None,
    **bootstrap,
) -> list[Comparison]:
    """Compare named columns of {case: value} pairwise, over cases where both are defined.

    `owners` names the subject of each case, without it every case is a subject; the interval draws whole subjects, and
    the test takes the mean difference of each, because visits of one subject are not independent. Wilcoxon with Pratt's
    treatment of zero differences; p adjusted by Holm (Scand. J. Statist. 6, 1979) over `pairs`.
    `bootstrap` goes to `bootstrap_mean`.
    """
    rows = []
    for first, second in pairs:
        a, b = values[first], values[second]
        common = [s for s in sorted(a) if s in b and not np.isnan(a[s]) and not np.isnan(b[s])]
        difference = np.array([a[s] - b[s] for s in common])
        groups = np.unique([str(owners[s]) if owners else s for s in common], return_inverse=True)[1]
        low, high = bootstrap_mean(difference, groups, **bootstrap) if common else (nan, nan)
        p = nan
        counts = np.bincount(groups)
        if counts.size > 1:
            means = np.bincount(groups, weights=difference) / counts
            p = 1.0 if not means.any() else float(stats.wilcoxon(means, zero_method="pratt").pvalue)
        mean = float(difference.mean()) if common else nan
        rows.append((first, second, len(common), mean, low, high, p))
    return [Comparison(*row, q) for row, q in zip(rows, holm([row[-1] for row in rows]), strict=True)]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down adjusted p-values in the order given; NaN stays NaN and counts as no test."""
    p = np.asarray(p_values, float)
    adjusted = np.full(p.size, nan)
    tested = np.flatnonzero(~np.isnan(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, min(1.0, (order.size - rank) * p[index]))
        adjusted[index] = running
    return adjusted.tolist()


def kendall(first: Sequence[float], second: Sequence[float]) -> float:
    """Kendall's tau-b over pairs where both are defined; NaN with fewer than 3 of them or without variation."""
    a, b = np.asarray(first, float), np.asarray(second, float)
    both = ~np.isnan(a) & ~np.isnan(b)
    return float(stats.kendalltau(a[both], b[both]).statistic) if both.sum() > 2 else nan
