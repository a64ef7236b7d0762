"""How a training runs: plain data that needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from ..fields import OneOf, Positive, check

VERSIONS = {"versions": 11, "versions-16": 16}
"""Augmentations that are fixed before the training, and how many each makes of a slice (`adapters.support`)."""

AUGMENTATIONS = ("none", "flips", "mosaic", *VERSIONS)

SELECT = ("last", "best-train-loss", "best-val-f1")

CACHES = ("memory", "disk", "disk-half", "none")

PRECISIONS = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class Schedule:
    """How long, in what order and how: None = the method's defaults.

    seed       orders the slices and draws the augmentation.
    cache      "memory", "disk" (memory-mapped, beside the log or in `features`), "disk-half" (float16) or "none".
    augment    see `augment`; what is drawn ("flips", "mosaic") computes features anew in every epoch.
    precision  "float32", or "bfloat16" / "float16" by autocast (float16 on a GPU only).
    select     the epoch that is kept: "last", "best-train-loss" or "best-val-f1"; the first one of equals.
    """

    epochs: Positive | None = None
    batch_size: Positive | None = None
    seed: int = 111
    cache: Annotated[str, OneOf(CACHES)] = "memory"
    augment: Annotated[str, OneOf(AUGMENTATIONS)] = "none"
    precision: Annotated[str, OneOf(PRECISIONS)] = "float32"
    select: Annotated[str, OneOf(SELECT)] = "last"

    def __post_init__(self):
        check(self, "schedule:")

    @property
    def drawn(self) -> bool:
        """Whether each epoch sees other images, so that nothing of them can be kept."""
        return self.augment in ("flips", "mosaic")


def selected_epoch(rows: list[dict], select: str) -> int:
    """The epoch that is kept, from 1, of rows as `fit` returns them; the first one of equals."""
    if select == "last":
        return rows[-1]["epoch"]
    key = (lambda row: row["total"]) if select == "best-train-loss" else (lambda row: -row["val_f1"])
    return min(rows, key=key)["epoch"]
