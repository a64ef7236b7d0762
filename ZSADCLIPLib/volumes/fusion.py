"""One map of the maps of several planes, on the volume's own grid, as running sums: each map is added and forgotten."""

from __future__ import annotations

import numpy as np

from ..errors import InputError, UsageError

FUSIONS = ("geometric", "mean", "logit", "median", "min")
FLOOR = 1e-6  # of the range, so that logarithms stay finite


class Fusion:
    """Maps of several planes into one; scores lie within `low` to `high`.

    With t = (score - low) / (high - low), at least FLOOR:

    geometric  exp(mean ln t): unlike in the arithmetic mean, one plane that sees nothing vetoes the others.
    logit      sigmoid(mean ln(t / (1 - t))), t at most 1 - FLOOR.
    mean, median, min   of the scores themselves.
    The result is on the scale of the scores. The median holds all maps, the others one sum. Raises UsageError for an unknown
    rule or an empty range.
    """

    def __init__(self, how: str, low: float, high: float):
        check_fusion(how)
        if not low < high:
            raise UsageError(f"scores from {low} to {high} cannot be fused; expected a range")
        self.how, self._low, self._span = how, low, high - low
        self._first: np.ndarray | None = None
        self._sum: np.ndarray | None = None
        self._all: list[np.ndarray] = []
        self.count = 0

    def add(self, scores: np.ndarray) -> None:
        """Take in one map, float32 of any shape; raises InputError when shapes differ."""
        if self._first is not None and self._first.shape != scores.shape:
            raise InputError(f"maps of shape {self._first.shape} and {scores.shape} cannot be fused; expected one grid")
        self.count += 1
        if self.count == 1:
            self._first = scores
            return
        if self.how == "median":
            self._all = [*(self._all or [self._first]), scores]
        elif self.how == "min":
            self._sum = np.minimum(self._first if self._sum is None else self._sum, scores)
        else:
            self._sum = self._term(self._first) if self._sum is None else self._sum
            self._sum += self._term(scores)

    def result(self) -> np.ndarray:
        """The fused map, float32; of a single map that map itself. Raises UsageError before any was added."""
        if self._first is None:
            raise UsageError("there is no map to fuse; add one first")
        if self.count == 1:
            return self._first
        if self.how == "median":
            return np.median(self._all, axis=0).astype(np.float32)
        if self.how == "min":
            return self._sum
        mean = self._sum / self.count
        if self.how == "mean":
            return mean.astype(np.float32)
        share = np.exp(mean) if self.how == "geometric" else 1 / (1 + np.exp(-mean))
        return (self._low + self._span * share).astype(np.float32)

    def _term(self, scores: np.ndarray) -> np.ndarray:
        """What is summed, in float64: there the sum of a few float32 numbers does not depend on their order."""
        scores = scores.astype(np.float64)
        if self.how == "mean":
            return scores
        share = np.clip((scores - self._low) / self._span, FLOOR, None if self.how == "geometric" else 1 - FLOOR)
        return np.log(share) if self.how == "geometric" else np.log(share / (1 - share))


def check_fusion(how: str) -> None:
    """Raise UsageError for an unknown rule."""
    if how not in FUSIONS:
        raise UsageError(f"fusion {how!r} is unknown; choose one of {', '.join(FUSIONS)}")
