"""Exact AUROC, average precision and F1-max in one streaming pass over bounded memory.

All three depend only on how many negatives lie below and at each *distinct positive score*. Lesions are small, so the
positives are sorted once and the negatives are counted against them chunk by chunk, in any order; nothing the size of
the volume is ever sorted or copied. The numbers equal scikit-learn's (`roc_auc_score`, `average_precision_score`, the
maximum of F1 over `precision_recall_curve`) up to float rounding. `sketches.ScoreSketch` is the approximate companion.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ..errors import InputError, UsageError

_CHUNK = 1 << 18
_BUCKETS = 1 << 18


@dataclass(frozen=True)
class Curve:
    """Ranking quality of scores against binary truth; undefined values are NaN.

    `auroc` needs both classes, `average_precision` and `f1_max` need positives; all are in 0..1. `f1_max` is the best F1
    (= Dice) of the rule "score >= threshold" and `threshold` the highest score that reaches it. Counts are voxels.
    """

    auroc: float
    average_precision: float
    f1_max: float
    threshold: float
    n_positive: int
    n_negative: int

    @property
    def prevalence(self) -> float:
        """Share of positives, which is also the average precision that random scores would have."""
        total = self.n_positive + self.n_negative
        return self.n_positive / total if total else float("nan")


def check_scores(scores: np.ndarray) -> np.ndarray:
    """Flatten scores to float32 (from float16 and float32) or float64, without changing any value.

    Raises InputError when a score is NaN, naming how many are.
    """
    scores = np.asarray(scores).ravel()
    if scores.dtype not in (np.float32, np.float64):
        scores = scores.astype(np.float32 if scores.dtype == np.float16 else np.float64)
    undefined = int(np.count_nonzero(np.isnan(scores)))
    if undefined:
        raise InputError(f"{undefined} of {scores.size} scores are NaN; expected numbers: mask these voxels out first")
    return scores


class CurveAccumulator:
    """Two phases: give all positives, `seal()`, then give the negatives in chunks of any size and order.

    Memory: some 50 bytes per distinct positive score, a few MiB of buckets, and chunks of 262 144 scores.
    """

    def __init__(self):
        self._parts: list[np.ndarray] = []
        self._unique: np.ndarray | None = None

    @property
    def sealed(self) -> bool:
        """True once the positives are complete."""
        return self._unique is not None

    def _require(self, sealed: bool, what: str) -> None:
        if self.sealed != sealed:
            when = "after" if self.sealed else "before"
            raise UsageError(f"{what} was called {when} seal(); give all positives first, then seal(), then negatives")

    def add_positives(self, scores: np.ndarray) -> None:
        """Add scores of positive voxels; raises UsageError after `seal()`, InputError on NaN."""
        self._require(False, "add_positives()")
        self._parts.append(check_scores(scores))

    def seal(self) -> None:
        """Declare the positives complete and prepare the counters; a second call changes nothing."""
        if self.sealed:
            return
        positives = np.concatenate(self._parts) if self._parts else np.empty(0, np.float32)
        self._parts = []
        self._prepare(*np.unique(positives, return_counts=True))

    def _prepare(self, unique: np.ndarray, counts: np.ndarray) -> None:
        self._unique, self._counts = unique, counts
        # Slot 2i counts negatives between unique[i-1] and unique[i], slot 2i+1 those tied with unique[i].
        self._slots = np.zeros(2 * unique.size + 1, np.int64)
        finite = unique[np.isfinite(unique)]
        span = float(finite[-1]) - float(finite[0]) if finite.size else 0.0
        self._low = finite[0] if finite.size else unique.dtype.type(0)
        with np.errstate(over="ignore"):
            scale = unique.dtype.type(_BUCKETS / span) if 0 < span < np.inf else unique.dtype.type(0)
        self._scale = scale if np.isfinite(scale) else unique.dtype.type(0)
        bucket_sizes = np.bincount(self._bucket(unique), minlength=_BUCKETS + 2)
        self._held = np.minimum(bucket_sizes, 2).astype(np.int8)
        self._rank = np.cumsum(bucket_sizes) - bucket_sizes  # distinct positives in lower buckets
        self._alone = np.zeros(_BUCKETS + 2, np.int64)

    def _bucket(self, scores: np.ndarray) -> np.ndarray:
        """Bucket numbers 0.._BUCKETS+1; each rounding step keeps the order, so buckets never interleave."""
        if self._scale == 0:  # one distinct score or an absurd range: a single bucket, looked up exactly
            return np.zeros(scores.size, np.int32)
        with np.errstate(over="ignore"):
            code = (scores - self._low) * self._scale
        np.clip(code, -1, _BUCKETS, out=code)
        code += 1
        return code.astype(np.int32)

    def add_negatives(self, scores: np.ndarray) -> None:
        """Add scores of negative voxels; raises UsageError before `seal()`, InputError on NaN."""
        self._require(True, "add_negatives()")
        scores = np.asarray(scores).ravel()
        step = max(_CHUNK, self._unique.size)  # counting costs the number of slots, so chunks grow with it
        for start in range(0, scores.size, step):
            self._count(check_scores(scores[start : start + step]))

    def _count(self, scores: np.ndarray) -> None:
        if scores.dtype != self._unique.dtype:
            scores = scores.astype(np.float64, copy=False)
            self._promote()
        bucket = self._bucket(scores)
        self._alone += np.bincount(bucket, minlength=_BUCKETS + 2)
        bucket_positives = self._held[bucket]
        near = np.flatnonzero(bucket_positives)  # only these share a bucket with a positive and are compared exactly
        if near.size:
            near_scores, rank = scores[near], self._rank[bucket[near]]
            crowded = bucket_positives[near] > 1
            rank[crowded] = np.searchsorted(self._unique, near_scores[crowded])
            nearest = self._unique[np.minimum(rank, self._unique.size - 1)]
            # After a search `nearest` is never below the score, so the second term only serves buckets with one positive.
            slot = 2 * rank + (near_scores >= nearest) + (near_scores > nearest)
            self._slots += np.bincount(np.minimum(slot, self._slots.size - 1), minlength=self._slots.size)

    def _promote(self) -> None:
        """Go on in float64 when float64 scores meet float32 ones."""
        if self._unique.dtype == np.float64:
            return
        slots = self._all_slots()
        self._prepare(self._unique.astype(np.float64), self._counts)
        self._slots = slots

    def _all_slots(self) -> np.ndarray:
        slots = self._slots.copy()
        np.add.at(slots, 2 * self._rank, np.where(self._held > 0, 0, self._alone))
        return slots

    def counts(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(scores, true positives, false positives) of "score >= s" at each distinct positive score s, ascending.

        Raises UsageError before `seal()`.
        """
        self._require(True, "counts()")
        slots = self._all_slots()
        true = np.cumsum(self._counts[::-1])[::-1]
        return self._unique, true, slots.sum() - np.cumsum(slots)[0:-1:2]

    def result(self) -> Curve:
        """The values over everything given so far; raises UsageError before `seal()`."""
        scores, true, false = self.counts()
        slots = self._all_slots()
        positives, negatives = int(self._counts.sum()), int(slots.sum())
        nan = float("nan")
        if not positives:
            return Curve(nan, nan, nan, nan, 0, negatives)
        wins = (self._counts * ((negatives - false) + slots[1::2] / 2)).sum()
        f1 = 2.0 * true / (positives + true + false)
        best = f1.size - 1 - int(np.argmax(f1[::-1]))
        return Curve(
            auroc=float(wins / (float(positives) * negatives)) if negatives else nan,
            average_precision=float((self._counts / positives * (true / (true + false))).sum()),
            f1_max=float(f1[best]),
            threshold=float(scores[best]),
            n_positive=positives,
            n_negative=negatives,
        )


def labelled_chunks(
    scores: np.ndarray, truth: np.ndarray, region: np.ndarray | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield flat (scores, truth) of the voxels in `region`, about a million voxels at a time.

    All arrays share one shape; `truth` and `region` are boolean. Raises InputError when shapes differ.
    """
    for name, other in (("truth", truth), ("region", region)):
        if other is not None and other.shape != scores.shape:
            raise InputError(f"the {name} has shape {other.shape}, the scores {scores.shape}; expected the same grid")
    rows = max(1, (1 << 20) * len(scores) // max(1, scores.size)) if scores.ndim > 1 else 1 << 20
    for start in range(0, len(scores), rows):
        piece = slice(start, start + rows)
        values, labels = scores[piece].reshape(-1), truth[piece].reshape(-1)
        if region is not None:
            inside = region[piece].reshape(-1)
            values, labels = values[inside], labels[inside]
        yield values, labels


def accumulate(scores: np.ndarray, truth: np.ndarray, region: np.ndarray | None = None) -> CurveAccumulator:
    """A sealed accumulator over one case; arguments as in `labelled_chunks`, InputError on NaN scores."""
    state = CurveAccumulator()
    for values, labels in labelled_chunks(scores, truth, region):
        state.add_positives(values[labels])
    state.seal()
    for values, labels in labelled_chunks(scores, truth, region):
        state.add_negatives(values[~labels])
    return state


def curve(scores: np.ndarray, truth: np.ndarray, region: np.ndarray | None = None) -> Curve:
    """Exact `Curve` of scores against boolean truth over `region` (boolean) or everything; errors as `accumulate`."""
    return accumulate(scores, truth, region).result()
