"""Train an adapter on slices: one loop for all methods, CLIP frozen and run once, resumable bit for bit."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import torch

from ..adapters.base import Adapter
from ..adapters.registry import trainable_methods
from ..backbones.base import Backbone
from ..detection.devices import is_out_of_memory
from ..errors import InputError, UsageError, ZSADCLIPError
from ..evaluation.curves import curve
from ..files.atomic import atomic_path
from ..files.text import write_csv
from ..progress import Progress, silent, sub_progress
from .augment import augmented, in_versions
from .context import check_context, features_of
from .features import FeatureCache
from .schedule import VERSIONS, Schedule, selected_epoch


@dataclass(frozen=True)
class SliceSet:
    """Training slices: 8-bit `images` (N, S, S) as the model sees them and boolean `masks` (N, S, S) of the anomaly.

    With `neighbours` (N, K), the rows of each slice's neighbours in `images`, further images without a mask may follow the N.
    """

    images: np.ndarray
    masks: np.ndarray
    neighbours: np.ndarray | None = None

    def __post_init__(self):
        images = self.images if self.neighbours is None else self.images[: len(self.masks)]
        if images.shape != self.masks.shape or images.ndim != 3 or not len(images):
            raise InputError(
                f"images {self.images.shape} and masks {self.masks.shape}: expected equal shapes (N, S, S)"
            )
        if self.images.dtype != np.uint8 or self.masks.dtype != bool:
            raise InputError(f"images {self.images.dtype} and masks {self.masks.dtype}: expected uint8 and bool")
        if self.neighbours is not None:
            self._check_neighbours(self.neighbours)

    def _check_neighbours(self, rows: np.ndarray) -> None:
        if rows.ndim != 2 or len(rows) != len(self) or not np.issubdtype(rows.dtype, np.integer):
            raise InputError(f"neighbours {rows.dtype} {rows.shape}: expected whole numbers ({len(self)}, K)")
        if rows.size and not 0 <= rows.min() <= rows.max() < len(self.images):
            raise InputError(
                f"neighbours are the rows {rows.min()} to {rows.max()}; expected rows of the {len(self.images)} images"
            )

    def __len__(self) -> int:
        return len(self.masks)

    @property
    def labels(self) -> np.ndarray:
        """1 where a slice shows an anomaly, int64 (N,)."""
        return self.masks.any(axis=(1, 2)).astype(np.int64)


def fit(
    adapter: Adapter,
    backbone: Backbone,
    data: SliceSet,
    schedule: Schedule = Schedule(),  # noqa: B008 (frozen)
    folder: str | Path | None = None,
    progress: Progress = silent,
    features: str | Path | None = None,
    validation: SliceSet | None = None,
) -> list[dict]:
    """Train `adapter` in place and return one row {"epoch", "total", parts, "seconds"} an epoch.

    With `validation`, each row also holds "val_f1", the best F1 pooled over the pixels of these slices; the adapter ends as it
    was after the epoch that `selected_epoch` names.

    With `folder`, training.csv and last.pt are written after every epoch, and a run that finds them goes on where the
    last one stopped, with the same result as an undisturbed one. `features` is a folder for the cache on disk that
    trainings on the same slices may share, one folder below it for each setting of features. Raises UsageError for
    training-free methods, for a folder that holds another schedule, and for float16 without a GPU; ZSADCLIPError when the
    training diverges, before that epoch is written.
    """
    _check_request(adapter, backbone, schedule, validation)
    check_context(adapter, schedule, data, validation)
    if schedule.augment in VERSIONS:
        data = SliceSet(*in_versions(data.images, data.masks, schedule.augment, schedule.seed))
    epochs = schedule.epochs or adapter.config.epochs
    batch_size = schedule.batch_size or adapter.config.batch_size
    folder = Path(folder) if folder else None
    scaler = torch.amp.GradScaler(backbone.device.type, enabled=schedule.precision == "float16")
    optimizer, identity, rows, best = adapter.optimizer(), "", [], {}
    if folder:
        identity = _identity(adapter, backbone, data, validation, schedule, batch_size)
        if (folder / "last.pt").is_file():
            rows, best = _resume(folder / "last.pt", adapter, optimizer, scaler, identity, progress)
    frozen, val_features = _feature_cache(adapter, backbone, data.images, schedule, folder, features), None
    if len(rows) < epochs:
        if schedule.cache != "none" and not schedule.drawn:
            progress(0.0, f"features of {len(data.images)} slices: {frozen.size_bytes / 1e6:.0f} MB")
            frozen.fill(batch_size, sub_progress(progress, 0.0, 0.3))
        val_features = _validation_features(adapter, backbone, validation, schedule, batch_size)
    run = _Run(adapter, backbone, data, frozen, optimizer, scaler, batch_size, schedule)
    adapter.train()
    began, first = time.monotonic(), len(rows)
    for epoch in range(first, epochs):
        inner = sub_progress(progress, *(0.3 + 0.7 * (epoch + i) / epochs for i in (0, 1)))
        row = run.epoch(schedule.seed + epoch, inner)
        _check_converging(adapter, row, epoch + 1)
        if val_features is not None:
            row["val_f1"] = _pooled_f1(adapter, backbone, validation, val_features, batch_size)
        rows.append({"epoch": epoch + 1, **row})
        if schedule.select != "last" and selected_epoch(rows, schedule.select) == epoch + 1:
            best = {name: value.detach().cpu().clone() for name, value in adapter.state_dict().items()}
        if folder:
            _save(folder, adapter, optimizer, scaler, identity, rows, best)
            _tensorboard(folder, rows[-1])
        left = (time.monotonic() - began) / (epoch + 1 - first) * (epochs - epoch - 1)
        text = f"epoch {epoch + 1} of {epochs}: loss {row['total']:.4f}, {_clock(left)} left"
        progress(0.3 + 0.7 * (epoch + 1) / epochs, text, epoch + 1, epochs)
    if best:
        adapter.load_state_dict(best)
    adapter.eval()
    return rows


def _check_request(adapter: Adapter, backbone: Backbone, schedule: Schedule, validation: SliceSet | None) -> None:
    if not adapter.trainable:
        raise UsageError(f"{adapter.method} is training-free; choose {', '.join(trainable_methods())}")
    if schedule.precision == "float16" and backbone.device.type == "cpu":
        raise UsageError("precision float16 needs a GPU; choose float32 or bfloat16")
    if (schedule.select == "best-val-f1") != (validation is not None):
        raise UsageError("select best-val-f1, and no other, needs validation slices: subjects that do not train")
    if validation is not None and not validation.masks.any():
        raise InputError("the validation slices hold no lesion, so no epoch is best; give more of them, or select last")


def _identity(adapter, backbone, data: SliceSet, validation: SliceSet | None, schedule: Schedule, batch: int) -> str:
    """All that decides the result of an epoch, as JSON: a training goes on only where this is the same."""
    identity = {
        "adapter": adapter.describe(),
        "backbone": backbone.fingerprint,
        "batch_size": batch,
        "seed": schedule.seed,
        "slices": len(data),
        "augment": schedule.augment,
        "precision": schedule.precision,
        "select": schedule.select,
        "start": _digest(p.detach().cpu().numpy() for p in adapter.state_dict().values()),
        "data": _digest(_arrays(data, validation)),
    }
    return json.dumps(identity, sort_keys=True)


def _arrays(*sets: SliceSet | None) -> list[np.ndarray]:
    arrays = [array for data in sets if data is not None for array in (data.images, data.masks, data.neighbours)]
    return [array for array in arrays if array is not None]


def _feature_cache(adapter, backbone, images: np.ndarray, schedule: Schedule, folder, features) -> FeatureCache:
    """The frozen features of the training slices, not yet computed; on disk below `features`, else below `folder`."""
    cache, label = None, ""
    if schedule.cache.startswith("disk") and not schedule.drawn:
        # Adapters that differ in nothing the features depend on share a folder; other slices or another config get their own.
        settings = json.dumps(adapter.feature_settings(), sort_keys=True)
        label = f"{backbone.fingerprint} {settings} {_digest([images])}"
        shared = features and Path(features) / hashlib.sha256(label.encode()).hexdigest()[:12]
        cache = shared or (folder and folder / "features")
    return FeatureCache(adapter, backbone, images, cache, schedule.cache == "disk-half", label)


def _validation_features(adapter, backbone, validation: SliceSet | None, schedule: Schedule, batch: int):
    """The frozen features of the validation slices, in memory unless nothing is cached; None without such slices."""
    if validation is None:
        return None
    features = FeatureCache(adapter, backbone, validation.images)
    if schedule.cache != "none":
        features.fill(batch)
    return features


def _pooled_f1(adapter, backbone, data: SliceSet, features: FeatureCache, batch: int) -> float:
    """The best F1 over all thresholds, of the raw maps of all slices as one (`evaluation.curves.curve`)."""
    maps = np.empty(data.masks.shape, np.float32)
    adapter.eval()
    with torch.no_grad():
        for start in range(0, len(data), batch):
            rows = np.arange(start, min(start + batch, len(data)))
            found = features_of(data, features, rows, adapter.context)
            maps[rows] = adapter.predict(backbone, found, maps.shape[-1]).maps.cpu().numpy()
    adapter.train()
    return float(curve(maps, np.asarray(data.masks)).f1_max)


class _Run:
    """What one epoch needs."""

    def __init__(self, adapter, backbone, data, frozen, optimizer, scaler, batch_size, schedule):
        self.adapter, self.backbone, self.data, self.frozen = adapter, backbone, data, frozen
        self.optimizer, self.scaler, self.batch_size, self.schedule = optimizer, scaler, batch_size, schedule
        self.labels = data.labels

    def epoch(self, seed: int, progress: Progress) -> dict:
        order = torch.randperm(len(self.data), generator=torch.Generator().manual_seed(seed)).numpy()
        rng = np.random.default_rng([seed, 1])
        losses, sizes, started = {}, [], time.monotonic()
        for start in range(0, len(order), self.batch_size):
            progress(start / len(order), f"slice {start} of {len(order)}", start, len(order))
            rows = order[start : start + self.batch_size]
            try:
                loss = self._loss(rows, rng)
                self.optimizer.zero_grad()
                self.scaler.scale(loss["total"]).backward()
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error):
                    raise
                # Half a batch is another loss for some methods, so the batch is the user's to choose.
                raise ZSADCLIPError(
                    f"out of memory in training with a batch of {len(rows)}: give a smaller batch_size (the last complete epoch "
                    "is kept), or another device"
                ) from error
            self.scaler.step(self.optimizer)
            self.scaler.update()
            for key, value in loss.items():
                losses.setdefault(key, []).append(value.detach())
            sizes.append(len(rows))
        # Read at the end of the epoch: reading each one would wait for a GPU.
        each = {key: torch.stack(values).tolist() for key, values in losses.items()}
        means = {k: sum(v * n for v, n in zip(values, sizes, strict=True)) / len(order) for k, values in each.items()}
        return {**means, "seconds": round(time.monotonic() - started, 2)}

    def _loss(self, rows: np.ndarray, rng: np.random.Generator) -> dict:
        device, kind = self.backbone.device, self.schedule.precision
        labels, masks = self.labels[rows], self.data.masks[rows]
        with torch.autocast(device.type, getattr(torch, kind), enabled=kind != "float32"):
            if not self.schedule.drawn:
                features = features_of(self.data, self.frozen, rows, self.adapter.context)
            else:
                labelled = self.data.images[: len(self.data)]
                images, masks = augmented(labelled, self.data.masks, rows, self.schedule.augment, rng)
                labels = masks.any(axis=(1, 2)).astype(np.int64)
                inputs = self.backbone.preprocess(torch.from_numpy(images), self.adapter.normalised)
                features = self.adapter.features(self.backbone, inputs)
            targets = torch.from_numpy(np.ascontiguousarray(masks)).to(device).float()
            return self.adapter.objective(self.backbone, features, targets, torch.from_numpy(labels).to(device))


def _save(folder: Path, adapter, optimizer, scaler, identity: str, rows: list[dict], best: dict) -> None:
    state = {"adapter": adapter.state_dict(), "optimizer": optimizer.state_dict(), "scaler": scaler.state_dict()}
    state |= {"identity": identity, "rows": rows, "best": best}
    packed = BytesIO()
    torch.save(state, packed)  # it keeps a file open that it could not write
    with atomic_path(folder / "last.pt") as temporary:
        # A copy: a view that an error holds on to ends Python 3.12.1 when it is collected (CPython issue 111049).
        temporary.write_bytes(packed.getvalue())
    write_csv(folder / "training.csv", rows, list(rows[0]))


def _digest(arrays: Iterable[np.ndarray]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()[:16]


def _check_converging(adapter, row: dict, epoch: int) -> None:
    if all(map(math.isfinite, row.values())) and all(p.isfinite().all() for p in adapter.parameters()):
        return
    raise ZSADCLIPError(
        f"the training of {adapter.method} diverged in epoch {epoch}: loss {row['total']}; give a lower learning_rate than "
        f"{adapter.config.learning_rate:g}, or precision float32"
    )


def _resume(path: Path, adapter, optimizer, scaler, identity: str, progress: Progress) -> tuple[list[dict], dict]:
    """The epochs of an earlier run and its best adapter, its state loaded; none, and nothing loaded, when it is damaged."""
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        complete = {"adapter", "optimizer", "scaler", "rows", "identity", "best"} <= set(state)
    except Exception:  # a damaged file can make the libraries below raise anything
        complete = False
    if not complete:
        progress(0.0, f"{path.name} is damaged: the training begins again")
        return [], {}
    if state["identity"] != identity:
        raise UsageError(
            f"{path} belongs to another method, backbone, data set, start or schedule; choose an empty folder, or delete it"
        )
    adapter.load_state_dict(state["adapter"])
    optimizer.load_state_dict(state["optimizer"])
    scaler.load_state_dict(state["scaler"])
    return state["rows"], state["best"]


def _tensorboard(folder: Path, row: dict) -> None:
    """The epoch's losses for TensorBoard, where that happens to be installed; training.csv has them anyway."""
    if importlib.util.find_spec("tensorboard") is None:
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder / "tensorboard")) as writer:
        for key in set(row) - {"epoch"}:
            writer.add_scalar(key, row[key], row["epoch"])


def _clock(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
