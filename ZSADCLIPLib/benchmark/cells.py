"""Rows that compare volumes: cells of test volumes scored by those of training volumes, or by each other.

Tokens of each case are a file, and so are the scores of each case after each pass; a step whose file is there does nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from ..datasets.records import Record, read_case
from ..errors import UsageError
from ..fields import Between, Count, OneOf, Positive, from_dict
from ..files.digests import code_version, content_key
from ..neighbours import BANK, DROPS
from ..progress import Progress, silent
from .cohort import Cohort
from .settings import Profile
from .slices import CaseSlices
from .specs import BackboneSpec, CellSpec, DataSpec, to_json

LEAST = 2  # volumes that are compared
RANGE = (0.0, 2.0)
"""Of distances between unit vectors."""


@dataclass(frozen=True)
class BankSettings:
    """What a profile says of bank rows in methods.bank.settings: see `neighbours.tokens.TokenSettings` and `jobs.bank`."""

    cell_mm: Annotated[float, Between(0)] = 8.0
    layers: tuple[Positive, ...] = ()
    projection: Count = 64
    seed: Count = 0
    interval: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self):
        low, high = self.interval
        if not 0 <= low <= high <= 1:
            raise UsageError(f"the interval {low:g} to {high:g}: expected shares with 0 <= LOW <= HIGH <= 1")


@dataclass(frozen=True)
class CohortSettings(BankSettings):
    """The same of cohort rows: see `jobs.cohort.Cohort`."""

    interval: tuple[float, float] = (0.0, 0.3)
    refine: Count = 1
    references: Positive = 32
    drop: Annotated[str, OneOf(DROPS)] = DROPS[0]


def cell_settings(method: str, settings: dict) -> BankSettings | CohortSettings:
    """The settings of a bank's or a batch's row; raises UsageError naming the one that there is not."""
    return from_dict(BankSettings if method == BANK else CohortSettings, settings, f"methods.{method}.settings")


def cell_spec(
    method: str,
    profile: Profile,
    backbone: BackboneSpec,
    data: DataSpec,
    cohort: Cohort,
    threshold: Sequence[Record],
    out: Path,
) -> CellSpec:
    """The cells of a row: those of its training cases, among them the `threshold` ones, and of all test cases.

    Raises UsageError for settings that are not allowed, or too few cases to compare.
    """
    options, slices, score = profile.method(method), profile.slices, profile.score
    chosen, seed = cell_settings(method, options.settings), profile.split.seed
    train = sorted({r.id: r for r in (*cohort.training(options.max_subjects, seed), *threshold)}.items())
    sides = {"train": tuple(record for _, record in train), "test": cohort.side("test")}
    names = {side: tuple(record.id for record in of) for side, of in sides.items()}
    for side in ("train",) if method == BANK else tuple(sides):
        if len(names[side]) < LEAST:
            raise UsageError(
                f"profile {profile.name}: {method} rows compare {side} cases with each other, and there is "
                f"{len(names[side])}; give more cases, or leave the row out"
            )
    tokens = {name: getattr(chosen, name) for name in ("cell_mm", "layers", "projection", "seed")}
    tokens |= {"planes": score.planes or ("axial",), "image_size": slices.image_size, "intensity": slices.intensity}
    tokens = to_json(tokens | {"window": slices.window, "crop": slices.crop})
    settings = to_json({k: v for k, v in asdict(chosen).items() if k not in tokens})
    model = {"name": backbone.model_id, "weights": backbone.weights_id, "activation": backbone.activation}
    made = {"code": code_version(), "tokens": tokens, "backbone": model, "precision": backbone.precision, "data": data}
    made["contents"] = [cohort.digest(of) for of in sides.values()]
    folder = out / "cells" / content_key(to_json(made))
    scored = content_key(to_json({"method": method, "settings": settings, **names}))
    return CellSpec(str(folder / scored), str(folder / "tokens"), method, backbone, data, tokens, settings, **names)


def turns_of(spec: CellSpec) -> int:
    """How many passes score its cells."""
    return 1 + spec.settings.get("refine", 0)


def token_settings(spec: CellSpec):
    """The `TokenSettings` of a row."""
    from ..neighbours.tokens import TokenSettings

    return from_dict(TokenSettings, spec.tokens)


def make_tokens(spec: CellSpec, record: Record, progress: Progress = silent) -> dict:
    """Write the tokens of a case, and which of its cells hold no lesion voxel; only banks look at that."""
    from ..detection.devices import default_batch_size
    from ..neighbours.cells import CellGrid
    from ..neighbours.storing import write_arrays
    from ..neighbours.tokens import volume_tokens
    from ..volumes.slicing import slice_volume
    from .models import open_backbone

    path = _tokens(spec, record.id)
    if path.is_file():
        return {"kept": True}
    settings, data = token_settings(spec), spec.data
    case = read_case(record, data.target, data.ignore, data.placement, data.allow)
    backbone = open_backbone(spec.backbone)
    size = default_batch_size(backbone, settings.image_size)
    found = volume_tokens(backbone, case.image, settings, case.brain, size, progress)
    share = CellGrid(slice_volume(case.image), settings.cell_mm).share(case.truth | case.ignore)
    arrays = {"cells": found.cells, "tokens": found.tokens, "clean": share[tuple(found.cells.T)] == 0}
    write_arrays(path, arrays, {"case": record.id})
    return {"cells": len(found.cells)}


def score_cells(spec: CellSpec, turn: int, case_id: str, progress: Progress = silent) -> dict:
    """Write the scores of a case's cells after a pass, and which of them are no references in the next one."""
    import torch

    from ..neighbours.mutual import nearest, share_scores
    from ..neighbours.stages import dropped
    from ..neighbours.storing import write_arrays

    path = _scores(spec, turn, case_id)
    if path.is_file():
        return {"kept": True}
    tokens, others, found = _units(spec, case_id), _others(spec, case_id), []
    for n, other in enumerate(others):
        progress(n / len(others), f"comparing {case_id} and {other}", n, len(others))
        found.append(nearest(tokens, _units(spec, other)[_references(spec, turn, other)])[0])
    distances, last = torch.stack(found, dim=1), turn == turns_of(spec) - 1
    scores = share_scores(distances, tuple(spec.settings["interval"]) if last else (0.0, 1.0)).numpy()
    out = dropped(distances, scores, spec.settings.get("drop", DROPS[0]))
    write_arrays(path, {"scores": scores, "dropped": out}, {"case": case_id})
    return {"cells": len(scores)}


def drawn(spec: CellSpec, case: CaseSlices) -> np.ndarray:
    """The raw map float32 (N, R, C) of a case; what is not brain has its lowest value."""
    from ..neighbours.cells import CellGrid
    from ..neighbours.storing import read_array
    from ..volumes.slicing import slice_volume

    cells = read_array(_tokens(spec, case.record.id), "cells")
    scores = read_array(_scores(spec, turns_of(spec) - 1, case.record.id), "scores")
    grid = CellGrid(slice_volume(case.volume), token_settings(spec).cell_mm)
    maps = case.stack.arrange(grid.draw(cells, scores))[case.taken]
    return np.where(case.brain, maps, maps[case.brain].min(initial=RANGE[1]))


def described(cells: CellSpec) -> tuple[dict, dict]:
    """Backbone and method of a row that compares volumes, for its manifest."""
    from .models import open_backbone

    model = {**open_backbone(cells.backbone).describe(), "weights_id": cells.backbone.weights_id}
    told = {"name": cells.method, "trainable_parameters": 0, "adapted": [], "start": None}
    references = "cells of training volumes without a lesion voxel" if cells.method == BANK else "the batch itself"
    return model, {**told, "references": references, "config": {**cells.tokens, **cells.settings}}


def _others(spec: CellSpec, case_id: str) -> list[str]:
    """The cases that one is compared with: the bank's but for itself, or those of its own side, as many as there may be."""
    from ..neighbours.pairs import PairPlan

    if spec.method == BANK:
        return [other for other in spec.train if other != case_id]
    side = spec.train if case_id in spec.train else spec.test
    return PairPlan(side, spec.settings["references"], spec.tokens["seed"]).partners(case_id)


def _references(spec: CellSpec, turn: int, case_id: str) -> np.ndarray:
    """Which cells of a case are references in a pass, bool (n,)."""
    from ..neighbours.storing import read_array

    if spec.method == BANK:
        return read_array(_tokens(spec, case_id), "clean")
    if turn:
        return ~read_array(_scores(spec, turn - 1, case_id), "dropped")
    return np.ones(len(read_array(_tokens(spec, case_id), "cells")), bool)


def _units(spec: CellSpec, case_id: str):
    from ..neighbours.storing import read_array
    from ..neighbours.tokens import units

    return units(read_array(_tokens(spec, case_id), "tokens"))


def _tokens(spec: CellSpec, case_id: str) -> Path:
    return Path(spec.token_folder) / f"{case_id}.safetensors"


def _scores(spec: CellSpec, turn: int, case_id: str) -> Path:
    return Path(spec.folder) / f"{turn}-{case_id}.safetensors"
