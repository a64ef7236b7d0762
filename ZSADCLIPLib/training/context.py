"""Training slices with their neighbours, for adapters that look at more than one slice."""

from __future__ import annotations

import numpy as np
import torch

from ..adapters.base import NEIGHBOURS, Adapter, Features
from ..errors import UsageError
from .features import FeatureCache
from .schedule import Schedule


def check_context(adapter: Adapter, schedule: Schedule, *sets) -> None:
    """Raise UsageError when an adapter looks at neighbours that are not there, or that would not be augmented as the slice is."""
    if not adapter.context:
        return
    offsets = ", ".join(f"{mm:g}" for mm in adapter.context)
    for data in sets:
        found = None if data is None or data.neighbours is None else data.neighbours.shape[1]
        if data is not None and found != len(adapter.context):
            raise UsageError(
                f"{adapter.method} with context {offsets} mm needs {len(adapter.context)} neighbours of each training slice, and "
                f"there are {found or 'none'}: it trains on volumes, not on single images; leave context out for these"
            )
    if schedule.augment != "none":
        raise UsageError(f"augment {schedule.augment} is for slices alone; with context {offsets} mm choose none")


def features_of(data, cache: FeatureCache, rows: np.ndarray, in_context: tuple[float, ...]) -> Features:
    """Features of some slices, for an adapter with a context those of their neighbours as well."""
    if not in_context:
        return cache(rows)
    needed, index = np.unique(data.neighbours[rows], return_inverse=True)
    features = cache(needed)
    device = next(iter(features.values())).device
    return {**features, NEIGHBOURS: torch.from_numpy(index.reshape(len(rows), -1)).to(device)}
