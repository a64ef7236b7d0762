"""Frozen features of training slices, computed once: in memory, or memory-mapped in a folder that runs can share."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..adapters.base import Adapter
from ..backbones.base import Backbone
from ..detection.devices import is_out_of_memory
from ..errors import OutputError
from ..files.atomic import unfinished
from ..files.text import write_json
from ..progress import Progress, silent

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class FeatureCache:
    """Features of every slice as the adapter's own `features` gives them, float32 or `half` float16.

    `size_bytes` is known before anything is written. `folder` gets one .npy an array and complete.json; a folder that is
    complete and of the same `identity` is used as it is. Images that are among the features are not stored but taken from
    `images` (N, S, S) uint8.
    """

    def __init__(
        self,
        adapter: Adapter,
        backbone: Backbone,
        images: np.ndarray,
        folder: Path | None = None,
        half: bool = False,
        identity: str = "",
    ):
        self._adapter, self._backbone, self._images = adapter, backbone, images
        self._dtype = np.float16 if half else np.float32
        self._folder, self._identity, self._arrays = folder, identity, {}
        first = adapter.features(backbone, self.images(np.arange(1)))
        self._with_images = "images" in first
        self._shapes = {key: tuple(value.shape[1:]) for key, value in first.items() if key != "images"}

    @property
    def size_bytes(self) -> int:
        return sum(len(self._images) * int(np.prod(s)) * np.dtype(self._dtype).itemsize for s in self._shapes.values())

    def images(self, rows: np.ndarray) -> Tensor:
        """Preprocessed images of some slices, as the adapter wants them."""
        images = torch.from_numpy(np.ascontiguousarray(self._images[rows]))
        return self._backbone.preprocess(images, self._adapter.normalised)

    def _compute(self, rows: np.ndarray) -> dict[str, Tensor]:
        features = self._adapter.features(self._backbone, self.images(rows))
        return {key: value for key, value in features.items() if key != "images"}

    def fill(self, batch_size: int, progress: Progress = silent) -> None:
        """Compute all features in batches, or open a complete folder; raises OutputError when they do not fit the disk."""
        if self._folder is not None and self._open():
            return
        working = None
        if self._folder is not None:
            # Written beside and renamed when complete: several trainings may fill one folder at once.
            working = unfinished(self._folder)
            working.mkdir(parents=True)
        try:
            if working is not None and self.size_bytes > shutil.disk_usage(working).free:
                raise self._too_large(working)
            arrays = {key: self._empty(working, key, shape) for key, shape in self._shapes.items()}
            start = 0
            while start < len(self._images):
                rows = np.arange(start, min(start + batch_size, len(self._images)))
                total = len(self._images)
                progress(start / total, f"features of slice {start} of {total}", start, total)
                features = self._fitting(rows)
                if features is None:
                    batch_size = len(rows) // 2
                    progress(start / total, f"out of memory: going on with batches of {batch_size}")
                    continue
                for key, value in features.items():
                    arrays[key][rows] = value
                start += len(rows)
            self._arrays = arrays
            if working is not None:
                self._publish(working)
        finally:
            if working is not None:
                shutil.rmtree(working, ignore_errors=True)

    def _fitting(self, rows: np.ndarray) -> dict[str, np.ndarray] | None:
        """Features of some slices, None when memory does not hold them; raises the error when it does not hold one."""
        try:
            return {key: value.cpu().numpy() for key, value in self._compute(rows).items()}
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or len(rows) == 1:
                raise
        if self._backbone.device.type == "cuda":  # outside the handler, whose traceback holds on to the failed batch
            torch.cuda.empty_cache()
        return None

    def _empty(self, working: Path | None, key: str, shape: tuple[int, ...]) -> np.ndarray:
        shape = (len(self._images), *shape)
        if working is None:
            return np.empty(shape, self._dtype)
        array = np.lib.format.open_memmap(working / f"{key}.npy", "w+", self._dtype, shape)
        self._reserve(working / f"{key}.npy")
        return array

    def _reserve(self, path: Path) -> None:
        """Take a file's space now: a disk that fills up under mapped memory ends the process by a signal."""
        if not hasattr(os, "posix_fallocate"):  # macOS, Windows
            return
        with open(path, "rb+") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
            except OSError as error:
                if error.errno in FULL:
                    raise self._too_large(path.parent) from error
                # Other numbers say that this file system cannot reserve.

    def _too_large(self, working: Path) -> OutputError:
        return OutputError(
            f"the features of {len(self._images)} slices take {self.size_bytes / 1e6:.1f} MB and the disk of "
            f"{working.parent} has {shutil.disk_usage(working).free / 1e6:.1f} MB left; free some space, or set train.cache "
            "(--cache) to disk-half, memory or none"
        )

    def _publish(self, working: Path) -> None:
        for array in self._arrays.values():
            array.flush()
        self._arrays = {}
        write_json(working / "complete.json", self._label())
        if self._folder.exists() and not self._open():
            shutil.rmtree(self._folder)  # of other settings, or never finished
        if not self._folder.exists():
            try:
                os.rename(working, self._folder)
            except OSError:
                if not self._folder.exists():
                    raise
        if not self._open():
            raise RuntimeError(f"{self._folder} was replaced by features of other settings; give each its own folder")

    def _label(self) -> dict:
        return {"identity": self._identity, "slices": len(self._images), "dtype": np.dtype(self._dtype).name}

    def _open(self) -> bool:
        try:
            label = json.loads((self._folder / "complete.json").read_text(encoding="utf-8"))
            if label != self._label():
                return False
            arrays = {key: np.load(self._folder / f"{key}.npy", mmap_mode="r") for key in self._shapes}
            if any(arrays[key].shape != (len(self._images), *shape) for key, shape in self._shapes.items()):
                return False
            self._arrays = arrays
        except (OSError, ValueError):
            return False
        return True

    def __call__(self, rows: np.ndarray) -> dict[str, Tensor]:
        """Features of some slices, as the adapter's own `features` would give them."""
        device = self._backbone.device
        if not self._arrays:
            out = self._compute(rows)
        else:
            out = {k: torch.from_numpy(array[rows].astype(np.float32)).to(device) for k, array in self._arrays.items()}
        if self._with_images:
            out["images"] = self.images(rows)
        return out
