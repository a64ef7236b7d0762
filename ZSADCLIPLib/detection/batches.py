"""Slices through a model in batches: transfers beside the computation, and less at once when memory runs out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ..execution.shared import give_way
from ..progress import Progress, silent
from .devices import is_out_of_memory


def _pinned(like: Tensor) -> Tensor:
    return torch.empty(like.shape, dtype=like.dtype, pin_memory=True)


class Arrival:
    """Results on their way from the device; `arrays()` waits for them and for nothing that was queued later."""

    def __init__(self, results: tuple[Tensor, ...]):
        self._event = None
        if results[0].device.type == "cuda":
            # Copies into pinned memory are queued behind the batch; the host goes on and prepares the next one.
            self._results = [_pinned(r).copy_(r, non_blocking=True) for r in results]
            self._event = torch.cuda.Event()
            # On the stream of the results' device, which need not be the current one.
            self._event.record(torch.cuda.current_stream(results[0].device))
        else:
            self._results = [r.cpu() for r in results]

    def arrays(self) -> list[np.ndarray]:
        if self._event is not None:
            self._event.synchronize()
        return [r.numpy() for r in self._results]


def load_slices(backbone, slices: np.ndarray, rows: np.ndarray, normalise: bool = True) -> Tensor:
    """The preprocessed `rows` of 8-bit slices (N, S, S) on the backbone's device; `normalise` as in its `preprocess`."""
    images = torch.from_numpy(slices[rows])
    if backbone.device.type == "cuda":
        images = images.pin_memory()
    return backbone.preprocess(images) if normalise else backbone.preprocess(images, normalise=False)


def run_batches(
    backbone,
    slices: np.ndarray,
    rows: np.ndarray,
    batch: int,
    score: Callable[[Tensor], tuple[Tensor, ...]],
    keep: Callable[[np.ndarray, list[np.ndarray]], None],
    progress: Progress = silent,
    count: tuple[int, int] | None = None,
) -> int:
    """`score` the preprocessed `rows` of 8-bit slices (N, S, S) and `keep(rows, results)` what came of each batch.

    All else as `in_batches`.
    """

    def work(now: np.ndarray) -> tuple[Tensor, ...]:
        return score(load_slices(backbone, slices, now))

    return in_batches(backbone, rows, batch, work, keep, progress, count)


def in_batches(
    backbone,
    rows: np.ndarray,
    batch: int,
    work: Callable[[np.ndarray], tuple[Tensor, ...]],
    keep: Callable[[np.ndarray, list[np.ndarray]], None],
    progress: Progress = silent,
    count: tuple[int, int] | None = None,
) -> int:
    """`work` on the `rows` of a stack of slices and `keep(rows, results)` what came of each batch.

    On a GPU the results of a batch come back while the next one is computed. An out-of-memory error halves the batch and
    goes on. `count` (slices done before, slices in all) is what progress speaks of. Returns the batch size at the end;
    raises what `progress` raises, and the error when one slice does not fit.
    """
    done, waiting, (before, total) = 0, None, count or (0, len(rows))
    while done < len(rows):
        progress((before + done) / total, f"slice {before + done} of {total}", before + done, total)
        now = rows[done : done + batch]
        give_way()
        try:
            with torch.inference_mode():
                arrival = Arrival(work(now))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or batch == 1:
                raise
            arrival = None
        if arrival is None:  # outside the handler, whose traceback holds on to the failed batch
            batch = min(batch, len(now)) // 2 or 1
            if backbone.device.type == "cuda":
                torch.cuda.empty_cache()
            progress((before + done) / total, f"out of memory: going on with batches of {batch}")
            continue
        if waiting is not None:
            keep(waiting[0], waiting[1].arrays())
        waiting = (now, arrival)
        done += len(now)
    if waiting is not None:
        keep(waiting[0], waiting[1].arrays())
    progress((before + done) / max(total, 1), f"slice {before + done} of {total}", before + done, total)
    return batch
