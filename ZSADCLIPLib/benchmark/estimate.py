"""What a benchmark run will need, before it starts: slices, cache sizes and time per row, from measured seconds."""

from __future__ import annotations

import time
from typing import NamedTuple

from ..adapters.registry import METHODS
from ..backbones.weights import status
from ..errors import ZSADCLIPError
from .identity import published, registered
from .rows import Row
from .settings import BackboneChoice, Profile, slice_rule

SUBJECTS, SLICES, BRAIN_SHARE, LESION_SHARE = 165, 155, 0.91, 0.25  # BraTS-MET 2023; shares are typical
SPEED = 100e9  # matrix products a second, float32, to which COSTS belong


class Cost(NamedTuple):
    """A slice of 240 x 240: seconds of its score by a method of cost 1, and the numbers that a training keeps of it."""

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
"""By backbone: the CLIP ViTs as measured in docs/performance.md; the embedded ones from CPU seconds on a core taken to reach
SPEED; BiomedCLIP and PMC-CLIP not measured, but from their size against the ViTs."""


def cost_of(name: str) -> tuple[Cost, bool]:
    """The cost of a backbone, the dearest one for a name that was not measured; and whether it was."""
    return COSTS.get(name, max(COSTS.values())), name in COSTS


def counts(profile: Profile, data: str | None) -> dict:
    """Subjects and slices on each side: of the data set's files, of the embedded brains, or of BraTS-MET 2023."""
    if data is not None:
        from .cohort import read_cohort

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


def matrix_speed(device: str = "auto") -> tuple[float, str]:
    """Float32 FLOPs a second of one matrix product on a device, measured in a moment, and the device's name."""
    import torch

    from ..detection.devices import choose_device

    name = choose_device(device)
    a = torch.rand(1024, 1024, device=name)
    (a @ a).sum().item()
    best, stop = float("inf"), time.perf_counter() + 1.0
    while time.perf_counter() < stop:
        started = time.perf_counter()
        (a @ a).sum().item()
        best = min(best, time.perf_counter() - started)
    return 2 * 1024**3 / best, name


def estimate(
    profile: Profile, rows: tuple[Row, ...], data: str | None, weights_dir: str | None = None, device: str = "auto"
) -> dict:
    """{"rows": [...], "models", "counts", "total_hours", "cache_gb", "notes"} of a run, JSON-able.

    Times are those of COSTS, scaled by image size and by the measured speed of the device; evaluation is not counted. Raises
    WeightsError as `registered` does.
    """
    sizes = counts(profile, data)
    speed, where = matrix_speed(device)
    lines, caches, models = [], {}, {}
    for row in rows:
        line = {"row": row.id, "backbone": None, "train_slices": 0, "epochs": 0, "train_hours": 0.0}
        threshold = min(sizes["train_subjects"], profile.threshold.max_subjects or sizes["train_subjects"])
        line["threshold_slices"] = threshold * sizes["scored_slices"]
        line["test_slices"] = sizes["test_subjects"] * sizes["scored_slices"]
        line["score_hours"] = 0.0
        if row.backbone is not None:
            model = profile.backbone(row.backbone, row.method)
            if model.weights is None:
                registered(model)
            line["backbone"] = "custom" if isinstance(model.name, dict) else str(model.name)
            models[line["backbone"]] = model
            _fill(line, row, profile, sizes, speed, caches)
        lines.append(line)
    hours = sum(line["train_hours"] + line["score_hours"] for line in lines)
    notes = [f"time from a table of seconds a slice, at {speed / 1e9:.0f} GFLOP/s of matrix products on {where}"]
    if unknown := [name for name in models if not cost_of(name)[1]]:
        notes.append(f"not measured, so priced as the dearest backbone: {', '.join(unknown)}")
    if data is None and not profile.data.train_cases:
        notes.append(f"assumes the paper's {SUBJECTS} subjects with {SLICES} slices, {BRAIN_SHARE:.0%} with brain")
    return {
        "rows": lines,
        "counts": sizes,
        "models": _states(models, weights_dir),
        "industrial": _industrial(profile, rows, weights_dir),
        "total_hours": hours,
        "cache_gb": sum(caches.values()) / 1e9,
        "slices_gb": 2 * profile.slices.image_size**2 * sizes["train_slices"] * sizes["train_subjects"] / 1e9,
        "notes": notes,
    }


def _fill(line: dict, row: Row, profile: Profile, sizes: dict, speed: float, caches: dict) -> None:
    chosen, method = profile.method(row.method), METHODS[row.method]
    area = (profile.slices.image_size / 240) ** 2
    cost, _ = cost_of(line["backbone"])
    hours = cost.seconds * area * SPEED / speed / 3600  # of a slice by a method of cost 1
    line["score_hours"] = (line["threshold_slices"] + line["test_slices"]) * hours * method.score_cost
    if row.trained_on is None:
        return
    subjects = min(sizes["train_subjects"], chosen.max_subjects or sizes["train_subjects"])
    slices = min(subjects * sizes["train_slices"], chosen.max_slices or subjects * sizes["train_slices"])
    epochs = chosen.epochs or method.load().Config().epochs
    line |= {"train_slices": slices, "epochs": epochs}
    line["train_hours"] = slices * hours * (method.score_cost + epochs * method.train_cost)
    size = {"none": 0, "disk-half": 2}.get(profile.train.cache, 4)
    line["cache_gb"] = slices * cost.values * area * method.cache_cost * size / 1e9
    caches[(row.method, row.backbone)] = line["cache_gb"] * 1e9


def _states(models: dict[str, BackboneChoice], weights_dir: str | None) -> dict[str, str]:
    states = {entry["name"]: entry["state"] for entry in status(weights_dir)}
    return {name: model.weights or states.get(name, "unknown") for name, model in models.items()}


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
