"""What a benchmark run will need, before it starts: slices, cache sizes and time per row, from a table of measured seconds."""

from __future__ import annotations

from typing import NamedTuple

from ..adapters.registry import METHODS
from ..backbones.weights import status
from ..detection.devices import choose_device
from ..errors import ZSADCLIPError
from .cohort import read_cohort
from .identity import published, registered
from .rows import Row
from .settings import Profile, slice_rule

SUBJECTS, SLICES, BRAIN_SHARE, LESION_SHARE = 165, 155, 0.91, 0.25  # BraTS-MET 2023; shares are typical
GPU_SPEED = 450  # VAND on ViT-L-14-336, float32: 1.9 s a slice on two AVX2 cores, 235 slices a second on one H100


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
"""By backbone, as measured in docs/performance.md, but for BiomedCLIP and PMC-CLIP: from their size against the ViTs."""


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
    """{"rows": [...], "models", "counts", "total_hours", "cache_gb", "notes"} of a run, JSON-able.

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
    return {
        "rows": lines,
        "counts": sizes,
        "models": {name: model.weights or states.get(name, "unknown") for name, model in models.items()},
        "industrial": _industrial(profile, rows, weights_dir),
        "total_hours": sum(line["train_hours"] + line["score_hours"] for line in lines),
        "cache_gb": sum(caches.values()),
        "slices_gb": 2 * profile.slices.image_size**2 * sizes["train_slices"] * sizes["train_subjects"] / 1e9,
        "notes": notes,
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
    slices = min(subjects * sizes["train_slices"], chosen.max_slices or subjects * sizes["train_slices"])
    epochs = chosen.epochs or method.load().Config().epochs
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
