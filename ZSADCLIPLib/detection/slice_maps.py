"""The one way of slices through adapters, for the detector and for the benchmark, so that both have the same numbers."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from ..adapters.base import NEIGHBOURS, Features
from ..backbones.focus import Box
from ..errors import ZSADCLIPError
from ..progress import Progress, silent, sub_progress
from ..volumes.intensity import blank_slices
from ..volumes.neighbours import neighbours
from .batches import in_batches, load_slices
from .ring import FeatureRing

FAST_RUN = 8
"""Slices that share a box in fast mode: neighbours look alike, and a box each would leave nothing to batch."""


def fill_memory(adapter, backbone, slices: np.ndarray, batch_size: int) -> None:
    """Add normal uint8 slices (N, S, S) to an adapter's memory bank, `batch_size` at once."""
    for batch in torch.from_numpy(slices).split(batch_size):
        adapter.remember(backbone, backbone.preprocess(batch, adapter.normalised))


def slice_maps(
    backbone,
    adapters: Sequence,
    slices: np.ndarray,
    batch_size: int,
    progress: Progress = silent,
    boxes: Sequence[Box] | None = None,
    spacing: float | None = None,
) -> tuple[list[np.ndarray], list[np.ndarray], int]:
    """Raw maps float32 (N, S, S) and image scores float32 (N,) of each adapter for uint8 slices (N, S, S).

    Identical blank slices are scored once, and adapters that need the same features see them computed once; what one gives
    does not depend on which others are there. A batch that does not fit into memory is halved; the third value is the batch
    size at the end. With `boxes` (fast mode) only the patches of the n-th box are computed in the n-th run of FAST_RUN
    slices. `spacing` is their distance in mm: with it the slices are a stack, and adapters with a `context` see neighbours;
    without it each slice stands in for its own. Values that are not finite are for the caller to refuse (`check_finite`).
    Raises as `in_batches`.
    """
    maps = [np.empty(slices.shape, np.float32) for _ in adapters]
    scores = [np.empty(len(slices), np.float32) for _ in adapters]
    together = [n for n, adapter in enumerate(adapters) if spacing and adapter.context]
    alone = [n for n in range(len(adapters)) if n not in together]
    both = bool(alone and together)
    if alone:
        some, targets = [adapters[n] for n in alone], [each[n] for each in (maps, scores) for n in alone]
        part = sub_progress(progress, 0.0, 0.5) if both else progress
        batch_size = _score_alone(backbone, some, slices, batch_size, part, boxes, targets)
    if together:
        some, targets = [adapters[n] for n in together], [each[n] for each in (maps, scores) for n in together]
        part = sub_progress(progress, 0.5, 1.0) if both else progress
        batch_size = _score_in_stack(backbone, some, slices, batch_size, part, boxes, spacing, targets)
    return maps, scores, batch_size


def _keep_in(targets: Sequence[np.ndarray]):
    """Puts the results of some rows where they belong."""

    def keep(rows: np.ndarray, results: list[np.ndarray]) -> None:
        for target, result in zip(targets, results, strict=True):
            target[rows] = result

    return keep


def _blank(slices: np.ndarray) -> np.ndarray:
    """The rows of identical blank slices; none where a slice is all there is."""
    return np.flatnonzero(blank_slices(slices)) if len(slices) > 1 else np.array([], int)


def _score_alone(backbone, adapters, slices, batch_size, progress, boxes, targets) -> int:
    """Slices one by one into `targets`, maps and then image scores; identical blank slices once. Returns the batch size."""
    blank, keep, done = _blank(slices), _keep_in(targets), 0
    todo = np.concatenate([np.setdiff1d(np.arange(len(slices)), blank), blank[:1]]).astype(int)
    for n, box in enumerate(boxes or [None]):
        rows = todo if box is None else todo[todo // FAST_RUN == n]
        focused = backbone if box is None else backbone.focused(box)
        score, count = partial(_score, focused, adapters, slices), (done, len(todo))
        batch_size = in_batches(focused, rows, batch_size, score, keep, progress, count)
        done += len(rows)
    for target in targets:
        target[blank[1:]] = target[blank[:1]]
    return batch_size


def _score_in_stack(backbone, adapters, slices, batch_size, progress, boxes, spacing, targets) -> int:
    """As `_score_alone`, each slice with its neighbours' features: all slices are encoded once, blank ones once together."""
    blank, rows = _blank(slices), np.arange(len(slices))
    same = rows.copy()
    same[blank] = blank[:1]
    tables = [neighbours(len(slices), spacing, adapter.context) for adapter in adapters]
    rings: dict[tuple, FeatureRing] = {}

    def score(now: np.ndarray) -> tuple[Tensor, ...]:
        results, first = [], min(int(table[now[0]].min()) for table in tables)
        for adapter, table in zip(adapters, tables, strict=True):
            encode = partial(_encode, backbone, adapter, slices, boxes)
            ring = rings.setdefault(_feature_key(adapter), FeatureRing(encode))
            ring.forget(first, blank[0] if len(blank) else None)
            needed, index = np.unique(same[table[now]], return_inverse=True)
            features = ring.of(needed, len(now))
            features[NEIGHBOURS] = torch.from_numpy(index.reshape(len(now), -1)).to(backbone.device)
            results.append(adapter.predict(backbone, features, slices.shape[-1]))
        return (*(r.maps for r in results), *(r.images for r in results))

    return in_batches(backbone, rows, batch_size, score, _keep_in(targets), progress)


def _encode(backbone, adapter, slices: np.ndarray, boxes: Sequence[Box] | None, rows: np.ndarray) -> Features:
    """Features of some slices, in fast mode each within the box of its run."""
    if boxes is None:
        return adapter.features(backbone, load_slices(backbone, slices, rows, adapter.normalised))
    parts = []
    for run in np.unique(rows // FAST_RUN):
        focused, some = backbone.focused(boxes[run]), rows[rows // FAST_RUN == run]
        parts.append(adapter.features(focused, load_slices(backbone, slices, some, adapter.normalised)))
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _feature_key(adapter) -> tuple:
    """Adapters with equal keys share features."""
    return (adapter.method, *adapter.feature_settings().items())


def _score(backbone, adapters: Sequence, slices: np.ndarray, rows: np.ndarray) -> tuple[Tensor, ...]:
    """The maps of all adapters for some slices, then their image scores."""
    features, results = {}, []
    wanted = {adapter.normalised for adapter in adapters}
    images = {normalise: load_slices(backbone, slices, rows, normalise) for normalise in wanted}
    for adapter in adapters:
        key = _feature_key(adapter)
        if key not in features:
            features[key] = adapter.features(backbone, images[adapter.normalised])
        results.append(adapter.predict(backbone, features[key], slices.shape[-1]))
    return (*(r.maps for r in results), *(r.images for r in results))


def check_finite(name: str, backbone, *arrays: np.ndarray) -> None:
    """Raise ZSADCLIPError when what came of `name` holds a value that is not finite."""
    broken = sum(array.size - np.count_nonzero(np.isfinite(array)) for array in arrays)
    if broken:
        raise ZSADCLIPError(
            f"the anomaly map of {name} has {broken} values that are not finite, so it is not used: the weights are damaged, the "
            f"adapter diverged in training (try a lower learning rate), or precision {backbone.describe()['dtype']} is too low "
            "(try float32)"
        )


def zeroed_background(maps: np.ndarray, brain: np.ndarray) -> np.ndarray:
    """Maps with the lowest value of all of them outside `brain` (bool, the same shape)."""
    return np.where(brain, maps, maps.min())
