"""The one way of slices through adapters, for the detector and for the benchmark, so that both have the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..backbones.focus import Box
from ..errors import ZSADCLIPError
from ..progress import Progress, silent
from ..volumes.intensity import blank_slices
from .batches import run_batches

FAST_RUN = 8
"""Slices that share a box in fast mode: neighbours look alike, and a box each would leave nothing to batch."""


def fill_memory(adapter, backbone, slices: np.ndarray, batch_size: int) -> None:
    """Add normal uint8 slices (N, S, S) to an adapter's memory bank, `batch_size` at once."""
    for batch in torch.from_numpy(slices).split(batch_size):
        adapter.remember(backbone, backbone.preprocess(batch))


def slice_maps(
    backbone,
    adapters: Sequence,
    slices: np.ndarray,
    batch_size: int,
    progress: Progress = silent,
    boxes: Sequence[Box] | None = None,
) -> tuple[list[np.ndarray], list[np.ndarray], int]:
    """Raw maps float32 (N, S, S) and image scores float32 (N,) of each adapter for uint8 slices (N, S, S).

    Identical blank slices are scored once, and adapters that need the same features see them computed once; what one gives
    does not depend on which others are there. A batch that does not fit into memory is halved; the third value is the batch
    size at the end. With `boxes` (fast mode) only the patches of the n-th box are computed in the n-th run of FAST_RUN
    slices. Values that are not finite are for the caller to refuse (`check_finite`). Raises as `run_batches`.
    """
    blank = np.flatnonzero(blank_slices(slices)) if len(slices) > 1 else np.array([], int)
    todo = np.concatenate([np.setdiff1d(np.arange(len(slices)), blank), blank[:1]]).astype(int)
    maps = [np.empty(slices.shape, np.float32) for _ in adapters]
    scores = [np.empty(len(slices), np.float32) for _ in adapters]

    def keep(rows: np.ndarray, results: list[np.ndarray]) -> None:
        for target, result in zip((*maps, *scores), results, strict=True):
            target[rows] = result

    done = 0
    for n, box in enumerate(boxes or [None]):
        rows = todo if box is None else todo[todo // FAST_RUN == n]
        focused = backbone if box is None else backbone.focused(box)
        score, count = partial(_score, focused, adapters), (done, len(todo))
        batch_size = run_batches(focused, slices, rows, batch_size, score, keep, progress, count)
        done += len(rows)
    for target in (*maps, *scores):
        target[blank[1:]] = target[blank[:1]]
    return maps, scores, batch_size


def _score(backbone, adapters: Sequence, images: Tensor) -> tuple[Tensor, ...]:
    """The maps of all adapters, then their image scores."""
    features, results = {}, []
    for adapter in adapters:
        key = (adapter.method, *adapter.feature_settings().items())
        if key not in features:
            features[key] = adapter.features(backbone, images)
        results.append(adapter.predict(backbone, features[key], images.shape[-1]))
    return (*(r.maps for r in results), *(r.images for r in results))


def check_finite(name: str, backbone, *arrays: np.ndarray) -> None:
    """Raise ZSADCLIPError when what came of `name` holds a value that is not finite."""
    broken = sum(int((~np.isfinite(array)).sum()) for array in arrays)
    if broken:
        raise ZSADCLIPError(
            f"the anomaly map of {name} has {broken} values that are not finite, so it is not used: the weights are damaged, the "
            f"adapter diverged in training (try a lower learning rate), or precision {backbone.describe()['dtype']} is too low "
            "(try float32)"
        )


def zeroed_background(maps: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Maps with the lowest value of all of them outside `brain` (bool, the same shape)."""
    return np.where(brain, maps, maps.min())
