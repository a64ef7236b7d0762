"""Which label values make a target, by data set and year, and which are ignored.

BraTS-MET and BraTS-GLI: 1 necrotic or non-enhancing core, 2 surrounding FLAIR hyperintensity, 3 enhancing tumour; from
2024 also 4 resection cavity, which belongs to no tumour target. BraTS 2018 to 2021: 1, 2 and 4 = enhancing tumour.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from ..errors import InputError, UsageError

TARGETS = ("wt", "tc", "et")  # whole tumour, tumour core, enhancing tumour


@dataclass(frozen=True)
class LabelRule:
    """Label values per target, the other values that may occur, and those that count neither as lesion nor as healthy."""

    name: str
    targets: dict[str, tuple[int, ...]]
    others: tuple[int, ...] = ()
    ignore: tuple[int, ...] = ()

    @property
    def known(self) -> set[int]:
        """Every value that may occur, background 0 included; empty when any value may."""
        return {0, *self.others, *self.ignore, *(v for values in self.targets.values() for v in values)}

    def split(self, labels: np.ndarray, target: str = "wt") -> tuple[np.ndarray, np.ndarray]:
        """(truth, ignore) as boolean arrays of the labels' shape.

        Raises UsageError for a target the rule lacks, InputError for values it does not know.
        """
        if target not in self.targets:
            raise UsageError(f"label rule {self.name} has no target {target!r}; choose from {', '.join(self.targets)}")
        if self.name != "nonzero":
            self.check(np.unique(labels))
        ignore = np.isin(labels, self.ignore) if self.ignore else np.zeros(labels.shape, bool)
        truth = labels != 0 if self.name == "nonzero" else np.isin(labels, self.targets[target])
        return truth & ~ignore, ignore

    def check(self, values: Iterable[int]) -> None:
        """Raise InputError when a value is not known."""
        unknown = sorted({int(v) for v in values} - self.known)
        if unknown and self.name != "nonzero":
            raise InputError(
                f"label values {unknown} do not belong to label rule {self.name} (known: {sorted(self.known)}); "
                f"choose another rule ({', '.join(LABEL_RULES)}) or name them as ignored"
            )


_TUMOUR = {"wt": (1, 2, 3), "tc": (1, 3), "et": (3,)}
LABEL_RULES = {
    "2018-2021": LabelRule("2018-2021", {"wt": (1, 2, 4), "tc": (1, 4), "et": (4,)}),
    "2023": LabelRule("2023", _TUMOUR),
    "2024": LabelRule("2024", _TUMOUR, others=(4,)),
    "2025": LabelRule("2025", _TUMOUR, others=(4,)),
    "2026": LabelRule("2026", _TUMOUR, others=(4,)),
    "nonzero": LabelRule("nonzero", {"wt": ()}),
}


def label_rule(name: str, ignore: Iterable[int] = ()) -> LabelRule:
    """The rule of a name, with further values to ignore; raises UsageError for an unknown name."""
    if name in ("2018", "2019", "2020", "2021"):
        name = "2018-2021"
    if name not in LABEL_RULES:
        raise UsageError(f"unknown label rule {name!r}; choose one of {', '.join(LABEL_RULES)}")
    rule = LABEL_RULES[name]
    return replace(rule, ignore=(*rule.ignore, *ignore))
