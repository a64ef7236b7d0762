"""A histogram pair of scores: any global threshold, pooled metric or bootstrap in milliseconds, with rigorous bounds.

One sketch is two rows of 65 536 counts (1 MiB) and sketches of the same range add up. The bounds hold whatever the order
of the scores inside a bin: |AUROC error| <= sum p_b n_b / 2PN, and a threshold inside bin b cannot beat TP_b with
FP_{b+1}. At a bin's lower edge every count is exact.
"""

from __future__ import annotations

import numpy as np

from ..errors import UsageError
from .curves import check_scores
from .metrics import Confusion

BINS = 65536
LOWEST = -(2.0**100)  # below any score, but a number for JSON, exact in float32 and still one when multiplied by layers


class ScoreSketch:
    """Counts of positive and negative scores in `bins` equal bins over lo..hi; scores outside go to the end bins."""

    def __init__(self, lo: float = 0.0, hi: float = 1.0, bins: int = BINS):
        if not (np.isfinite(lo) and np.isfinite(hi) and lo < hi and bins >= 1):
            raise UsageError(f"a sketch needs finite lo < hi and at least one bin, got lo={lo}, hi={hi}, bins={bins}")
        self.lo, self.hi, self.bins = float(lo), float(hi), int(bins)
        self.positives = np.zeros(self.bins, np.int64)
        self.negatives = np.zeros(self.bins, np.int64)

    def _bin(self, scores: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            code = (check_scores(scores).astype(np.float64) - self.lo) * (self.bins / (self.hi - self.lo))
        return np.clip(code, 0, self.bins - 1, out=code).astype(np.int32)

    def edge(self, b: int) -> float:
        """The smallest float64 score that falls into bin b (LOWEST for bin 0), so that "score >= edge" is exact."""
        if b <= 0:
            return LOWEST
        edge = self.lo + b * ((self.hi - self.lo) / self.bins)
        while self._bin(np.array([edge]))[0] >= b:
            edge = np.nextafter(edge, -np.inf)
        while self._bin(np.array([edge]))[0] < b:
            edge = np.nextafter(edge, np.inf)
        return float(edge)

    def add(self, scores: np.ndarray, labels: np.ndarray) -> ScoreSketch:
        """Add scores with boolean labels of the same size; raises InputError on NaN scores."""
        scores, labels = np.asarray(scores).reshape(-1), np.asarray(labels).reshape(-1)
        for start in range(0, scores.size, 1 << 18):
            piece = slice(start, start + (1 << 18))
            code, positive = self._bin(scores[piece]), labels[piece]
            ones = np.bincount(code[positive], minlength=self.bins)
            self.positives += ones
            self.negatives += np.bincount(code, minlength=self.bins) - ones
        return self

    def merge(self, other: ScoreSketch) -> ScoreSketch:
        """Add another sketch's counts to this one; raises UsageError unless range and bins are the same."""
        if (self.lo, self.hi, self.bins) != (other.lo, other.hi, other.bins):
            raise UsageError(
                f"cannot merge sketches of {self.bins} bins over {self.lo}..{self.hi} and "
                f"{other.bins} bins over {other.lo}..{other.hi}; use one range for all"
            )
        self.positives += other.positives
        self.negatives += other.negatives
        return self

    def tails(self) -> tuple[np.ndarray, np.ndarray]:
        """(true positives, false positives) of "score >= edge(b)" for every bin b, each (bins,) int64."""
        return np.cumsum(self.positives[::-1])[::-1], np.cumsum(self.negatives[::-1])[::-1]

    def auroc(self) -> tuple[float, float]:
        """(value, bound): the exact AUROC lies within value +- bound; (NaN, NaN) when a class is missing."""
        positives, negatives = float(self.positives.sum()), float(self.negatives.sum())
        if not positives or not negatives:
            return float("nan"), float("nan")
        below = np.cumsum(self.negatives) - self.negatives
        pairs = positives * negatives
        value = (self.positives * (below + self.negatives / 2)).sum() / pairs
        return float(value), float((self.positives.astype(float) * self.negatives).sum() / (2 * pairs))

    def average_precision(self) -> tuple[float, float]:
        """(low, high) bounds of the exact average precision; (NaN, NaN) without positives."""
        total = self.positives.sum()
        if not total:
            return float("nan"), float("nan")
        true, false = self.tails()
        with_positives = self.positives > 0
        share = self.positives[with_positives] / total
        true, false = true[with_positives], false[with_positives]
        first = true - self.positives[with_positives] + 1  # worst: the bin's negatives come first
        low = (share * (first / (first + false))).sum()
        high = (share * (true / (true + false - self.negatives[with_positives]))).sum()
        return float(low), float(high)

    def f1max(self) -> tuple[float, float, float]:
        """(low, high, threshold): the exact F1-max lies in low..high, and `threshold` (a bin edge) reaches low."""
        total = self.positives.sum()
        if not total:
            return (float("nan"),) * 3
        true, false = self.tails()
        at_edges = 2.0 * true / (total + true + false)
        best = self.bins - 1 - int(np.argmax(at_edges[::-1]))
        high = (2.0 * true / (total + true + false - self.negatives)).max()
        return float(at_edges[best]), float(high), self.edge(best)

    def at(self, threshold: float) -> Confusion:
        """Counts of "score >= threshold", exact when the threshold is a bin edge, else those of the edge below it."""
        b = int(self._bin(np.array([threshold]))[0])
        true, false = int(self.positives[b:].sum()), int(self.negatives[b:].sum())
        return Confusion(true, false, int(self.positives.sum()) - true, int(self.negatives.sum()) - false)
