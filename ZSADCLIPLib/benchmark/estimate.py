"""What a benchmark run will need, before it starts: slices, cache sizes and time per row, from a table of measured seconds."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import NamedTuple

from ..adapters.registry import METHODS
from ..backbones.weights import status
from ..detection.devices import choose_device
from ..errors import ZSADCLIPError
from ..training.schedule import VERSIONS
from .cohort import read_cohort
from .identity import published, registered
from .rows import SHOTS, Row
from .settings import Profile, slice_rule

SUBJECTS, SLICES, BRAIN_SHARE, LESION_SHARE = 165, 155, 0.91, 0.25  # BraTS-MET 2023; shares are typical
GPU_SPEED = 450  # VAND on ViT-L-14-336, float32: 1.9 s a slice on two AVX2 cores, 235 slices a second on one H100


CASE_MB = {"numbers": 0.03, "sketches": 0.063, "panels": 0.112, "maps": 21.0}
"""Of a scored volume of 240 x 240 x 155 in a row's folder, as measured on the demo's case; maps are float32."""
BRAIN_MB = 2.7  # of an embedded brain


class Cost(NamedTuple):
    """A slice of 240 x 240: seconds on two AVX2 cores by a method of cost 1, and the numbers that a training keeps of it."""

    seconds: float
    values: float


COSTS = {
    "ViT-L-14-336": Cost(1.9, 1.19e6),
    "ViT-B-16-plus-240": Cost(0.6, 0.81e6),
    "BiomedCLIP": Cost(0.4, 0.69e6),
    "PMC-CLIP": Cost(0.2, 1.71e6),
    "mini": Cost(0.15, 0.46e6),
    "mini-rn": Cost(0.05, 0.43e6),
}
"""By backbone, as measured in docs/explanation/performance.md; BiomedCLIP and PMC-CLIP from their size against the ViTs."""


def counts(profile: Profile, data: str | None) -> dict:
    """Subjects and slices on each side: of the data set's files, of the embedded brains, or of BraTS-MET 2023."""
    if data is not None:
        cohort = read_cohort(profile, data, None)
        train, test = len(cohort.side("train")), len(cohort.side("test"))
    elif profile.data.train_cases:
        train, test = profile.data.train_cases, profile.data.test_cases
    else:
        train = int(profile.split.fraction * SUBJECTS)
        test = SUBJECTS - train
    slices = -(-SLICES // profile.slices.every)
    kind, others = slice_rule(profile.train.slices)
    each = {"all": slices, "brain": slices * BRAIN_SHARE, "lesion": slices * LESION_SHARE + others}[kind]
    return {"train_subjects": train, "test_subjects": test, "scored_slices": slices, "train_slices": round(each)}


def estimate(
    profile: Profile, rows: tuple[Row, ...], data: str | None, weights_dir: str | None = None, device: str = "auto"
) -> dict:
    """{"rows": [...], "models", "counts", "total_hours", "cache_gb", "disk_gb", "notes"} of a run, JSON-able.

    Times are those of COSTS, scaled by image size; each row is priced alone and evaluation is not counted. Raises WeightsError
    as `registered` does.
    """
    sizes, device = counts(profile, data), choose_device(device)
    scale = (profile.slices.image_size / 240) ** 2 / (1 if device == "cpu" else GPU_SPEED)
    lines = [_line(row, profile, sizes, scale) for row in rows]
    caches = {(row.method, row.backbone): line["cache_gb"] for row, line in zip(rows, lines, strict=True)}
    models = {
        line["backbone"]: profile.backbone(row.backbone, row.method)
        for row, line in zip(rows, lines, strict=True)
        if row.backbone
    }
    states = {entry["name"]: entry["state"] for entry in status(weights_dir)}
    machine = "two AVX2 cores" if device == "cpu" else "an H100"
    notes = [f"time from a table of seconds a slice on {machine}"]
    if unknown := [name for name in models if name not in COSTS]:
        notes.append(f"not measured, so priced as the dearest backbone: {', '.join(unknown)}")
    if data is None and not profile.data.train_cases:
        notes.append(f"assumes the paper's {SUBJECTS} subjects with {SLICES} slices, {BRAIN_SHARE:.0%} with brain")
    cache = sum(caches.values())
    return {
        "rows": lines,
        "counts": sizes,
        "models": {name: model.weights or states.get(name, "unknown") for name, model in models.items()},
        "industrial": _industrial(profile, rows, weights_dir),
        "total_hours": sum(line["train_hours"] + line["score_hours"] for line in lines),
        "cache_gb": cache,
        "disk_gb": {
            "features": cache if profile.train.cache.startswith("disk") else 0.0,
            **_disk(profile, rows, sizes, own_brains=data is None),
        },
        "notes": notes,
    }


def short_of_room(folder: str | os.PathLike, gb: float) -> list[str]:
    """A note where the disk of a folder, which need not be there yet, has less than `gb` GB left; else none."""
    folder = Path(os.path.abspath(folder))
    there = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(there).free / 1e9
    return [] if free >= gb else [f"the disk of the output has {free:.2f} GB left: free some space, or choose another"]


def _disk(profile: Profile, rows: tuple[Row, ...], sizes: dict, own_brains: bool) -> dict[str, float]:
    """GB of training slices, of what the rows keep of their cases, and of brains made for the run."""
    subjects, keep = sizes["train_subjects"], profile.keep
    tuned = min(subjects, profile.threshold.max_subjects or subjects)
    images = sizes["train_slices"] * subjects if any(row.trained_on for row in rows) else 0
    images += profile.industrial.images if any(row.start == "industrial" for row in rows) else 0
    each = CASE_MB["numbers"] + sum(CASE_MB[name] for name in ("sketches", "panels", "maps") if getattr(keep, name))
    made = profile.data.train_cases + profile.data.test_cases if own_brains else 0
    return {
        "slices": 2 * profile.slices.image_size**2 * images / 1e9,  # image and mask
        "results": len(rows) * (sizes["test_subjects"] * each + tuned * CASE_MB["sketches"]) / 1e3,
        "brains": made * BRAIN_MB / 1e3,
    }


def _line(row: Row, profile: Profile, sizes: dict, scale: float) -> dict:
    subjects = min(sizes["train_subjects"], profile.threshold.max_subjects or sizes["train_subjects"])
    line = {"row": row.id, "backbone": None, "train_slices": 0, "epochs": 0, "train_hours": 0.0, "score_hours": 0.0}
    line |= {"cache_gb": 0.0, "threshold_slices": subjects * sizes["scored_slices"]}
    line["test_slices"] = sizes["test_subjects"] * sizes["scored_slices"]
    if row.backbone is None:
        return line
    model, chosen = profile.backbone(row.backbone, row.method), profile.method(row.method)
    method = METHODS.get(row.method)
    if model.weights is None:
        registered(model)
    line["backbone"] = "custom" if isinstance(model.name, dict) else str(model.name)
    cost = COSTS.get(line["backbone"], max(COSTS.values()))
    planes = row.evidence.score.get("planes", profile.score.planes)
    hours = cost.seconds * scale / 3600  # of a slice by a method of cost 1
    if method is None:  # all slices of all volumes, once; cells are compared in less
        volumes = min(sizes["train_subjects"], chosen.max_subjects or sizes["train_subjects"]) + sizes["test_subjects"]
        return line | {
            "score_hours": volumes * sizes["scored_slices"] * profile.slices.every * hours * max(1, len(planes))
        }
    line["score_hours"] = (line["threshold_slices"] + line["test_slices"]) * hours * method.score_cost
    line["score_hours"] *= max(1, len(planes))
    if row.trained_on is None:
        return line
    subjects = min(sizes["train_subjects"], chosen.max_subjects or sizes["train_subjects"])
    each, made = sizes["train_slices"], profile.healthy
    if row.trained_on == "healthy":
        each = made.variants * (made.slices or round(sizes["scored_slices"] * (BRAIN_SHARE - LESION_SHARE)))
    slices = min(subjects * each, chosen.max_slices or subjects * each)
    epochs = chosen.epochs or method.load().Config().epochs
    if row.trained_on == "support":
        slices, own = 2 * (chosen.kshot or SHOTS) * VERSIONS[method.versions], {**row.settings, **chosen.settings}
        epochs = own.get("epochs", method.load().Config().epochs)
    area, size = (profile.slices.image_size / 240) ** 2, {"none": 0, "disk-half": 2}.get(profile.train.cache, 4)
    return line | {
        "train_slices": slices,
        "epochs": epochs,
        "train_hours": slices * hours * (method.score_cost + epochs * method.train_cost),
        "cache_gb": slices * cost.values * area * method.cache_cost * size / 1e9,
    }


def _industrial(profile: Profile, rows: tuple[Row, ...], weights_dir: str | None) -> dict[str, str]:
    out = {}
    for method in dict.fromkeys(row.method for row in rows if row.start == "industrial"):
        name = profile.method(method).industrial
        if name is None:
            out[method] = f"trained on {profile.industrial.images} synthetic images"
            continue
        try:
            out[method] = f"{name}: {published(method, name, weights_dir)}"
        except ZSADCLIPError:
            out[method] = f"{name}: missing"
    return out
