"""How the mask of a detection is cut from its map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import UsageError
from ..notes import Note
from .scoring import PLAIN, Scoring, stored_threshold

DEFAULT_QUANTILE = 0.995


@dataclass(frozen=True)
class Threshold:
    """How the mask is cut from the raw map.

    `rule` is "fixed", "quantile" (over the brain voxels of this volume) or "checkpoint" (the value stored with the
    adapter for this way of scoring, else the 0.995 quantile); `value` belongs to the first two.
    """

    rule: str = "checkpoint"
    value: float | None = None

    @classmethod
    def parse(cls, text: str) -> Threshold:
        """From "checkpoint", "quantile:Q", "fixed:T" or a plain number; raises UsageError otherwise."""
        rule, _, number = text.partition(":")
        if rule == "checkpoint" and not number:
            return cls()
        if rule not in ("fixed", "quantile"):
            rule, number = "fixed", text
        try:
            value = float(number)
        except ValueError:
            value = float("nan")
        if not np.isfinite(value) or (rule == "quantile" and not 0 < value < 1):
            raise UsageError(
                f"threshold {text!r}: expected checkpoint, a number, fixed:NUMBER or quantile:Q with 0 < Q < 1"
            )
        return cls(rule, value)

    def value_for(
        self, array: np.ndarray, brain: np.ndarray, provenance: dict, scoring: Scoring = PLAIN
    ) -> tuple[float, str]:
        """The value that cuts the raw map `array`, and the rule behind it in words.

        `brain` (bool, of the same shape) is where quantiles are taken; `provenance`, the adapter's, may hold a value for
        `scoring`. That of another way is never taken: the best cut of a smoothed map is far below that of its slices.
        """
        rule, value = self.rule, self.value
        if rule == "checkpoint":
            stored = stored_threshold(provenance, scoring)
            if stored is not None:
                return stored, "checkpoint"
            rule, value = "quantile", DEFAULT_QUANTILE
        if rule == "quantile":
            return float(np.quantile(array[brain], value)), f"quantile:{value:g} over brain voxels"
        return float(value), f"fixed:{value:g}"

    def doubts(self, provenance: dict, scoring: Scoring) -> tuple[Note, ...]:
        """A note when the adapter has thresholds, but none for this way of scoring."""
        known = [*provenance.get("thresholds", ()), *(["threshold"] if "threshold" in provenance else [])]
        if self.rule != "checkpoint" or not known or stored_threshold(provenance, scoring) is not None:
            return ()
        return (
            Note(
                "threshold",
                f"the adapter has no threshold for {scoring.way}: the mask is cut at the {DEFAULT_QUANTILE:g} quantile of the "
                "brain, which marks that share of any brain; give --threshold, or score as the adapter was tuned",
            ),
        )
