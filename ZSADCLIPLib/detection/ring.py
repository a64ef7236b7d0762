"""Features of slices along a stack, for adapters that look at neighbours: each slice goes through the backbone once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ..adapters.base import Features


class FeatureRing:
    """Features that `encode(rows)` gives, {name: (len(rows), ...)}, of the slices that are still needed."""

    def __init__(self, encode: Callable[[np.ndarray], Features]):
        self._encode = encode
        self._kept: dict[int, Features] = {}

    def __len__(self) -> int:
        return len(self._kept)

    def of(self, rows: np.ndarray, batch: int) -> Features:
        """Features of some slices; those that are not there yet are encoded, `batch` at once."""
        missing = np.array([row for row in rows if row not in self._kept], np.int64)
        for start in range(0, len(missing), batch):
            now = missing[start : start + batch]
            features = self._encode(now)
            for i, row in enumerate(now):
                self._kept[int(row)] = {name: values[i] for name, values in features.items()}
        names = self._kept[int(rows[0])]
        return {name: torch.stack([self._kept[int(row)][name] for row in rows]) for name in names}

    def forget(self, before: int, but: int | None = None) -> None:
        """Drop the slices before a row, except for one."""
        for row in [row for row in self._kept if row < before and row != but]:
            del self._kept[row]
