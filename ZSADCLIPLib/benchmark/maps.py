"""Maps of one case for several adapters at once: those that share a backbone see its frozen features once."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from ..adapters.checkpoint import load_adapter
from ..backbones import load_backbone
from ..detection.batches import run_batches
from ..detection.devices import choose_device, choose_dtype, default_batch_size
from ..errors import ZSADCLIPError
from ..evaluation.scales import scale_range, scaled
from ..progress import Progress, silent
from ..volumes.intensity import blank_slices
from .slices import CaseSlices, fit_of, open_slices

# Settings of the image score alone, which the benchmark does not use; the map does not depend on them.
MAP_ONLY = {"adaclip": {"clusters": 0}, "anovl": {"score_views": "identity"}}


def device_of(model: dict) -> str:
    """The device behind a specification's; of several GPUs the one that this process was given (`steps.Steps.load`)."""
    return choose_device(model["device"])


@lru_cache(maxsize=2)
def _backbone(text: str):
    model = json.loads(text)
    device = device_of(model)
    return load_backbone(
        model["name"],
        model["weights"],
        model["activation"],
        device,
        choose_dtype(model["precision"], device),
        model["weights_dir"],
    )


def open_backbone(model: dict):
    """The backbone of a specification {name, weights, activation, device, precision, weights_dir}, kept in this process."""
    return _backbone(json.dumps(model, sort_keys=True))


@lru_cache(maxsize=8)
def _adapter(text: str):
    spec = json.loads(text)
    backbone = open_backbone(spec["backbone"])
    adapter = load_adapter(spec["source"], backbone, {**spec["overrides"], **MAP_ONLY.get(spec["method"], {})})
    if spec.get("reference"):
        images = torch.from_numpy(np.array(open_slices(spec["reference"])[0]))
        for some in images.split(default_batch_size(backbone, images.shape[-1])):
            adapter.remember(backbone, backbone.preprocess(some))
    return adapter


def open_adapter(spec: dict):
    """(backbone, adapter) of a row's specification, ready to score, kept in this process."""
    wanted = {key: spec.get(key) for key in ("method", "backbone", "source", "overrides", "reference")}
    if Path(spec["source"]).is_file():  # a file may be written anew while the process lives
        wanted["written"] = (stat := Path(spec["source"]).stat()).st_mtime_ns, stat.st_size
    return open_backbone(spec["backbone"]), _adapter(json.dumps(wanted, sort_keys=True))


def layers_of(adapter) -> int:
    """How many layers a raw map sums over."""
    return len(adapter.config.layers) if adapter.method in ("vand", "anomalyclip") else 1


def range_of(spec: dict) -> tuple[float, float]:
    """Bounds of a row's scaled scores, which its sketches span."""
    if spec["backbone"] is None:
        return 0.0, 1.0
    backbone, adapter = open_adapter(spec)
    low, high = adapter.display_range(backbone)
    if adapter.method == "anovl":  # the colour scale shows half of what a cosine difference can reach
        low, high = 2 * low - 0.5, 2 * high - 0.5
    return scale_range(spec["score"]["scale"], (low, high), layers_of(adapter))


def score_slices(backbone, adapters: list, images: np.ndarray, progress: Progress = silent) -> list[np.ndarray]:
    """Raw maps float32 (N, S, S) of every adapter for uint8 slices (N, S, S); blank slices are scored once.

    The adapters are of one method; a result does not depend on which ones are scored together. A batch that does not fit
    into memory is halved. Values that are not finite are left for the caller to refuse.
    """
    blank = np.flatnonzero(blank_slices(images)) if len(images) > 1 else np.array([], int)
    todo = np.concatenate([np.setdiff1d(np.arange(len(images)), blank), blank[:1]]).astype(int)
    maps = [np.empty(images.shape, np.float32) for _ in adapters]

    def score(batched: torch.Tensor) -> tuple[torch.Tensor, ...]:
        seen, found = {}, []
        for adapter in adapters:
            key = tuple(adapter.feature_settings().items())
            if key not in seen:
                seen[key] = adapter.features(backbone, batched)
            found.append(adapter.predict(backbone, seen[key], images.shape[-1]).maps)
        return tuple(found)

    def keep(rows: np.ndarray, results: list[np.ndarray]) -> None:
        for target, result in zip(maps, results, strict=True):
            target[rows] = result

    batch = default_batch_size(backbone, images.shape[-1])
    run_batches(backbone, images, todo, batch, score, keep, progress)
    for target in maps:
        target[blank[1:]] = target[blank[:1]]
    return maps


def row_maps(specs: list[dict], case: CaseSlices, progress: Progress = silent) -> list[np.ndarray | ZSADCLIPError]:
    """The evaluated map float32 (N, R, C) of each row for a case: scored, brought back to its grid, blurred and scaled.

    A row whose adapter cannot be opened or gives values that are not finite has its error there, and the others go on.
    """
    score, adapters, broken = specs[0]["score"], {}, {}
    for spec in specs:
        try:
            backbone, adapters[spec["row"]] = open_adapter(spec)
        except ZSADCLIPError as error:
            broken[spec["row"]] = error
    if not adapters:
        return list(broken.values())
    fit = fit_of(case, specs[0]["slices"]["image_size"], specs[0]["method"])
    scored = score_slices(backbone, list(adapters.values()), fit.apply(case.image), progress)
    found = dict(zip(adapters, scored, strict=True))
    out = []
    for row in (spec["row"] for spec in specs):
        if row in found and not np.isfinite(found[row]).all():
            broken[row] = ZSADCLIPError(
                f"the anomaly map of {row} has values that are not finite: its adapter may have diverged in training, or "
                "the precision is too low; try float32, or a lower learning rate"
            )
        if row in broken:
            out.append(broken[row])
            continue
        adapter, maps = adapters[row], fit.back(found[row])
        if score["gaussian_sigma"] is not None and score["gaussian_sigma"] > 0:
            maps = ndimage.gaussian_filter(maps, (0, score["gaussian_sigma"], score["gaussian_sigma"]))
        maps = scaled(maps, case.brain, score["scale"], layers_of(adapter))
        if score["background"] == "zero":
            maps = np.where(case.brain, maps, maps.min())
        out.append(np.ascontiguousarray(maps))
    return out
