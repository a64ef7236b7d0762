"""What a user decided about a result, step by step: thresholds and verdicts, taken back and done again."""

from __future__ import annotations

from . import findingstable

MOST_STEPS = 200


class History:
    """The steps of each result of a scene, by its map; they last as long as the panel."""

    def __init__(self):
        self._steps: dict[str, list[tuple[float, str]]] = {}
        self._at: dict[str, int] = {}

    def note(self, result) -> None:
        """Keep what a result is now as a step, where it differs from the last one; what was taken back is forgotten."""
        key, now = result.map.GetID(), _state(result)
        steps, at = self._steps.setdefault(key, []), self._at.get(key, -1)
        if at < 0 or steps[at] != now:
            self._steps[key] = [*steps[: at + 1], now][-MOST_STEPS:]
            self._at[key] = len(self._steps[key]) - 1

    def can(self, result, by: int) -> bool:
        """Whether there is a step before (`by` -1) or after (1) the present one."""
        key = result.map.GetID()
        return 0 <= self._at.get(key, -1) + by < len(self._steps.get(key, ()))

    def step(self, result, by: int) -> bool:
        """Go back (`by` -1) or forth (1) by one step; False where there is none."""
        self.note(result)
        if not self.can(result, by):
            return False
        key = result.map.GetID()
        self._at[key] += by
        threshold, verdicts = self._steps[key][self._at[key]]
        findingstable.setVerdicts(result.findings, verdicts)
        result.setThreshold(threshold)
        return True


def _state(result) -> tuple[float, str]:
    return result.threshold, findingstable.verdictsOf(result.findings)
