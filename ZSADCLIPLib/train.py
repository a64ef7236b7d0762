"""Train an adapter on slices: one loop for all methods, CLIP frozen and run once, resumable bit for bit."""

from __future__ import annotations

import csv
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from .adapters.base import Adapter
from .backbones.base import Backbone
from .curves import CurveAccumulator
from .errors import InputError, UsageError
from .io import atomic_path
from .progress import Progress, part, silent


@dataclass(frozen=True)
class SliceSet:
    """Training slices: 8-bit `images` (N, S, S) as the model sees them and boolean `masks` (N, S, S) of the anomaly."""

    images: np.ndarray
    masks: np.ndarray

    def __post_init__(self):
        if self.images.shape != self.masks.shape or self.images.ndim != 3 or not len(self.images):
            raise InputError(
                f"images {self.images.shape} and masks {self.masks.shape}: expected equal shapes (N, S, S)"
            )
        if self.images.dtype != np.uint8 or self.masks.dtype != bool:
            raise InputError(f"images {self.images.dtype} and masks {self.masks.dtype}: expected uint8 and bool")

    def __len__(self) -> int:
        return len(self.images)

    @property
    def labels(self) -> np.ndarray:
        """1 where a slice shows an anomaly, int64 (N,)."""
        return self.masks.any(axis=(1, 2)).astype(np.int64)


class FeatureCache:
    """Frozen features of every slice, computed once.

    Kept in memory, or memory-mapped in `folder`; as float32 or `half` float16. `size_bytes` is known before anything is
    written. Images are not stored again: AdaCLIP's prompted pass takes them from the slice set.
    """

    def __init__(
        self, adapter: Adapter, backbone: Backbone, data: SliceSet, folder: Path | None = None, half: bool = False
    ):
        self._adapter, self._backbone, self._data = adapter, backbone, data
        self._dtype = np.float16 if half else np.float32
        self._folder, self._arrays = folder, {}
        first = self._compute(np.arange(1))
        self._shapes = {key: tuple(value.shape[1:]) for key, value in first.items()}

    @property
    def size_bytes(self) -> int:
        return sum(len(self._data) * int(np.prod(s)) * np.dtype(self._dtype).itemsize for s in self._shapes.values())

    def images(self, rows: np.ndarray) -> Tensor:
        return self._backbone.preprocess(torch.from_numpy(self._data.images[rows]))

    def _compute(self, rows: np.ndarray) -> dict[str, Tensor]:
        features = self._adapter.features(self._backbone, self.images(rows))
        return {key: value for key, value in features.items() if key != "images"}

    def fill(self, batch_size: int, progress: Progress = silent) -> None:
        """Compute all features in batches."""
        for key, shape in self._shapes.items():
            if self._folder is None:
                self._arrays[key] = np.empty((len(self._data), *shape), self._dtype)
            else:
                self._folder.mkdir(parents=True, exist_ok=True)
                path = self._folder / f"{key}.npy"
                self._arrays[key] = np.lib.format.open_memmap(path, "w+", self._dtype, (len(self._data), *shape))
        for start in range(0, len(self._data), batch_size):
            rows = np.arange(start, min(start + batch_size, len(self._data)))
            for key, value in self._compute(rows).items():
                self._arrays[key][rows] = value.cpu().numpy()
            progress(start / len(self._data), f"features of slice {start} of {len(self._data)}")

    def __call__(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Features of some slices, as the adapter's own `features` would give them."""
        device = self._backbone.device
        if not self._arrays:
            out = self._compute(rows)
        else:
            out = {
                key: torch.from_numpy(array[rows].astype(np.float32)).to(device) for key, array in self._arrays.items()
            }
        if self._adapter.method == "adaclip":
            out["images"] = self.images(rows)
        return out


@dataclass(frozen=True)
class Schedule:
    """How long and in what order: `epochs` and `batch_size` None = the method's defaults; `seed` orders the slices."""

    epochs: int | None = None
    batch_size: int | None = None
    seed: int = 111
    cache: str = "memory"
    """"memory", "disk" (beside the log, memory-mapped), "disk-half" (float16) or "none" (recompute every epoch)."""


def fit(
    adapter: Adapter,
    backbone: Backbone,
    data: SliceSet,
    schedule: Schedule = Schedule(),  # noqa: B008 (frozen)
    folder: str | Path | None = None,
    progress: Progress = silent,
) -> list[dict]:
    """Train `adapter` in place and return one row {"epoch", "total", parts, "seconds"} an epoch.

    With `folder`, training.csv and last.pt are written after every epoch, and a run that finds them goes on where the
    last one stopped, with the same result as an undisturbed one. Raises UsageError for training-free methods and for a
    folder that holds another schedule.
    """
    if not adapter.trainable:
        raise UsageError(f"{adapter.method} is training-free; choose vand, anomalyclip or adaclip")
    epochs = schedule.epochs or adapter.config.epochs
    batch_size = schedule.batch_size or adapter.config.batch_size
    folder = Path(folder) if folder else None
    optimizer, rows = adapter.optimizer(), []
    identity = f"{adapter.describe()} {backbone.fingerprint} {batch_size} {schedule.seed} {len(data)}"
    if folder and (folder / "last.pt").is_file():
        rows = _resume(folder / "last.pt", adapter, optimizer, identity)
    on_disk = folder / "features" if folder and schedule.cache.startswith("disk") else None
    features = FeatureCache(adapter, backbone, data, on_disk, half=schedule.cache == "disk-half")
    if schedule.cache != "none" and len(rows) < epochs:
        progress(0.0, f"features of {len(data)} slices: {features.size_bytes / 1e6:.0f} MB")
        features.fill(batch_size, part(progress, 0.0, 0.3))
    adapter.train()
    for epoch in range(len(rows), epochs):
        row = _epoch(adapter, backbone, data, features, optimizer, batch_size, schedule.seed + epoch)
        rows.append({"epoch": epoch + 1, **row})
        if folder:
            _save(folder, adapter, optimizer, identity, rows)
        progress(0.3 + 0.7 * (epoch + 1) / epochs, f"epoch {epoch + 1} of {epochs}: loss {row['total']:.4f}")
    adapter.eval()
    return rows


def _epoch(adapter, backbone, data: SliceSet, features, optimizer, batch_size: int, seed: int) -> dict:
    order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed)).numpy()
    sums, started = {}, time.monotonic()
    labels = data.labels
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        masks = torch.from_numpy(data.masks[rows]).to(backbone.device).float()
        loss = adapter.objective(backbone, features(rows), masks, torch.from_numpy(labels[rows]).to(backbone.device))
        optimizer.zero_grad()
        loss["total"].backward()
        optimizer.step()
        for key, value in loss.items():
            sums[key] = sums.get(key, 0.0) + float(value.detach()) * len(rows)
    return {**{key: value / len(order) for key, value in sums.items()}, "seconds": round(time.monotonic() - started, 2)}


def _save(folder: Path, adapter, optimizer, identity: str, rows: list[dict]) -> None:
    state = {"adapter": adapter.state_dict(), "optimizer": optimizer.state_dict(), "identity": identity, "rows": rows}
    with atomic_path(folder / "last.pt") as temporary:
        torch.save(state, temporary)
    with atomic_path(folder / "training.csv") as temporary, open(temporary, "w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _resume(path: Path, adapter, optimizer, identity: str) -> list[dict]:
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["identity"] != identity:
        raise UsageError(f"{path} belongs to another method, backbone, data set or schedule; choose an empty folder")
    adapter.load_state_dict(state["adapter"])
    optimizer.load_state_dict(state["optimizer"])
    return state["rows"]


def pooled_threshold(detector, volumes) -> float:
    """The raw map value with the best F1 pooled over training volumes: rule f1max-pooled-train (paper.md, section 4).

    `volumes` is a re-iterable of (Volume, truth bool (I, J, K), brain bool (I, J, K)); only brain voxels count, as only
    they can enter a mask.
    """
    maps = []
    accumulator = CurveAccumulator()
    for volume, truth, brain in volumes:
        array = detector.detect(volume, brain).map.array
        accumulator.add_positives(array[truth & brain])
        maps.append(array[~truth & brain])
    accumulator.seal()
    for negatives in maps:
        accumulator.add_negatives(negatives)
    return float(accumulator.result().threshold)
