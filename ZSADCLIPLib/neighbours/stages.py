"""The work on a batch of volumes in steps that are files: tokens of each volume, distances of each pair, scores.

Each file says what it was made of, is complete or absent, and is not made again where it is there: a killed batch goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..detection.case import LABEL_MAP, read_image
from ..detection.caserun import CaseRun, case_of, patiently
from ..errors import InputError
from ..evaluation.sketches import ScoreSketch
from ..execution.shared import on_device, room_for
from ..files.atomic import clear_temporaries
from ..notes import settled
from ..progress import Progress
from ..volumes.checks import size_notes
from ..volumes.reading import volume_hash
from . import DROPS
from .bank import FARTHEST, coreset, healthy_sketch, sample
from .boxes import nearest_within
from .cells import CellGrid
from .mutual import nearest, share_scores
from .pairs import PairPlan
from .storing import is_whole, read_array, read_arrays, seal_of, write_arrays
from .tokens import TokenSettings, VolumeTokens, units, volume_tokens

DROPPED = 0.1
"""Of the cells of each volume, the share that is no reference in the next pass (docs/methods/volumes.md)."""
NEAR, MOST = 1, 0.6
"""Of the distances in rising order: position of an early one, and the share of the volumes at a late one (`gaps`)."""


@dataclass(frozen=True)
class Files:
    """Where the files of a batch are, below one folder."""

    root: Path

    def tokens(self, case_id: str) -> Path:
        """Cells and tokens of a volume."""
        return self.root / "tokens" / f"{case_id}.safetensors"

    def kept(self, case_id: str) -> Path:
        """Which tokens of a volume a bank keeps."""
        return self.root / "kept" / f"{case_id}.safetensors"

    def distances(self, turn: int, blocks: Sequence[int]) -> Path:
        """Distances of the pairs of two blocks in a pass."""
        return self.root / "distances" / f"{turn}-{blocks[0]:04d}-{blocks[1]:04d}.safetensors"

    def scores(self, turn: int, case_id: str) -> Path:
        """Scores of a volume's cells after a pass."""
        return self.root / "scores" / f"{turn}-{case_id}.safetensors"

    def counts(self, case_id: str) -> Path:
        """Counts of the scores of a volume's brain voxels."""
        return self.root / "counts" / f"{case_id}.safetensors"

    def clear(self) -> None:
        """Remove what writers that were killed left."""
        for folder in ("tokens", "kept", "distances", "scores", "counts"):
            clear_temporaries(self.root / folder, lambda name: True)

    def keep(self, turns: int, blocks: Iterable[Sequence[int]], ids: Iterable[str]) -> None:
        """Remove distances and scores of other batches and passes; tokens stay, as another batch may have the volume."""
        wanted = {self.distances(turn, each) for turn in range(turns) for each in blocks}
        wanted |= {self.scores(turn, name) for turn in range(turns) for name in ids}
        for path in {path for folder in ("distances", "scores") for path in (self.root / folder).iterdir()} - wanted:
            path.unlink(missing_ok=True)


def key_of(*parts: object) -> str:
    """Sixteen hex digits that change with any of the JSON-able parts."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def work_on_tokens(
    run: CaseRun, state: Callable, item: dict, settings: TokenSettings, batch_size: int | None, progress: Progress
) -> dict:
    """Write the tokens of a case; its row says how many "cells" there are, and in "seal" what they are."""
    run, case, path = replace(run, token=item["run"]), case_of(item), Path(item["target"])
    with suppress(OSError, InputError):  # read again below, where it is told
        if is_whole(path, key_of(item["settings"], volume_hash(case.image))):
            return _tokens_row(case.id, path) | {"kept": True}

    def work(backbone) -> dict:
        from ..detection.devices import default_batch_size

        key = key_of(item["settings"], volume_hash(case.image))  # before it is read: what is replaced meanwhile differs
        volume = read_image(run, case)
        if volume is None:
            return {"id": case.id, "status": "left out", "error": LABEL_MAP}
        volume = replace(volume, notes=settled((*volume.notes, *size_notes(volume)), run.allow))
        size = batch_size or default_batch_size(backbone, settings.image_size)
        with room_for(volume.array.size):
            found = volume_tokens(backbone, volume, settings, None, size, progress)
        facts = {"key": key, "backbone": backbone.describe()}
        facts |= {"shape": list(volume.shape), "affine": np.asarray(volume.affine, float).tolist()}
        write_arrays(path, {"cells": found.cells, "tokens": found.tokens}, facts)
        return _tokens_row(case.id, path)

    return patiently(run, case, state, work, progress)


def _tokens_row(case_id: str, path: Path) -> dict:
    count = len(read_array(path, "cells"))
    return {"id": case_id, "status": "done", "error": "", "cells": count, "seal": seal_of(path)}


def read_tokens(path: Path) -> VolumeTokens:
    """The tokens of a volume; raises InputError when they cannot be read."""
    arrays, _ = read_arrays(path)
    return VolumeTokens(arrays["cells"], arrays["tokens"])


def work_on_pairs(files: Files, item: dict, device: str, progress: Progress) -> dict:
    """Write the distances of the pairs of two blocks, both directions of each at once; the row says nothing further."""
    path, row = files.distances(item["turn"], item["blocks"]), {"id": item["id"], "status": "done", "error": ""}
    if is_whole(path, item["settings"]):
        return row | {"kept": True}
    found: dict[str, np.ndarray] = {}

    @cache  # as many as two blocks have
    def references(case_id: str) -> _References:
        return _References(files, case_id, item, device)

    for n, (one, other) in enumerate(item["pairs"]):
        progress(n / len(item["pairs"]), f"comparing {one} and {other}")
        first, second = references(one), references(other)
        counts = first.count, second.count
        if item["reach"] is None:
            rows, columns = on_device(nearest, first.tokens, second.tokens, counts)
        else:
            places = first.cells, second.cells
            rows, columns = on_device(nearest_within, first.tokens, second.tokens, places, item["reach"], counts)
        found[f"{one}>{other}"], found[f"{other}>{one}"] = first.in_order(rows), second.in_order(columns)
    write_arrays(path, found, {"key": item["settings"]})
    return row


class _References:
    """The tokens of a volume, on a device, the `count` that may be references first."""

    def __init__(self, files: Files, case_id: str, item: dict, device: str):
        stored = read_tokens(files.tokens(case_id))
        tokens = stored.tokens
        order, self.count = np.arange(len(tokens)), len(tokens)
        if item["turn"]:
            dropped = read_array(files.scores(item["turn"] - 1, case_id), "dropped")
            order = np.argsort(dropped, kind="stable")
            self.count -= int(dropped.sum())
        elif item["sample"]:
            at = sample(*item["sample"]["of"])[item["sample"]["ids"].index(case_id)]
            at = kept_of(files, case_id, tokens, len(at)) if item["sample"]["keep"] == "coreset" else at
            order, self.count = np.concatenate([at, np.setdiff1d(order, at)]), len(at)
        self._order, self.tokens, self.cells = order, on_device(units, tokens[order], device), stored.cells[order]

    def in_order(self, distances: Tensor) -> np.ndarray:
        """Distances of these tokens, float32 in the order of their cells."""
        out = np.empty(len(self._order), np.float32)
        out[self._order] = distances.cpu().numpy()
        return out


def kept_of(files: Files, case_id: str, tokens: np.ndarray, number: int) -> np.ndarray:
    """The `coreset` of a volume's `tokens` (n, C), int64 (number,), which is found once and then read."""
    path, key = files.kept(case_id), key_of(seal_of(files.tokens(case_id)), number)
    if not is_whole(path, key):
        write_arrays(path, {"kept": coreset(tokens, number)}, {"key": key})
    return read_array(path, "kept")


def write_scores(
    files: Files, plan: PairPlan, turn: int, case_id: str, interval: Sequence[float], drop: str = DROPS[0]
) -> np.ndarray:
    """Score the cells of a volume by its distances in a pass, float32 (n,), and write them.

    `drop`, one of DROPS, says which cells are no references in the next pass.
    """
    of = (
        read_array(files.distances(turn, plan.block_of(case_id, other)), f"{case_id}>{other}")
        for other in plan.partners(case_id)
    )
    distances = torch.from_numpy(np.stack(list(of), axis=1))
    scores = share_scores(distances, interval).numpy()
    facts = {"interval": list(interval), "drop": drop}
    write_arrays(files.scores(turn, case_id), {"scores": scores, "dropped": dropped(distances, scores, drop)}, facts)
    return scores


def dropped(distances: Tensor, scores: np.ndarray, drop: str) -> np.ndarray:
    """Which of n cells are dropped as references, bool (n,): the tenth highest in `scores` or in `gaps(distances)`."""
    doubts = scores if drop == "score" else gaps(distances).numpy()
    out = np.zeros(len(scores), bool)
    out[np.argsort(doubts, kind="stable")[len(scores) - int(DROPPED * len(scores)) :]] = True
    return out


def gaps(distances: Tensor) -> Tensor:
    """How much farther the most of the volumes are than the second nearest, as a ratio (n,) of `distances` (n, volumes).

    Tissue that few volumes share, as a lesion that recurs, is near those and far from all others; normal tissue is as near to
    many. After the endurance ratio of CoDeGraph (arXiv 2510.10456), whose exact positions are not public, and without its
    graph of images.
    """
    ordered = distances.sort(dim=1).values
    last = ordered.shape[1] - 1
    late = min(last, max(NEAR + 1, int(MOST * ordered.shape[1])))
    return ordered[:, late] / ordered[:, min(NEAR, last)].clamp(min=1e-6)


def work_on_counts(run: CaseRun, files: Files, item: dict, settings: TokenSettings, progress: Progress) -> dict:
    """Count the scores of the brain voxels of a healthy volume, which was scored by the others."""
    run, case, path = replace(run, token=item["run"]), case_of(item), files.counts(item["id"])
    row = {"id": case.id, "status": "done", "error": ""}
    if is_whole(path, item["settings"]):
        return row | {"kept": True}

    def work(_) -> dict:
        volume = read_image(run, case)
        if volume is None:
            raise InputError("it became a label map meanwhile; run again")
        cells, scores = read_array(files.tokens(case.id), "cells"), read_array(files.scores(0, case.id), "scores")
        with room_for(volume.array.size):
            prepared = settings.look(0).prepare(volume, settings.image_size)
            drawn = CellGrid(prepared.stack, settings.cell_mm).draw(cells, scores)
            counts = healthy_sketch(drawn[prepared.scored]).negatives
        write_arrays(path, {"counts": counts}, {"key": item["settings"]})
        return row

    return patiently(run, case, lambda: True, work, progress)


def read_counts(paths: Sequence[Path]) -> ScoreSketch:
    """The counts of several volumes together."""
    total = ScoreSketch(0.0, FARTHEST)
    for path in paths:
        total.negatives += read_array(path, "counts")
    return total
