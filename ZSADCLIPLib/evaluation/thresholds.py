"""Rules that turn a map into a mask, by name; those that look at the test truth are labelled oracle.

The paper does not say how it cut its maps, and nothing moves Dice more. So several rules stand side by side as columns.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ..errors import InputError, UsageError
from .curves import curve
from .sketches import ScoreSketch

PRIMARY = "f1max-pooled-train"
PAPER_RULES = ("f1max-pooled-train", "f1max-pooled-test", "f1max-per-volume", "fixed:0.5", "minmax:0.5")

# name -> (where the threshold comes from, oracle, words for a column head, takes a number)
_KINDS = {
    "fixed": ("fixed", False, "fixed {}", True),
    "f1max-pooled-train": ("train", False, "best pooled F1 on training data", False),
    "dice-mean-train": ("train", False, "best mean Dice on training data", False),
    "fpr": ("train", False, "{} false positive rate on lesion-free training slices", True),
    "quantile": ("volume", False, "quantile {} of each volume", True),
    "minmax": ("volume", False, "{} of each volume's score range", True),
    "f1max-pooled-test": ("test", True, "best pooled F1 on test data (oracle)", False),
    "f1max-per-volume": ("volume", True, "best F1 of each volume (oracle)", False),
    "f1max-per-slice": ("volume", True, "best F1 of each slice (oracle)", False),
}


def reaches(scores: np.ndarray, threshold: float | np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """Which scores are at or above a threshold, boolean of the shape both broadcast to, written to `out` if given.

    The one meaning of it in detection, benchmark and Slicer: a score counts when it is not below the threshold as real
    numbers. Maps are float32 and thresholds float64; NumPy's `scores >= threshold` rounds the threshold to the map's type,
    so that a score a little below it would count, here and not in the counts of a `sketches.ScoreSketch`.
    NaN reaches nothing and is reached by nothing.
    """
    return np.greater_equal(scores, lowest_reaching(threshold, scores.dtype), out=out)


def lowest_reaching(threshold: float | np.ndarray, dtype: np.dtype | type) -> np.ndarray:
    """The lowest number of type `dtype` that is at or above a threshold, of the threshold's shape; inf when none is.

    Scores of the type can be compared with it as they are. Whole numbers are compared in float64.
    """
    exact = np.asarray(threshold, np.float64)
    if np.dtype(dtype).kind != "f":
        return exact
    with np.errstate(over="ignore"):
        cut = exact.astype(dtype)
        return np.where(cut < exact, np.nextafter(cut, cut.dtype.type(np.inf)), cut)


@dataclass(frozen=True)
class Rule:
    """A threshold rule: `name` as written, `source` fixed, train, test or volume, `oracle` when it saw the test truth."""

    name: str
    kind: str
    source: str
    oracle: bool
    label: str
    value: float | None = None


def parse_rule(name: str) -> Rule:
    """The rule of a name such as "f1max-pooled-train" or "fixed:0.5"; UsageError lists the names when it is unknown."""
    kind, _, number = name.partition(":")
    entry = _KINDS.get(kind)
    try:
        value = float(number) if number else None
    except ValueError:
        value = float("nan")
    if entry is None or (value is not None) != entry[3] or (value is not None and not np.isfinite(value)):
        names = ", ".join(k + (":NUMBER" if v[3] else "") for k, v in _KINDS.items())
        raise UsageError(f"unknown threshold rule {name!r}; choose one of {names}")
    if kind != "fixed" and value is not None and not 0 <= value <= 1:
        raise UsageError(f"threshold rule {name!r}: expected a number from 0 to 1")
    source, oracle, label, _ = entry
    return Rule(name, kind, source, oracle, label.format(number), value)


def check_rules(names: Iterable[str], region: str) -> None:
    """Raise UsageError for a rule that is unknown, or that finds no voxel in `region` (metrics.region)."""
    for rule in map(parse_rule, names):
        if rule.kind == "fpr" and region == "lesion-slices":
            raise UsageError(
                f"rule {rule.name!r} looks at lesion-free slices; metrics.region lesion-slices has none of them"
            )


def from_sketches(rule: Rule, cases: Iterable[ScoreSketch], clean: ScoreSketch | None = None) -> float:
    """The global threshold of a rule with source fixed, train or test, from one sketch per case of that split.

    Thresholds from sketches are bin edges, so that counts at them are exact. `clean` is the sketch of lesion-free
    training slices, which "fpr" needs. Raises UsageError for rules of each volume and InputError without positives.
    """
    if rule.kind == "fixed":
        return rule.value
    if rule.source == "volume":
        raise UsageError(f"rule {rule.name!r} has one threshold per volume; use volume_threshold")
    if rule.kind == "fpr":
        return _at_false_positive_rate(rule, clean)
    cases = list(cases)
    total = sum(int(case.positives.sum()) for case in cases)
    if not total:
        raise InputError(f"rule {rule.name!r} needs positive voxels in its {rule.source} cases and found none")
    if rule.kind == "dice-mean-train":
        return _best_mean_dice(cases)
    return pool(cases).f1max()[2]


def pool(cases: Iterable[ScoreSketch]) -> ScoreSketch:
    """The sum of sketches of one range; raises InputError without any."""
    pooled = None
    for case in cases:
        if pooled is None:
            pooled = ScoreSketch(case.lo, case.hi, case.bins)
        pooled.merge(case)
    if pooled is None:
        raise InputError("there is no case to take a threshold from; expected at least one")
    return pooled


def _best_mean_dice(cases: list[ScoreSketch]) -> float:
    total = np.zeros(cases[0].bins)
    for case in cases:
        positives = case.positives.sum()
        if positives:  # Dice of a volume without lesions is undefined or 0 whatever the threshold
            true, false = case.tails()
            total += 2.0 * true / (positives + true + false)
    best = total.size - 1 - int(np.argmax(total[::-1]))
    return cases[0].edge(best)


def _at_false_positive_rate(rule: Rule, clean: ScoreSketch | None) -> float:
    if clean is None or not clean.negatives.sum():
        raise InputError(f"rule {rule.name!r} needs lesion-free training slices and found none")
    _, false = clean.tails()
    allowed = np.flatnonzero(false <= rule.value * clean.negatives.sum())
    return clean.edge(int(allowed[0])) if allowed.size else float(np.nextafter(clean.hi, np.inf))


def volume_threshold(rule: Rule, scores: np.ndarray, truth: np.ndarray, region: np.ndarray) -> float | np.ndarray:
    """The threshold of one volume: a number, or one per slice (N,) for "f1max-per-slice".

    Arrays (N, R, C); `region` is where scores count. Slices without lesion get +inf, no prediction, since their best F1
    is undefined. NaN when an oracle rule finds no lesion. Raises UsageError for rules with a global threshold.
    """
    if rule.kind == "f1max-per-volume":
        return curve(scores, truth, region).threshold
    if rule.kind == "f1max-per-slice":
        best = np.full(len(scores), np.inf)
        for n in np.flatnonzero((truth & region).any(axis=(1, 2))):
            best[n] = curve(scores[n], truth[n], region[n]).threshold
        return best
    if rule.source != "volume":
        raise UsageError(f"rule {rule.name!r} has one threshold for all volumes; use from_sketches")
    values = scores[region]
    if not values.size:
        return float("nan")
    if rule.kind == "quantile":
        return float(np.quantile(values, rule.value))
    low, high = float(values.min()), float(values.max())
    return low + rule.value * (high - low)


def froc_levels(
    negatives: ScoreSketch, count: int = 24, lowest: float = 1e-6, highest: float = 3e-2
) -> tuple[float, ...]:
    """Descending score thresholds for FROC, at voxel false positive rates spaced evenly in their logarithm.

    Taken from a pooled training sketch, so that every test case of a row is cut at the same levels.
    """
    total = negatives.negatives.sum()
    if not total:
        raise InputError("FROC levels need negative voxels in the training cases and found none")
    _, false = negatives.tails()
    rates = np.geomspace(lowest, highest, count)
    bins = [
        int(np.argmax(false <= rate * total)) if (false <= rate * total).any() else negatives.bins - 1 for rate in rates
    ]
    return tuple(negatives.edge(b) for b in sorted(set(bins), reverse=True) if b > 0)
